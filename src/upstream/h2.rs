//! An exchange over a stream of a connection that many share, in HTTP/2 (RFC 9113).
//!
//! It stands on the `h2` crate and not on hyper's client, since what matters to a proxy is visible there: how many streams the
//! peer takes, whether a stream was processed before it was refused, and the windows. A request's body stays with the one who
//! attempts, so what was not sent can be sent elsewhere.
//!
//! Absent: the connections, which are the pool's, HTTP/2 with clients, and pushed responses, which are refused.

mod head;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;

pub use self::head::{Unspeakable, request};
use crate::engine::Outcome;
use crate::engine::retry::Progress;
use crate::env::Env;
use crate::h1::{HeadLimits, MAX_INTERIM};
use crate::message::cause::Cause;
use crate::message::fields::forbidden_in_trailers;
use crate::message::head::Head;
use crate::upstream::audience::Herald;
use crate::upstream::carrier::{Came, Carrier};
use crate::upstream::dial::tls_cause;
use crate::upstream::failure::{Failure, RACE};
use crate::upstream::pool::Ticket;
use crate::wire::errand::Errand;

/// A stream in use by one exchange. Its drop resets the stream.
pub struct OnStream<E: Env> {
    send: SendStream<Bytes>,
    /// Body bytes that went into the peer's window.
    sent: u64,
    /// The peer did not want the rest.
    cut: bool,
    response: ResponseFuture,
    /// Bytes of the interim heads that came before it.
    interim: usize,
    /// The request forbids a body of the response.
    is_head: bool,
    limits: HeadLimits,
    /// What follows the head, once it is there.
    body: Option<RecvStream>,
    /// Read and not handed out. What ends a body of known length waits here until the backend has ended it as well: nobody
    /// asks for more once all of it is there.
    front: Bytes,
    trailers: Option<HeaderMap>,
    remaining: Option<u64>,
    /// The response has ended.
    ended: bool,
    /// Declared last: the stream is reset before its place on the connection is free.
    ticket: Ticket<E>,
}

impl<E: Env> OnStream<E> {
    /// Begins with the head of a request; `ended` if it has no body.
    ///
    /// # Errors
    /// The connection has ended meanwhile: nothing was sent.
    pub fn begin(
        mut ticket: Ticket<E>,
        request: Request<()>,
        ended: bool,
        limits: HeadLimits,
    ) -> Result<Self, Failure> {
        let is_head = *request.method() == Method::HEAD;
        match ticket.send.send_request(request, ended) {
            Ok((response, send)) => Ok(OnStream {
                send,
                sent: 0,
                cut: false,
                response,
                interim: 0,
                is_head,
                limits,
                body: None,
                front: Bytes::new(),
                trailers: None,
                remaining: None,
                ended: false,
                ticket,
            }),
            Err(error) => {
                tracing::debug!(%error, "no stream could begin");
                ticket.retire_connection();
                let outcome = race_or(ticket.reused, Outcome::Refused);
                let cause = Cause::BackendClosed;
                Err(Failure::new(cause, Progress::NeverSent, outcome))
            }
        }
    }

    /// Takes the interim heads that have come, which are told to `herald`; all of them together have a bound, as in HTTP/1.1.
    fn take_interim(
        &mut self,
        cx: &mut Context<'_>,
        herald: Option<&dyn Herald>,
    ) -> Result<(), Failure> {
        // What else becomes of the stream the response tells.
        while let Poll::Ready(Some(Ok(head))) = self.response.poll_informational(cx) {
            let (parts, ()) = head.into_parts();
            let fields = parts.headers.iter();
            self.interim += 16
                + fields
                    .map(|(n, v)| n.as_str().len() + v.len() + 4)
                    .sum::<usize>();
            if self.interim > MAX_INTERIM {
                let (cause, progress) = (Cause::BadResponse, Progress::Answered);
                return Err(Failure::new(cause, progress, Outcome::Broken));
            }
            if let Some(herald) = herald.filter(|_| parts.status != StatusCode::CONTINUE) {
                herald.interim(parts.status, &parts.headers.into());
            }
        }
        Ok(())
    }

