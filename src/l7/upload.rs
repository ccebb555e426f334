//! A request's body on its way in: its bound, its pace, and its errors told apart.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::conn::Conn;
use super::h1::Line;
use crate::env::Env;
use crate::message::cause::Cause;
use crate::wire::watch::Phase;

/// A request's body with its bound, its pace and its errors told apart.
pub struct Upload<E: Env> {
    body: Source<E>,
    limit: u64,
    conn: Arc<Conn<E>>,
}

/// Where a body comes from.
enum Source<E: Env> {
    /// A stream of HTTP/2.
    Stream(Incoming),
    /// A connection of HTTP/1.
    Line(Arc<Line<E>>),
}

impl<E: Env> Upload<E> {
    /// The body that comes over a stream of HTTP/2.
    pub fn of_stream(conn: &Arc<Conn<E>>, body: Incoming) -> Self {
        Self::new(conn, Source::Stream(body))
    }

    /// The body behind the head that was read last.
    pub fn of_line(conn: &Arc<Conn<E>>, line: &Arc<Line<E>>) -> Self {
        Self::new(conn, Source::Line(Arc::clone(line)))
    }

    /// The connection of HTTP/1 that it comes over.
    pub fn line(&self) -> Option<Arc<Line<E>>> {
        match &self.body {
            Source::Stream(_) => None,
            Source::Line(line) => Some(Arc::clone(line)),
        }
    }

    fn new(conn: &Arc<Conn<E>>, body: Source<E>) -> Self {
        conn.received.store(0, Ordering::Relaxed);
        conn.answered.store(false, Ordering::Relaxed);
        let limit = conn.model().limits.body_bytes.unwrap_or(u64::MAX);
        Upload {
            body,
            limit,
            conn: Arc::clone(conn),
        }
    }
}

impl<E: Env> Source<E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match self {
            Source::Line(line) => line.ends().poll_body(cx),
            Source::Stream(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                // A stream breaks by a reset, and a broken connection breaks all of them.
                Poll::Ready(frame.map(|frame| frame.map_err(|_| Cause::ClientGone)))
            }
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
        let Poll::Ready(frame) = self.body.poll(cx) else {
            return match is_late(&self.conn) {
                true => Poll::Ready(Some(Err(Cause::ClientTimeout))),
                false => Poll::Pending,
            };
        };
        if self.conn.phase() == Phase::RequestBody {
            self.conn.disarm();
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let more = data.len() as u64;
            let before = self.conn.received.fetch_add(more, Ordering::Relaxed);
            if before + more > self.limit {
                return Poll::Ready(Some(Err(Cause::BodyTooLarge)));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Stream(body) => body.is_end_stream(),
            Source::Line(line) => line.ends().is_body_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Stream(body) => body.size_hint(),
            Source::Line(line) => {
                let left = line.ends().remaining();
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

/// Is the next piece of a body overdue? Once the answer has begun, the client may take its time for the rest of its request.
fn is_late<E: Env>(conn: &Conn<E>) -> bool {
    if conn.answered.load(Ordering::Relaxed) {
        return false;
    }
    if conn.phase() != Phase::RequestBody {
        conn.arm_in(Phase::RequestBody, conn.model().timeouts.body);
    }
    conn.due() == Some(Phase::RequestBody)
}
