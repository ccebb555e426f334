//! A response body on its way on a stream, with all that it holds until its end.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame};

use super::exchange::Exchange;
use super::sending::allowed;
use crate::config::model::BackendTimeouts;
use crate::engine::Outcome;
use crate::env::Env;
use crate::message::cause::{Cause, Side};
use crate::time::Tick;
use crate::upstream::gate::Lease;
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// What a fetch needs to know of its attempt.
pub struct Attempt<E: Env> {
    /// How far the request has gone out.
    pub exchange: Exchange<E>,
    /// What follows the head.
    pub body: RecvStream,
    /// Body bytes to come, if the backend said how many, and some.
    pub length: Option<u64>,
    /// The request or the status forbids a body.
    pub bodiless: bool,
    /// The place in flight.
    pub lease: Lease<E>,
}

impl<E: Env> Attempt<E> {
    /// What came, with the length that its head announces.
    pub fn new(
        exchange: Exchange<E>,
        lease: Lease<E>,
        method: &Method,
        head: &http::response::Parts,
        body: RecvStream,
    ) -> Self {
        let status = head.status;
        // The codec has refused lengths that contradict each other.
        let length = head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        Attempt {
            exchange,
            body,
            // Where the end has not come with the head, even an empty body has more to say.
            length: length.filter(|n| *n > 0),
            bodiless: *method == Method::HEAD
                || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED),
            lease,
        }
    }
}

/// A response body on its way. Whoever reads it drives it; dropping it resets the stream and gives the place back as cancelled.
pub struct Fetch<E: Env, B> {
    /// Both declared before the lease: the stream is reset before its place is free.
    body: Option<RecvStream>,
    exchange: Option<Exchange<E>>,
    lease: Option<Lease<E>>,
    errand: Arc<Errand<E>>,
    timeouts: BackendTimeouts,
    deadline: Tick,
    /// What is left of the request's body.
    upload: Option<B>,
    /// Read and not handed out. What ends a body of known length waits here until the backend has ended it as well: nobody
    /// asks for more once all of it is there.
    front: Bytes,
    trailers: Option<HeaderMap>,
    remaining: Option<u64>,
}

