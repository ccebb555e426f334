//! An exchange over a connection of its own, in HTTP/1.1. Absent: the bytes of HTTP/1.1, which the codec knows.

use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::engine::Outcome;
use crate::engine::retry::Progress;
use crate::env::Env;
use crate::h1::{self, BodyFraming, DecodeError, Piece, ResponseDecoder};
use crate::message::cause::Cause;
use crate::message::head::Head;
use crate::upstream::audience::Herald;
use crate::upstream::carrier::{Came, Carrier};
use crate::upstream::dial::tls_cause;
use crate::upstream::failure::{Failure, RACE};
use crate::upstream::pool::{Backend, Link, READ_BUFFER};
use crate::wire::errand::Errand;

/// Below this much room a read buffer grows: a body of 16 KiB should come in one read.
const ROOM: usize = 17 * 1024;

/// A connection in use by one exchange. Its drop closes the connection.
pub struct OnLink<E: Env> {
    link: Box<Link<E>>,
    /// Where the connection goes back to.
    backend: Arc<Backend<E>>,
    decoder: ResponseDecoder,
    framing: BodyFraming,
    /// Bytes that the backend's socket has taken.
    written: u64,
    /// A write failed: the backend may have answered and closed, so what can be read decides.
    cut: bool,
    /// Something has come.
    answered: bool,
    /// What the backend said of its own patience.
    patience: Option<Duration>,
}

impl<E: Env> OnLink<E> {
    /// For a request whose head stands in the link's write buffer.
    pub fn new(
        link: Box<Link<E>>,
        backend: &Arc<Backend<E>>,
        decoder: ResponseDecoder,
        framing: BodyFraming,
    ) -> Self {
        OnLink {
            link,
            backend: Arc::clone(backend),
            decoder,
            framing,
            written: 0,
            cut: false,
            answered: false,
            patience: None,
        }
    }

    /// The connection, after its protocol has changed. It no longer counts among those of requests.
    pub fn switch(mut self) -> Box<Link<E>> {
        self.link.leave_pool();
        self.link
    }

    /// Reads more; 0 is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let link = &mut *self.link;
        if link.read.capacity() - link.read.len() < ROOM {
            link.read.reserve(READ_BUFFER);
        }
        pin!(link.stream.read_buf(&mut link.read)).poll(cx)
    }

    /// The backend closed before a whole head.
    fn closed(&self, waited: Duration) -> Failure {
        if self.answered || !self.link.read.is_empty() {
            return Failure::new(Cause::BadResponse, Progress::Answered, Outcome::Broken);
        }
        // A kept-alive connection that was closed already says so at once; later it is the backend that died over this request.
        let race = self.link.reused && waited < RACE;
        let outcome = if race {
            Outcome::ReuseRace
        } else {
            Outcome::Died
        };
        Failure::new(Cause::BackendClosed, self.progress(), outcome)
    }
}

fn malformed(error: &DecodeError) -> Failure {
    tracing::debug!(%error, "a response was malformed");
    let cause = match error {
        DecodeError::HeadTooLarge => Cause::ResponseHeadTooLarge,
        _ => Cause::BadResponse,
    };
    Failure::new(cause, Progress::Answered, Outcome::Broken)
}

impl<E: Env> Carrier<E> for OnLink<E> {
    fn has_room(&self) -> bool {
        self.link.write.len() <= READ_BUFFER
    }

    fn frame(&mut self, piece: Frame<Bytes>, _: bool) -> (Bytes, bool) {
        let write = &mut self.link.write;
        match (self.framing, piece.into_data()) {
            (BodyFraming::Chunked, Ok(data)) => {
                if !data.is_empty() {
                    h1::chunk_head(write, data.len());
                    write.extend_from_slice(&data);
                    write.extend_from_slice(h1::CHUNK_TAIL);
                }
                (Bytes::new(), false)
            }
            (_, Ok(data)) => (data, false),
            (BodyFraming::Chunked, Err(frame)) => {
                let trailers = frame.into_trailers();
                if let Ok(trailers) = &trailers {
                    h1::last_chunk(write, Some(trailers));
                }
                (Bytes::new(), trailers.is_ok())
            }
            // Trailers have no place behind a body of known length.
            (_, Err(_)) => (Bytes::new(), false),
        }
    }

