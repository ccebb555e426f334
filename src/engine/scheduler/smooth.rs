//! nginx's smooth weighted round robin, for those who migrate: every eligible backend gains its weight, the one with the most is
//! picked and pays the sum of all. Simple and even to the eye, but not within one pick of the quota.

use super::{Entry, Start};

/// Below every real balance, far enough from the end that adding weights to it for ever is safe.
const ABSENT: i64 = i64::MIN / 2;

/// How many balances are searched together.
const BLOCK: usize = 64;

/// Smooth weighted round robin over the eligible backends.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Smooth {
    weights: Vec<u32>,
    /// The weight of those who are eligible, 0 of others.
    gains: Vec<i64>,
    /// What has been gained and not paid; [`ABSENT`] for those who are not eligible.
    balances: Vec<i64>,
    /// The balances of those who are not eligible, frozen.
    frozen: Vec<i64>,
    /// The sum of `gains`.
    total: i64,
}

impl Smooth {
    /// Nobody eligible yet, all balances zero or as `start` leaves them.
    pub(super) fn new(entries: &[Entry], start: Start<'_>) -> Self {
        let n = entries.len();
        let mut smooth = Smooth {
            weights: entries.iter().map(|e| e.weight).collect(),
            gains: vec![0; n],
            balances: vec![ABSENT; n],
            frozen: vec![0; n],
            total: 0,
        };
        (0..n).for_each(|i| smooth.enter(i));
        // A pick is O(n) here, so long lists draw from fewer starts.
        for _ in 0..start.draw(entries, (1 << 22) / n.max(1) as u64) {
            smooth.pick();
        }
        (0..n).for_each(|i| smooth.leave(i));
        smooth
    }

    /// Balances of those who stay, zero for the new. Nobody is eligible at first.
    pub(super) fn reload(mut self, entries: &[Entry], from: &[Option<usize>]) -> Self {
        (0..self.weights.len()).for_each(|i| self.leave(i));
        let mut new = Smooth::new(entries, Start::Zero);
        for (to, from) in from.iter().enumerate() {
            new.frozen[to] = from.map_or(0, |i| self.frozen[i]);
        }
        new
    }

    pub(super) fn enter(&mut self, i: usize) {
        if self.gains[i] == 0 {
            self.gains[i] = i64::from(self.weights[i]);
            self.balances[i] = self.frozen[i];
            self.total += self.gains[i];
        }
    }

    pub(super) fn leave(&mut self, i: usize) {
        if self.gains[i] != 0 {
            self.total -= self.gains[i];
            self.frozen[i] = self.balances[i];
            self.gains[i] = 0;
            self.balances[i] = ABSENT;
        }
    }

    pub(super) fn pick(&mut self) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        let (mut best, mut block) = (i64::MIN, 0);
        let blocks = self
            .balances
            .chunks_mut(BLOCK)
            .zip(self.gains.chunks(BLOCK));
        for (at, (balances, gains)) in blocks.enumerate() {
            let mut most = i64::MIN;
            for (balance, gain) in balances.iter_mut().zip(gains) {
                *balance += gain;
                most = most.max(*balance);
            }
            if most > best {
                (best, block) = (most, at);
            }
        }
        let first = block * BLOCK;
        let within = self.balances[first..].iter().position(|b| *b == best)?;
        self.balances[first + within] -= self.total;
        Some(first + within)
    }
}
