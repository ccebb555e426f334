//! What lies between Redis's client and a socket: TLS where it is wanted, and a look at every length that the server claims,
//! since the client would hold whatever it is told to expect. Absent: what the bytes mean.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// Elements of one array.
const ELEMENTS: u64 = 1 << 20;

/// Bytes of a line.
const LINE: usize = 64 << 10;

/// Follows the lengths in a server's answers (RESP).
#[derive(Debug)]
struct Lengths {
    limit: u64,
    /// Bytes of a string that are yet to come, with its end of line.
    skip: u64,
    /// The beginning of the line that is coming in, and how much of it has come.
    line: Vec<u8>,
    length: usize,
}

impl Lengths {
    fn new(limit: u64) -> Self {
        Lengths {
            limit,
            skip: 0,
            line: Vec::with_capacity(24),
            length: 0,
        }
    }

    /// False once something larger than anything we asked for is announced.
    fn see(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.skip).map_or(bytes.len(), |s| s.min(bytes.len()));
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some(byte) = bytes.first() else { break };
            bytes = &bytes[1..];
            self.length += 1;
            if self.length > LINE {
                return false;
            }
            if *byte != b'\n' {
                if self.line.len() < 24 {
                    self.line.push(*byte);
                }
                continue;
            }
            let said = std::str::from_utf8(self.line.get(1..).unwrap_or_default());
            let said = said.ok().and_then(|s| s.trim_end().parse::<u64>().ok());
            match (self.line.first(), said) {
                (Some(b'$' | b'=' | b'!'), Some(n)) if n <= self.limit => self.skip = n + 2,
                (Some(b'$' | b'=' | b'!'), Some(_)) => return false,
                (Some(b'*' | b'%' | b'~' | b'>' | b'|'), Some(n)) if n > ELEMENTS => return false,
                _ => {}
            }
            self.line.clear();
            self.length = 0;
        }
        true
    }
}

#[derive(Debug)]
enum Inner<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

/// A connection to Redis.
#[derive(Debug)]
pub struct Wire<S> {
    inner: Inner<S>,
    lengths: Lengths,
}

impl<S> Wire<S> {
    /// Over `stream` as it is; no answer may hold a string of more than `limit` bytes.
    pub fn plain(stream: S, limit: u64) -> Self {
        Wire {
            inner: Inner::Plain(stream),
            lengths: Lengths::new(limit),
        }
    }

    /// The same over TLS.
    pub fn tls(stream: TlsStream<S>, limit: u64) -> Self {
        Wire {
            inner: Inner::Tls(Box::new(stream)),
            lengths: Lengths::new(limit),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(match &mut this.inner {
            Inner::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Inner::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        })?;
        if this.lengths.see(&buf.filled()[before..]) {
            return Poll::Ready(Ok(()));
        }
        let what = "an answer larger than any record";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Inner::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_flush(cx),
            Inner::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Inner::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is `text` let through, whatever the reads?
    fn passes(text: &str) -> bool {
        let whole = Lengths::new(100).see(text.as_bytes());
        for step in 1..8 {
            let mut lengths = Lengths::new(100);
            let seen = text.as_bytes().chunks(step).all(|c| lengths.see(c));
            assert_eq!(seen, whole, "{text:?} by {step}");
        }
        whole
    }

    #[test]
    fn answers_pass_and_what_claims_too_much_does_not() {
        let hundred = "$100\r\n".to_owned() + &"x".repeat(100) + "\r\n";
        assert!(passes(&hundred));
        assert!(passes(
            "+OK\r\n-ERR what\r\n:5\r\n$-1\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n"
        ));
        // What stands inside a string is no length.
        assert!(passes("$8\r\n$999999\n\r\n:1\r\n"));
        assert!(!passes("$101\r\n"));
        assert!(!passes("$18446744073709551615\r\n"));
        assert!(!passes("*2\r\n$1\r\na\r\n$101\r\n"));
        assert!(!passes("*1048577\r\n"));
        assert!(!passes(&format!("+{}", "x".repeat(LINE))));
        assert!(!passes(&(hundred + "$101\r\n")));
    }
}
