//! HTTP/1.1 as the models speak it: reading a message from a stream, with its body checked as it comes.
//!
//! The fields that matter are one: `x-sim: ID SIZE BODY`, the request's id, the size of the answer that it asks for, and the
//! size of its own body; a fourth word says that the body is a [`disguise`](super::pattern::disguise). A backend's answer repeats
//! the id. An answer without it was made by the proxy.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::pattern::Whose;

/// The word of `x-sim` for a body that looks like a request.
pub(super) const DISGUISED: &str = "disguised";

/// What was read of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// A request's method; empty for an answer.
    pub method: String,
    /// An answer's status; 0 for a request.
    pub status: u16,
    /// From `x-sim`: the id.
    pub id: Option<u64>,
    /// From `x-sim`: the size that is asked for.
    pub size: usize,
    /// From `x-sim`: the size that the body has.
    pub body: usize,
    /// From `x-sim`: the body looks like a request.
    pub disguised: bool,
    /// How the body is framed.
    pub framing: Framing,
    /// The connection ends with this message.
    pub close: bool,
    /// The `error` of Proxy-Status.
    pub error: Option<String>,
    /// A request's target.
    pub path: String,
    /// All fields as they came, with names in lower case.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of the field called `name` (lower case).
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Is it a health check of the proxy's own?
    pub(super) fn is_check(&self) -> bool {
        self.id.is_none() && self.field("user-agent") == Some("weir-health")
    }

    /// Takes a field of HTTP/2, where framing is none of the fields' business.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        match name {
            "x-sim" => self.mark(value),
            "proxy-status" => self.error = error(value),
            _ => {}
        }
        self.fields.push((name.to_string(), value.to_string()));
    }

    /// What `x-sim` says.
    fn mark(&mut self, value: &str) {
        let mut words = value.split(' ');
        self.id = words.next().and_then(|w| w.parse().ok());
        self.size = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
        self.body = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
        self.disguised = words.next() == Some(DISGUISED);
    }

    /// The number that a field holds.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By a length, which may be 0.
    Length(u64),
    /// Chunked.
    Chunked,
    /// By the end of the connection; for a request: no body.
    #[default]
    Close,
}

/// How reading a message ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The stream ended before the first byte: there is no message.
    Nothing,
    /// The stream ended, or failed, within the message.
    Cut,
    /// What came is no HTTP.
    Malformed,
    /// The body is not the one that it should be.
    Foreign,
}

/// Reads messages from one connection.
#[derive(Debug, Default)]
pub struct Reader {
    buf: Vec<u8>,
}

impl Reader {
    /// The next head; it stays pending on an idle connection. Cancel safe.
    ///
    /// # Errors
    /// As [`Fault`] says.
    pub async fn head<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        request: bool,
    ) -> Result<Head, Fault> {
        loop {
            if !self.buf.is_empty()
                && let Some((used, head)) = parse(&self.buf, request)?
            {
                self.buf.drain(..used);
                return Ok(head);
            }
            let empty = self.buf.is_empty();
            match self.fill(stream).await {
                Ok(true) => {}
                _ if empty => return Err(Fault::Nothing),
                _ => return Err(Fault::Cut),
            }
        }
    }

    /// Reads a body to its end and checks it against `whose`, unless that is none; its size.
    ///
    /// # Errors
    /// As [`Fault`] says.
    pub async fn body<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        framing: Framing,
        whose: Option<Whose>,
    ) -> Result<usize, Fault> {
        let mut offset = 0;
        match framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).map_err(|_| Fault::Malformed)?;
                self.exactly(stream, length, whose, &mut offset).await?;
            }
            Framing::Chunked => loop {
                let size = self.chunk_size(stream).await?;
                if size == 0 {
                    self.trailers(stream).await?;
                    break;
                }
                self.exactly(stream, size, whose, &mut offset).await?;
                if self.line(stream).await? != 0 {
                    return Err(Fault::Malformed);
                }
            },
            Framing::Close => loop {
                let have = self.buf.len();
                self.check(have, whose, &mut offset)?;
                match self.fill(stream).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => return Err(Fault::Cut),
                }
            },
        }
        Ok(offset)
    }

    /// Reads a body to its end into `out`, where what came stays whatever happens.
    ///
    /// # Errors
    /// As [`Fault`] says.
    pub async fn body_into<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        framing: Framing,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).map_err(|_| Fault::Malformed)?;
                self.take(stream, length, out).await
            }
            Framing::Chunked => loop {
                let size = self.chunk_size(stream).await?;
                if size == 0 {
                    return self.trailers(stream).await;
                }
                self.take(stream, size, out).await?;
                if self.line(stream).await? != 0 {
                    return Err(Fault::Malformed);
                }
            },
            Framing::Close => loop {
                out.append(&mut self.buf);
                match self.fill(stream).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(_) => return Err(Fault::Cut),
                }
            },
        }
    }

    async fn take<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        mut len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        while len > 0 {
            if self.buf.is_empty() && !matches!(self.fill(stream).await, Ok(true)) {
                return Err(Fault::Cut);
            }
            let part = len.min(self.buf.len());
            out.extend(self.buf.drain(..part));
            len -= part;
        }
        Ok(())
    }

    /// Nothing is left over from a message.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<bool> {
        if self.buf.capacity() - self.buf.len() < 2048 {
            self.buf.reserve(4096);
        }
        Ok(stream.read_buf(&mut self.buf).await? > 0)
    }

    /// Takes `len` bytes off the buffer and checks them.
    fn check(&mut self, len: usize, whose: Option<Whose>, offset: &mut usize) -> Result<(), Fault> {
        if whose.is_some_and(|w| !w.matches(*offset, &self.buf[..len])) {
            return Err(Fault::Foreign);
        }
        *offset += len;
        if len == self.buf.len() {
            self.buf.clear();
        } else {
            self.buf.drain(..len);
        }
        Ok(())
    }

    async fn exactly<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        mut len: usize,
        whose: Option<Whose>,
        offset: &mut usize,
    ) -> Result<(), Fault> {
        while len > 0 {
            if self.buf.is_empty() && !matches!(self.fill(stream).await, Ok(true)) {
                return Err(Fault::Cut);
            }
            let part = len.min(self.buf.len());
            self.check(part, whose, offset)?;
            len -= part;
        }
        Ok(())
    }

    async fn chunk_size<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<usize, Fault> {
        loop {
            match httparse::parse_chunk_size(&self.buf) {
                Ok(httparse::Status::Complete((used, size))) => {
                    self.buf.drain(..used);
                    return usize::try_from(size).map_err(|_| Fault::Malformed);
                }
                Ok(httparse::Status::Partial) => {}
                Err(_) => return Err(Fault::Malformed),
            }
            if !matches!(self.fill(stream).await, Ok(true)) {
                return Err(Fault::Cut);
            }
        }
    }

    /// Takes one line off; its length without its end.
    async fn line<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<usize, Fault> {
        loop {
            if let Some(at) = self.buf.windows(2).position(|w| w == b"\r\n") {
                self.buf.drain(..at + 2);
                return Ok(at);
            }
            if !matches!(self.fill(stream).await, Ok(true)) {
                return Err(Fault::Cut);
            }
        }
    }

    /// What was read beyond the message, taken out.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buf)
    }

    async fn trailers<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<(), Fault> {
        while self.line(stream).await? > 0 {}
        Ok(())
    }
}

