//! Requests with the same key go to the same backend: a Maglev table (Eisenbud et al., NSDI 2016) says which, and a bound on
//! load (Mirrokni, Thorup and Zadimoghaddam, SODA 2018) says when a key has to give way, so that a hot key cannot drown its
//! backend while others idle.
//!
//! The table depends on the backends' keys and weights alone, not on their order, their state or a seed: all replicas, and a
//! process after its restart, agree on it. A backend that is full, failing, excluded or above the bound is passed over along
//! the key's own walk through the table, so each of its keys finds another backend, and finds back when it is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rapidhash::v3::rapidhash_v3;

use super::Entry;
use crate::engine::MAX_BACKENDS;

/// Places of the table, a prime: 128 KiB for up to 655 backends, as the paper has it a hundred places each or more.
const SMALL: u32 = 65_537;

/// Places for more of them: 1.25 MiB. Crossing from one size to the other moves most keys, once. Making
/// a table takes some milliseconds, or a tenth of a second, at the start and when a reload changes a backend.
const LARGE: u32 = 655_373;

/// Steps of a walk. If all meet backends that may not take the request, few can, and they are soon asked one by one.
const STEPS: usize = 64;

/// Maglev with bounded load: O(1) while most backends may take a request, O(n) at worst.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Hash {
    backends: Vec<State>,
    /// The backend of each place; empty without backends.
    table: Vec<u16>,
    /// A backend takes no more than this part of its fair share, in percent and rounded up to a whole request.
    load_percent: Option<u32>,
    /// The eligible ones, in no order.
    members: Vec<u16>,
    /// What runs on them.
    in_flight: u64,
    /// The sum of their weights.
    weight: u64,
}

#[derive(Clone, Copy, Debug)]
struct State {
    key: u64,
    weight: u32,
    in_flight: u32,
    /// Where it stands in `members`, if it does.
    place: Option<u16>,
}

impl Hash {
    /// Nobody eligible yet. A bound below a fair share could not be kept, so it counts as one.
    pub(super) fn new(entries: &[Entry], load_percent: Option<u32>) -> Self {
        Hash::with_table(entries, load_percent, table(entries))
    }

    /// The same bookkeeping anew; the table is made anew only if it is another. Nobody is eligible at first.
    pub(super) fn reload(self, entries: &[Entry], load_percent: Option<u32>) -> Self {
        let same = self.backends.len() == entries.len()
            && self
                .backends
                .iter()
                .zip(entries)
                .all(|(b, e)| (b.key, b.weight) == (e.key, e.weight));
        let table = if same { self.table } else { table(entries) };
        Hash::with_table(entries, load_percent, table)
    }

    fn with_table(entries: &[Entry], load_percent: Option<u32>, table: Vec<u16>) -> Self {
        let state = |e: &Entry| State {
            key: e.key,
            weight: e.weight,
            in_flight: 0,
            place: None,
        };
        Hash {
            backends: entries.iter().map(state).collect(),
            table,
            load_percent: load_percent.map(|percent| percent.max(100)),
            members: Vec::with_capacity(entries.len()),
            in_flight: 0,
            weight: 0,
        }
    }

    pub(super) fn enter(&mut self, i: usize) {
        let backend = &mut self.backends[i];
        if backend.place.is_none() {
            backend.place = Some(self.members.len() as u16);
            self.in_flight += u64::from(backend.in_flight);
            self.weight += u64::from(backend.weight);
            self.members.push(i as u16);
        }
    }

    pub(super) fn leave(&mut self, i: usize) {
        let backend = &mut self.backends[i];
        if let Some(place) = backend.place.take() {
            self.in_flight -= u64::from(backend.in_flight);
            self.weight -= u64::from(backend.weight);
            self.members.swap_remove(usize::from(place));
            if let Some(&moved) = self.members.get(usize::from(place)) {
                self.backends[usize::from(moved)].place = Some(place);
            }
        }
    }

    pub(super) fn pick(&mut self, key: u64) -> Option<usize> {
        if self.members.is_empty() {
            return None;
        }
        let i = self.walk(key).or_else(|| self.search(key))?;
        self.load(i, self.backends[i].in_flight + 1);
        Some(i)
    }

    pub(super) fn load(&mut self, i: usize, in_flight: u32) {
        let backend = &mut self.backends[i];
        if backend.place.is_some() {
            self.in_flight = self.in_flight - u64::from(backend.in_flight) + u64::from(in_flight);
        }
        backend.in_flight = in_flight;
    }

