//! What carries one exchange to a backend and back: a connection of its own in HTTP/1.1, or a stream of a shared one in HTTP/2.
//! Absent: the waits, the place in flight and what an end means, which are the same for both (sending, exchange, fetch).

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;

use crate::engine::retry::Progress;
use crate::env::Env;
use crate::message::head::Head;
use crate::upstream::audience::Herald;
use crate::upstream::failure::Failure;
use crate::wire::errand::Errand;

/// One exchange's way. Dropping it before its end breaks the exchange off.
pub trait Carrier<E: Env> {
    /// Has what was framed room for another piece beside it?
    fn has_room(&self) -> bool;

    /// Frames a piece of the request's body, behind which `last` says that nothing comes: what is left of it to be written as it
    /// is, and whether the message ends with it.
    fn frame(&mut self, piece: Frame<Bytes>, last: bool) -> (Bytes, bool);

    /// Frames the end of a request's body that has no trailers.
    fn frame_end(&mut self);

    /// Writes what was framed, and then `rest`, which is the `last` of the message or not. Ready when all of it is out, or none
    /// of it is wanted any more.
    fn poll_write(&mut self, cx: &mut Context<'_>, rest: &mut Bytes, last: bool) -> Poll<()>;

    /// Is anything framed and not yet written?
    fn has_framed(&self) -> bool;

    /// Did writing fail, or was the rest not wanted? What the backend answers decides then.
    fn is_cut(&self) -> bool;

    /// How much of the request the backend may have seen.
    fn progress(&self) -> Progress;

    /// Bytes that have gone out, to tell whether some did.
    fn written(&self) -> u64;

    /// The head of the response, which has been waited for as long as `waited`; interim ones are told to `herald`.
    ///
    /// # Errors
    /// Why there is none, how far the request had come, and what that says of the backend.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        waited: Duration,
        herald: Option<&dyn Herald>,
    ) -> Poll<Result<Head, Failure>>;

    /// What comes next of the response's body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Came>;

    /// What is held back of a body that is whole, though the backend has not said that it has ended.
    fn take_held(&mut self) -> Option<Bytes>;

    /// All of the body, if it is here and the backend has ended it.
    fn take_whole(&mut self) -> Option<Bytes>;

    /// Body bytes to come, when the backend said how many.
    fn remaining(&self) -> Option<u64>;

    /// Is the body's end the connection's?
    fn ends_by_close(&self) -> bool;

    /// The backend has been silent for too long, which may be its connection's doing: nobody else is to wait on that.
    fn distrust(&self);

    /// The response has ended; `sent` tells whether the request has as well. What can serve another exchange is kept.
    fn finish(self, errand: &Errand<E>, sent: bool);
}

/// What comes of a response's body.
pub enum Came {
    /// A piece, or the trailers.
    Piece(Frame<Bytes>),
    /// The end, with what came last.
    End(Option<Frame<Bytes>>),
    /// The body broke off, or was malformed.
    Broken,
}
