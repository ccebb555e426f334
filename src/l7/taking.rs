//! How a client of HTTP/2 takes an answer. The library asks for a piece when the client's windows have room for some of it, and
//! says no more. So the time from one question to the next is the client's, and a client that is slow is given small pieces, for
//! what it has taken is known by the piece.

use std::time::Duration;

use bytes::Bytes;

use super::conn::Conn;
use crate::engine::pace::Pace;
use crate::env::Env;
use crate::time::Tick;
use crate::wire::watch::Phase;

/// A client that takes longer for a piece is slow.
const SLOW: Duration = Duration::from_secs(1);

/// What it is given at once.
const SMALL: usize = 1024;

/// One answer on its way to a stream.
#[derive(Debug, Default)]
pub struct Taking {
    /// What is left of a piece that was too large.
    rest: Bytes,
    /// Bytes that were handed over last, and when.
    given: Option<(usize, Tick)>,
    is_slow: bool,
    pace: Option<Box<Pace>>,
}

impl Taking {
    /// The next piece is asked for: the one before has been taken.
    pub fn asked<E: Env>(&mut self, conn: &Conn<E>) {
        let now = conn.core().coarse_now();
        let Some((bytes, then)) = self.given.take() else {
            return;
        };
        self.is_slow = now.since(then) >= SLOW;
        if self.pace.is_none() && now == then {
            // Most take all of it at once.
            return;
        }
        let rate = conn.model().taking_rate();
        let pace = self.pace.get_or_insert_with(|| Box::new(Pace::new(rate)));
        pace.wait(then);
        pace.moved(now, bytes as u64);
        pace.rest(now);
    }

    /// Is nothing left of the pieces that were put here?
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A new piece, when nothing is left of those before.
    pub fn put(&mut self, piece: Bytes) {
        self.rest = piece;
    }

    /// What is to be handed over of it.
    pub fn next(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            return None;
        }
        let len = match self.is_slow {
            true => self.rest.len().min(SMALL),
            false => self.rest.len(),
        };
        Some(self.rest.split_to(len))
    }

    /// So many bytes were handed over: the client is waited for.
    pub fn gave<E: Env>(&mut self, conn: &Conn<E>, bytes: usize) {
        let (now, model) = (conn.core().coarse_now(), conn.model());
        // As long as nothing has been waited for, a stall alone is too slow.
        let late = self.pace.as_mut().map_or(Tick::MAX, |pace| {
            pace.wait(now);
            pace.deadline()
        });
        self.given = Some((bytes, now));
        let gap = (Phase::ClientWrite, model.timeouts.body);
        match late <= now {
            // Whoever drives the stream looks at once.
            true => conn.errand.watch.near.expire(Phase::WriteRate),
            false => conn.arm_first(gap, (Phase::WriteRate, late)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_is_given_small_pieces() {
        let mut taking = Taking::default();
        taking.put(Bytes::from(vec![0; 5000]));
        assert_eq!(taking.next().map(|p| p.len()), Some(5000));
        taking.is_slow = true;
        taking.put(Bytes::from(vec![0; 1500]));
        assert_eq!(taking.next().map(|p| p.len()), Some(1024));
        assert!(!taking.is_empty());
        assert_eq!(taking.next().map(|p| p.len()), Some(476));
        assert_eq!(taking.next(), None);
    }
}
