//! A request on its way out on one connection: its head, then its body as the client brings it, framed.
//! Absent: the response, and what a failure means.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::engine::retry::Progress;
use crate::env::Env;
use crate::h1::{self, BodyFraming};
use crate::message::cause::Cause;
use crate::upstream::pool::{Link, READ_BUFFER};
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// The request's way out: head and body, framed.
#[derive(Debug)]
pub struct Sending {
    framing: BodyFraming,
    /// How long the backend may take from here to its first byte.
    pub first_byte: Duration,
    /// Body bytes that go out behind the link's write buffer, without a copy.
    pending: Bytes,
    /// Nothing more will be taken from the body.
    ended: bool,
    /// A write failed: the backend may have answered and closed, so what can be read decides.
    broken: bool,
    /// Bytes that the backend's socket has taken.
    written: u64,
    /// The response has not begun, so the waits for the client and for the first byte are this one's to bound.
    watching: bool,
}

impl Sending {
    /// A request whose head stands in the link's write buffer.
    pub fn new(framing: BodyFraming, first_byte: Duration) -> Self {
        let ended = framing == BodyFraming::None;
        Sending {
            framing,
            first_byte,
            pending: Bytes::new(),
            ended,
            broken: false,
            written: 0,
            watching: true,
        }
    }

    /// The response has begun, or the request has failed: its own waits no longer count.
    pub fn leave_watch(&mut self) {
        self.watching = false;
    }

    /// Gives up what has not gone out.
    pub fn give_up(&mut self) {
        self.ended = true;
        self.broken = true;
    }

    /// What the retry rule needs to know.
    pub fn progress(&self) -> Progress {
        match self.written > 0 {
            true => Progress::Sent,
            false => Progress::NeverSent,
        }
    }

    /// Bytes that the backend's socket has taken.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Was everything sent?
    pub fn is_complete<E: Env>(&self, link: &Link<E>) -> bool {
        self.ended && !self.broken && self.pending.is_empty() && link.write.is_empty()
    }

    /// Sends as much as both sides allow. Ready when nothing is left to do; `Err` when the client's body failed.
    pub fn poll<E: Env, B>(
        &mut self,
        cx: &mut Context<'_>,
        errand: &Errand<E>,
        link: &mut Link<E>,
        body: &mut B,
    ) -> Poll<Result<(), Cause>>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        loop {
            // Gathered before it is written, so that a head and the first piece of its body go out together.
            let starved = match self.gather(cx, errand, link, body) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(cause)),
                Poll::Pending => true,
            };
            ready!(self.flush(cx, link));
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if starved {
                return Poll::Pending;
            }
        }
    }

    /// Takes the next piece of the body, unless one is still on its way out. Pending when the client has not sent it yet.
    fn gather<E: Env, B>(
        &mut self,
        cx: &mut Context<'_>,
        errand: &Errand<E>,
        link: &mut Link<E>,
        body: &mut B,
    ) -> Poll<Result<(), Cause>>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        if self.ended || !self.pending.is_empty() || link.write.len() > READ_BUFFER {
            return Poll::Ready(Ok(()));
        }
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            if self.watching {
                // The backend owes nothing while the client has not sent all, whose pace the body itself bounds.
                errand.disarm();
            }
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => self.take(frame, link),
            Some(Err(cause)) => return Poll::Ready(Err(cause)),
            None => {
                self.ended = true;
                if self.framing == BodyFraming::Chunked {
                    h1::last_chunk(&mut link.write, None);
                }
            }
        }
        if self.watching {
            errand.arm_in(Phase::FirstByte, self.first_byte);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what has been gathered. Ready when all of it went out, or cannot any more.
    fn flush<E: Env>(&mut self, cx: &mut Context<'_>, link: &mut Link<E>) -> Poll<()> {
        while !self.broken && (link.write.has_remaining() || self.pending.has_remaining()) {
            let parts = [IoSlice::new(&link.write), IoSlice::new(&self.pending)];
            let stream = Pin::new(&mut link.stream);
            let wrote = match (link.write.is_empty(), self.pending.is_empty()) {
                (false, true) => stream.poll_write(cx, &link.write),
                (true, _) => stream.poll_write(cx, &self.pending),
                (false, false) => stream.poll_write_vectored(cx, &parts),
            };
            match ready!(wrote) {
                Ok(n) if n > 0 => {
                    self.written += n as u64;
                    let head = n.min(link.write.len());
                    link.write.advance(head);
                    self.pending.advance(n - head);
                }
                Ok(_) | Err(_) => {
                    self.broken = true;
                    self.ended = true;
                    link.write.clear();
                    return Poll::Ready(());
                }
            }
        }
        Poll::Ready(())
    }

    fn take<E: Env>(&mut self, frame: Frame<Bytes>, link: &mut Link<E>) {
        match (self.framing, frame.into_data()) {
            (BodyFraming::Chunked, Ok(data)) => {
                if !data.is_empty() {
                    h1::chunk_head(&mut link.write, data.len());
                    link.write.extend_from_slice(&data);
                    link.write.extend_from_slice(h1::CHUNK_TAIL);
                }
            }
            (_, Ok(data)) => self.pending = data,
            (BodyFraming::Chunked, Err(frame)) => {
                if let Ok(trailers) = frame.into_trailers() {
                    h1::last_chunk(&mut link.write, Some(&trailers));
                    self.ended = true;
                }
            }
            // Trailers have no place behind a body of known length.
            (_, Err(_)) => {}
        }
    }
}
