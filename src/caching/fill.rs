//! One fetch that several clients read from while it comes in: what has come so far, how it ended, who waits.
//!
//! A fill belongs to no client, so a client that leaves takes nothing with it. While the response may be stored all of it is
//! held, and whoever comes may begin at its beginning; otherwise the slowest reader's place bounds what is held.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

use crate::cache::life::Life;
use crate::cache::stored::{Head, Stored};
use crate::message::cause::Cause;
use crate::upstream::attempt::Facts;
use crate::upstream::audience::Audience;

/// Bytes that may lie between the backend and the slowest reader of a response that is not stored.
const WINDOW: u64 = 256 << 10;

/// What a fetch came to, as soon as its head is known.
#[derive(Clone)]
pub enum Landing {
    /// A response, whose body is coming in.
    Response(Arc<Answer>),
    /// A stored response is good: validated just now, or found where replicas share.
    Stored {
        stored: Arc<Stored>,
        /// What the backend said, if it was asked.
        status: Option<u16>,
        facts: Facts,
        /// Others may have it.
        shared: bool,
    },
    /// Nothing came of it.
    Failed(Cause, Facts),
    /// Its task ended without a word; somebody else may try.
    Died,
}

/// A response as its head was read.
pub struct Answer {
    pub status: http::StatusCode,
    /// As the backend sent them, without what belongs to its connection.
    pub headers: HeaderMap,
    /// Bytes of the body, where the backend has told.
    pub length: Option<u64>,
    /// As it is stored, if it may be.
    pub kept: Option<Kept>,
    /// Why it is not stored.
    pub detail: Option<&'static str>,
    pub facts: Facts,
}

/// A response that may be stored, before its body is here.
pub struct Kept {
    pub head: Head,
    pub life: Life,
    /// Fields that chose it among others.
    pub vary: Vec<http::HeaderName>,
}

/// How a body ended.
#[derive(Clone)]
enum End {
    Whole(Option<HeaderMap>),
    Failed(Cause),
}

/// One fetch and its readers.
pub struct Fill {
    /// The request that is being fetched for, by which readers of other variants know themselves.
    pub request: HeaderMap,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    landing: Option<Landing>,
    /// What is held of the body; the first is number `first` of all.
    pieces: VecDeque<Bytes>,
    first: usize,
    held: u64,
    windowed: bool,
    /// It is for those who read it alone, and ends with the last of them.
    ends_unread: bool,
    /// Whoever caused it waits for it.
    led: bool,
    end: Option<End>,
    tainted: bool,
    readers: Vec<Option<Place>>,
    filler: Option<Waker>,
}

#[derive(Default)]
struct Place {
    at: usize,
    waker: Option<Waker>,
}

impl State {
    fn wake_readers(&mut self) -> Vec<Waker> {
        let places = self.readers.iter_mut().flatten();
        places.filter_map(|place| place.waker.take()).collect()
    }

    /// Lets go of what every reader has taken.
    fn slide(&mut self) -> Option<Waker> {
        if !self.windowed {
            let left = self.ends_unread && self.is_unread();
            return if left { self.filler.take() } else { None };
        }
        let slowest = self.readers.iter().flatten().map(|p| p.at).min();
        let slowest = slowest.unwrap_or(self.first + self.pieces.len());
        while self.first < slowest {
            let Some(piece) = self.pieces.pop_front() else {
                break;
            };
            self.first += 1;
            self.held -= piece.len() as u64;
        }
        if self.held < WINDOW || self.is_unread() {
            self.filler.take()
        } else {
            None
        }
    }

    fn is_unread(&self) -> bool {
        self.readers.iter().all(Option::is_none)
    }
}

/// What a filler may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Go,
    /// Nobody reads it and it will not be stored.
    Nobody,
}

