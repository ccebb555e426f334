//! A response body on its way from a backend, whichever way it comes. Whoever reads it drives it, be it for a client or for the
//! cache.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::config::model::BackendTimeouts;
use crate::env::Env;
use crate::message::cause::Cause;
use crate::time::Tick;
use crate::upstream::pool::Link;
use crate::upstream::{h1, h2};
use crate::wire::errand::Errand;

/// What a fetch needs to know of its attempt.
pub enum Attempt<E: Env> {
    /// The whole body has come with the head, and nothing is held any more.
    Whole(Bytes),
    /// On a connection of its own.
    Link(Box<h1::fetch::Attempt<E>>),
    /// On a stream of one that others use as well.
    Stream(Box<h2::Attempt<E>>),
}

/// A response body on its way, with all that it holds: its connection or its stream, its place in flight, the rest of the
/// request. Dropping it ends the exchange and gives the place back as cancelled. What is large lies on the heap, since it is
/// handed on often.
pub enum Fetch<E: Env, B> {
    /// All of it has come; `None` once it is handed out.
    Whole(Option<Bytes>),
    /// On a connection of its own.
    Link(Box<h1::fetch::Fetch<E, B>>),
    /// On a stream of one that others use as well.
    Stream(Box<h2::Fetch<E, B>>),
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
        deadline: Option<Tick>,
        body: B,
    ) -> Self {
        let deadline = deadline.unwrap_or(Tick::MAX);
        match attempt {
            Attempt::Whole(data) => Fetch::Whole(Some(data)),
            Attempt::Link(attempt) => {
                let fetch = h1::fetch::Fetch::new(errand, *attempt, timeouts, deadline, body);
                Fetch::Link(Box::new(fetch))
            }
            Attempt::Stream(attempt) => {
                let fetch = h2::Fetch::new(errand, *attempt, timeouts, deadline, body);
                Fetch::Stream(Box::new(fetch))
            }
        }
    }

    /// The whole body, if it has arrived already; then nothing is held any more.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Fetch::Whole(data) => data.take(),
            Fetch::Link(fetch) => fetch.take_whole(),
            Fetch::Stream(fetch) => fetch.take_whole(),
        }
    }

    /// The connection, after its protocol has changed: no stream's ever does. It no longer counts among those of requests, and
    /// the place in flight is free.
    pub fn switch(self) -> Option<Link<E>> {
        match self {
            Fetch::Link(fetch) => fetch.switch(),
            Fetch::Whole(_) | Fetch::Stream(_) => None,
        }
    }

    /// Body bytes to come, when the backend said how many.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Fetch::Whole(data) => Some(data.as_ref().map_or(0, |data| data.len() as u64)),
            Fetch::Link(fetch) => fetch.remaining(),
            Fetch::Stream(fetch) => fetch.remaining(),
        }
    }

    /// Is the body's end the connection's?
    pub fn ends_by_close(&self) -> bool {
        match self {
            Fetch::Link(fetch) => fetch.ends_by_close(),
            Fetch::Whole(_) | Fetch::Stream(_) => false,
        }
    }

    /// Has the backend's message ended, and its last piece been handed out?
    pub fn is_over(&self) -> bool {
        match self {
            Fetch::Whole(data) => data.is_none(),
            Fetch::Link(fetch) => fetch.is_over(),
            Fetch::Stream(fetch) => fetch.is_over(),
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
            Fetch::Link(fetch) => fetch.poll_piece(cx),
            Fetch::Stream(fetch) => fetch.poll_piece(cx),
        }
    }
}
