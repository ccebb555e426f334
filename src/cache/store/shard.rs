//! One part of the store: a table of places, the entries in a slab, and SIEVE's list through them from new to old.

use hashbrown::HashTable;

use crate::cache::stored::Entry;

/// No place.
const NONE: u32 = u32::MAX;

/// One part of the store.
#[derive(Debug)]
pub(super) struct Shard {
    /// Places in the slab, by the hash of the key there.
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: u32,
    newest: u32,
    oldest: u32,
    /// Where the search for a victim goes on.
    hand: u32,
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    key: Box<[u8]>,
    /// `None` in a free slot.
    entry: Option<Entry>,
    size: u64,
    newer: u32,
    /// In a free slot, the next free one.
    older: u32,
    visited: bool,
    tagged: bool,
}

impl Default for Shard {
    fn default() -> Self {
        Shard {
            table: HashTable::new(),
            slots: Vec::new(),
            free: NONE,
            newest: NONE,
            oldest: NONE,
            hand: NONE,
        }
    }
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&mut self, hash: u64, key: &[u8], visit: bool) -> Option<Entry> {
        let at = self.find(hash, key)?;
        let slot = &mut self.slots[at as usize];
        slot.visited |= visit;
        slot.entry.clone()
    }

    /// Returns the size of what lay there before.
    pub(super) fn put(&mut self, hash: u64, key: &[u8], entry: Entry, size: u64) -> Option<u64> {
        let tagged = matches!(&entry, Entry::Response(s) if super::tags(s).next().is_some());
        if let Some(at) = self.find(hash, key) {
            let slot = &mut self.slots[at as usize];
            slot.entry = Some(entry);
            slot.tagged = tagged;
            return Some(std::mem::replace(&mut slot.size, size));
        }
        let slot = Slot {
            hash,
            key: key.into(),
            entry: Some(entry),
            size,
            newer: NONE,
            older: self.newest,
            visited: false,
            tagged,
        };
        let at = self.place(slot);
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].newer = at,
        }
        self.newest = at;
        let slots = &self.slots;
        self.table
            .insert_unique(hash, at, |i| slots[*i as usize].hash);
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
            let slot = &mut self.slots[at as usize];
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
        let end = self.slots.len().min(from + count);
        for at in from..end {
            let slot = &self.slots[at];
            let Some(entry) = &slot.entry else {
                continue;
            };
            if look(&slot.key, entry, slot.tagged).is_some() {
                self.take_out(u32::try_from(at).expect("places are numbered in 32 bits"));
            }
        }
        (end < self.slots.len()).then_some(end)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let slots = &self.slots;
        let same = |at: &u32| {
            let slot = &slots[*at as usize];
            slot.hash == hash && *slot.key == *key
        };
        self.table.find(hash, same).copied()
    }

    fn place(&mut self, slot: Slot) -> u32 {
        match self.free {
            NONE => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1)
                    .expect("a part of the store holds fewer than 2^32 entries")
            }
            at => {
                self.free = self.slots[at as usize].older;
                self.slots[at as usize] = slot;
                at
            }
        }
    }

    fn take_out(&mut self, at: u32) -> u64 {
        let slot = &mut self.slots[at as usize];
        let (hash, newer, older, size) = (slot.hash, slot.newer, slot.older, slot.size);
        slot.entry = None;
        slot.key = Box::default();
        slot.older = self.free;
        self.free = at;
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        if self.hand == at {
            self.hand = newer;
        }
        if let Ok(found) = self.table.find_entry(hash, |i| *i == at) {
            found.remove();
        }
        size
    }

    /// The list goes through all entries, both ways alike; returns their bytes.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) -> u64 {
        let (mut at, mut newer, mut count, mut bytes) = (self.newest, NONE, 0, 0);
        let mut hand_seen = self.hand == NONE;
        while at != NONE {
            let slot = &self.slots[at as usize];
            assert_eq!(slot.newer, newer);
            assert_eq!(self.find(slot.hash, &slot.key), Some(at));
            let entry = slot.entry.as_ref().expect("a free slot is not in the list");
            assert_eq!(slot.size, super::size(&slot.key, entry));
            hand_seen |= self.hand == at;
            count += 1;
            bytes += slot.size;
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
