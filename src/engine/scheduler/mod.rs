//! Who takes the next request, among those who may. One file a strategy, joined by a closed enum.
//!
//! Backends are known by their place in the upstream's list. The upstream says who is eligible ([`Scheduler::enter`],
//! [`Scheduler::leave`]: a full or failing backend leaves) and how much runs where ([`Scheduler::load`]); a pick is made among
//! those who are in, and counts as one more in flight there. Nothing here knows of queues, time or capacity.

mod hash;
mod least;
mod quota;
mod smooth;
mod tournament;
mod two;

use super::{Phase, Strategy};
use crate::rng::Rng;

/// What a strategy needs to know of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its share.
    pub(super) weight: u32,
    /// What its load is measured against: max_in_flight, or weight where that is unlimited.
    pub(super) capacity: u32,
    /// What it is known by, whatever its place.
    pub(super) key: u64,
}

/// A strategy and its state.
#[derive(Clone, Debug)]
pub(super) enum Scheduler {
    /// Both round robins.
    Quota(quota::Quota),
    /// nginx's.
    Smooth(smooth::Smooth),
    /// Least request.
    Least(least::Least),
    /// Power of two choices.
    Two(two::Two),
    /// Maglev with bounded load.
    Hash(hash::Hash),
}

impl Scheduler {
    /// A fresh one, in which nobody is eligible yet.
    pub(super) fn new(strategy: Strategy, entries: &[Entry], phase: Phase, rng: &mut Rng) -> Self {
        let start = match phase {
            Phase::Random => Start::Random(rng),
            Phase::Zero => Start::Zero,
        };
        match strategy {
            Strategy::RoundRobin => Scheduler::Quota(quota::Quota::new(equal(entries), start)),
            Strategy::WeightedRoundRobin => {
                Scheduler::Quota(quota::Quota::new(entries.to_vec(), start))
            }
            Strategy::SmoothWeightedRoundRobin => {
                Scheduler::Smooth(smooth::Smooth::new(entries, start))
            }
            Strategy::LeastRequest => Scheduler::Least(least::Least::new(entries, start)),
            Strategy::PowerOfTwo => Scheduler::Two(two::Two::new(entries, rng.stream("two", 0))),
            Strategy::Hash { load_percent } => {
                Scheduler::Hash(hash::Hash::new(entries, load_percent))
            }
        }
    }

    /// The same for a new list, in which place `i` was place `from[i]` before; `None` is a newcomer. What a strategy remembers
    /// of those who stay is kept, unless the strategy is another kind. Nobody is eligible yet.
    pub(super) fn reload(
        self,
        strategy: Strategy,
        entries: &[Entry],
        from: &[Option<usize>],
        phase: Phase,
        rng: &mut Rng,
    ) -> Self {
        match (self, strategy) {
            (Scheduler::Quota(old), Strategy::RoundRobin) => {
                Scheduler::Quota(old.reload(equal(entries), from))
            }
            (Scheduler::Quota(old), Strategy::WeightedRoundRobin) => {
                Scheduler::Quota(old.reload(entries.to_vec(), from))
            }
            (Scheduler::Smooth(old), Strategy::SmoothWeightedRoundRobin) => {
                Scheduler::Smooth(old.reload(entries, from))
            }
            (Scheduler::Least(old), Strategy::LeastRequest) => {
                Scheduler::Least(old.reload(entries, from))
            }
            (Scheduler::Two(old), Strategy::PowerOfTwo) => Scheduler::Two(old.reload(entries)),
            (Scheduler::Hash(old), Strategy::Hash { load_percent }) => {
                Scheduler::Hash(old.reload(entries, load_percent))
            }
            _ => Scheduler::new(strategy, entries, phase, rng),
        }
    }

    /// `i` is eligible from now on. It was not.
    #[inline]
    pub(super) fn enter(&mut self, i: usize) {
        match self {
            Scheduler::Quota(s) => s.enter(i),
            Scheduler::Smooth(s) => s.enter(i),
            Scheduler::Least(s) => s.enter(i),
            Scheduler::Two(s) => s.enter(i),
            Scheduler::Hash(s) => s.enter(i),
        }
    }

    /// `i` is no longer eligible. It was.
    #[inline]
    pub(super) fn leave(&mut self, i: usize) {
        match self {
            Scheduler::Quota(s) => s.leave(i),
            Scheduler::Smooth(s) => s.leave(i),
            Scheduler::Least(s) => s.leave(i),
            Scheduler::Two(s) => s.leave(i),
            Scheduler::Hash(s) => s.leave(i),
        }
    }

    /// Picks among the eligible; `None` if there is nobody. Only hashing goes by the request's `key`.
    #[inline]
    pub(super) fn pick(&mut self, key: u64) -> Option<usize> {
        match self {
            Scheduler::Quota(s) => s.pick(),
            Scheduler::Smooth(s) => s.pick(),
            Scheduler::Least(s) => s.pick(),
            Scheduler::Two(s) => s.pick(),
            Scheduler::Hash(s) => s.pick(key),
        }
    }

    /// So much runs on `i` now, eligible or not. A pick need not be reported.
    #[inline]
    pub(super) fn load(&mut self, i: usize, in_flight: u32) {
        match self {
            Scheduler::Quota(_) | Scheduler::Smooth(_) => {}
            Scheduler::Least(s) => s.load(i, in_flight),
            Scheduler::Two(s) => s.load(i, in_flight),
            Scheduler::Hash(s) => s.load(i, in_flight),
        }
    }

    /// Panics if what a strategy keeps of the backends is not what `of` says: eligible or not, and how much runs there.
    pub(super) fn check_invariants(&self, of: impl Fn(usize) -> (bool, u32)) {
        if let Scheduler::Hash(s) = self {
            s.check_invariants(of);
        }
    }
}

/// Where a fresh scheduler begins.
enum Start<'a> {
    /// At the beginning.
    Zero,
    /// Somewhere, uniformly.
    Random(&'a mut Rng),
}

/// Starts are drawn from this many picks at most.
const LONGEST_START: u64 = 1 << 16;

impl Start<'_> {
    /// How many picks of the cycle to make unseen: uniform over the cycle, sum / gcd of the weights, so that over many engines
    /// each prefix of picks has exactly the expected shares. A cycle longer than 2^16 is entered within its first 2^16
    /// picks: shares are then exact up to twice the scheduler's bound over that number.
    fn draw(self, entries: &[Entry]) -> u64 {
        let Start::Random(rng) = self else { return 0 };
        let sum: u64 = entries.iter().map(|e| u64::from(e.weight)).sum();
        let gcd = entries.iter().fold(0, |g, e| gcd(g, u64::from(e.weight)));
        rng.below((sum / gcd.max(1)).min(LONGEST_START))
    }

    /// The numbers below `n`, in order or shuffled (Fisher and Yates).
    fn order(self, n: usize) -> Vec<u64> {
        let mut order: Vec<u64> = (0..n as u64).collect();
        if let Start::Random(rng) = self {
            for i in (1..n).rev() {
                order.swap(i, rng.below(i as u64 + 1) as usize);
            }
        }
        order
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn equal(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().map(|e| Entry { weight: 1, ..*e }).collect()
}