/// The `error` of a Proxy-Status.
fn error(value: &str) -> Option<String> {
    let mut parts = value.split(';');
    let error = parts.find_map(|part| part.trim().strip_prefix("error="));
    error.map(ToString::to_string)
}

/// A whole head at the beginning of `buf` and its length, or `None` while there is more to come.
fn parse(buf: &[u8], request: bool) -> Result<Option<(usize, Head)>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = Head::default();
    let (used, fields) = if request {
        let mut message = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(used) = message.parse(buf).map_err(|_| Fault::Malformed)?
        else {
            return Ok(None);
        };
        head.method = message.method.unwrap_or_default().to_string();
        head.path = message.path.unwrap_or_default().to_string();
        (used, message.headers)
    } else {
        let mut message = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(used) = message.parse(buf).map_err(|_| Fault::Malformed)?
        else {
            return Ok(None);
        };
        head.status = message.code.unwrap_or_default();
        (used, message.headers)
    };
    for field in fields {
        let value = std::str::from_utf8(field.value).unwrap_or_default();
        let name = field.name.to_ascii_lowercase();
        head.fields.push((name, value.to_string()));
        if field.name.eq_ignore_ascii_case("x-sim") {
            head.mark(value);
        } else if field.name.eq_ignore_ascii_case("content-length") {
            head.framing = Framing::Length(value.trim().parse().map_err(|_| Fault::Malformed)?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(Fault::Malformed);
            }
            head.framing = Framing::Chunked;
        } else if field.name.eq_ignore_ascii_case("connection") {
            head.close = value.eq_ignore_ascii_case("close");
        } else if field.name.eq_ignore_ascii_case("proxy-status") {
            head.error = error(value);
        }
    }
    if matches!(head.status, 204 | 304) || (request && head.framing == Framing::Close) {
        head.framing = Framing::Length(0);
    }
    Ok(Some((used, head)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8], whose: Whose) -> Result<(Head, usize), Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut reader = Reader::default();
            let head = reader.head(&mut bytes, false).await?;
            let size = reader.body(&mut bytes, head.framing, Some(whose)).await?;
            Ok((head, size))
        })
    }

    #[test]
    fn bodies_are_read_in_every_framing_and_checked() {
        let part = |at, len| Whose::Answer(3).slice(at, len);
        let head = b"HTTP/1.1 200 OK\r\nx-sim: 3 0\r\n".as_slice();
        let length = [head, b"content-length: 5\r\n\r\n", part(0, 5)].concat();
        assert_eq!(read(&length, Whose::Answer(3)).map(|r| r.1), Ok(5));
        assert_eq!(
            read(&length, Whose::Answer(4)).map(|r| r.1),
            Err(Fault::Foreign)
        );
        assert_eq!(
            read(&length[..length.len() - 1], Whose::Answer(3)),
            Err(Fault::Cut)
        );
        let chunked = [
            head,
            b"transfer-encoding: chunked\r\n\r\n3\r\n",
            part(0, 3),
            b"\r\n2\r\n",
            part(3, 2),
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        assert_eq!(read(&chunked, Whose::Answer(3)).map(|r| r.1), Ok(5));
        assert_eq!(
            read(&chunked[..chunked.len() - 3], Whose::Answer(3)),
            Err(Fault::Cut)
        );
        let close = [head, b"\r\n", part(0, 9)].concat();
        assert_eq!(read(&close, Whose::Answer(3)).map(|r| r.1), Ok(9));
        assert_eq!(read(b"", Whose::Answer(3)), Err(Fault::Nothing));
        assert_eq!(read(b"HTTP/9.9 x", Whose::Answer(3)), Err(Fault::Malformed));
    }
}
