//! An upgraded connection: bytes both ways between a client and a backend, counted apart from requests.
//!
//! The walk agrees on it and returns it with the answer; whoever drives the connection carries it once the head of the answer
//! is out. Absent: what is agreed on (upgrade), and the copying itself (relay).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::HeaderValue;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::env::{Env, Stream};
use crate::l7::record::Record;
use crate::message::cause::Cause;
use crate::message::head::Head;
use crate::message::known::Known;
use crate::upstream::pool::Link;
use crate::wire::relay::{End, Relay, Side, linger};
use crate::wire::stream::Wire;
use crate::wire::watch::Phase;

/// A tunnel whose record is still at work elsewhere.
pub struct Opening<E: Env> {
    /// The backend's connection, with what was read of it after its 101.
    pub link: Box<Link<E>>,
    /// The client's stream of HTTP/2, if it is one.
    pub connect: Option<OnUpgrade>,
    /// Its place among the upstream's tunnels.
    pub permit: OwnedSemaphorePermit,
    /// The protocol that was agreed on.
    pub token: HeaderValue,
}

impl<E: Env> Opening<E> {
    /// Says in the head of the answer that the protocol changes. HTTP/2 says so by its status alone.
    pub fn announce(&self, head: &mut Head) {
        if self.connect.is_none() {
            head.fields.set(Known::Upgrade, self.token.clone());
            let upgrade = HeaderValue::from_static("upgrade");
            head.fields.set(Known::Connection, upgrade);
        }
    }
}

/// A tunnel that has been agreed on. Its record is written when it is over.
pub struct Tunnel<E: Env> {
    opening: Box<Opening<E>>,
    record: Box<Record<E>>,
}

impl<E: Env> Tunnel<E> {
    /// A tunnel of this exchange.
    pub fn new(opening: Box<Opening<E>>, mut record: Box<Record<E>>) -> Box<Self> {
        record.tunnel = true;
        // What stands if the head of the answer does not reach the client.
        record.cause = Some(Cause::ClientGone);
        Box::new(Tunnel { opening, record })
    }

    /// The client's stream of HTTP/2, if it is one.
    pub fn take_connect(&mut self) -> Option<OnUpgrade> {
        self.opening.connect.take()
    }
}

/// The client's side of a tunnel.
pub trait Near: AsyncRead + AsyncWrite + Unpin + Send {
    /// Does what has to be done beside reading and writing. True when the client has broken off.
    fn drive(&mut self, _: &mut Context<'_>) -> bool {
        false
    }

    /// Makes the drop that follows look like no end in order.
    fn abort(&mut self);
}

impl<S: Stream> Near for Wire<S> {
    fn abort(&mut self) {
        self.set_abort();
    }
}

/// hyper's part of a stream that it has handed over: it makes frames of what is written.
pub type Writer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream of HTTP/2 as bytes. Its end is END_STREAM, and to break it off is RST_STREAM (RFC 8441 section 5).
pub struct Framed {
    /// Declared before the stream: dropped while it is at work, it resets the stream.
    writer: Option<Writer>,
    stream: TokioIo<Upgraded>,
    /// Our end was said.
    ended: bool,
}

impl Framed {
    /// The stream, with the part that writes to it.
    pub fn new(stream: Upgraded, writer: Writer) -> Self {
        Framed {
            writer: Some(writer),
            stream: TokioIo::new(stream),
            ended: false,
        }
    }
}

impl Near for Framed {
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(writer) = &mut self.writer else {
            return false;
        };
        if writer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.writer = None;
        // Without an end of ours it stops only when the client has reset the stream, or has closed its connection.
        !self.ended
    }

    fn abort(&mut self) {
        self.writer = None;
    }
}

impl AsyncRead for Framed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Framed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Joins client and backend until both have ended, one breaks off, or nothing passes for too long. `first` has been read of the
/// client already.
pub async fn carry<E: Env, N: Near>(tunnel: Box<Tunnel<E>>, mut near: N, first: Bytes) {
    let Tunnel {
        opening,
        mut record,
    } = *tunnel;
    let Opening {
        mut link,
        permit: _permit,
        ..
    } = *opening;
    let conn = Arc::clone(&record.conn);
    // What stands if this is dropped before its end.
    record.cause = Some(Cause::ShuttingDown);
    // A tunnel may be silent for long, and needs neither buffer of a request's.
    let greeting = Bytes::copy_from_slice(&link.read);
    (link.read, link.write) = (BytesMut::new(), BytesMut::new());
    let mut relay = Relay::new(first, false, greeting);
    let patience = conn.model().timeouts.tunnel;
    conn.arm_in(Phase::Tunnel, patience);
    let end = std::future::poll_fn(|cx| {
        conn.errand.watch.register(cx.waker());
        let due = conn.due() == Some(Phase::Tunnel);
        if near.drive(cx) {
            return Poll::Ready(Some(End::Broken(Side::Near)));
        }
        let poll = relay.poll(cx, &mut near, &mut link.stream);
        if record.passed(relay.moved()) {
            conn.arm_in(Phase::Tunnel, patience);
        } else if due && poll.is_pending() {
            return Poll::Ready(None);
        }
        poll.map(Some)
    })
    .await;
    conn.disarm();
    let env = &conn.core().env;
    record.cause = match end {
        Some(End::Whole | End::Refused(_)) => None,
        Some(End::Broken(Side::Near)) => {
            link.stream.set_abort();
            Some(Cause::ClientGone)
        }
        Some(End::Broken(Side::Far)) => {
            near.abort();
            Some(Cause::BackendClosed)
        }
        None => {
            near.abort();
            link.stream.set_abort();
            Some(Cause::TunnelIdle)
        }
    };
    match end {
        Some(End::Refused(Side::Near)) => linger(env, &mut link.stream).await,
        Some(End::Refused(Side::Far)) => linger(env, &mut near).await,
        _ => {}
    }
}
