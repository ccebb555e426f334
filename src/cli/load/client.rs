//! One connection of `weir load`: sends a request, reads its response by the same codec that reads backends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::super::args::Url;
use super::super::echo::{PEAK, PORT};
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env, Net};
use crate::h1::{self, BodyFraming, DecodeError, HeadLimits, Piece, ResponseDecoder, ResponseHead};

/// What is sent, again and again.
#[derive(Debug)]
pub(super) struct Template {
    method: Method,
    head: Bytes,
    body_bytes: u64,
    keep_alive: bool,
    timeout: Duration,
}

impl Template {
    pub(super) fn new(
        url: &Url,
        method: Method,
        body_bytes: Option<u64>,
        keep_alive: bool,
        timeout: Duration,
    ) -> Self {
        let mut head = BytesMut::new();
        h1::request_line(&mut head, &method, &[&url.target]);
        h1::field(&mut head, b"host", url.authority.as_bytes());
        h1::field(&mut head, b"user-agent", b"weir-load");
        h1::field(&mut head, b"accept", b"*/*");
        if !keep_alive {
            h1::field(&mut head, b"connection", b"close");
        }
        let expects_body = matches!(method, Method::POST | Method::PUT | Method::PATCH);
        h1::framing(
            &mut head,
            match body_bytes {
                None if !expects_body => BodyFraming::None,
                n => BodyFraming::Length(n.unwrap_or(0)),
            },
        );
        h1::end_of_head(&mut head);
        Template {
            method,
            head: head.freeze(),
            body_bytes: body_bytes.unwrap_or(0),
            keep_alive,
            timeout,
        }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The port of the dummy backend that says it answered.
    pub(super) backend: Option<u16>,
    /// The highest concurrency that it has seen.
    pub(super) peak: u64,
    pub(super) body_bytes: u64,
}

/// Why nothing whole came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("connection refused")]
    Refused,
    #[error("no connection: {0}")]
    NoConnection(String),
    #[error("closed before the response")]
    Closed,
    #[error("reset before the response")]
    Reset,
    #[error("broke off within the response")]
    Incomplete,
    #[error("no valid response: {0}")]
    Malformed(DecodeError),
    #[error("timed out")]
    TimedOut,
    #[error("{0}")]
    Io(String),
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Incomplete => Failure::Incomplete,
            error => Failure::Malformed(error),
        }
    }
}

/// A client that keeps at most one connection.
#[derive(Debug)]
pub(super) struct Client<'a> {
    env: TokioEnv,
    template: &'a Template,
    addrs: &'a [SocketAddr],
    /// The address that answered last is dialled first.
    preferred: usize,
    idle: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buf: BytesMut,
}

const LIMITS: HeadLimits = HeadLimits {
    bytes: 64 * 1024,
    fields: 256,
};
const READ_BYTES: usize = 32 * 1024;
/// What bodies are made of.
static FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];

impl<'a> Client<'a> {
    pub(super) fn new(env: TokioEnv, template: &'a Template, addrs: &'a [SocketAddr]) -> Self {
        Client {
            env,
            template,
            addrs,
            preferred: 0,
            idle: None,
        }
    }

    /// Sends one request and reads its response to the end.
    pub(super) async fn request(&mut self) -> Result<Answer, Failure> {
        let (clock, limit) = (*self.env.clock(), self.template.timeout);
        clock
            .timeout(limit, self.unbounded())
            .await
            .unwrap_or(Err(Failure::TimedOut))
    }

    async fn unbounded(&mut self) -> Result<Answer, Failure> {
        if let Some(connection) = self.idle.take() {
            match self.exchange(connection).await {
                // The other side closed an idle connection while the request was under way: that is no failure of
                // the server, and an idempotent request may be sent again (RFC 9112 section 9.3.1).
                Err(Failure::Closed | Failure::Reset) if self.template.method.is_idempotent() => {}
                result => return result,
            }
        }
        let connection = self.connect().await?;
        self.exchange(connection).await
    }