impl Fill {
    pub fn new(request: HeaderMap) -> Arc<Self> {
        Arc::new(Fill {
            request,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader from the beginning on; `None` when the beginning is gone.
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if state.windowed {
            return None;
        }
        let vacant = state.readers.iter().position(Option::is_none);
        let id = vacant.unwrap_or(state.readers.len());
        match vacant {
            Some(id) => state.readers[id] = Some(Place::default()),
            None => state.readers.push(Some(Place::default())),
        }
        drop(state);
        Some(Reader {
            fill: Arc::clone(self),
            id,
            taken: 0,
            length: None,
            skip: 0,
            part: false,
            over: false,
            leads: false,
        })
    }

    /// Does nobody wait for it who caused it? Its failure is then not the failure of a request.
    pub fn is_leaderless(&self) -> bool {
        !self.lock().led
    }

    /// What it came to is known. The first word counts.
    pub fn land(&self, landing: Landing) {
        let wakers = {
            let mut state = self.lock();
            if state.landing.is_none() {
                state.landing = Some(landing);
            }
            state.wake_readers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn push(&self, piece: Bytes) {
        let wakers = {
            let mut state = self.lock();
            state.held += piece.len() as u64;
            state.pieces.push_back(piece);
            state.slide();
            state.wake_readers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The body has ended. The first word counts.
    pub fn end(&self, end: Result<Option<HeaderMap>, Cause>) {
        let wakers = {
            let mut state = self.lock();
            state.end.get_or_insert(match end {
                Ok(trailers) => End::Whole(trailers),
                Err(cause) => End::Failed(cause),
            });
            state.wake_readers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From here on only what readers still need is held, and nobody else may begin.
    pub fn stop_keeping(&self) {
        let mut state = self.lock();
        state.windowed = true;
        state.slide();
    }

    /// Waits until a next piece may be fetched.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Room> {
        let mut state = self.lock();
        if (state.windowed || state.ends_unread) && state.is_unread() {
            // Nobody may come any more.
            state.windowed = true;
            return Poll::Ready(Room::Nobody);
        }
        // It also tells when the last reader has left, so the waker is left there in any case.
        state.filler = Some(cx.waker().clone());
        if !state.windowed || state.held < WINDOW {
            Poll::Ready(Room::Go)
        } else {
            Poll::Pending
        }
    }

    /// Does anybody read it?
    pub fn is_read(&self) -> bool {
        !self.lock().is_unread()
    }

    /// From here on it ends with its last reader, though it may be stored.
    pub fn end_unread(&self) {
        self.lock().ends_unread = true;
    }

    /// What it brings was purged or invalidated meanwhile: it may be served to those who wait, and is not stored.
    pub fn taint(&self) {
        self.lock().tainted = true;
    }

    pub fn is_tainted(&self) -> bool {
        self.lock().tainted
    }

    /// All of the body, in one piece of its own size.
    pub fn collect(&self) -> Bytes {
        let state = self.lock();
        let mut whole = Vec::with_capacity(usize::try_from(state.held).unwrap_or(0));
        state.pieces.iter().for_each(|p| whole.extend_from_slice(p));
        Bytes::from(whole)
    }
}

impl Audience for Fill {
    fn set_waiting(&self, waiting: bool) {
        self.lock().ends_unread = waiting;
    }

    fn has_left(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.lock();
        let left = state.is_unread();
        if left {
            // Nobody can join it any more.
            state.windowed = true;
        } else {
            state.filler = Some(cx.waker().clone());
        }
        left
    }
}

/// One client's place in a fill. Dropping it leaves.
pub struct Reader {
    fill: Arc<Fill>,
    id: usize,
    /// Bytes that were handed out.
    taken: u64,
    /// Bytes to hand out in all, where that is known.
    length: Option<u64>,
    /// Bytes that come before the first one to hand out.
    skip: u64,
    /// It reads a part, which ends before the body does.
    part: bool,
    over: bool,
    leads: bool,
}

impl Reader {
    /// This one has caused the fetch.
    pub fn lead(&mut self) {
        self.leads = true;
        self.fill.lock().led = true;
    }

    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Waits until it is known what the fetch came to.
    pub async fn landed(&mut self) -> Landing {
        let landing = std::future::poll_fn(|cx| {
            let mut state = self.fill.lock();
            match &state.landing {
                Some(landing) => Poll::Ready(landing.clone()),
                None => {
                    state.place(self.id).waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        if let Landing::Response(answer) = &landing {
            self.length = answer.length;
        }
        landing
    }

    /// Waits for the first piece of the body, or its end; if not `patient`, looks only whether it has broken off.
    ///
    /// # Errors
    /// It has, and this reader has read nothing of it.
    pub async fn begun(&mut self, patient: bool) -> Result<(), Cause> {
        std::future::poll_fn(|cx| {
            let mut state = self.fill.lock();
            match &state.end {
                Some(End::Failed(cause)) => return Poll::Ready(Err(*cause)),
                Some(End::Whole(_)) => return Poll::Ready(Ok(())),
                None => {}
            }
            if !patient || !state.pieces.is_empty() {
                return Poll::Ready(Ok(()));
            }
            state.place(self.id).waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// From here on it reads no more than the bytes from `first` to `last`, as positions in the body. To be said before the
    /// first piece is taken.
    pub fn narrow(&mut self, first: u64, last: u64) {
        self.skip = first;
        self.length = Some(last.saturating_sub(first).saturating_add(1));
        self.part = true;
    }

    /// The next piece of the body, or its trailers; `None` at its end.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        while !(self.part && self.over) {
            let next = ready!(self.poll_next(cx));
            let beside = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
            match next {
                Some(Ok(frame)) if self.part && beside(&frame) => {}
                next => return Poll::Ready(next),
            }
        }
        Poll::Ready(None)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let mut state = self.fill.lock();
        let first = state.first;
        let at = state.place(self.id).at;
        if let Some(piece) = state.pieces.get(at - first) {
            let mut piece = piece.clone();
            state.place(self.id).at += 1;
            if self.part {
                let left = self.length.unwrap_or(0) - self.taken;
                piece = cut(piece, &mut self.skip, left);
            }
            self.taken += piece.len() as u64;
            self.over = self.length == Some(self.taken)
                || (at + 1 - first == state.pieces.len()
                    && matches!(state.end, Some(End::Whole(None))));
            let filler = state.slide();
            drop(state);
            if let Some(filler) = filler {
                filler.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &state.end {
            Some(End::Whole(trailers)) => {
                let trailers = if self.over { None } else { trailers.clone() };
                self.over = true;
                Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))))
            }
            Some(End::Failed(cause)) => Poll::Ready(Some(Err(*cause))),
            None => {
                state.place(self.id).waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The whole body, if it has come already and in one piece.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        if self.length == Some(0) {
            self.over = true;
            return Some(Bytes::new());
        }
        let mut state = self.fill.lock();
        if self.part
            || self.taken > 0
            || state.first > 0
            || !matches!(state.end, Some(End::Whole(None)))
        {
            return None;
        }
        let whole = match state.pieces.len() {
            0 => Bytes::new(),
            1 => state.pieces[0].clone(),
            _ => return None,
        };
        state.place(self.id).at = state.pieces.len();
        self.over = true;
        Some(whole)
    }

    /// Body bytes to come, when the backend said how many.
    pub fn remaining(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.taken))
    }

    /// Has the last piece been handed out?
    pub fn is_over(&self) -> bool {
        self.over
    }
}

/// What of `piece` lies behind the next `skip` bytes, and within `left` more.
fn cut(mut piece: Bytes, skip: &mut u64, left: u64) -> Bytes {
    let skipped = usize::try_from(*skip).map_or(piece.len(), |skip| skip.min(piece.len()));
    piece.advance(skipped);
    *skip -= skipped as u64;
    piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    piece
}

impl State {
    /// The place of a reader that is there.
    fn place(&mut self, id: usize) -> &mut Place {
        self.readers[id].get_or_insert_default()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let filler = {
            let mut state = self.fill.lock();
            state.readers[self.id] = None;
            state.led &= !self.leads;
            state.slide()
        };
        if let Some(filler) = filler {
            filler.wake();
        }
    }
}
