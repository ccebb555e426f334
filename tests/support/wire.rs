//! HTTP/1.1 as a test reads it: one certain framing, CRLF everywhere, names that are tokens. What is looser is an error here,
//! whatever a lenient peer would make of it. Absent: writing; tests send raw bytes.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use super::PATIENCE;

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The peer closed or reset the connection before the message's first byte.
    Closed,
    /// The peer closed or reset it within the message.
    Truncated,
    /// Nothing came within the test's patience.
    Silent,
    /// The bytes are not HTTP/1.1, or have no one certain framing.
    Malformed(String),
}

/// A message as it was read. Bytes that are not ASCII appear as Latin-1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) start: String,
    /// Names as written, values without surrounding blanks.
    pub(crate) fields: Vec<(String, String)>,
    /// The decoded body.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The values of every field called `name`, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The value of the one field called `name`; `None` if there is none.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands more than once: {self:?}");
        all.first().copied()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Sees every byte that arrives.
type Tap = Box<dyn FnMut(&[u8]) + Send>;

/// The reading side of a connection, with what was read ahead.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    tap: Tap,
}

impl Wire {
    /// Reads from `stream`; `tap` sees every byte that arrives.
    pub(crate) fn new(stream: TcpStream, tap: impl FnMut(&[u8]) + Send + 'static) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a socket takes nodelay");
        Wire {
            stream,
            buffer: Vec::new(),
            tap: Box::new(tap),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Has anything been read ahead?
    pub(crate) fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Reads once into the buffer; `Closed` at the end of the stream.
    pub(crate) fn fill(&mut self) -> Result<(), Broken> {
        let mut chunk = [0; 65536];
        let read = loop {
            match self.stream.read(&mut chunk) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read {
            Ok(0) => Err(Broken::Closed),
            Ok(n) => {
                (self.tap)(&chunk[..n]);
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Broken::Silent)
            }
            Err(_) => Err(Broken::Closed),
        }
    }

    /// Reads a head: a start line and fields, up to the empty line.
    pub(crate) fn head(&mut self) -> Result<Message, Broken> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        let start = self.line()?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Message {
                    start,
                    fields,
                    body: Vec::new(),
                });
            }
            fields.push(field(&line)?);
        }
    }

    /// Reads a body that is delimited so. `UntilClose` ends with the connection.
    pub(crate) fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Broken> {
        match framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).expect("a test's body fits");
                self.take(length)
            }
            Framing::Chunked => self.chunks(),
            Framing::UntilClose => loop {
                match self.fill() {
                    Ok(()) => {}
                    Err(Broken::Closed) => return Ok(std::mem::take(&mut self.buffer)),
                    Err(other) => return Err(other),
                }
            },
        }
    }

    /// Reads and drops `length` bytes without keeping them.
    pub(crate) fn skip(&mut self, mut length: u64) -> Result<(), Broken> {
        loop {
            let now = length.min(self.buffer.len() as u64);
            self.buffer.drain(..now as usize);
            length -= now;
            if length == 0 {
                return Ok(());
            }
            self.more()?;
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        while self.buffer.len() < length {
            self.more()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default();
            let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
            let size = usize::from_str_radix(digits, 16)
                .ok()
                .filter(|_| plain)
                .ok_or_else(|| Broken::Malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                // Trailers are read and dropped; an empty line ends them.
                while let line = self.line()?
                    && !line.is_empty()
                {
                    field(&line)?;
                }
                return Ok(body);
            }
            body.extend(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(Broken::Malformed("a chunk without CRLF at its end".into()));
            }
        }
    }

    /// One line without its CRLF. A lone CR or LF, or a control character, is malformed.
    fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text: String = line.iter().map(|b| char::from(*b)).collect();
                let Some(inner) = text.strip_suffix("\r\n") else {
                    return Err(Broken::Malformed(format!("a lone LF ends {text:?}")));
                };
                if inner.chars().any(|c| c.is_ascii_control() && c != '\t') {
                    return Err(Broken::Malformed(format!(
                        "a control character in {text:?}"
                    )));
                }
                return Ok(inner.to_owned());
            }
            self.more()?;
        }
    }

    /// Reads more of a message that has begun.
    fn more(&mut self) -> Result<(), Broken> {
        self.fill().map_err(|e| match e {
            Broken::Closed => Broken::Truncated,
            other => other,
        })
    }
}

/// A field line: a token, a colon right behind it, a value.
fn field(line: &str) -> Result<(String, String), Broken> {
    let malformed = || Broken::Malformed(format!("field line {line:?}"));
    let (name, value) = line.split_once(':').ok_or_else(malformed)?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) {
        return Err(malformed());
    }
    let value = value.trim_matches([' ', '\t']);
    Ok((name.to_owned(), value.to_owned()))
}

/// The one framing that a head's fields give, or `None` when they give none.
pub(crate) fn framing(head: &Message) -> Result<Option<Framing>, Broken> {
    let codings = head.all("transfer-encoding");
    let lengths = head.all("content-length");
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(None),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length = length
                .parse()
                .map_err(|_| Broken::Malformed("length overflow".into()))?;
            Ok(Some(Framing::Length(length)))
        }
        _ => Err(Broken::Malformed(format!(
            "framing by {codings:?} and {lengths:?}"
        ))),
    }
}
