//! A request's body on its way in: its bound, its pace, and its errors told apart.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::env::Env;
use crate::l7::conn::Conn;
use crate::message::cause::Cause;
use crate::wire::watch::Phase;

/// A request's body with its bound, its pace and its errors told apart.
pub struct Upload<E: Env> {
    body: Incoming,
    ended: bool,
    /// It comes over a stream of HTTP/2.
    is_stream: bool,
    limit: u64,
    conn: Arc<Conn<E>>,
}

impl<E: Env> Upload<E> {
    pub fn new(conn: &Arc<Conn<E>>, body: Incoming, version: Version) -> Self {
        conn.line.received.store(0, Ordering::Relaxed);
        conn.line.linger.store(false, Ordering::Relaxed);
        conn.line.answered.store(false, Ordering::Relaxed);
        let limit = conn.model().limits.body_bytes.unwrap_or(u64::MAX);
        Upload {
            ended: body.is_end_stream(),
            body,
            is_stream: version == Version::HTTP_2,
            limit,
            conn: Arc::clone(conn),
        }
    }
}

impl<E: Env> Drop for Upload<E> {
    fn drop(&mut self) {
        if !self.ended {
            // The client may still be sending what nobody will read.
            self.conn.line.linger.store(true, Ordering::Relaxed);
        }
    }
}

impl<E: Env> Body for Upload<E> {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let ended;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() && is_late(&self.conn) {
            return Poll::Ready(Some(Err(Cause::ClientTimeout)));
        }
        let frame = match ready!(polled) {
            Some(Ok(frame)) => {
                ended = self.body.is_end_stream();
                frame
            }
            // A stream of HTTP/2 breaks by a reset, and a broken connection breaks all of them.
            Some(Err(_)) if self.is_stream => return Poll::Ready(Some(Err(Cause::ClientGone))),
            Some(Err(error)) => return Poll::Ready(Some(Err(broken(&error)))),
            None => {
                if self.conn.phase() == Phase::RequestBody {
                    self.conn.disarm();
                }
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        self.ended = ended;
        if self.conn.phase() == Phase::RequestBody {
            self.conn.disarm();
        }
        if let Some(data) = frame.data_ref() {
            let before = self
                .conn
                .line
                .received
                .fetch_add(data.len() as u64, Ordering::Relaxed);
            if before + data.len() as u64 > self.limit {
                return Poll::Ready(Some(Err(Cause::BodyTooLarge)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Is the next piece of a body overdue? Once the answer has begun, the client may take its time for the rest of its request.
fn is_late<E: Env>(conn: &Conn<E>) -> bool {
    if conn.line.answered.load(Ordering::Relaxed) {
        return false;
    }
    if conn.phase() != Phase::RequestBody {
        conn.arm_in(Phase::RequestBody, conn.model().timeouts.body);
    }
    conn.due() == Some(Phase::RequestBody)
}

/// A body that stops short is a client that went away; anything else is broken framing.
fn broken(error: &hyper::Error) -> Cause {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Cause::ClientGone
    } else {
        Cause::BadRequestBody
    }
}
