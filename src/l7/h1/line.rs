//! A client's connection of HTTP/1 between two readers: the machine that drives it, and the body of the request under way. Both
//! take from one buffer through one decoder, so that nothing that belongs to a body is ever read as a head.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::out::Out;
use crate::engine::pace::Pace;
use crate::env::Env;
use crate::h1::{self, Dropped, Piece, RequestDecoder, RequestHead, RequestLimits};
use crate::message::cause::Cause;
use crate::message::head::Fields;
use crate::tls::client::{Trouble, trouble};
use crate::upstream::audience::Herald;
use crate::wire::StreamOf;

/// What one read of a head may bring: most heads are smaller, also with their bodies. What fills it costs a second read, and a
/// second write to the backend.
const HEAD_READ: usize = 8192;

/// Below this much room for a head the buffer grows. Between two requests nobody holds its beginning, and it has all of its room
/// again at no cost.
const HEAD_ROOM: usize = 6 * 1024;

/// The same for what follows a request that is served. Its head holds the buffer's beginning, and a higher bound would mean a new
/// buffer for each.
const AHEAD_ROOM: usize = 1024;

/// What one read of a body may bring.
const BODY_READ: usize = 20 * 1024;

/// Bytes that are read of what follows a request while it is served.
const AHEAD: usize = 16 * 1024;

/// How far the client's side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// More may come.
    Open,
    /// The client has ended its side in order. It may still wait for an answer.
    Ended,
    /// It has broken off.
    Broken,
    /// What it sent is no TLS. An alert has told it so (RFC 8446 section 6.2), which a reset would overtake.
    Failed,
}

/// What is owed to a client that waits before it sends a body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continue {
    /// It does not wait, or waits no longer.
    None,
    /// It waits for a 100.
    Owed,
}

/// Both directions of a connection.
pub struct Line<E: Env>(Mutex<Ends<E>>);

/// What lies behind the lock of a [`Line`].
pub struct Ends<E: Env> {
    stream: StreamOf<E>,
    /// Read and not yet decoded.
    read: BytesMut,
    decoder: RequestDecoder,
    reading: Reading,
    owed: Continue,
    /// Our side has been ended.
    shut: bool,
    /// Yet to be written.
    pub out: Out,
    /// What the client has taken of an answer while it was waited for; made when it first is.
    pub pace: Option<Box<Pace>>,
}

impl<E: Env> Line<E> {
    /// Of a connection of which `read` has been read and nothing answered.
    pub fn new(stream: StreamOf<E>, read: BytesMut, limits: RequestLimits) -> Self {
        Line(Mutex::new(Ends {
            stream,
            read,
            decoder: RequestDecoder::new(limits),
            reading: Reading::Open,
            owed: Continue::None,
            shut: false,
            out: Out::default(),
            pace: None,
        }))
    }

    /// Both directions, for a moment.
    pub fn ends(&self) -> MutexGuard<'_, Ends<E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, and what was read of it and not decoded.
    pub fn into_parts(self) -> (StreamOf<E>, Bytes) {
        let ends = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        (ends.stream, ends.read.freeze())
    }
}

impl<E: Env> Herald for Line<E> {
    /// Behind it the answer comes in any case, so that whoever drives the connection need not be told.
    fn interim(&self, status: StatusCode, headers: &Fields) {
        let mut ends = self.ends();
        if ends.out.has_room() {
            h1::interim_head(&mut ends.out.front, status, headers);
        }
    }
}

impl<E: Env> Ends<E> {
    /// What was read and not yet decoded.
    pub fn unread(&self) -> &[u8] {
        &self.read
    }

    /// Has a request begun?
    pub fn has_begun(&self) -> bool {
        self.decoder.has_begun(&self.read)
    }

    /// How far the client's side has come.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// May the next head be read: has the body of the request before it ended?
    pub fn is_body_done(&self) -> bool {
        self.decoder.is_body_done()
    }

    /// Body bytes to come, where the head has told.
    pub fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Does the client wait for a 100?
    pub fn is_owed_continue(&self) -> bool {
        self.owed == Continue::Owed
    }

    /// The socket, or TLS over it.
    pub fn stream(&self) -> &StreamOf<E> {
        &self.stream
    }

    /// Decodes a head out of what has been read.
    pub fn head(&mut self) -> Result<Option<RequestHead>, Cause> {
        let head = self.decoder.head(&mut self.read);
        let head = head.map_err(|error| error.cause())?;
        if let Some(head) = &head {
            self.owed = match head.expects_continue {
                true => Continue::Owed,
                false => Continue::None,
            };
        }
        Ok(head)
    }