    /// Takes the head of a response, with the length that it announces.
    fn answered(&mut self, response: Response<RecvStream>) -> Head {
        let (head, body) = response.into_parts();
        let has_none = self.is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        self.ended = has_none || body.is_end_stream();
        // The codec has refused lengths that contradict each other.
        let length = head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        self.remaining = match self.ended {
            true => Some(0),
            // Where the end has not come with the head, even an empty body has more to say.
            false => length.filter(|n| *n > 0),
        };
        self.body = Some(body);
        Head {
            status: head.status,
            fields: head.headers.into(),
        }
    }

    /// What the end of a stream without a response says.
    fn failed(&self, error: &h2::Error, waited: Duration) -> Failure {
        tracing::debug!(%error, "a stream ended without a response");
        let reused = self.ticket.reused;
        // A stream that hears of a GOAWAY is behind the last one that the peer has processed (RFC 9113 section 6.8).
        let left_out = error.is_go_away() && error.is_remote();
        let refused =
            error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
        if left_out || refused {
            // A backend that refuses one stream may serve others: it is no reason to pass over it.
            let outcome = if left_out {
                race_or(reused, Outcome::Refused)
            } else {
                Outcome::Cancelled
            };
            return Failure::new(Cause::BackendClosed, Progress::NeverSent, outcome);
        }
        if error.is_library() {
            return Failure::new(Cause::BadResponse, Progress::Answered, Outcome::Broken);
        }
        let race = reused && error.is_io() && waited < RACE;
        let outcome = race_or(race, Outcome::Died);
        let cause = error.get_io().and_then(tls_cause);
        let cause = cause.unwrap_or(Cause::BackendClosed);
        Failure::new(cause, Progress::Sent, outcome)
    }

    /// Is all of the body here that was announced, and not yet its end?
    fn is_held(&self) -> bool {
        self.remaining == Some(0) && !self.ended
    }

