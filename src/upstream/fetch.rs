//! A response body on its way from a backend, whichever way it comes. Whoever reads it drives it, be it for a client or for the
//! cache.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::config::model::BackendTimeouts;
use crate::engine::Outcome;
use crate::env::Env;
use crate::message::cause::{Cause, Side};
use crate::time::Tick;
use crate::upstream::carrier::{Came, Carrier};
use crate::upstream::exchange::Exchange;
use crate::upstream::gate::Lease;
use crate::upstream::h1::OnLink;
use crate::upstream::h2::OnStream;
use crate::upstream::pool::Link;
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// An attempt whose response has begun. What is large lies on the heap, since it is handed on often.
pub enum Attempt<E: Env> {
    /// The whole body has come with the head, and nothing is held any more.
    Whole(Bytes),
    /// On a connection of its own.
    Link(Box<Answered<E, OnLink<E>>>),
    /// On a stream of one that others use as well.
    Stream(Box<Answered<E, OnStream<E>>>),
}

impl<E: Env> Attempt<E> {
    /// Gives it up for that of another backend, with all that it holds. What has come with the head is still there.
    pub fn give_up(self) -> Option<Bytes> {
        match self {
            Attempt::Whole(data) => Some(data),
            Attempt::Link(answered) => answered.give_up(),
            Attempt::Stream(answered) => answered.give_up(),
        }
    }
}

/// An exchange whose response has begun, and its place in flight.
pub struct Answered<E: Env, C> {
    /// Declared before the lease: the exchange is over before its place is free.
    exchange: Exchange<C>,
    lease: Lease<E>,
}

impl<E: Env, C: Carrier<E>> Answered<E, C> {
    /// The head of the response has been read.
    pub fn new(exchange: Exchange<C>, lease: Lease<E>) -> Self {
        Answered { exchange, lease }
    }

    /// Breaks it off, though the backend has done nothing wrong but to answer so.
    fn give_up(self) -> Option<Bytes> {
        let Answered { exchange, lease } = self;
        drop(exchange);
        lease.finish(Outcome::Success);
        None
    }

    /// The whole body, if it has come with the head; then nothing is held any more.
    ///
    /// # Errors
    /// The attempt as it was, whose body is yet to come.
    pub fn whole(mut self, errand: &Errand<E>) -> Result<Bytes, Box<Self>> {
        match self.exchange.carrier.take_whole() {
            Some(whole) => {
                settle(errand, self.exchange, self.lease);
                Ok(whole)
            }
            None => Err(Box::new(self)),
        }
    }
}

/// A response has ended: what carried it is kept or let go, then its place is free, however slow the client is.
fn settle<E: Env, C: Carrier<E>>(errand: &Errand<E>, exchange: Exchange<C>, lease: Lease<E>) {
    let sent = exchange.is_sent();
    exchange.carrier.finish(errand, sent);
    lease.finish(Outcome::Success);
}

/// A response body on its way, with all that it holds: its connection or its stream, its place in flight, the rest of the
/// request. Dropping it ends the exchange and gives the place back as cancelled.
pub enum Fetch<E: Env, B> {
    /// All of it has come; `None` once it is handed out.
    Whole(Option<Bytes>),
    /// On a connection of its own.
    Link(Box<Coming<E, OnLink<E>, B>>),
    /// On a stream of one that others use as well.
    Stream(Box<Coming<E, OnStream<E>, B>>),
}

impl<E: Env, B> Fetch<E, B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    /// Takes over an attempt whose head has been read; `body` is the request's.
    pub fn new(
        errand: &Arc<Errand<E>>,
        attempt: Attempt<E>,
        timeouts: BackendTimeouts,
        deadline: Option<Tick>,
        body: B,
    ) -> Self {
        let deadline = deadline.unwrap_or(Tick::MAX);
        match attempt {
            Attempt::Whole(data) => Fetch::Whole(Some(data)),
            Attempt::Link(answered) => {
                let coming = Coming::new(errand, *answered, timeouts, deadline, body);
                Fetch::Link(Box::new(coming))
            }
            Attempt::Stream(answered) => {
                let coming = Coming::new(errand, *answered, timeouts, deadline, body);
                Fetch::Stream(Box::new(coming))
            }
        }
    }

    /// The whole body, if it has arrived already; then nothing is held any more.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Fetch::Whole(data) => data.take(),
            Fetch::Link(coming) => coming.take_whole(),
            Fetch::Stream(coming) => coming.take_whole(),
        }
    }

    /// The connection, after its protocol has changed: no stream's ever does. It no longer counts among those of requests, and
    /// the place in flight is free.
    pub fn switch(self) -> Option<Box<Link<E>>> {
        match self {
            Fetch::Link(coming) => coming.switch(),
            Fetch::Whole(_) | Fetch::Stream(_) => None,
        }
    }

    /// Body bytes to come, when the backend said how many.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Fetch::Whole(data) => Some(data.as_ref().map_or(0, |data| data.len() as u64)),
            Fetch::Link(coming) => coming.remaining(),
            Fetch::Stream(coming) => coming.remaining(),
        }
    }

    /// Is the body's end the connection's?
    pub fn ends_by_close(&self) -> bool {
        match self {
            Fetch::Link(coming) => coming.ends_by_close(),
            Fetch::Whole(_) | Fetch::Stream(_) => false,
        }
    }

    /// Has the backend's message ended, and its last piece been handed out?
    pub fn is_over(&self) -> bool {
        match self {
            Fetch::Whole(data) => data.is_none(),
            Fetch::Link(coming) => coming.over,
            Fetch::Stream(coming) => coming.over,
        }
    }

    /// The next piece of the body, or its trailers; `None` at its end.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match self {
            Fetch::Whole(data) => {
                let data = data.take().filter(|data| !data.is_empty());
                Poll::Ready(data.map(|data| Ok(Frame::data(data))))
            }
            Fetch::Link(coming) => coming.poll_piece(cx),
            Fetch::Stream(coming) => coming.poll_piece(cx),
        }
    }
}