    /// Reads more, as much as comes at once; 0 is the end of the client's side. A client that has broken off is an error, then
    /// and ever after.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (room, more) = match self.decoder.is_body_done() {
            true => (HEAD_ROOM, HEAD_READ),
            false => (BODY_READ, BODY_READ),
        };
        self.poll_read(cx, room, more)
    }

    /// Reads into a buffer that has at least `room`, and where it has not, room for so much `more`.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        more: usize,
    ) -> Poll<io::Result<usize>> {
        match self.reading {
            Reading::Open => {}
            Reading::Ended => return Poll::Ready(Ok(0)),
            Reading::Broken | Reading::Failed => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        if self.read.capacity() - self.read.len() < room {
            self.read.reserve(more);
        }
        let before = self.read.len();
        let filled = ready!(poll_read_buf(&mut self.stream, cx, &mut self.read));
        let read = self.read.len() - before;
        match filled {
            Ok(()) if read == 0 => self.reading = Reading::Ended,
            Ok(()) => {}
            Err(error) => {
                self.reading = match trouble(&error) {
                    Some(Trouble::Protocol) => Reading::Failed,
                    _ => Reading::Broken,
                };
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(read))
    }

    /// Looks whether the client is still there while its request is served, and keeps what it sends ahead, within a bound. True
    /// when it has broken off.
    pub fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        // Of a body only its reader takes, or a slow backend would not slow the client.
        while self.decoder.is_body_done()
            && self.reading == Reading::Open
            && self.read.len() < AHEAD
        {
            match self.poll_read(cx, AHEAD_ROOM, HEAD_READ) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => break,
                Poll::Pending => return false,
            }
        }
        matches!(self.reading, Reading::Broken | Reading::Failed)
    }

    /// The next piece of the body, its trailers, or its end. A client that waits to be told to go on is told so now.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        loop {
            match self.decoder.body(&mut self.read) {
                Ok(Piece::Data(data)) => {
                    // Whoever sends does not wait to be told so.
                    self.owed = Continue::None;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::End(trailers)) => {
                    return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
                }
                Ok(Piece::NeedMore) => {}
                Err(error) => return Poll::Ready(Some(Err(error.cause()))),
            }
            if self.owed == Continue::Owed {
                self.owed = Continue::None;
                h1::continue_100(&mut self.out.front);
            }
            // A failed write is found by the answer's.
            let _ = self.poll_write(cx, false);
            match ready!(self.poll_fill(cx)) {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(Some(Err(Cause::ClientGone))),
            }
        }
    }

    /// No 100 will be said any more: the answer has begun.
    pub fn forget_continue(&mut self) {
        self.owed = Continue::None;
    }

    /// Reads and drops what is left of a body that nobody will read, as far as `budget` allows; ready with whether it has ended.
    pub fn poll_drop_body(&mut self, cx: &mut Context<'_>, budget: &mut u64) -> Poll<bool> {
        loop {
            match self.decoder.drop_body(&mut self.read, budget) {
                Ok(Dropped::All) => return Poll::Ready(true),
                Ok(Dropped::NeedMore) => {}
                Ok(Dropped::TooMuch) | Err(_) => return Poll::Ready(false),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(false),
            }
        }
    }

    /// Writes until nothing is left. `last` tells that nothing will follow.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, last: bool) -> Poll<io::Result<()>> {
        let Ends { out, stream, .. } = self;
        out.poll_write::<E>(cx, stream, last)
    }

    /// Says over TLS that nothing more comes, and sends what waits there.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_farewell(cx)
    }

    /// Ends this side, then reads and drops what the client still sends, until it ends or `budget` is spent.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, budget: &mut u64) -> Poll<()> {
        if !self.shut {
            if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.shut = true;
        }
        loop {
            *budget = budget.saturating_sub(self.read.len() as u64);
            self.read.clear();
            if *budget == 0 {
                return Poll::Ready(());
            }
            match ready!(self.poll_fill(cx)) {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Sends records of TLS that the socket has not taken yet.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// One read behind what `buf` holds.
fn poll_read_buf<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
) -> Poll<io::Result<()>> {
    let mut reading = std::pin::pin!(stream.read_buf(buf));
    std::future::Future::poll(reading.as_mut(), cx).map_ok(|_| ())
}