    /// The key's own backend, or the first behind it on the key's walk that may take the request.
    fn walk(&self, key: u64) -> Option<usize> {
        let size = self.table.len() as u64;
        let mut place = mix(key, 0) % size;
        let own = usize::from(self.table[place as usize]);
        if self.takes(own) {
            return Some(own);
        }
        let step = 1 + mix(key, 1) % (size - 1);
        for _ in 0..STEPS {
            place = (place + step) % size;
            let next = usize::from(self.table[place as usize]);
            if self.takes(next) {
                return Some(next);
            }
        }
        None
    }

    /// Of all that may take the request, the one that the key ranks first (highest random weight; Thaler and Ravishankar 1998).
    fn search(&self, key: u64) -> Option<usize> {
        let members = self.members.iter().map(|&i| usize::from(i));
        members
            .filter(|&i| self.takes(i))
            .max_by_key(|&i| (mix(key, self.backends[i].key), Reverse(i)))
    }

    /// Is it eligible, and would one more stay within its bound, the rounded-up part of its share of all that then runs on the
    /// eligible? Some eligible backend always takes one more: if none did, they would run more together than they do.
    #[inline]
    fn takes(&self, i: usize) -> bool {
        let backend = &self.backends[i];
        let within = |percent: u32| {
            let is = u128::from(backend.in_flight) * 100 * u128::from(self.weight);
            let may = u128::from(self.in_flight + 1) * u128::from(backend.weight);
            is < may * u128::from(percent)
        };
        backend.place.is_some() && self.load_percent.is_none_or(within)
    }

    /// Panics unless the sums are those of the members, whose state is `open` and in flight as `of` says.
    pub(super) fn check_invariants(&self, of: impl Fn(usize) -> (bool, u32)) {
        let (mut in_flight, mut weight, mut members) = (0, 0, 0);
        for (i, backend) in self.backends.iter().enumerate() {
            assert_eq!((backend.place.is_some(), backend.in_flight), of(i));
            if let Some(place) = backend.place {
                assert_eq!(usize::from(self.members[usize::from(place)]), i);
                in_flight += u64::from(backend.in_flight);
                weight += u64::from(backend.weight);
                members += 1;
            }
        }
        assert_eq!((self.in_flight, self.weight), (in_flight, weight));
        assert_eq!(self.members.len(), members);
        assert!(
            members == 0 || (0..self.backends.len()).any(|i| self.takes(i)),
            "somebody eligible is within the bound"
        );
    }
}

/// Two words into one, the same for ever.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&a.to_le_bytes());
    bytes[8..].copy_from_slice(&b.to_le_bytes());
    rapidhash_v3(&bytes)
}

/// One backend while the table is filled.
struct Turns {
    backend: u16,
    weight: u64,
    /// Its permutation of the places: from here on, in steps.
    place: u32,
    step: u32,
    taken: u64,
}

/// Each backend in its turn takes the first free place of its own permutation. Turns come by weight: the k-th one is due at
/// k / weight, so each backend has at least one place, and its share within as many places as there are backends.
fn table(entries: &[Entry]) -> Vec<u16> {
    assert!(
        entries.len() <= MAX_BACKENDS,
        "the config refuses an upstream of more backends"
    );
    if entries.is_empty() {
        return Vec::new();
    }
    let size = if entries.len() <= SMALL as usize / 100 {
        SMALL
    } else {
        LARGE
    };
    let mut turns: Vec<Turns> = (0..=u16::MAX)
        .zip(entries)
        .map(|(backend, e)| Turns {
            backend,
            weight: u64::from(e.weight.max(1)),
            place: (mix(e.key, 2) % u64::from(size)) as u32,
            step: 1 + (mix(e.key, 3) % u64::from(size - 1)) as u32,
            taken: 0,
        })
        .collect();
    // Of turns that are due together, the lower key's is first: the order of the list says nothing.
    turns.sort_by_key(|t| entries[usize::from(t.backend)].key);
    let mut due: BinaryHeap<Reverse<(u64, usize)>> =
        (0..turns.len()).map(|rank| Reverse((0, rank))).collect();
    let mut table: Vec<Option<u16>> = vec![None; size as usize];
    for _ in 0..size {
        let Some(mut next) = due.peek_mut() else {
            break;
        };
        let Reverse((_, rank)) = *next;
        let turn = &mut turns[rank];
        while table[turn.place as usize].is_some() {
            turn.advance(size);
        }
        table[turn.place as usize] = Some(turn.backend);
        turn.advance(size);
        turn.taken += 1;
        // 20 bits of turns at most, and as many more behind the point as a word holds.
        *next = Reverse(((turn.taken << 40) / turn.weight, rank));
    }
    table.into_iter().map(|place| place.unwrap_or(0)).collect()
}

impl Turns {
    fn advance(&mut self, size: u32) {
        self.place = (self.place + self.step) % size;
    }
}

#[cfg(test)]
mod tests;
