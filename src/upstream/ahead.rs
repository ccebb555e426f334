//! A request's body of which a beginning is read before there is a place for the request, so that a client that sends slowly
//! holds none meanwhile. Absent: how much, which the upstream's config says.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::message::cause::Cause;

/// Bytes that all requests to an upstream may have read ahead together. Beyond it bodies are read as their backends take them.
const AHEAD_IN_ALL: usize = 64 << 20;

/// A body with what was read ahead of it. Pieces are joined, so that a body in small ones takes no more than a large one.
pub struct Ahead<B> {
    body: B,
    /// The first piece, which most bodies consist of.
    first: Bytes,
    /// What came behind it.
    more: BytesMut,
    trailers: Option<HeaderMap>,
    /// Bytes here.
    bytes: usize,
    /// Where they are counted.
    counted: Option<Arc<AtomicUsize>>,
    /// The body has said that nothing follows.
    ended: bool,
    /// It had to be waited for.
    waited: bool,
}

impl<B> Ahead<B> {
    /// Of a body from which nothing was taken.
    pub fn new(body: B) -> Self {
        Ahead {
            body,
            first: Bytes::new(),
            more: BytesMut::new(),
            trailers: None,
            bytes: 0,
            counted: None,
            ended: false,
            waited: false,
        }
    }

    /// Had what was read to be waited for?
    pub fn was_waited_for(&self) -> bool {
        self.waited
    }

    fn push(&mut self, frame: Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                return;
            }
        };
        self.bytes += data.len();
        if let Some(counted) = &self.counted {
            counted.fetch_add(data.len(), Ordering::Relaxed);
        }
        match self.bytes == data.len() {
            true => self.first = data,
            false => self.more.extend_from_slice(&data),
        }
    }

    fn pop(&mut self) -> Option<Frame<Bytes>> {
        let data = match self.first.is_empty() {
            false => std::mem::take(&mut self.first),
            true => std::mem::take(&mut self.more).freeze(),
        };
        if data.is_empty() {
            return self.trailers.take().map(Frame::trailers);
        }
        self.forget(data.len());
        Some(Frame::data(data))
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0 && self.trailers.is_none()
    }

    fn forget(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(counted) = &self.counted {
            counted.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl<B> Drop for Ahead<B> {
    fn drop(&mut self) {
        self.forget(self.bytes);
    }
}

impl<B> Ahead<B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    /// Reads the body until it has ended, or at least `bytes` of it are here, and counts them in `all` for as long as they are.
    ///
    /// # Errors
    /// The body's.
    pub async fn read(&mut self, bytes: usize, all: &Arc<AtomicUsize>) -> Result<(), Cause> {
        self.counted = Some(Arc::clone(all));
        while !self.body.is_end_stream()
            && self.bytes < bytes
            && all.load(Ordering::Relaxed) < AHEAD_IN_ALL
        {
            let next = poll_fn(|cx| {
                let polled = Pin::new(&mut self.body).poll_frame(cx);
                self.waited |= polled.is_pending();
                polled
            });
            match next.await {
                Some(frame) => self.push(frame?),
                None => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl<B> Body for Ahead<B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if let Some(frame) = self.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.bytes as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Hands out its pieces, each after a pause where one is asked for.
    struct Pieces {
        pieces: VecDeque<(bool, Bytes)>,
        trailers: Option<HeaderMap>,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Cause;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
            if let Some((pause, _)) = self.pieces.front_mut()
                && std::mem::take(pause)
            {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let frame = match self.pieces.pop_front() {
                Some((_, piece)) => Some(Frame::data(piece)),
                None => self.trailers.take().map(Frame::trailers),
            };
            Poll::Ready(frame.map(Ok))
        }
    }

    fn drain(body: &mut Ahead<Pieces>) -> (Vec<u8>, usize) {
        let (mut bytes, mut trailers) = (Vec::new(), 0);
        let all = async {
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                match frame.expect("it does not fail").into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(_) => trailers += 1,
                }
            }
        };
        tokio_test::block_on(all);
        (bytes, trailers)
    }

    proptest! {
        /// However much is read ahead, every byte comes out once and in order, and nothing stays counted.
        #[test]
        fn what_is_read_ahead_is_the_body(
            pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..50)), 0..20),
            bytes in 1_usize..400,
            trailers in any::<bool>(),
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(_, p)| p.clone()).collect();
            let body = Pieces {
                pieces: pieces.into_iter().map(|(pause, p)| (pause, p.into())).collect(),
                trailers: trailers.then(HeaderMap::new),
            };
            let all = Arc::new(AtomicUsize::new(0));
            let mut ahead = Ahead::new(body);
            tokio_test::block_on(ahead.read(bytes, &all)).expect("it does not fail");
            let held = all.load(Ordering::Relaxed);
            prop_assert_eq!(held, ahead.bytes);
            prop_assert!(held >= bytes.min(whole.len()) && held < bytes + 50);
            prop_assert_eq!(drain(&mut ahead), (whole, usize::from(trailers)));
            drop(ahead);
            prop_assert_eq!(all.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn nothing_is_read_ahead_where_all_have_read_enough() {
        let all = Arc::new(AtomicUsize::new(AHEAD_IN_ALL));
        let mut ahead = Ahead::new(Pieces {
            pieces: VecDeque::from([(false, Bytes::from_static(b"body"))]),
            trailers: None,
        });
        tokio_test::block_on(ahead.read(100, &all)).expect("it does not fail");
        assert_eq!(all.load(Ordering::Relaxed), AHEAD_IN_ALL);
        assert_eq!(drain(&mut ahead).0, b"body");
    }
}
