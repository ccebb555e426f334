//! Responses in memory, bounded by bytes, with SIEVE's eviction (Zhang and others, NSDI 2024): a hit sets a bit, and a hand that
//! wanders from old to new clears bits until it finds an entry that was not asked for since it last came by.
//!
//! All cores share it. It is parted by hash, each part behind a short lock of its own; the bound holds over all parts together.
//! Absent: freshness, which is the policy's. What is stale stays until something better needs its place.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::FixedState;

use self::shard::Shard;
use super::key;
use super::purge::{Purge, Selection};
use super::stored::{Body, Entry};

mod shard;

/// Parts of the store. More of them would not be seen by as many cores as run one proxy.
const SHARDS: usize = 16;

/// Bytes that an entry takes beside its key, its head and its body; a test holds it to the sizes of the types.
pub const OVERHEAD: u64 = 200;

/// Entries that a purge looks at before it lets others in.
const CHUNK: usize = 1024;

/// The bounded store.
#[derive(Debug)]
pub struct Store {
    shards: Box<[Mutex<Shard>]>,
    hasher: FixedState,
    used: AtomicU64,
    limit: u64,
    evictions: AtomicU64,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Responses and the notes of what they vary by.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub limit: u64,
    /// Entries that gave way, since the start.
    pub evictions: u64,
}

impl Store {
    /// An empty store for `limit` bytes. `seed` keeps clients from choosing keys that collide.
    pub fn new(limit: u64, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Store {
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Shard::new(hasher.clone())))
                .collect(),
            hasher,
            used: AtomicU64::new(0),
            limit,
            evictions: AtomicU64::new(0),
        }
    }

    /// What lies under `key`; it will be kept the longer for it.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).get(hash, key, true)
    }

    /// What lies under `key`, without a trace of having looked.
    pub fn peek(&self, key: &[u8]) -> Option<Entry> {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).get(hash, key, false)
    }

    /// Puts `entry` there, in the place of what was; others give way. False if it is larger than the whole store.
    pub fn put(&self, key: &[u8], entry: Entry) -> bool {
        let size = size(key, &entry);
        let hash = self.hasher.hash_one(key);
        if size > self.limit {
            self.remove(key);
            return false;
        }
        let before = self.shard(hash).put(hash, key, entry);
        let used = self.used.fetch_add(size, Ordering::AcqRel) + size;
        let used = self.give(before.unwrap_or(0), used);
        self.make_room(index(hash), hash, key, used);
        true
    }

    /// Takes out what lies under `key`; was there anything?
    pub fn remove(&self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let removed = self.shard(hash).remove(hash, key);
        if let Some(size) = removed {
            self.give(size, 0);
        }
        removed.is_some()
    }

    /// Forgets what `purge` selects; returns how many responses that were.
    pub fn purge(&self, purge: &Purge) -> usize {
        let mut count = 0;
        for shard in &self.shards {
            let mut next = Some(0);
            while let Some(from) = next {
                let mut shard = lock(shard);
                let mut freed = 0;
                next = shard.each(from, CHUNK, |key, entry, tagged| {
                    if !selects(&purge.what, key, entry, tagged) {
                        return None;
                    }
                    if let Entry::Response(stored) = entry {
                        count += 1;
                        if purge.soft {
                            stored.soft.store(true, Ordering::Relaxed);
                        }
                    }
                    (!purge.soft).then(|| freed += size(key, entry))
                });
                drop(shard);
                self.give(freed, 0);
            }
        }
        count
    }

    /// Shows `look` everything, some at a time, without a trace of having looked.
    pub fn each(&self, mut look: impl FnMut(&[u8], &Entry)) {
        for shard in &self.shards {
            let mut next = Some(0);
            while let Some(from) = next {
                next = lock(shard).each(from, CHUNK, |key, entry, _| {
                    look(key, entry);
                    None
                });
            }
        }
    }

    /// What it holds now.
    pub fn stats(&self) -> Stats {
        let entries = self.shards.iter().map(|s| lock(s).len() as u64).sum();
        Stats {
            entries,
            bytes: self.used.load(Ordering::Acquire),
            limit: self.limit,
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[index(hash)])
    }

    /// Bytes are free again. Returns what is used, reckoned from `used`.
    fn give(&self, bytes: u64, used: u64) -> u64 {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::AcqRel);
        }
        used.saturating_sub(bytes)
    }

    /// Evicts until the bound holds, one entry from each part in turn, so that a large newcomer does not empty the part that it
    /// happens to fall into. Never the new entry itself.
    fn make_room(&self, home: usize, hash: u64, key: &[u8], mut used: u64) {
        let mut at = home;
        let mut barren = 0;
        while used > self.limit && barren < SHARDS {
            let keep = (at == home).then_some((hash, key));
            let evicted = lock(&self.shards[at]).evict(keep);
            match evicted {
                Some(size) => {
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                    self.give(size, 0);
                    used = self.used.load(Ordering::Acquire);
                    barren = 0;
                }
                None => barren += 1,
            }
            at = (at + 1) % SHARDS;
        }
    }

    /// Everything that must hold between two operations.
    #[cfg(test)]
    fn check_invariants(&self) {
        let total: u64 = self.shards.iter().map(|s| lock(s).check_invariants()).sum();
        assert_eq!(total, self.used.load(Ordering::Acquire));
        assert!(total <= self.limit);
    }
}

/// The part that a hash belongs to, by bits that the table inside does not use.
fn index(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that an entry takes.
pub fn size(key: &[u8], entry: &Entry) -> u64 {
    let content = match entry {
        Entry::Response(stored) => {
            let body = match &stored.body {
                Body::Whole(bytes) => bytes.len() as u64,
                Body::Parts { ranges, .. } => ranges.iter().map(|(_, b)| b.len() as u64 + 48).sum(),
            };
            stored.head.as_bytes().len() as u64 + body
        }
        Entry::Varies(varies) => varies.names.len() as u64 * 40,
    };
    key.len() as u64 + content + OVERHEAD
}

pub(super) fn selects(what: &Selection, key: &[u8], entry: &Entry, tagged: bool) -> bool {
    match what {
        Selection::Url(url) => key::url(key) == url.as_bytes(),
        Selection::Prefix(prefix) => key::url(key).starts_with(prefix.as_bytes()),
        Selection::Tag(tag) => tagged && matches!(entry, Entry::Response(s) if has_tag(s, tag)),
        Selection::All => true,
    }
}

/// Does the response carry this tag?
fn has_tag(stored: &super::stored::Stored, tag: &str) -> bool {
    tags(stored).any(|t| t == tag.as_bytes())
}

/// The tags of a response: Surrogate-Key's words, and Cache-Tag's list.
pub fn tags(stored: &super::stored::Stored) -> impl Iterator<Item = &[u8]> {
    stored.head.lines().flat_map(|(name, value)| {
        let separator = match name {
            b"surrogate-key" => b' ',
            b"cache-tag" => b',',
            _ => b'\n',
        };
        let tags = (separator != b'\n').then(|| value.split(move |b| *b == separator));
        tags.into_iter()
            .flatten()
            .map(<[u8]>::trim_ascii)
            .filter(|tag| !tag.is_empty())
    })
}

#[cfg(test)]
mod tests;