    async fn connect(&mut self) -> Result<Connection, Failure> {
        let mut failure = Failure::NoConnection("the name has no address".into());
        for i in 0..self.addrs.len() {
            let at = (self.preferred + i) % self.addrs.len();
            match self.env.net().connect(self.addrs[at]).await {
                Ok(stream) => {
                    self.preferred = at;
                    let buf = BytesMut::with_capacity(READ_BYTES);
                    return Ok(Connection { stream, buf });
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    failure = Failure::Refused;
                }
                Err(error) => failure = Failure::NoConnection(error.kind().to_string()),
            }
        }
        Err(failure)
    }

    async fn exchange(&mut self, mut connection: Connection) -> Result<Answer, Failure> {
        let mut decoder = ResponseDecoder::new(&self.template.method, LIMITS);
        let (mut reader, writer) = connection.stream.split();
        let mut sent = false;
        let result = {
            // Both at once: a server may answer, or want its answer read, before it has read the whole body.
            let mut read = std::pin::pin!(read(&mut reader, &mut connection.buf, &mut decoder));
            let mut write = std::pin::pin!(write(writer, self.template));
            loop {
                tokio::select! {
                    biased;
                    result = &mut write, if !sent => {
                        sent = true;
                        if let Err(error) = result {
                            tracing::debug!(%error, "the request could not be sent; a response may be there");
                        }
                    }
                    result = &mut read => break result,
                }
            }
        };
        if result.is_ok() && sent && self.template.keep_alive && decoder.reusable(&connection.buf) {
            self.idle = Some(connection);
        }
        result
    }
}

async fn write(mut writer: WriteHalf<'_>, template: &Template) -> io::Result<()> {
    let mut left = template.body_bytes;
    // A small body travels in the head's segment.
    let first = left.min(FILLER.len() as u64);
    left -= first;
    let mut begin = Buf::chain(&template.head[..], &FILLER[..first as usize]);
    while begin.has_remaining() {
        writer.write_buf(&mut begin).await?;
    }
    while left > 0 {
        let piece = left.min(FILLER.len() as u64);
        writer.write_all(&FILLER[..piece as usize]).await?;
        left -= piece;
    }
    Ok(())
}

async fn read(
    reader: &mut ReadHalf<'_>,
    buf: &mut BytesMut,
    decoder: &mut ResponseDecoder,
) -> Result<Answer, Failure> {
    let head = loop {
        match decoder.head(buf)? {
            Some(head) if !head.interim => break head,
            Some(_) => {}
            None => match fill(reader, buf).await {
                Ok(0) if buf.is_empty() => return Err(Failure::Closed),
                Ok(0) => return Err(Failure::Incomplete),
                Ok(_) => {}
                Err(_) if !buf.is_empty() => return Err(Failure::Incomplete),
                Err(error) if is_reset(&error) => return Err(Failure::Reset),
                Err(error) => return Err(Failure::Io(error.kind().to_string())),
            },
        }
    };
    let mut answer = Answer::of(&head);
    loop {
        match decoder.body(buf)? {
            Piece::Data(data) => answer.body_bytes += data.len() as u64,
            Piece::End(_) => return Ok(answer),
            Piece::NeedMore => match fill(reader, buf).await {
                Ok(0) => decoder.eof()?,
                Ok(_) => {}
                Err(_) => return Err(Failure::Incomplete),
            },
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset
    )
}

async fn fill(reader: &mut ReadHalf<'_>, buf: &mut BytesMut) -> io::Result<usize> {
    buf.reserve(READ_BYTES);
    reader.read_buf(buf).await
}

impl Answer {
    fn of(head: &ResponseHead) -> Self {
        fn number<T: std::str::FromStr>(head: &ResponseHead, name: &http::HeaderName) -> Option<T> {
            let value = head.headers.named(name).next()?;
            std::str::from_utf8(value).ok()?.parse().ok()
        }
        Answer {
            status: head.status.as_u16(),
            backend: number(head, &PORT),
            peak: number(head, &PEAK).unwrap_or(0),
            body_bytes: 0,
        }
    }
}
