//! A connection as bytes, be it TCP as it is or TLS over it. What is above need not know which.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::env::Stream;

/// A connection, in the clear or over TLS.
#[derive(Debug)]
pub enum Wire<S> {
    /// As it is.
    Plain(S),
    /// Over TLS, after the handshake, on either side.
    Tls(Box<TlsStream<S>>),
}

impl<S> Wire<S> {
    /// The socket below.
    pub fn socket(&self) -> &S {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The socket below, and nothing of what is above it.
    pub fn into_socket(self) -> S {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => match *stream {
                TlsStream::Server(stream) => stream.into_inner().0,
                TlsStream::Client(stream) => stream.into_inner().0,
            },
        }
    }

    /// What was agreed on when hands were shaken; `None` in the clear.
    pub fn session(&self) -> Option<&rustls::ServerConnection> {
        match self {
            Wire::Tls(stream) => match stream.as_ref() {
                TlsStream::Server(stream) => Some(stream.get_ref().1),
                TlsStream::Client(_) => None,
            },
            Wire::Plain(_) => None,
        }
    }

    /// Is it over TLS?
    pub fn is_tls(&self) -> bool {
        matches!(self, Wire::Tls(_))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over TLS, takes what there is room for without sending it: a farewell then goes out together with it. Where there is no
    /// room, and in the clear, it writes.
    pub fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Wire::Tls(stream) = self {
            let taken = match stream.as_mut() {
                TlsStream::Server(stream) => stream.get_mut().1.writer().write_vectored(bufs)?,
                TlsStream::Client(stream) => stream.get_mut().1.writer().write_vectored(bufs)?,
            };
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
        Pin::new(self).poll_write_vectored(cx, bufs)
    }

    /// Says over TLS that nothing more comes (close_notify, RFC 8446 section 6.1). The socket's own end is left to its drop.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Plain(_) => Poll::Ready(Ok(())),
            Wire::Tls(stream) => {
                match stream.as_mut() {
                    TlsStream::Server(stream) => stream.get_mut().1.send_close_notify(),
                    TlsStream::Client(stream) => stream.get_mut().1.send_close_notify(),
                }
                Pin::new(stream.as_mut()).poll_flush(cx)
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    /// Over TLS a write may leave records behind that the socket did not take. Whoever has written all and waits for an answer
    /// moves them on.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Wire::Tls(stream) => {
                push(stream, cx)?;
                Pin::new(stream.as_mut()).poll_read(cx, buf)
            }
        }
    }
}

/// Sends records that wait, as far as the socket takes them.
fn push<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<S>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if stream.get_ref().1.wants_write()
        && let Poll::Ready(flushed) = Pin::new(stream).poll_flush(cx)
    {
        return flushed;
    }
    Ok(())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Wire::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Wire::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Plain(socket) => socket.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl<S: Stream> Stream for Wire<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// Over TLS: ready once there is plaintext, the end of the stream, or an error.
    fn poll_readable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Plain(socket) => Pin::new(socket).poll_readable(cx),
            Wire::Tls(stream) => {
                push(stream, cx)?;
                ready!(Pin::new(stream.as_mut()).poll_fill_buf(cx))?;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn set_abort(&self) {
        self.socket().set_abort();
    }

    fn set_keepalive(&self, silence: Duration) -> io::Result<()> {
        self.socket().set_keepalive(silence)
    }
}
