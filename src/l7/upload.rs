//! A request's body on its way in: its bound, its pace, and its errors told apart.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::conn::Conn;
use super::h1::line::Line;
use crate::engine::pace::Pace;
use crate::env::Env;
use crate::message::cause::Cause;
use crate::time::Tick;
use crate::wire::watch::Phase;

/// A request's body with its bound, its pace and its errors told apart.
pub struct Upload<E: Env> {
    body: Source<E>,
    limit: u64,
    conn: Arc<Conn<E>>,
    turn: Turn,
    /// What has come while the client was waited for; made when it first is.
    pace: Option<Box<Pace>>,
    /// It is a conversation, whose client may well be silent.
    talks: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// What has come waits for the proxy, or for a backend.
    Ours,
    /// The proxy waits for more, since then.
    Client(Tick),
    /// There is no more.
    Over,
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

    /// It is part of a conversation, in which the client may wait for an answer to what it has said so far: it is held to no
    /// rate.
    pub fn set_talks(&mut self) {
        self.talks = true;
    }

    /// It is somebody's turn.
    fn turn(&mut self, turn: Turn) {
        match (self.turn, turn) {
            (Turn::Ours, Turn::Ours) => {}
            (Turn::Ours, _) => self.conn.uploads.leave(self.conn.core().coarse_now()),
            (_, Turn::Ours) => self.conn.uploads.enter(),
            _ => {}
        }
        self.turn = turn;
    }

    /// Why the client is given up for the next piece, if it is. Once the answer has begun, it may take its time for the rest of
    /// its request.
    fn lateness(&mut self) -> Option<Cause> {
        let conn = Arc::clone(&self.conn);
        let now = conn.core().coarse_now();
        if !matches!(self.turn, Turn::Client(_)) {
            self.turn(Turn::Client(now));
        }
        if conn.answered.load(Ordering::Relaxed) {
            return None;
        }
        if !matches!(conn.phase(), Phase::RequestBody | Phase::BodyRate) {
            self.arm(now);
        }
        // Found at once, or the next byte would come before the next sweep.
        if !self.talks && self.pace.as_ref().is_some_and(|pace| pace.is_late()) {
            conn.errand.watch.near.expire(Phase::BodyRate);
        }
        let late = match conn.due()? {
            Phase::RequestBody => Cause::ClientTimeout,
            Phase::BodyRate => Cause::ClientSlow,
            _ => return None,
        };
        if matches!(self.turn, Turn::Client(since) if conn.uploads.had_room(since)) {
            return Some(late);
        }
        // Perhaps it could not send, for what others have sent that waits for backends. Its time begins anew.
        self.turn = Turn::Client(now);
        self.pace = None;
        self.arm(now);
        None
    }

    /// Waits for the client from `now` on.
    fn arm(&mut self, now: Tick) {
        let model = self.conn.model();
        let late = match self.talks {
            true => Tick::MAX,
            false => {
                let new = || Box::new(Pace::new(model.sending_rate()));
                let pace = self.pace.get_or_insert_with(new);
                pace.wait(now);
                pace.deadline()
            }
        };
        let gap = (Phase::RequestBody, model.timeouts.body);
        self.conn.arm_first(gap, (Phase::BodyRate, late));
    }

    /// Something has come, and so many bytes of it are the body's.
    fn came(&mut self, bytes: u64) {
        if let Turn::Client(_) = self.turn {
            self.turn(Turn::Ours);
        }
        if let Some(pace) = &mut self.pace {
            let now = self.conn.core().coarse_now();
            pace.moved(now, bytes);
            pace.rest(now);
        }
        if matches!(self.conn.phase(), Phase::RequestBody | Phase::BodyRate) {
            self.conn.disarm();
        }
    }

    fn new(conn: &Arc<Conn<E>>, body: Source<E>) -> Self {
        conn.received.store(0, Ordering::Relaxed);
        conn.answered.store(false, Ordering::Relaxed);
        let limit = conn.model().limits.body_bytes.unwrap_or(u64::MAX);
        let turn = match &body {
            Source::Stream(stream) if !stream.is_end() => Turn::Ours,
            _ => Turn::Over,
        };
        if turn == Turn::Ours {
            conn.uploads.enter();
        }
        Upload {
            body,
            limit,
            conn: Arc::clone(conn),
            turn,
            pace: None,
            talks: false,
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
            return match self.lateness() {
                Some(late) => Poll::Ready(Some(Err(late))),
                None => Poll::Pending,
            };
        };
        let data = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref());
        let more = data.map_or(0, |data| data.len() as u64);
        self.came(more);
        if frame.is_none() {
            self.turn(Turn::Over);
        }
        if more > 0 {
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

impl<E: Env> Drop for Upload<E> {
    fn drop(&mut self) {
        self.turn(Turn::Over);
    }
}
