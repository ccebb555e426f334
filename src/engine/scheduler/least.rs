//! Least request: the lowest utilisation, in_flight over max_in_flight (over weight where that is unlimited). Of equals, the one
//! that was picked longest ago, so that an idle upstream takes turns.

use super::tournament::{ABSENT, Tournament};
use super::{Entry, Start};

/// Least request over the eligible backends, O(log n).
#[derive(Clone, Debug)]
pub(in crate::engine) struct Least {
    backends: Vec<State>,
    /// Keyed by utilisation, then by the last pick.
    tree: Tournament<1>,
    /// Picks so far; the next stamp.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct State {
    capacity: u32,
    in_flight: u32,
    picked: u64,
    eligible: bool,
}

impl Least {
    /// Nobody eligible yet. The order among the untouched is the list's, or drawn by `start`.
    pub(super) fn new(entries: &[Entry], start: Start<'_>) -> Self {
        let n = entries.len();
        let order = start.order(n);
        let backends = entries
            .iter()
            .zip(order)
            .map(|(e, picked)| State {
                capacity: e.capacity,
                in_flight: 0,
                picked,
                eligible: false,
            })
            .collect();
        Least {
            backends,
            tree: Tournament::new(n),
            clock: n as u64,
        }
    }

    /// Stamps of those who stay; the new count as picked now, for a fresh backend must not take a burst to catch up. Nobody is
    /// eligible at first.
    pub(super) fn reload(self, entries: &[Entry], from: &[Option<usize>]) -> Self {
        let mut new = Least::new(entries, Start::Zero);
        new.clock = self.clock;
        for (to, from) in from.iter().enumerate() {
            new.backends[to].picked = from.map_or(self.clock, |i| self.backends[i].picked);
            new.backends[to].in_flight = from.map_or(0, |i| self.backends[i].in_flight);
        }
        new
    }

    pub(super) fn enter(&mut self, i: usize) {
        self.backends[i].eligible = true;
        self.tree.set(i, [self.backends[i].key()]);
    }

    pub(super) fn leave(&mut self, i: usize) {
        self.backends[i].eligible = false;
        self.tree.set(i, [ABSENT]);
    }

    /// Stamps the pick and counts it; one update of the tree serves both.
    pub(super) fn pick(&mut self) -> Option<usize> {
        let (i, _) = self.tree.first(0)?;
        self.backends[i].picked = self.clock;
        self.clock += 1;
        self.load(i, self.backends[i].in_flight + 1);
        Some(i)
    }

    pub(super) fn load(&mut self, i: usize, in_flight: u32) {
        self.backends[i].in_flight = in_flight;
        if self.backends[i].eligible {
            self.tree.set(i, [self.backends[i].key()]);
        }
    }
}

impl State {
    /// Utilisation in units of 2^-30, rounded down, above 48 bits of the stamp (a lifetime of picks), above the place. Equal
    /// fractions round alike, and fractions whose denominators are below 2^15 differ by a unit when they differ at all.
    fn key(&self) -> i128 {
        let utilisation = (u64::from(self.in_flight) << 30) / u64::from(self.capacity.max(1));
        (i128::from(utilisation) << 64) | (i128::from(self.picked) << 16)
    }
}
