//! One attempt on one connection: send the request, read the head, then hand the rest to a [`Fetch`] that streams.
//!
//! It knows no client library: a request body is anything that yields frames. Both directions move while either is polled, so
//! an early response is relayed while the request still goes out, and neither side can deadlock the other.

use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::connect::{Backend, Link, READ_BUFFER};
use super::gate::Lease;
use super::server::Conn;
use super::watch::Phase;
use crate::config::model::BackendTimeouts;
use crate::engine::Outcome;
use crate::engine::retry::Progress;
use crate::env::Env;
use crate::h1::{self, BodyFraming, DecodeError, Piece, ResponseDecoder, ResponseHead};
use crate::message::cause::{Cause, Side};

/// Below this much room a read buffer grows: a body of 16 KiB should come in one read.
const ROOM: usize = 17 * 1024;

/// How an attempt failed before its response began.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// How far it had come, for the retry rule.
    pub progress: Progress,
    /// What the engine should know of it.
    pub outcome: Outcome,
}

/// The request's way out: head and body, framed.
#[derive(Debug)]
pub struct Sending {
    framing: BodyFraming,
    /// How long the backend may take from here to its first byte.
    first_byte: Duration,
    /// Body bytes that go out behind the link's write buffer, without a copy.
    pending: Bytes,
    /// Nothing more will be taken from the body.
    ended: bool,
    /// A write failed: the backend may have answered and closed, so what can be read decides.
    broken: bool,
    wrote: bool,
    consumed: bool,
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
            wrote: false,
            consumed: false,
        }
    }

    /// What the retry rule needs to know.
    pub fn progress(&self) -> Progress {
        // Body bytes that were taken cannot be sent again, whether they went out or not.
        if self.wrote || self.consumed {
            Progress::Sent {
                replayable: !self.consumed,
            }
        } else {
            Progress::NeverSent
        }
    }

    /// Was everything sent?
    fn is_complete<E: Env>(&self, link: &Link<E>) -> bool {
        self.ended && !self.broken && self.pending.is_empty() && link.write.is_empty()
    }

    /// Sends as much as both sides allow. Ready when nothing is left to do; `Err` when the client's body failed.
    fn poll<E: Env, B>(
        &mut self,
        cx: &mut Context<'_>,
        conn: &Conn<E>,
        link: &mut Link<E>,
        body: &mut B,
    ) -> Poll<Result<(), Cause>>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        loop {
            // Gathered before it is written, so that a head and the first piece of its body go out together.
            let starved = match self.gather(cx, conn, link, body) {
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
        conn: &Conn<E>,
        link: &mut Link<E>,
        body: &mut B,
    ) -> Poll<Result<(), Cause>>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        if self.ended || !self.pending.is_empty() || link.write.len() > READ_BUFFER {
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => self.take(frame, link),
            Some(Err(cause)) => {
                self.consumed = true;
                return Poll::Ready(Err(cause));
            }
            None => {
                self.ended = true;
                if self.framing == BodyFraming::Chunked {
                    h1::last_chunk(&mut link.write, None);
                }
            }
        }
        conn.arm_in(Phase::FirstByte, self.first_byte);
        Poll::Ready(Ok(()))
    }

    /// Writes what has been gathered. Ready when all of it went out, or cannot any more.
    fn flush<E: Env>(&mut self, cx: &mut Context<'_>, link: &mut Link<E>) -> Poll<()> {
        while link.write.has_remaining() || self.pending.has_remaining() {
            let parts = [IoSlice::new(&link.write), IoSlice::new(&self.pending)];
            let stream = Pin::new(&mut link.stream);
            let wrote = match (link.write.is_empty(), self.pending.is_empty()) {
                (false, true) => stream.poll_write(cx, &link.write),
                (true, _) => stream.poll_write(cx, &self.pending),
                (false, false) => stream.poll_write_vectored(cx, &parts),
            };
            match ready!(wrote) {
                Ok(n) if n > 0 => {
                    self.wrote = true;
                    let head = n.min(link.write.len());
                    link.write.advance(head);
                    self.pending.advance(n - head);
                }
                Ok(_) | Err(_) => {
                    self.broken = true;
                    self.ended = true;
                    link.write.clear();
                    self.pending.clear();
                }
            }
        }
        Poll::Ready(())
    }

    fn take<E: Env>(&mut self, frame: Frame<Bytes>, link: &mut Link<E>) {
        self.consumed = true;
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

/// Sends the request and reads the response head; interim responses are passed over.
///
/// # Errors
/// Why there is no head, how far the request had come, and what that says of the backend.
pub async fn exchange<E: Env, B>(
    conn: &Conn<E>,
    link: &mut Link<E>,
    sending: &mut Sending,
    body: &mut B,
    decoder: &mut ResponseDecoder,
) -> Result<ResponseHead, Failure>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    let mut sent = false;
    let mut answered = false;
    std::future::poll_fn(|cx| {
        if !sent {
            match sending.poll(cx, conn, link, body) {
                Poll::Ready(Ok(())) => {
                    sent = true;
                    conn.arm_in(Phase::FirstByte, sending.first_byte);
                }
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(client_failed(cause, sending))),
                Poll::Pending => {}
            }
        }
        loop {
            match decoder.head(&mut link.read) {
                Ok(Some(head)) if head.interim => continue,
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(malformed(&error))),
            }
            match poll_fill(link, cx) {
                Poll::Ready(Ok(n)) if n > 0 => answered = true,
                Poll::Ready(ended) => {
                    if let Err(error) = &ended {
                        tracing::debug!(%error, "reading a response failed");
                    }
                    return Poll::Ready(Err(closed(link, sending, answered)));
                }
                Poll::Pending => break,
            }
        }
        match conn.due() {
            Some(Phase::RequestBody) => {
                Poll::Ready(Err(client_failed(Cause::ClientTimeout, sending)))
            }
            Some(_) => Poll::Ready(Err(Failure {
                cause: Cause::FirstByteTimeout,
                progress: Progress::Sent { replayable: false },
                outcome: Outcome::Died,
            })),
            None => Poll::Pending,
        }
    })
    .await
}