impl<E: Env, B> Fetch<E, B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    /// Takes over an attempt whose head has been read.
    pub fn new(
        errand: &Arc<Errand<E>>,
        attempt: Attempt<E>,
        timeouts: BackendTimeouts,
        deadline: Tick,
        upload: B,
    ) -> Self {
        let Attempt {
            mut exchange,
            body,
            length,
            bodiless,
            lease,
        } = attempt;
        exchange.sending.leave_watch();
        let upload = (!exchange.sending.is_complete()).then_some(upload);
        let is_over = bodiless || body.is_end_stream();
        let mut fetch = Fetch {
            body: Some(body),
            exchange: Some(exchange),
            lease: Some(lease),
            errand: Arc::clone(errand),
            timeouts,
            deadline,
            upload,
            front: Bytes::new(),
            trailers: None,
            remaining: if is_over { Some(0) } else { length },
        };
        if is_over {
            fetch.settle();
        }
        fetch
    }

    /// The whole body, if it has arrived already; then nothing is held any more.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        // Whoever reads on registers anew.
        let mut cx = Context::from_waker(Waker::noop());
        if self.front.is_empty() {
            let _ = self.read(&mut cx);
        }
        let is_all = self.body.is_none() && self.trailers.is_none();
        is_all.then(|| std::mem::take(&mut self.front))
    }

    /// Body bytes to come, when the backend said how many.
    pub fn remaining(&self) -> Option<u64> {
        self.remaining.map(|n| n + self.front.len() as u64)
    }

    /// Has the backend's message ended, and its last piece been handed out?
    pub fn is_over(&self) -> bool {
        self.body.is_none() && self.front.is_empty() && self.trailers.is_none()
    }

    /// The next piece of the body, or its trailers; `None` at its end.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let piece = ready!(self.poll_next(cx));
        // The backend owes the next one only once it is asked for.
        self.errand.disarm();
        Poll::Ready(piece)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        // Read before anything is armed anew below.
        let due = self.errand.due() == Some(Phase::BodyGap);
        let moved = match self.push_request(cx) {
            Ok(moved) => moved,
            Err(cause) => return Poll::Ready(Some(Err(self.fail(cause)))),
        };
        loop {
            let is_held = self.remaining == Some(0) && self.body.is_some();
            if !self.front.is_empty() && !is_held {
                let data = std::mem::take(&mut self.front);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.body.is_none() {
                return Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t))));
            }
            match self.read(cx) {
                Poll::Ready(Ok(())) => {}
                // All that was announced is here, whatever the backend does instead of ending it.
                Poll::Ready(Err(_)) if is_held => self.settle(),
                Poll::Pending if is_held && due => self.settle(),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a response body broke off");
                    return Poll::Ready(Some(Err(self.fail(Cause::ResponseIncomplete))));
                }
                Poll::Pending if due && !moved => {
                    let late = self.errand.now() >= self.deadline;
                    if let (Some(exchange), false) = (&self.exchange, late) {
                        // It may be the connection that is dead.
                        exchange.ticket.retire_connection();
                    }
                    let cause = if late {
                        Cause::Deadline
                    } else {
                        Cause::BodyTimeout
                    };
                    return Poll::Ready(Some(Err(self.fail(cause))));
                }
                Poll::Pending => {
                    if moved || self.errand.phase() != Phase::BodyGap {
                        let gap = self.errand.core.after(self.timeouts.body_gap);
                        let watch = &self.errand.watch;
                        watch.far.arm(Phase::BodyGap, gap.min(self.deadline));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads until there is something in front, or the end.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            let Some(body) = self.body.as_mut() else {
                return Poll::Ready(Ok(()));
            };
            match ready!(body.poll_data(cx)).transpose()? {
                Some(data) => {
                    let is_all = body.is_end_stream();
                    let is_empty = data.is_empty();
                    if !is_empty {
                        self.take(data);
                    }
                    if is_all {
                        self.settle();
                    }
                    // Where all has come that was announced, the end is not far.
                    if !is_empty && !is_all && self.remaining != Some(0) {
                        return Poll::Ready(Ok(()));
                    }
                }
                None => {
                    let trailers = ready!(body.poll_trailers(cx))?;
                    // They have no place behind a body of known length.
                    self.trailers = trailers
                        .filter(|_| self.remaining.is_none())
                        .map(allowed)
                        .filter(|t| !t.is_empty());
                    self.settle();
                }
            }
        }
    }

    /// Puts a piece in front, and opens the windows for as much again: whoever asks for pieces has room for them.
    fn take(&mut self, data: Bytes) {
        if let Some(body) = &mut self.body {
            // It fails only for more than was received.
            let _ = body.flow_control().release_capacity(data.len());
        }
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        self.front = data;
    }

    /// Keeps the rest of the request going out while the response comes in; true when some of it did.
    ///
    /// # Errors
    /// The client's body failed, and with it the connection that the response would go to.
    fn push_request(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let (Some(exchange), Some(upload)) = (self.exchange.as_mut(), self.upload.as_mut()) else {
            return Ok(false);
        };
        let sending = &mut exchange.sending;
        let before = sending.sent();
        match sending.poll(cx, &self.errand, upload) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.upload = None,
            Poll::Ready(Err(cause)) => {
                sending.give_up();
                self.upload = None;
                return Err(cause);
            }
        }
        Ok(sending.sent() > before)
    }

    /// The backend's message has ended: its stream is closed, or reset if the request has not, then its place is free.
    fn settle(&mut self) {
        self.let_go();
        if let Some(lease) = self.lease.take() {
            lease.finish(Outcome::Success);
        }
    }

    fn fail(&mut self, cause: Cause) -> Cause {
        self.let_go();
        if let Some(lease) = self.lease.take() {
            lease.finish(if cause.side() == Side::Backend {
                Outcome::Broken
            } else {
                Outcome::Cancelled
            });
        }
        cause
    }

    fn let_go(&mut self) {
        self.body = None;
        self.exchange = None;
    }
}