    fn frame_end(&mut self) {
        if self.framing == BodyFraming::Chunked {
            h1::last_chunk(&mut self.link.write, None);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, rest: &mut Bytes, _: bool) -> Poll<()> {
        let Link { stream, write, .. } = &mut *self.link;
        while !self.cut && (write.has_remaining() || rest.has_remaining()) {
            let parts = [IoSlice::new(write), IoSlice::new(rest)];
            let stream = Pin::new(&mut *stream);
            let wrote = match (write.is_empty(), rest.is_empty()) {
                (false, true) => stream.poll_write(cx, write),
                (true, _) => stream.poll_write(cx, rest),
                (false, false) => stream.poll_write_vectored(cx, &parts),
            };
            match ready!(wrote) {
                Ok(n) if n > 0 => {
                    self.written += n as u64;
                    let head = n.min(write.len());
                    write.advance(head);
                    rest.advance(n - head);
                }
                Ok(_) | Err(_) => {
                    self.cut = true;
                    write.clear();
                }
            }
        }
        Poll::Ready(())
    }

    fn has_framed(&self) -> bool {
        !self.link.write.is_empty()
    }

    fn is_cut(&self) -> bool {
        self.cut
    }

    fn progress(&self) -> Progress {
        match self.written > 0 {
            true => Progress::Sent,
            false => Progress::NeverSent,
        }
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        waited: Duration,
        herald: Option<&dyn Herald>,
    ) -> Poll<Result<Head, Failure>> {
        loop {
            match self.decoder.head(&mut self.link.read) {
                Ok(Some(head)) if head.interim => {
                    // A client that waits for a 100 is told so by whoever reads its body.
                    if let Some(herald) = herald.filter(|_| head.status != StatusCode::CONTINUE) {
                        herald.interim(head.status, &head.headers);
                    }
                    continue;
                }
                Ok(Some(head)) => {
                    self.patience = head.keep_alive_timeout;
                    return Poll::Ready(Ok(Head {
                        status: head.status,
                        fields: head.headers,
                    }));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(malformed(&error))),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(n) if n > 0 => self.answered = true,
                ended => {
                    let mut failure = self.closed(waited);
                    if let Err(error) = &ended {
                        tracing::debug!(%error, "reading a response failed");
                        // In TLS 1.3 a backend tells only here what it thinks of our certificate.
                        failure.cause = tls_cause(error).unwrap_or(failure.cause);
                    }
                    return Poll::Ready(Err(failure));
                }
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        loop {
            match self.decoder.body(&mut self.link.read) {
                Ok(Piece::Data(data)) => {
                    let piece = Frame::data(data);
                    return Poll::Ready(match self.decoder.is_done() {
                        true => Came::End(Some(piece)),
                        false => Came::Piece(piece),
                    });
                }
                Ok(Piece::End(trailers)) => {
                    return Poll::Ready(Came::End(trailers.map(Frame::trailers)));
                }
                Ok(Piece::NeedMore) => {}
                Err(error) => {
                    tracing::debug!(%error, "a response body was malformed");
                    return Poll::Ready(Came::Broken);
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(n) if n > 0 => {}
                Ok(_) if self.decoder.eof().is_ok() => {}
                Ok(_) | Err(_) => return Poll::Ready(Came::Broken),
            }
        }
    }

    fn take_held(&mut self) -> Option<Bytes> {
        None
    }

    fn take_whole(&mut self) -> Option<Bytes> {
        whole(&mut self.decoder, &mut self.link.read)
    }

    fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    fn ends_by_close(&self) -> bool {
        self.decoder.ends_by_close()
    }

    fn distrust(&self) {}

    /// The connection is kept, with what the backend has said of its patience, or closed.
    fn finish(self, errand: &Errand<E>, sent: bool) {
        if sent && self.decoder.reusable(&self.link.read) {
            let (core, now) = (errand.core.index(), errand.coarse_now());
            self.backend.keep(core, now, self.link, self.patience);
        }
    }
}

/// A body of known length that `read` holds to its end.
fn whole(decoder: &mut ResponseDecoder, read: &mut BytesMut) -> Option<Bytes> {
    let piece = match decoder.remaining()? {
        0 => Bytes::new(),
        n if read.len() as u64 >= n => match decoder.body(read) {
            Ok(Piece::Data(data)) => data,
            _ => return None,
        },
        _ => return None,
    };
    let is_over = decoder.is_done() || matches!(decoder.body(read), Ok(Piece::End(None)));
    is_over.then_some(piece)
}
