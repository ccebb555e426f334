//! A model's end of a connection, in the clear or over TLS.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use weirkeeper::env::Stream;

use super::certificates::proxy_name;
use crate::env::SimStream;

/// One end of a connection.
#[derive(Debug)]
pub enum Socket {
    /// In the clear.
    Plain(SimStream),
    /// Over TLS, after the handshake.
    Tls(Box<TlsStream<SimStream>>),
}

impl Socket {
    /// A client's end, over TLS if there is a config for it.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn connect(stream: SimStream, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let Some(config) = tls else {
            return Ok(Socket::Plain(stream));
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(proxy_name(), stream).await?;
        Ok(Socket::Tls(Box::new(stream.into())))
    }

    /// A backend's end, over TLS if there is a config for it.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn accept(stream: SimStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        let Some(config) = tls else {
            return Ok(Socket::Plain(stream));
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        let stream = acceptor.accept(stream).await?;
        Ok(Socket::Tls(Box::new(stream.into())))
    }

    /// The connection below.
    pub fn sim(&self) -> &SimStream {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Is it over TLS?
    pub fn is_tls(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Was HTTP/2 agreed on?
    pub fn chose_http2(&self) -> bool {
        match self {
            Socket::Plain(_) => false,
            Socket::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Ready once there is something to read, be it the end or an error.
    pub fn poll_readable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_readable(cx),
            Socket::Tls(stream) => {
                ready!(Pin::new(stream.as_mut()).poll_fill_buf(cx))?;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Completes when the proxy has let go of the connection and this end has heard of it.
    pub fn left(&mut self) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            let ready = Pin::new(&mut *self).poll_readable(cx);
            // Data would be the next request, which waits for its turn.
            if ready.is_ready() && self.sim().link().dialler_left() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }

    /// The drop that follows resets the connection.
    pub fn set_abort(&self) {
        self.sim().set_abort();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