    /// Reads until there is something in front, or the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while !self.ended {
            let Some(body) = self.body.as_mut() else {
                break;
            };
            match ready!(body.poll_data(cx)).transpose()? {
                Some(data) => {
                    self.ended = body.is_end_stream();
                    // It fails only for more than was received. The windows open for as much again: whoever asks for pieces has
                    // room for them.
                    let _ = body.flow_control().release_capacity(data.len());
                    if let Some(remaining) = &mut self.remaining {
                        *remaining = remaining.saturating_sub(data.len() as u64);
                    }
                    let is_empty = data.is_empty();
                    if !is_empty {
                        self.front = data;
                    }
                    // Where all has come that was announced, the end is not far.
                    if !is_empty && !self.ended && self.remaining != Some(0) {
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
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn race_or(reused: bool, otherwise: Outcome) -> Outcome {
    if reused {
        Outcome::ReuseRace
    } else {
        otherwise
    }
}

/// Is a head within its bounds? Its bytes are counted as HTTP/1.1 would write them.
fn fits(headers: &HeaderMap, limits: HeadLimits) -> bool {
    let bytes = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4);
    headers.len() <= limits.fields && bytes.sum::<usize>() <= limits.bytes
}

/// The trailers that may stand behind a message (RFC 9110 section 6.5.1).
fn allowed(mut trailers: HeaderMap) -> HeaderMap {
    while let Some(name) = trailers.keys().find(|n| forbidden_in_trailers(n)).cloned() {
        trailers.remove(name);
    }
    trailers
}

impl<E: Env> Carrier<E> for OnStream<E> {
    fn has_room(&self) -> bool {
        true
    }

    fn frame(&mut self, piece: Frame<Bytes>, last: bool) -> (Bytes, bool) {
        match piece.into_data() {
            Ok(data) => {
                if data.is_empty() && last {
                    self.frame_end();
                }
                (data, last)
            }
            Err(frame) => {
                let trailers = frame.into_trailers().map(allowed).unwrap_or_default();
                if trailers.is_empty() {
                    self.frame_end();
                } else {
                    self.cut |= self.send.send_trailers(trailers).is_err();
                }
                (Bytes::new(), true)
            }
        }
    }

    fn frame_end(&mut self) {
        self.cut |= self.send.send_data(Bytes::new(), true).is_err();
    }

    /// Gives the peer what its window has room for.
    fn poll_write(&mut self, cx: &mut Context<'_>, rest: &mut Bytes, last: bool) -> Poll<()> {
        while !self.cut && !rest.is_empty() {
            self.send.reserve_capacity(rest.len());
            let mut room = self.send.capacity();
            if room == 0 {
                match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(capacity)) => room = capacity,
                    // The peer closed the stream, or wants no more of this body. What it answers decides.
                    Some(Err(_)) | None => {
                        self.cut = true;
                        break;
                    }
                }
            }
            let piece = rest.split_to(room.min(rest.len()));
            let size = piece.len() as u64;
            let is_end = last && rest.is_empty();
            match self.send.send_data(piece, is_end) {
                Ok(()) => self.sent += size,
                Err(_) => self.cut = true,
            }
        }
        Poll::Ready(())
    }

    fn has_framed(&self) -> bool {
        false
    }

    fn is_cut(&self) -> bool {
        self.cut
    }

    fn progress(&self) -> Progress {
        Progress::Sent
    }

    fn written(&self) -> u64 {
        self.sent
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        waited: Duration,
        herald: Option<&dyn Herald>,
    ) -> Poll<Result<Head, Failure>> {
        self.take_interim(cx, herald)?;
        Poll::Ready(match ready!(Pin::new(&mut self.response).poll(cx)) {
            Ok(response) if !fits(response.headers(), self.limits) => Err(Failure::new(
                Cause::ResponseHeadTooLarge,
                Progress::Answered,
                Outcome::Broken,
            )),
            Ok(response) => Ok(self.answered(response)),
            Err(error) => Err(self.failed(&error, waited)),
        })
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        loop {
            let front = std::mem::take(&mut self.front);
            if self.ended {
                let trailers = self.trailers.take().map(Frame::trailers);
                let last = match front.is_empty() {
                    true => trailers,
                    false => Some(Frame::data(front)),
                };
                return Poll::Ready(Came::End(last));
            }
            if !front.is_empty() && !self.is_held() {
                return Poll::Ready(Came::Piece(Frame::data(front)));
            }
            self.front = front;
            match ready!(self.poll_read(cx)) {
                Ok(()) => {}
                // All that was announced is here, whatever the backend does instead of ending it.
                Err(_) if self.is_held() => self.ended = true,
                Err(error) => {
                    tracing::debug!(%error, "a response body broke off");
                    return Poll::Ready(Came::Broken);
                }
            }
        }
    }

    fn take_held(&mut self) -> Option<Bytes> {
        let is_held = self.is_held();
        is_held.then(|| std::mem::take(&mut self.front))
    }

    fn take_whole(&mut self) -> Option<Bytes> {
        // Whoever reads on registers anew, and hears of an error.
        let mut cx = Context::from_waker(Waker::noop());
        if self.front.is_empty() {
            let _ = self.poll_read(&mut cx);
        }
        let is_all = self.ended && self.trailers.is_none();
        is_all.then(|| std::mem::take(&mut self.front))
    }

    fn remaining(&self) -> Option<u64> {
        self.remaining.map(|n| n + self.front.len() as u64)
    }

    fn ends_by_close(&self) -> bool {
        false
    }

    fn distrust(&self) {
        self.ticket.retire_connection();
    }

    /// The stream is closed, or reset if the request has not ended.
    fn finish(self, _: &Errand<E>, _: bool) {}
}
