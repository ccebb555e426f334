//! One part of the store: a table of places, the entries in a slab, and SIEVE's list through them from new to old.

use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use crate::cache::stored::Entry;

/// No place.
const NONE: u32 = u32::MAX;

/// Places in one piece of the slab. Pieces are never moved, so a growing store neither stalls nor doubles.
const PIECE: usize = 1024;

/// One part of the store.
#[derive(Debug)]
pub(super) struct Shard {
    /// Places in the slab, by the hash of the key there.
    table: HashTable<u32>,
    hasher: FixedState,
    slots: Slab,
    free: u32,
    newest: u32,
    oldest: u32,
    /// Where the search for a victim goes on.
    hand: u32,
}

/// What lies at one place. Neither its hash nor its size is kept, since both follow from it.
#[derive(Debug)]
struct Slot {
    key: Box<[u8]>,
    /// `None` in a free slot.
    entry: Option<Entry>,
    newer: u32,
    /// In a free slot, the next free one.
    older: u32,
    visited: bool,
    tagged: bool,
}

/// Slots by place.
#[derive(Debug, Default)]
struct Slab {
    pieces: Vec<Vec<Slot>>,
    len: usize,
}

impl Slab {
    fn push(&mut self, slot: Slot) -> usize {
        if self.len.is_multiple_of(PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.push(slot);
        }
        self.len += 1;
        self.len - 1
    }
}

impl std::ops::Index<u32> for Slab {
    type Output = Slot;

    fn index(&self, at: u32) -> &Slot {
        &self.pieces[at as usize / PIECE][at as usize % PIECE]
    }
}

impl std::ops::IndexMut<u32> for Slab {
    fn index_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.pieces[at as usize / PIECE][at as usize % PIECE]
    }
}

impl Shard {
    /// An empty part, whose keys are hashed by `hasher` as the store hashes them.
    pub(super) fn new(hasher: FixedState) -> Self {
        Shard {
            table: HashTable::new(),
            hasher,
            slots: Slab::default(),
            free: NONE,
            newest: NONE,
            oldest: NONE,
            hand: NONE,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&mut self, hash: u64, key: &[u8], visit: bool) -> Option<Entry> {
        let at = self.find(hash, key)?;
        let slot = &mut self.slots[at];
        slot.visited |= visit;
        slot.entry.clone()
    }

    /// Returns the size of what lay there before.
    pub(super) fn put(&mut self, hash: u64, key: &[u8], entry: Entry) -> Option<u64> {
        let tagged = matches!(&entry, Entry::Response(s) if super::tags(s).next().is_some());
        if let Some(at) = self.find(hash, key) {
            let slot = &mut self.slots[at];
            slot.tagged = tagged;
            return slot.entry.replace(entry).map(|old| super::size(key, &old));
        }
        let slot = Slot {
            key: key.into(),
            entry: Some(entry),
            newer: NONE,
            older: self.newest,
            visited: false,
            tagged,
        };
        let at = self.place(slot);
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest].newer = at,
        }
        self.newest = at;
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table
            .insert_unique(hash, at, |i| hasher.hash_one(&*slots[*i].key));
        None
    }

    /// Returns the size of what lay there.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> Option<u64> {
        let at = self.find(hash, key)?;
        Some(self.take_out(at))
    }

    /// Evicts one entry, but not the one under `keep`; returns its size.
    pub(super) fn evict(&mut self, keep: Option<(u64, &[u8])>) -> Option<u64> {
        let kept = keep.and_then(|(hash, key)| self.find(hash, key));
        // A first round may find all of them visited, and the one to keep besides.
        for _ in 0..self.table.len() * 2 + 2 {
            if self.hand == NONE {
                self.hand = self.oldest;
            }
            let at = self.hand;
            if at == NONE {
                return None;
            }
            let slot = &mut self.slots[at];
            if slot.visited || Some(at) == kept {
                slot.visited = false;
                self.hand = slot.newer;
                continue;
            }
            return Some(self.take_out(at));
        }
        None
    }

    /// Shows `look` up to `count` entries from place `from` on; those for which it returns something go. Returns where to go on.
    pub(super) fn each(
        &mut self,
        from: usize,
        count: usize,
        mut look: impl FnMut(&[u8], &Entry, bool) -> Option<()>,
    ) -> Option<usize> {
        let end = self.slots.len.min(from + count);
        for at in from..end {
            let at = number(at);
            let slot = &self.slots[at];
            let Some(entry) = &slot.entry else {
                continue;
            };
            if look(&slot.key, entry, slot.tagged).is_some() {
                self.take_out(at);
            }
        }
        (end < self.slots.len).then_some(end)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let slots = &self.slots;
        self.table.find(hash, |at| *slots[*at].key == *key).copied()
    }

    fn place(&mut self, slot: Slot) -> u32 {
        match self.free {
            NONE => number(self.slots.push(slot)),
            at => {
                self.free = self.slots[at].older;
                self.slots[at] = slot;
                at
            }
        }
    }

    /// Frees a place; returns the size of what lay there.
    fn take_out(&mut self, at: u32) -> u64 {
        let slot = &mut self.slots[at];
        let (newer, older) = (slot.newer, slot.older);
        let (key, entry) = (std::mem::take(&mut slot.key), slot.entry.take());
        slot.older = self.free;
        self.free = at;
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older].newer = newer,
        }
        if self.hand == at {
            self.hand = newer;
        }
        if let Ok(found) = self
            .table
            .find_entry(self.hasher.hash_one(&*key), |i| *i == at)
        {
            found.remove();
        }
        entry.map_or(0, |entry| super::size(&key, &entry))
    }

    /// The list goes through all entries, both ways alike; returns their bytes.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) -> u64 {
        let (mut at, mut newer, mut count, mut bytes) = (self.newest, NONE, 0, 0);
        let mut hand_seen = self.hand == NONE;
        while at != NONE {
            let slot = &self.slots[at];
            assert_eq!(slot.newer, newer);
            assert_eq!(
                self.find(self.hasher.hash_one(&*slot.key), &slot.key),
                Some(at)
            );
            let entry = slot.entry.as_ref().expect("a free slot is not in the list");
            hand_seen |= self.hand == at;
            count += 1;
            bytes += super::size(&slot.key, entry);
            newer = at;
            at = slot.older;
        }
        assert_eq!(self.oldest, newer);
        assert_eq!(count, self.table.len());
        assert!(hand_seen);
        bytes
    }

    /// Bytes of one slot, for the reckoning of the overhead.
    #[cfg(test)]
    pub(super) const SLOT: usize = size_of::<Slot>();
}

/// A place's number.
fn number(at: usize) -> u32 {
    u32::try_from(at).expect("a part of the store holds fewer than 2^32 entries")
}
