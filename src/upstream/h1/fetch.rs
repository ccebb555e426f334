//! A response body on its way on a connection of its own, with all that it holds until its end.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use crate::config::model::BackendTimeouts;
use crate::engine::Outcome;
use crate::env::Env;
use crate::h1::{Piece, ResponseDecoder};
use crate::message::cause::{Cause, Side};
use crate::time::Tick;
use crate::upstream::gate::Lease;
use crate::upstream::h1::exchange::poll_fill;
use crate::upstream::h1::sending::Sending;
use crate::upstream::pool::{Backend, Link};
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// A response body on its way, with all that it holds: its connection, its place in flight, the rest of the request.
/// Whoever reads it drives it; dropping it closes the connection and gives the place back as cancelled.
pub struct Fetch<E: Env, B> {
    /// Declared before the lease: the connection is closed before its place is free.
    link: Option<Link<E>>,
    lease: Option<Lease<E>>,
    backend: Arc<Backend<E>>,
    errand: Arc<Errand<E>>,
    decoder: ResponseDecoder,
    keep_alive: Option<Duration>,
    timeouts: BackendTimeouts,
    /// When the whole request's time is over.
    deadline: Tick,
    sending: Sending,
    /// What is left of the request's body.
    body: Option<B>,
}

/// What a fetch needs to know of its attempt.
pub struct Attempt<E: Env> {
    /// The connection that the head was read from.
    pub link: Link<E>,
    /// The place in flight.
    pub lease: Lease<E>,
    /// Where the connection goes back to.
    pub backend: Arc<Backend<E>>,
    /// Decoded up to the end of the head.
    pub decoder: ResponseDecoder,
    /// How far the request has gone out.
    pub sending: Sending,
    /// What the backend said of its own patience.
    pub keep_alive: Option<Duration>,
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
        body: B,
    ) -> Self {
        let Attempt {
            link,
            lease,
            backend,
            decoder,
            mut sending,
            keep_alive,
        } = attempt;
        sending.leave_watch();
        let body = (!sending.is_complete(&link)).then_some(body);
        Fetch {
            link: Some(link),
            lease: Some(lease),
            backend,
            errand: Arc::clone(errand),
            decoder,
            keep_alive,
            timeouts,
            deadline,
            sending,
            body,
        }
    }

    /// The whole body, if it has arrived already; then nothing is held any more.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let link = self.link.as_mut()?;
        let whole = whole(&mut self.decoder, &mut link.read)?;
        self.settle();
        Some(whole)
    }

    /// The connection, after its protocol has changed. It no longer counts among those of requests, and the place in flight is
    /// free.
    pub fn switch(mut self) -> Option<Link<E>> {
        let mut link = self.link.take()?;
        link.leave_pool();
        if let Some(lease) = self.lease.take() {
            lease.finish(Outcome::Success);
        }
        Some(link)
    }

    /// Body bytes to come, when the backend said how many.
    pub fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Is the body's end the connection's?
    pub fn ends_by_close(&self) -> bool {
        self.decoder.ends_by_close()
    }

    /// Has the backend's message ended, and its last piece been handed out?
    pub fn is_over(&self) -> bool {
        self.link.is_none() && self.decoder.is_done()
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
            let Some(link) = self.link.as_mut() else {
                return Poll::Ready(None);
            };
            match self.decoder.body(&mut link.read) {
                Ok(Piece::Data(data)) => {
                    if self.decoder.is_done() {
                        self.settle();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::End(trailers)) => {
                    self.settle();
                    return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
                }
                Ok(Piece::NeedMore) => {}
                Err(error) => {
                    tracing::debug!(%error, "a response body was malformed");
                    return Poll::Ready(Some(Err(self.fail(Cause::ResponseIncomplete))));
                }
            }
            match poll_fill(link, cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(Ok(_)) if self.decoder.eof().is_ok() => {}
                Poll::Ready(_) => {
                    return Poll::Ready(Some(Err(self.fail(Cause::ResponseIncomplete))));
                }
                Poll::Pending if due && !moved => {
                    let late = self.errand.now() >= self.deadline;
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

    /// Keeps the rest of the request going out while the response comes in; true when some of it did.
    ///
    /// # Errors
    /// The client's body failed, and with it the connection that the response would go to.
    fn push_request(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let (Some(link), Some(body)) = (self.link.as_mut(), self.body.as_mut()) else {
            return Ok(false);
        };
        let before = self.sending.written();
        match self.sending.poll(cx, &self.errand, link, body) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.body = None,
            Poll::Ready(Err(cause)) => {
                self.sending.give_up();
                self.body = None;
                return Err(cause);
            }
        }
        Ok(self.sending.written() > before)
    }

    /// The backend's message has ended.
    fn settle(&mut self) {
        if let (Some(link), Some(lease)) = (self.link.take(), self.lease.take()) {
            let is_reusable = self.sending.is_complete(&link) && self.decoder.reusable(&link.read);
            let keep = is_reusable.then_some(self.keep_alive);
            settle(&self.errand, &self.backend, link, lease, keep);
        }
    }

    fn fail(&mut self, cause: Cause) -> Cause {
        self.link = None;
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

impl<E: Env> Attempt<E> {
    /// The whole body, if it has come with the head; then nothing is held any more.
    ///
    /// # Errors
    /// The attempt as it was, whose body is yet to come.
    pub fn whole(mut self, errand: &Errand<E>) -> Result<Bytes, Box<Self>> {
        let Some(whole) = whole(&mut self.decoder, &mut self.link.read) else {
            return Err(Box::new(self));
        };
        let is_sent = self.sending.is_complete(&self.link);
        let is_reusable = is_sent && self.decoder.reusable(&self.link.read);
        let keep = is_reusable.then_some(self.keep_alive);
        settle(errand, &self.backend, self.link, self.lease, keep);
        Ok(whole)
    }
}

/// A body of known length that `read` holds to its end.
fn whole(decoder: &mut ResponseDecoder, read: &mut BytesMut) -> Option<Bytes> {
    let piece = match decoder.remaining()? {
        0 => Bytes::new(),
        n if read.len() as u64 >= n => match decoder.body(read) {
            Ok(Piece::Data(data)) => data,
            _ => return None,
        },
        _ => return None,
    };
    let is_over = decoder.is_done() || matches!(decoder.body(read), Ok(Piece::End(None)));
    is_over.then_some(piece)
}

/// A message has ended: its connection is kept, with what the backend has said of its patience, or closed; then its place is
/// free, however slow the client is.
fn settle<E: Env>(
    errand: &Errand<E>,
    backend: &Arc<Backend<E>>,
    link: Link<E>,
    lease: Lease<E>,
    keep: Option<Option<Duration>>,
) {
    match keep {
        Some(patience) => {
            let (core, now) = (errand.core.index(), errand.coarse_now());
            backend.keep(core, now, link, patience);
        }
        None => drop(link),
    }
    lease.finish(Outcome::Success);
}
