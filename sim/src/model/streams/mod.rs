//! HTTP/2 as the models speak it, on the `h2` crate: clients, backends, and a stream as bytes.
//!
//! The proxy's client side stands on hyper and its backend side on the same crate, so a fault of the crate's frames may be
//! shared; what the proxy makes of them is not.

mod carrying;
mod client;
pub(super) mod pool;
mod say;
mod serve;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::message::{Framing, Head};

/// Longer than any run: what a stream's reset leaves behind is not to depend on the machine's clock.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// A connection ended, with other streams on it, for what the proxy's library did not remember.
pub(crate) const FORGOTTEN: &str = "a reset stream was forgotten";

/// Windows of a whole connection.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Largest piece of a body.
const PIECE: usize = 8 * 1024;

/// The field of an answer that says which execution it is of.
const EXECUTION: &str = "x-execution";

/// What all trailers of the models are: the request's id.
const TRAILER: &str = "x-end";

fn trailers(id: u64) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(TRAILER, id.into());
    trailers
}

/// Are these the trailers of `id`?
fn are_trailers(trailers: Option<&HeaderMap>, id: u64) -> bool {
    let value = trailers.and_then(|t| t.get(TRAILER));
    value.and_then(|v| v.to_str().ok()?.parse().ok()) == Some(id)
}

/// Fields as the models read them.
fn head(fields: &HeaderMap) -> Head {
    let mut head = Head {
        framing: Framing::Length(0),
        ..Head::default()
    };
    for (name, value) in fields {
        let value = value.to_str().unwrap_or_default();
        head.take(name.as_str(), value);
    }
    head
}

/// Waits for room in a stream's window: how much of `wanted` may go.
///
/// # Errors
/// The stream was reset, or its connection ended.
async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, h2::Error> {
    stream.reserve_capacity(wanted);
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Ok(room.min(wanted));
        }
        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(h2::Reason::STREAM_CLOSED.into()),
        }
    }
}

/// A stream as bytes. Dropped before its end it is reset.
struct Framed {
    send: SendStream<Bytes>,
    recv: RecvStream,
    front: Bytes,
}

impl AsyncRead for Framed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.front.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => this.front = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = this.front.len().min(buf.remaining());
        buf.put_slice(&this.front.split_to(n));
        let released = this.recv.flow_control().release_capacity(n);
        Poll::Ready(released.map_err(io::Error::other))
    }
}

impl AsyncWrite for Framed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.send.reserve_capacity(buf.len());
        let mut room = this.send.capacity();
        while room == 0 {
            room = match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let n = room.min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..n]);
        let sent = this.send.send_data(data, false);
        Poll::Ready(sent.map(|()| n).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
