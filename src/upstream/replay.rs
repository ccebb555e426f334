//! A request's body on its way through attempts: what one attempt took is held, within a bound, so that the next one may send
//! the whole of it. Absent: the body itself, which is the caller's, and its limits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::message::cause::Cause;
use crate::upstream::ahead::Ahead;

/// Bytes that are held of the body of a request that may be sent again though it went out.
pub const HELD: usize = 64 << 10;

/// A body of which what was taken may be taken again, as long as no answer has begun. Its first piece is held whatever its size;
/// more is held up to a bound, and beyond it the body cannot be had from its beginning any more.
pub struct Replay<B> {
    body: Ahead<B>,
    bound: usize,
    /// What was taken of the body, from its beginning on.
    held: VecDeque<Piece>,
    bytes: usize,
    /// How many of those the attempt under way has.
    given: usize,
    /// Something was taken that is not held.
    lost: bool,
    /// No other attempt will be made.
    last: bool,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Data(data) => data.len(),
            Piece::Trailers(_) => 0,
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl<B> Replay<B> {
    /// Of a body from which nothing was taken. At most `bound` bytes of it are held, or its first piece.
    pub fn new(body: B, bound: usize) -> Self {
        Replay {
            body: Ahead::new(body),
            bound,
            held: VecDeque::new(),
            bytes: 0,
            given: 0,
            lost: false,
            last: false,
        }
    }

    /// Can all of the body be had once more, from its beginning on?
    pub fn is_whole(&self) -> bool {
        !self.lost
    }

    /// Begins with what is held, for the next attempt.
    pub fn rewind(&mut self) {
        self.given = 0;
    }

    /// An answer has begun, so that no other attempt will be made: nothing more is held.
    pub fn settle(&mut self) {
        self.held.drain(..self.given);
        self.given = 0;
        self.last = true;
        self.lost = true;
    }

    /// Holds a piece that is being given away, if it may.
    fn hold(&mut self, piece: &Piece) {
        if self.lost {
            return;
        }
        self.bytes += piece.len();
        if self.bytes > self.bound && !self.held.is_empty() {
            self.lost = true;
            self.held.clear();
            self.given = 0;
            return;
        }
        self.held.push_back(piece.clone());
        self.given += 1;
    }
}

impl<B> Replay<B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    /// Reads the beginning of the body before there is a place for its request, as [`Ahead::read`] does.
    ///
    /// # Errors
    /// The body's.
    pub async fn read_ahead(&mut self, bytes: usize, all: &Arc<AtomicUsize>) -> Result<(), Cause> {
        self.body.read(bytes, all).await
    }

    /// Had what was read ahead to be waited for?
    pub fn was_waited_for(&self) -> bool {
        self.body.was_waited_for()
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
        if self.last
            && let Some(piece) = self.held.pop_front()
        {
            return Poll::Ready(Some(Ok(piece.into_frame())));
        }
        if let Some(piece) = self.held.get(self.given) {
            let piece = piece.clone();
            self.given += 1;
            return Poll::Ready(Some(Ok(piece.into_frame())));
        }
        let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(cause)) => {
                self.lost = true;
                return Poll::Ready(Some(Err(cause)));
            }
            None => return Poll::Ready(None),
        };
        let piece = match frame.into_data() {
            Ok(data) => Piece::Data(data),
            Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
        };
        self.hold(&piece);
        Poll::Ready(Some(Ok(piece.into_frame())))
    }

    fn is_end_stream(&self) -> bool {
        self.given == self.held.len() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let again = self
            .held
            .iter()
            .skip(self.given)
            .map(Piece::len)
            .sum::<usize>() as u64;
        let to_come = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(to_come.lower() + again);
        if let Some(upper) = to_come.upper() {
            hint.set_upper(upper + again);
        }
        hint
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body in pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Cause;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().map(|p| p.len() as u64).sum())
        }
    }

    /// The next `most` pieces.
    fn take(body: &mut Replay<Pieces>, most: usize) -> Vec<u8> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut taken = Vec::new();
        for _ in 0..most {
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut cx) else {
                break;
            };
            taken.extend_from_slice(frame.data_ref().expect("data is all that there is"));
        }
        taken
    }

    proptest! {
        /// Whatever attempts take, the next one has all of the body or is told that it has not, and what is held has its bound.
        #[test]
        fn each_attempt_has_the_whole_body_or_none_is_made(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            bound in 0_usize..100,
            attempts in prop::collection::vec(0_usize..9, 0..4),
            last in 0_usize..9,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let first = pieces.first().map_or(0, Vec::len);
            let list = pieces.iter().map(|p| Bytes::copy_from_slice(p)).collect();
            let mut body = Replay::new(Pieces(list), bound);
            let mut most = 0;
            for attempt in attempts {
                let taken = take(&mut body, attempt);
                prop_assert!(whole.starts_with(&taken));
                most = most.max(attempt.min(pieces.len()));
                let bytes: usize = pieces[..most].iter().map(Vec::len).sum();
                prop_assert_eq!(body.is_whole(), most <= 1 || bytes <= bound);
                let held: usize = body.held.iter().map(Piece::len).sum();
                prop_assert!(held <= bound.max(first));
                if !body.is_whole() {
                    return Ok(());
                }
                body.rewind();
                prop_assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
                prop_assert_eq!(body.is_end_stream(), whole.is_empty());
            }
            let mut taken = take(&mut body, last);
            body.settle();
            prop_assert_eq!(body.size_hint().exact(), Some((whole.len() - taken.len()) as u64));
            taken.extend(take(&mut body, usize::MAX));
            prop_assert_eq!(taken, whole);
            prop_assert!(body.is_end_stream() && body.held.is_empty());
        }
    }
}