/// The client's body failed: nothing that the backend could be blamed for.
fn client_failed(cause: Cause, sending: &Sending) -> Failure {
    Failure {
        cause,
        progress: sending.progress(),
        outcome: Outcome::Cancelled,
    }
}

fn malformed(error: &DecodeError) -> Failure {
    tracing::debug!(%error, "a response was malformed");
    let cause = match error {
        DecodeError::HeadTooLarge => Cause::ResponseHeadTooLarge,
        _ => Cause::BadResponse,
    };
    Failure {
        cause,
        progress: Progress::Answered,
        outcome: Outcome::Broken,
    }
}

/// The backend closed before a whole head.
fn closed<E: Env>(link: &Link<E>, sending: &Sending, answered: bool) -> Failure {
    if answered || !link.read.is_empty() {
        return Failure {
            cause: Cause::BadResponse,
            progress: Progress::Answered,
            outcome: Outcome::Broken,
        };
    }
    let outcome = if link.reused {
        Outcome::ReuseRace
    } else {
        Outcome::Died
    };
    Failure {
        cause: Cause::BackendClosed,
        progress: sending.progress(),
        outcome,
    }
}

/// Reads more into the link's buffer; 0 is the end of the stream.
fn poll_fill<E: Env>(link: &mut Link<E>, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
    if link.read.capacity() - link.read.len() < ROOM {
        link.read.reserve(READ_BUFFER);
    }
    pin!(link.stream.read_buf(&mut link.read)).poll(cx)
}

/// A response body on its way, with all that it holds: its connection, its place in flight, the rest of the request.
/// Whoever reads it drives it; dropping it closes the connection and gives the place back as cancelled.
pub struct Fetch<E: Env, B> {
    /// Declared before the lease: the connection is closed before its place is free.
    link: Option<Link<E>>,
    lease: Option<Lease<E>>,
    backend: Arc<Backend<E>>,
    conn: Arc<Conn<E>>,
    decoder: ResponseDecoder,
    keep_alive: Option<Duration>,
    timeouts: BackendTimeouts,
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
}

impl<E: Env, B> Fetch<E, B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    /// Takes over an attempt whose head has been read.
    pub fn new(
        conn: &Arc<Conn<E>>,
        attempt: Attempt<E>,
        timeouts: BackendTimeouts,
        head: &ResponseHead,
        body: B,
    ) -> Self {
        let Attempt {
            link,
            lease,
            backend,
            decoder,
            sending,
        } = attempt;
        let body = (!sending.is_complete(&link)).then_some(body);
        Fetch {
            link: Some(link),
            lease: Some(lease),
            backend,
            conn: Arc::clone(conn),
            decoder,
            keep_alive: head.keep_alive_timeout,
            timeouts,
            sending,
            body,
        }
    }

    /// The whole body, if it has arrived already; then nothing is held any more.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let link = self.link.as_mut()?;
        let piece = match self.decoder.remaining() {
            Some(0) => Bytes::new(),
            Some(n) if link.read.len() as u64 >= n => match self.decoder.body(&mut link.read) {
                Ok(Piece::Data(data)) => data,
                _ => return None,
            },
            _ => return None,
        };
        if !self.decoder.is_done()
            && !matches!(self.decoder.body(&mut link.read), Ok(Piece::End(None)))
        {
            return None;
        }
        self.settle();
        Some(piece)
    }

    /// Body bytes to come, when the backend said how many.
    pub fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// The next piece of the body, or its trailers; `None` at its end.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        self.push_request(cx);
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
                Poll::Pending if self.conn.due() == Some(Phase::BodyGap) => {
                    return Poll::Ready(Some(Err(self.fail(Cause::BodyTimeout))));
                }
                Poll::Pending => {
                    if self.conn.phase() != Phase::BodyGap {
                        self.conn.arm_in(Phase::BodyGap, self.timeouts.body_gap);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Keeps the rest of the request going out while the response comes in.
    fn push_request(&mut self, cx: &mut Context<'_>) {
        if let (Some(link), Some(body)) = (self.link.as_mut(), self.body.as_mut()) {
            match self.sending.poll(cx, &self.conn, link, body) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.body = None,
                Poll::Ready(Err(cause)) => {
                    // The response that has begun is still worth relaying; the connection is not worth keeping.
                    tracing::debug!(%cause, "a request body failed behind its response");
                    self.sending.ended = true;
                    self.sending.broken = true;
                    self.body = None;
                }
            }
        }
    }

    /// The backend's message has ended: its connection is kept or closed, then its place is free, however slow the client is.
    fn settle(&mut self) {
        if let Some(link) = self.link.take() {
            if self.sending.is_complete(&link) && self.decoder.reusable(&link.read) {
                self.backend.keep(
                    self.conn.core(),
                    self.conn.coarse_now(),
                    link,
                    self.keep_alive,
                );
            } else {
                drop(link);
            }
        }
        if let Some(lease) = self.lease.take() {
            lease.finish(Outcome::Success);
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
