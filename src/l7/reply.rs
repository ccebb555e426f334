//! A response on its way to the client: its head, its body, and the record of the exchange that ends with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};

use crate::caching::fill::Reader;
use crate::env::Env;
use crate::l7::record::Record;
use crate::l7::taking::Taking;
use crate::l7::tunnel::Tunnel;
use crate::l7::upload::Upload;
use crate::message::cause::Cause;
use crate::message::head::Head;
use crate::upstream::fetch::Fetch;
use crate::upstream::replay::Replay;

/// A response's head, and its body to come.
pub type Answer<E> = (Head, Reply<E>);

/// The body of a response.
pub enum Reply<E: Env> {
    /// All of it is here.
    Whole {
        data: Option<Bytes>,
        /// Held until the body is gone; its drop is what writes it.
        _record: Box<Record<E>>,
    },
    /// It comes from a backend.
    Stream(Box<Stream<E>>),
    /// There is none: what follows the head belongs to this tunnel, until whoever drives the connection has taken it.
    Tunnel(Option<Box<Tunnel<E>>>),
}

/// Where a body that streams comes from.
pub enum Source<E: Env> {
    /// A backend, for this client alone.
    Fetch(Fetch<E, Replay<Upload<E>>>),
    /// A fetch that others may read as well.
    Filling(Reader),
}

impl<E: Env> Source<E> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match self {
            Source::Fetch(fetch) => fetch.poll_piece(cx),
            Source::Filling(reader) => reader.poll_piece(cx),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Source::Fetch(fetch) => fetch.is_over(),
            Source::Filling(reader) => reader.is_over(),
        }
    }

    fn remaining(&self) -> Option<u64> {
        match self {
            Source::Fetch(fetch) => fetch.remaining(),
            Source::Filling(reader) => reader.remaining(),
        }
    }
}

/// A body that is read from a backend as the client takes it.
pub struct Stream<E: Env> {
    source: Source<E>,
    record: Box<Record<E>>,
    /// A failure that waits for what came before it to go out.
    failed: Option<Cause>,
    /// How a client of HTTP/2 takes it.
    taking: Taking,
}

impl<E: Env> Reply<E> {
    pub fn whole(data: Bytes, mut record: Box<Record<E>>) -> Self {
        record.sent = data.len() as u64;
        Reply::Whole {
            data: (!data.is_empty()).then_some(data),
            _record: record,
        }
    }

    pub fn stream(source: Source<E>, record: Box<Record<E>>) -> Self {
        Reply::Stream(Box::new(Stream {
            source,
            record,
            failed: None,
            taking: Taking::default(),
        }))
    }

    /// The tunnel that has been agreed on, if one has. Whoever drives the connection carries it once the head is out.
    pub fn take_tunnel(&mut self) -> Option<Box<Tunnel<E>>> {
        match self {
            Reply::Tunnel(tunnel) => tunnel.take(),
            Reply::Whole { .. } | Reply::Stream(_) => None,
        }
    }
}

impl<E: Env> Body for Reply<E> {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match &mut *self {
            Reply::Whole { data, .. } => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Reply::Stream(stream) => stream.poll(cx),
            Reply::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Whole { data: None, .. } | Reply::Tunnel(_))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |d| d.len() as u64))
            }
            Reply::Stream(stream) => stream
                .source
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Reply::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl<E: Env> Stream<E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if let Some(cause) = self.failed {
            return Poll::Ready(Some(Err(cause)));
        }
        let conn = &self.record.conn;
        let is_http2 = self.record.version == Version::HTTP_2;
        if is_http2 {
            self.taking.asked(conn);
            if let Some(piece) = self.taking.next() {
                self.record.sent += piece.len() as u64;
                self.record.complete = self.source.is_over() && self.taking.is_empty();
                self.taking.gave(conn, piece.len());
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        // A defect in one body ends that body, not the connection's task.
        let polled = catch_unwind(AssertUnwindSafe(|| self.source.poll_piece(cx)));
        let frame = match polled {
            Ok(Poll::Pending) => {
                // What is waited for is the backend's, whose pace the fetch bounds.
                self.record.conn.disarm();
                return Poll::Pending;
            }
            Ok(Poll::Ready(frame)) => frame,
            Err(_) => {
                self.record
                    .conn
                    .core()
                    .telemetry()
                    .panicked(self.record.conn.core().index());
                Some(Err(Cause::Panic))
            }
        };
        match &frame {
            Some(Ok(_)) if is_http2 => return Poll::Ready(frame.map(|f| f.map(|f| self.give(f)))),
            // Over HTTP/1 whoever writes it bounds the time.
            Some(Ok(frame)) => {
                self.record.sent += frame.data_ref().map_or(0, |d| d.len() as u64);
                // Nobody need ask again once there are as many bytes as were announced.
                self.record.complete = self.source.is_over();
            }
            Some(Err(cause)) => {
                // Over HTTP/2 what was not flushed is dropped when a body fails. A turn later the head and the pieces before are
                // out, and the client sees a response that broke off instead of silence.
                self.record.cause = Some(*cause);
                self.failed = Some(*cause);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => self.record.complete = true,
        }
        Poll::Ready(frame)
    }
}

impl<E: Env> Stream<E> {
    /// Hands a piece to a stream of HTTP/2, or as much of it as a client that is slow is given at once.
    fn give(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let frame = match frame.into_data() {
            Ok(data) => {
                self.taking.put(data);
                Frame::data(self.taking.next().unwrap_or_default())
            }
            Err(frame) => frame,
        };
        let len = frame.data_ref().map_or(0, Bytes::len);
        self.record.sent += len as u64;
        self.record.complete = self.source.is_over() && self.taking.is_empty();
        self.taking.gave(&self.record.conn, len);
        frame
    }
}
