//! A request's body on its way out on a stream, as the client brings it and the peer's window lets it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::env::Env;
use crate::message::cause::Cause;
use crate::message::fields::forbidden_in_trailers;
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// The body's way out.
pub struct Sending {
    stream: SendStream<Bytes>,
    /// What the peer's window had no room for yet.
    pending: Bytes,
    /// It is the last.
    last: bool,
    /// Nothing more will be sent.
    ended: bool,
    /// The peer did not want the rest.
    broken: bool,
    /// Body bytes that went into the peer's window.
    sent: u64,
    /// How long the backend may take from here to its first byte.
    pub first_byte: Duration,
    /// The response has not begun, so the waits for the client and for the first byte are this one's to bound.
    watching: bool,
}

impl Sending {
    /// The body of a request whose head is out; `ended` if the head was all.
    pub fn new(stream: SendStream<Bytes>, ended: bool, first_byte: Duration) -> Self {
        Sending {
            stream,
            pending: Bytes::new(),
            last: false,
            ended,
            broken: false,
            sent: 0,
            first_byte,
            watching: true,
        }
    }

    /// The response has begun: its waits are no longer this one's to bound.
    pub fn leave_watch(&mut self) {
        self.watching = false;
    }

    /// Was everything sent?
    pub fn is_complete(&self) -> bool {
        self.ended && !self.broken
    }

    /// Body bytes that went into the peer's window.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends as much as both sides allow. Ready when nothing is left to do; `Err` when the client's body failed.
    pub fn poll<E: Env, B>(
        &mut self,
        cx: &mut Context<'_>,
        errand: &Errand<E>,
        body: &mut B,
    ) -> Poll<Result<(), Cause>>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        while !self.ended {
            if !self.pending.is_empty() {
                ready!(self.push(cx));
                continue;
            }
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                if self.watching {
                    // The backend owes nothing while the client has not sent all, whose pace the body itself bounds.
                    errand.disarm();
                }
                return Poll::Pending;
            };
            match frame {
                Some(Ok(frame)) => self.take(frame, body.is_end_stream()),
                Some(Err(cause)) => return Poll::Ready(Err(cause)),
                None => self.end(None),
            }
            if self.watching {
                errand.arm_in(Phase::FirstByte, self.first_byte);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Frame<Bytes>, last: bool) {
        match frame.into_data() {
            Ok(data) => {
                self.last = last;
                if data.is_empty() && last {
                    self.end(None);
                }
                self.pending = data;
            }
            Err(frame) => self.end(frame.into_trailers().ok()),
        }
    }

    /// Gives the peer what its window has room for. Ready when there is nothing more to give.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.reserve_capacity(self.pending.len());
        let mut room = self.stream.capacity();
        if room == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(capacity)) => room = capacity,
                // The peer closed the stream, or wants no more of this body. What it answers decides.
                Some(Err(_)) | None => {
                    self.give_up();
                    return Poll::Ready(());
                }
            }
        }
        let piece = self.pending.split_to(room.min(self.pending.len()));
        let size = piece.len() as u64;
        let last = self.last && self.pending.is_empty();
        if self.stream.send_data(piece, last).is_err() {
            self.give_up();
            return Poll::Ready(());
        }
        self.sent += size;
        self.ended = last;
        Poll::Ready(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        let trailers = trailers.map(allowed).filter(|t| !t.is_empty());
        let sent = match trailers {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
        if sent.is_err() {
            self.give_up();
        }
        self.ended = true;
    }

    /// Gives up what has not gone out.
    pub fn give_up(&mut self) {
        self.pending = Bytes::new();
        self.ended = true;
        self.broken = true;
    }
}

/// The trailers that may stand behind a message (RFC 9110 section 6.5.1).
pub fn allowed(mut trailers: HeaderMap) -> HeaderMap {
    while let Some(name) = trailers.keys().find(|n| forbidden_in_trailers(n)).cloned() {
        trailers.remove(name);
    }
    trailers
}
