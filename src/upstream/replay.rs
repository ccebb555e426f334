//! A request's body on its way through attempts: what one attempt took and could not send is the next one's. Absent: the body
//! itself, which is the caller's, and its limits.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::message::cause::Cause;

/// A body with the piece in front that went nowhere. It holds one piece at most.
pub struct Replay<B> {
    body: B,
    back: Bytes,
}

impl<B> Replay<B> {
    /// Of a body from which nothing was taken.
    pub fn new(body: B) -> Self {
        Replay {
            body,
            back: Bytes::new(),
        }
    }

    /// Takes back a piece that went nowhere, for the next attempt. An attempt that took none leaves what lies here from an
    /// earlier one.
    pub fn put_back(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.back = piece;
        }
    }
}

impl<B> Body for Replay<B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if self.back.is_empty() {
            Pin::new(&mut self.body).poll_frame(cx)
        } else {
            let back = std::mem::take(&mut self.back);
            Poll::Ready(Some(Ok(Frame::data(back))))
        }
    }

    fn is_end_stream(&self) -> bool {
        self.back.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request that has none.
pub struct NoBody;

impl Body for NoBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
