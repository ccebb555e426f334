//! nginx's smooth weighted round robin, for those who migrate: every eligible backend gains its weight, the one with the most is
//! picked and pays the sum of all. Simple and even to the eye, but not within one pick of the quota.
//!
//! All balances move at each pick, but few can be the largest. They are kept in blocks of similar weight, each as of its own last
//! look, with a bound on what the largest in it can be now: a pick looks again only at blocks whose bound is not below the best,
//! which are one or two.

use super::{Entry, Start};

/// Below every real balance; it gains nothing.
const ABSENT: i64 = i64::MIN / 4;

/// How many balances are looked at together.
const BLOCK: usize = 32;

/// Smooth weighted round robin over the eligible backends.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Smooth {
    /// Where each backend stands: by weight.
    places: Vec<usize>,
    /// Which backend stands there. This and what follows goes by place.
    backends: Vec<usize>,
    weights: Vec<i64>,
    /// The weight of those who are eligible, 0 of others.
    gains: Vec<i64>,
    /// What has been gained and not paid, as of the block's last look; [`ABSENT`] for those who are not eligible.
    balances: Vec<i64>,
    /// The balances of those who are not eligible, frozen.
    frozen: Vec<i64>,
    blocks: Vec<Block>,
    /// The sum of `gains`.
    total: i64,
    /// Picks so far.
    picks: i64,
}

/// What is known of a block of balances.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The pick of the last look.
    seen: i64,
    /// No balance was above it then.
    most: i64,
    /// And one was equal: that of this backend, of several equal ones the first in the list.
    first: Option<usize>,
    /// The largest weight: no balance grows faster.
    steepest: i64,
}

impl Block {
    /// Twice what no balance is above now, and one more if a look is due.
    #[inline]
    fn rank(&self, picks: i64) -> i64 {
        let bound = self.most + self.steepest * (picks - self.seen);
        let due = picks != self.seen || self.first.is_none();
        2 * bound + i64::from(due)
    }
}

impl Smooth {
    /// Nobody eligible yet, all balances zero or as `start` leaves them.
    pub(super) fn new(entries: &[Entry], start: Start<'_>) -> Self {
        let n = entries.len();
        let mut backends: Vec<usize> = (0..n).collect();
        backends.sort_by_key(|&i| entries[i].weight);
        let mut places = vec![0; n];
        (0..n).for_each(|place| places[backends[place]] = place);
        let weight = |&i: &usize| i64::from(entries[i].weight.max(1));
        let weights: Vec<i64> = backends.iter().map(weight).collect();
        let block = |weights: &[i64]| Block {
            seen: 0,
            most: ABSENT,
            first: None,
            steepest: weights.last().copied().unwrap_or(0),
        };
        let mut smooth = Smooth {
            gains: vec![0; n],
            balances: vec![ABSENT; n],
            frozen: vec![0; n],
            blocks: weights.chunks(BLOCK).map(block).collect(),
            total: 0,
            picks: 0,
            places,
            backends,
            weights,
        };
        let skip = start.draw(entries);
        (0..n).for_each(|i| smooth.enter(i));
        (0..skip).for_each(|_| {
            smooth.pick();
        });
        (0..n).for_each(|i| smooth.leave(i));
        smooth
    }

    /// Balances of those who stay, zero for the new. Nobody is eligible at first.
    pub(super) fn reload(mut self, entries: &[Entry], from: &[Option<usize>]) -> Self {
        (0..self.weights.len()).for_each(|i| self.leave(i));
        let mut new = Smooth::new(entries, Start::Zero);
        for (to, from) in from.iter().enumerate() {
            new.frozen[new.places[to]] = from.map_or(0, |i| self.frozen[self.places[i]]);
        }
        new
    }

    pub(super) fn enter(&mut self, i: usize) {
        let place = self.places[i];
        if self.gains[place] == 0 {
            let block = &mut self.blocks[place / BLOCK];
            let weight = self.weights[place];
            self.gains[place] = weight;
            self.balances[place] = self.frozen[place] - weight * (self.picks - block.seen);
            block.most = block.most.max(self.balances[place]);
            block.first = None;
            self.total += weight;
        }
    }

    pub(super) fn leave(&mut self, i: usize) {
        let place = self.places[i];
        if self.gains[place] != 0 {
            let block = &mut self.blocks[place / BLOCK];
            let weight = self.weights[place];
            self.gains[place] = 0;
            self.frozen[place] = self.balances[place] + weight * (self.picks - block.seen);
            self.balances[place] = ABSENT;
            block.first = None;
            self.total -= weight;
        }
    }

    pub(super) fn pick(&mut self) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        self.picks += 1;
        loop {
            let (at, next) = self.highest();
            if self.blocks[at].rank(self.picks) % 2 != 0 {
                self.look(at);
                if self.blocks[at].rank(self.picks) <= next {
                    continue;
                }
            }
            let first = self.blocks[at].first.take()?;
            self.balances[self.places[first]] -= self.total;
            return Some(first);
        }
    }

    /// The block of the highest rank, of equals the one with the first backend, and the next rank.
    #[inline]
    fn highest(&self) -> (usize, i64) {
        let (mut at, mut best, mut next) = (0, i64::MIN, i64::MIN);
        for (i, block) in self.blocks.iter().enumerate() {
            let rank = block.rank(self.picks);
            if rank > best || (rank == best && block.first < self.blocks[at].first) {
                (at, best, next) = (i, rank, best);
            } else {
                next = next.max(rank);
            }
        }
        (at, next)
    }

    /// Brings a block's balances up to date.
    #[inline]
    fn look(&mut self, at: usize) {
        let block = &mut self.blocks[at];
        let picks = self.picks - block.seen;
        let members = at * BLOCK..self.balances.len().min((at + 1) * BLOCK);
        let (balances, gains) = (
            &mut self.balances[members.clone()],
            &self.gains[members.clone()],
        );
        let mut most = i64::MIN;
        for (balance, gain) in balances.iter_mut().zip(gains) {
            *balance += gain * picks;
            most = most.max(*balance);
        }
        let equal = balances.iter().zip(&self.backends[members]);
        let equal = equal.filter(|(balance, _)| **balance == most);
        block.first = equal.map(|(_, &i)| i).min();
        block.seen = self.picks;
        block.most = most;
    }
}
