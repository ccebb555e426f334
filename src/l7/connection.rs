//! A client's connection from its first byte to its end: which protocol is spoken on it, and how it is held while it idles.
//!
//! A connection is parked, a socket and its permit only, before its first byte and after a second of idling. What serves a
//! request is made when a byte comes, on the heap, and let go with its buffers when the connection idles again.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::conn::Conn;
use super::h1::{self, End, PARK_AFTER};
use super::{multiplex, quick, tunnel};
use crate::caching::Desk;
use crate::config::model::Http2;
use crate::env::{Clock, Env};
use crate::site::client::Client;
use crate::site::handshake;
use crate::wire::watch::Phase;
use crate::wire::{SocketOf, StreamOf};

/// What a parked connection reads at once: most heads are smaller.
const FIRST_READ: usize = 2048;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves one client connection until it ends.
pub async fn run<E: Env>(client: Arc<Client<E>>, desk: Arc<Desk<E>>, socket: SocketOf<E>) {
    let Some(stream) = handshake::begin(&client, socket).await else {
        return;
    };
    let conn = Conn::new(&client, &desk);
    match (client.secured.get(), client.model().http2) {
        (Some(secured), Some(http2)) if secured.http2 => {
            Box::pin(multiplex::serve(&conn, stream, BytesMut::new(), http2)).await;
        }
        (_, http2) => exchanges(conn, stream, http2).await,
    }
}

/// Serves HTTP/1, or, where the client begins so, HTTP/2 in the clear.
async fn exchanges<E: Env>(mut conn: Arc<Conn<E>>, mut stream: StreamOf<E>, http2: Option<Http2>) {
    let mut http2 = http2.filter(|h| h.cleartext && !stream.is_tls());
    // The first head must come within the header timeout; a later one may be waited for as long as a client may idle.
    let mut wait = (Phase::First, conn.model().timeouts.header);
    let quick = quick::is_possible(conn.model()) && !conn.client.origin.trusted;
    let mut read = BytesMut::new();
    loop {
        // Once: neither empty lines nor the beginning of a preface are a request.
        conn.arm_in(wait.0, wait.1);
        while read.is_empty() || (http2.is_some() && is_cut_preface(&read)) {
            let more = std::future::poll_fn(|cx| {
                conn.errand.watch.register(cx.waker());
                poll_first(&conn, &mut stream, &mut read, cx)
            });
            if !more.await {
                // The drop says the rest.
                let farewell = std::future::poll_fn(|cx| stream.poll_farewell(cx));
                let _ = conn.core().env.clock().timeout(FAREWELL, farewell).await;
                return;
            }
        }
        if let Some(http2) = http2.take()
            && multiplex::PREFACE.starts_with(&read[..read.len().min(multiplex::PREFACE.len())])
        {
            return Box::pin(multiplex::serve(&conn, stream, read, http2)).await;
        }
        // On the heap, as HTTP/2 is: a parked connection holds this future's frame.
        let read = std::mem::take(&mut read);
        match Box::pin(h1::serve(&mut conn, stream, read, quick)).await {
            End::Park(back) => {
                stream = back;
                let patience = conn.model().timeouts.idle.saturating_sub(PARK_AFTER);
                wait = (Phase::Idle, patience);
            }
            End::Closed => return,
            End::Tunnel(tunnel, stream, first) => {
                return Box::pin(tunnel::carry(tunnel, stream, first)).await;
            }
        }
    }
}

/// Too little to tell HTTP/2's preface from a method that begins like it.
fn is_cut_preface(read: &[u8]) -> bool {
    read.len() < 3 && multiplex::PREFACE.starts_with(read)
}

/// Waits for bytes, holding nothing but the socket; ready with false when the client has left, or its patience or ours is over.
fn poll_first<E: Env>(
    conn: &Conn<E>,
    stream: &mut StreamOf<E>,
    read: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    // On the stack of this poll, so that a connection that waits does not hold it. A fresh socket may claim to be readable when
    // it is not, so that only a read tells.
    let mut room = [0; FIRST_READ];
    let mut room = ReadBuf::new(&mut room);
    match std::pin::Pin::new(stream).poll_read(cx, &mut room) {
        Poll::Ready(Ok(())) if !room.filled().is_empty() => {
            // An empty line before a request is no part of it (RFC 9112 section 2.2), and begins none.
            let begin = room
                .filled()
                .iter()
                .position(|b| !matches!(b, b'\r' | b'\n'));
            match begin {
                Some(begin) if read.is_empty() => read.extend_from_slice(&room.filled()[begin..]),
                _ if !read.is_empty() => read.extend_from_slice(room.filled()),
                _ => {}
            }
            Poll::Ready(true)
        }
        Poll::Ready(_) => Poll::Ready(false),
        // A request that has come is served, even if the proxy is stopping.
        Poll::Pending if conn.errand.watch.is_closing() || conn.due().is_some() => {
            Poll::Ready(false)
        }
        Poll::Pending => Poll::Pending,
    }
}