/// A response body of which more is to come. Whoever reads it drives it.
pub struct Coming<E: Env, C, B> {
    /// Declared before the lease: the exchange is over before its place is free. `None` once the message has ended.
    exchange: Option<Exchange<C>>,
    lease: Option<Lease<E>>,
    errand: Arc<Errand<E>>,
    timeouts: BackendTimeouts,
    /// When the whole request's time is over.
    deadline: Tick,
    /// What is left of the request's body.
    body: Option<B>,
    /// The backend's message has ended.
    over: bool,
}

impl<E: Env, C, B> Coming<E, C, B>
where
    C: Carrier<E>,
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    fn new(
        errand: &Arc<Errand<E>>,
        answered: Answered<E, C>,
        timeouts: BackendTimeouts,
        deadline: Tick,
        body: B,
    ) -> Self {
        let Answered {
            mut exchange,
            lease,
        } = answered;
        exchange.sending.leave_watch();
        let body = (!exchange.is_sent()).then_some(body);
        Coming {
            exchange: Some(exchange),
            lease: Some(lease),
            errand: Arc::clone(errand),
            timeouts,
            deadline,
            body,
            over: false,
        }
    }

    fn take_whole(&mut self) -> Option<Bytes> {
        let whole = self.exchange.as_mut()?.carrier.take_whole()?;
        self.settle();
        Some(whole)
    }

    fn remaining(&self) -> Option<u64> {
        match &self.exchange {
            Some(exchange) => exchange.carrier.remaining(),
            None => self.over.then_some(0),
        }
    }

    fn ends_by_close(&self) -> bool {
        let carrier = self.exchange.as_ref().map(|exchange| &exchange.carrier);
        carrier.is_some_and(Carrier::ends_by_close)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
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
        let Some(exchange) = &mut self.exchange else {
            return Poll::Ready(None);
        };
        let carrier = &mut exchange.carrier;
        match carrier.poll_body(cx) {
            Poll::Ready(Came::Piece(piece)) => Poll::Ready(Some(Ok(piece))),
            Poll::Ready(Came::End(last)) => {
                self.settle();
                Poll::Ready(last.map(Ok))
            }
            Poll::Ready(Came::Broken) => {
                Poll::Ready(Some(Err(self.fail(Cause::ResponseIncomplete))))
            }
            Poll::Pending if due => {
                if let Some(held) = carrier.take_held() {
                    self.settle();
                    return Poll::Ready(Some(Ok(Frame::data(held))));
                }
                if moved {
                    self.await_more();
                    return Poll::Pending;
                }
                let late = self.errand.now() >= self.deadline;
                if !late {
                    carrier.distrust();
                }
                let cause = match late {
                    true => Cause::Deadline,
                    false => Cause::BodyTimeout,
                };
                Poll::Ready(Some(Err(self.fail(cause))))
            }
            Poll::Pending => {
                if moved || self.errand.phase() != Phase::BodyGap {
                    self.await_more();
                }
                Poll::Pending
            }
        }
    }

    /// From here on the backend owes the next piece.
    fn await_more(&self) {
        let gap = self.errand.core.after(self.timeouts.body_gap);
        let watch = &self.errand.watch;
        watch.far.arm(Phase::BodyGap, gap.min(self.deadline));
    }

    /// Keeps the rest of the request going out while the response comes in; true when some of it did.
    ///
    /// # Errors
    /// The client's body failed, and with it the connection that the response would go to.
    fn push_request(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let (Some(Exchange { carrier, sending }), Some(body)) =
            (&mut self.exchange, &mut self.body)
        else {
            return Ok(false);
        };
        let before = carrier.written();
        match sending.poll(cx, &self.errand, carrier, body) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.body = None,
            Poll::Ready(Err(cause)) => {
                sending.give_up();
                self.body = None;
                return Err(cause);
            }
        }
        Ok(carrier.written() > before)
    }

    /// The backend's message has ended.
    fn settle(&mut self) {
        self.over = true;
        if let (Some(exchange), Some(lease)) = (self.exchange.take(), self.lease.take()) {
            settle(&self.errand, exchange, lease);
        }
    }

    fn fail(&mut self, cause: Cause) -> Cause {
        self.exchange = None;
        if let Some(lease) = self.lease.take() {
            lease.finish(if cause.side() == Side::Backend {
                Outcome::Broken
            } else {
                Outcome::Cancelled
            });
        }
        cause
    }
}

impl<E: Env, B> Coming<E, OnLink<E>, B> {
    fn switch(mut self) -> Option<Box<Link<E>>> {
        let link = self.exchange.take()?.carrier.switch();
        if let Some(lease) = self.lease.take() {
            lease.finish(Outcome::Success);
        }
        Some(link)
    }
}
