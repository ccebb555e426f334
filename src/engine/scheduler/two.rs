//! Power of two choices: two distinct eligible backends at random, the less utilised wins (Mitzenmacher 2001, "The power of two
//! choices in randomized load balancing"). Utilisation as for least request.

use super::Entry;
use crate::rng::Rng;

/// Power of two choices over the eligible backends, O(1).
#[derive(Clone, Debug)]
pub(in crate::engine) struct Two {
    rng: Rng,
    backends: Vec<State>,
    /// The eligible ones, in no order.
    members: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    capacity: u32,
    in_flight: u32,
    /// Where it stands in `members`, if it does.
    place: Option<u32>,
}

impl Two {
    /// Nobody eligible yet.
    pub(super) fn new(entries: &[Entry], rng: Rng) -> Self {
        let backends = entries
            .iter()
            .map(|e| State {
                capacity: e.capacity,
                in_flight: 0,
                place: None,
            })
            .collect();
        Two {
            rng,
            backends,
            members: Vec::with_capacity(entries.len()),
        }
    }

    /// The generator goes on where it stands. Nobody is eligible at first.
    pub(super) fn reload(self, entries: &[Entry]) -> Self {
        Two::new(entries, self.rng)
    }

    pub(super) fn enter(&mut self, i: usize) {
        if self.backends[i].place.is_none() {
            self.backends[i].place = Some(self.members.len() as u32);
            self.members.push(i as u32);
        }
    }

    pub(super) fn leave(&mut self, i: usize) {
        if let Some(place) = self.backends[i].place.take() {
            self.members.swap_remove(place as usize);
            if let Some(&moved) = self.members.get(place as usize) {
                self.backends[moved as usize].place = Some(place);
            }
        }
    }

    pub(super) fn pick(&mut self) -> Option<usize> {
        let count = self.members.len() as u64;
        let winner = match count {
            0 => return None,
            1 => self.members[0],
            _ => {
                let one = self.rng.below(count);
                let other = self.rng.below(count - 1);
                // Step over `one`, so that the two are distinct and all pairs equally likely.
                let other = other + u64::from(other >= one);
                let (one, other) = (self.members[one as usize], self.members[other as usize]);
                if self.less_utilised(other, one) {
                    other
                } else {
                    one
                }
            }
        };
        self.backends[winner as usize].in_flight += 1;
        Some(winner as usize)
    }

    pub(super) fn load(&mut self, i: usize, in_flight: u32) {
        self.backends[i].in_flight = in_flight;
    }

    fn less_utilised(&self, a: u32, b: u32) -> bool {
        let (a, b) = (&self.backends[a as usize], &self.backends[b as usize]);
        u64::from(a.in_flight) * u64::from(b.capacity)
            < u64::from(b.in_flight) * u64::from(a.capacity)
    }
}
