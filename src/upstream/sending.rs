//! A request's body on its way out, as the client brings it and the backend takes it. Absent: how it is framed (carrier), the
//! response, and what a failure means.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use crate::env::Env;
use crate::message::cause::Cause;
use crate::upstream::carrier::Carrier;
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// How far the request's body has gone out.
#[derive(Debug)]
pub struct Sending {
    /// What goes out behind that which the carrier has framed, without a copy.
    pending: Bytes,
    /// It is the last of the message.
    last: bool,
    /// Nothing more will be taken from the body.
    ended: bool,
    /// What has not gone out never will.
    given_up: bool,
    /// How long the backend may take from the request's end to its first byte.
    first_byte: Duration,
    /// The response has not begun, so the waits for the client and for the first byte are this one's to bound.
    watching: bool,
}

impl Sending {
    /// Behind a head that the carrier has framed; `ended` if the head is all.
    pub fn new(ended: bool, first_byte: Duration) -> Self {
        Sending {
            pending: Bytes::new(),
            last: false,
            ended,
            given_up: false,
            first_byte,
            watching: true,
        }
    }

    /// The response has begun: its waits are no longer this one's to bound.
    pub fn leave_watch(&mut self) {
        self.watching = false;
    }

    /// Gives up what has not gone out.
    pub fn give_up(&mut self) {
        self.pending = Bytes::new();
        self.ended = true;
        self.given_up = true;
    }

    /// Was everything sent by `carrier`?
    pub fn is_complete<E: Env, C: Carrier<E>>(&self, carrier: &C) -> bool {
        let is_out = self.pending.is_empty() && !carrier.has_framed();
        self.ended && !self.given_up && is_out && !carrier.is_cut()
    }

    /// From here on the backend owes its first byte.
    pub fn await_first_byte<E: Env>(&self, errand: &Errand<E>) {
        errand.arm_in(Phase::FirstByte, self.first_byte);
    }

    /// Sends as much as both sides allow. Ready when nothing is left to do; `Err` when the client's body failed.
    pub fn poll<E: Env, C, B>(
        &mut self,
        cx: &mut Context<'_>,
        errand: &Errand<E>,
        carrier: &mut C,
        body: &mut B,
    ) -> Poll<Result<(), Cause>>
    where
        C: Carrier<E>,
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        loop {
            // Gathered before it is written, so that a head and the first piece of its body go out together.
            let starved = match self.gather(cx, errand, carrier, body) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(cause)),
                Poll::Pending => true,
            };
            ready!(carrier.poll_write(cx, &mut self.pending, self.last));
            self.ended |= carrier.is_cut();
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if starved {
                return Poll::Pending;
            }
        }
    }

    /// Takes the next piece of the body, unless one is still on its way out. Pending when the client has not sent it yet.
    fn gather<E: Env, C, B>(
        &mut self,
        cx: &mut Context<'_>,
        errand: &Errand<E>,
        carrier: &mut C,
        body: &mut B,
    ) -> Poll<Result<(), Cause>>
    where
        C: Carrier<E>,
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        if self.ended || !self.pending.is_empty() || !carrier.has_room() {
            return Poll::Ready(Ok(()));
        }
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            if self.watching {
                // The backend owes nothing while the client has not sent all, whose pace the body itself bounds.
                errand.disarm();
            }
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                self.last = body.is_end_stream();
                (self.pending, self.ended) = carrier.frame(frame, self.last);
            }
            Some(Err(cause)) => return Poll::Ready(Err(cause)),
            None => {
                self.ended = true;
                carrier.frame_end();
            }
        }
        if self.watching {
            self.await_first_byte(errand);
        }
        Poll::Ready(Ok(()))
    }
}
