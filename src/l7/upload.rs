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
    Stream(Stream),
    /// A connection of HTTP/1.
    Line(Arc<Line<E>>),
}

impl<E: Env> Upload<E> {
    /// The body that comes over a stream of HTTP/2.
    pub fn of_stream(conn: &Arc<Conn<E>>, body: Incoming) -> Self {
        Self::new(conn, Source::Stream(Stream::new(body)))
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

    /// Has a stream announced a body of no bytes, and not ended yet?
    pub fn may_exceed(&self) -> bool {
        match &self.body {
            Source::Stream(stream) => stream.left == Some(0) && !stream.is_end(),
            Source::Line(_) => false,
        }
    }

    /// Waits for the end of a body of no bytes.
    ///
    /// # Errors
    /// The stream went on in another way, or not in time.
    pub async fn end(&mut self) -> Result<(), Cause> {
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
        {
            frame?;
        }
        Ok(())
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
            Source::Stream(stream) => stream.poll(cx),
        }
    }
}

/// The body on a stream of HTTP/2. The last bytes of a length that was announced are held until the stream has ended behind
/// them: they would make the request whole, and if more follows it is malformed (RFC 9113 section 8.1.1).
struct Stream {
    body: Incoming,
    /// Bytes that were announced and have not come.
    left: Option<u64>,
    /// The last of them.
    held: Option<Bytes>,
    /// Trailers that came behind what was held.
    behind: Option<Frame<Bytes>>,
    ended: bool,
}

impl Stream {
    fn new(body: Incoming) -> Self {
        Stream {
            left: body.size_hint().exact(),
            held: None,
            behind: None,
            ended: body.is_end_stream(),
            body,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if let Some(trailers) = self.behind.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        while !self.ended {
            // A stream breaks by a reset, and a broken connection breaks all of them.
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(frame) => frame.map_err(|_| Cause::ClientGone)?,
                // The library takes a reset without an error for an end, which it is of a response alone.
                None if !self.body.is_end_stream() => {
                    return Poll::Ready(Some(Err(Cause::ClientGone)));
                }
                None => break,
            };
            match frame.into_data() {
                Ok(data) => {
                    let more = data.len() as u64;
                    self.left = self.left.map(|left| left.saturating_sub(more));
                    let last = self.left == Some(0);
                    if !last || (self.body.is_end_stream() && self.held.is_none()) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    if more > 0 {
                        self.held = Some(data);
                    }
                }
                Err(trailers) => match self.held.take() {
                    None => return Poll::Ready(Some(Ok(trailers))),
                    Some(data) => {
                        self.behind = Some(trailers);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                },
            }
        }
        self.ended = true;
        Poll::Ready(self.held.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end(&self) -> bool {
        self.held.is_none() && self.behind.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            None => self.body.size_hint(),
            Some(data) => SizeHint::with_exact(data.len() as u64),
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
            Source::Stream(stream) => stream.is_end(),
            Source::Line(line) => line.ends().is_body_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Stream(stream) => stream.size_hint(),
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
