//! The purges that lie behind us, for what lies in Redis. Nobody scans it: whoever reads a record holds it against this list.
//!
//! Every purge has a place in one order that all replicas share, the id that a Redis stream gave it; every record carries the
//! last id that its writer knew when its fetch began. A record is dropped if a purge with a later id selects it. No clock is
//! part of this. The list is bounded: what it forgets, it forgets by dropping every record that may be older.
//!
//! Absent: the stream itself, and what lies in memory, which a purge empties at once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::purge::{Purge, Selection};
use super::stored::Entry;
use super::{key, store};

/// A place in the order of all purges: the id of a stream's entry, or `0-0` before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Seen {
    /// Milliseconds, as the Redis server counts them.
    pub millis: u64,
    /// Among those of one millisecond.
    pub sequence: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl FromStr for Seen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, sequence) = text.split_once('-').ok_or(())?;
        Ok(Seen {
            millis: millis.parse().map_err(|_| ())?,
            sequence: sequence.parse().map_err(|_| ())?,
        })
    }
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be used.
    Keep,
    /// It may be used once it was validated.
    Soft,
    /// It may not be used.
    Drop,
}

/// A purge of ours whose place in the order is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending(u64);

/// The latest purges of one URL. `0-0` is none.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    hard: Seen,
    soft: Seen,
}

/// The list.
#[derive(Debug)]
pub struct Bans {
    urls: BTreeMap<Box<[u8]>, Latest>,
    /// The same by the later of its two ids: the first is forgotten first.
    order: BTreeMap<(Seen, Box<[u8]>), ()>,
    others: VecDeque<(Seen, Purge)>,
    /// Every record with an earlier id is dropped.
    floor: Seen,
    /// Ours that have no place yet, in the order in which they were made.
    pending: BTreeMap<Pending, Purge>,
    next: u64,
    seen: Seen,
    bounds: Bounds,
}

/// How many purges are kept apart.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// URLs; the oldest gives way.
    pub urls: usize,
    /// Other selections; the oldest gives way.
    pub others: usize,
    /// Without a place yet; more of them become one that selects everything.
    pub pending: usize,
}

impl Default for Bans {
    fn default() -> Self {
        Bans::new(Bounds {
            urls: 65_536,
            others: 1_024,
            pending: 4_096,
        })
    }
}

impl Bans {
    /// None yet.
    pub fn new(bounds: Bounds) -> Self {
        Bans {
            urls: BTreeMap::new(),
            order: BTreeMap::new(),
            others: VecDeque::new(),
            floor: Seen::default(),
            pending: BTreeMap::new(),
            next: 0,
            seen: Seen::default(),
            bounds,
        }
    }

    /// The last id whose purge was carried out here: what a fetch that begins now has seen.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Everything up to this id has been carried out here.
    pub fn saw(&mut self, id: Seen) {
        self.seen = self.seen.max(id);
    }

    /// How many purges it holds.
    pub fn len(&self) -> usize {
        self.urls.len() + self.others.len() + self.pending.len()
    }

    /// Does it hold none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins anew, for another order: the stream that gave the ids is gone. What is pending stays so.
    pub fn restart(&mut self, seen: Seen) {
        self.urls.clear();
        self.order.clear();
        self.others.clear();
        self.floor = seen;
        self.seen = seen;
    }

    /// Drops every record with an earlier id from here on.
    pub fn raise_floor(&mut self, floor: Seen) {
        self.floor = self.floor.max(floor);
    }

    /// A purge with its place in the order.
    pub fn add(&mut self, id: Seen, purge: &Purge) {
        match &purge.what {
            Selection::Url(url) => self.add_url(id, url.as_bytes(), purge.soft),
            Selection::All if !purge.soft => {
                // Whatever came before it is part of it.
                self.raise_floor(id);
                self.others.retain(|(other, _)| *other > id);
            }
            _ if self.others.iter().any(|(i, p)| *i == id && p == purge) => {}
            _ => {
                self.others.push_back((id, purge.clone()));
                if self.others.len() > self.bounds.others {
                    let oldest = self.others.pop_front();
                    self.raise_floor(oldest.map_or(id, |(id, _)| id));
                }
            }
        }
    }

    fn add_url(&mut self, id: Seen, url: &[u8], soft: bool) {
        let latest = self.urls.entry(url.into()).or_default();
        let before = latest.hard.max(latest.soft);
        let which = if soft {
            &mut latest.soft
        } else {
            &mut latest.hard
        };
        *which = (*which).max(id);
        let after = latest.hard.max(latest.soft);
        self.order.remove(&(before, url.into()));
        self.order.insert((after, url.into()), ());
        if self.urls.len() > self.bounds.urls
            && let Some(((oldest, url), ())) = self.order.pop_first()
        {
            self.urls.remove(&url);
            self.raise_floor(oldest);
        }
    }

    /// A purge of ours that has yet to get its place: until it has, it stands behind everything.
    pub fn begin(&mut self, purge: &Purge) -> Pending {
        let mut purge = purge.clone();
        if self.pending.len() >= self.bounds.pending {
            // One that selects everything says as much as all of them.
            self.pending.clear();
            purge = Purge {
                what: Selection::All,
                soft: false,
            };
        }
        let pending = Pending(self.next);
        self.next += 1;
        self.pending.insert(pending, purge);
        pending
    }

    /// The first of those that have no place yet.
    pub fn pending(&self, most: usize) -> Vec<(Pending, Purge)> {
        let first = self.pending.iter().take(most);
        first
            .map(|(pending, purge)| (*pending, purge.clone()))
            .collect()
    }

    /// It got its place.
    pub fn placed(&mut self, pending: Pending, id: Seen) {
        if let Some(purge) = self.pending.remove(&pending) {
            self.add(id, &purge);
        }
    }

    /// What becomes of a record under `key` whose writer had seen `seen`?
    pub fn judge(&self, key: &[u8], entry: &Entry, seen: Seen) -> Verdict {
        // One that knows more than we do may come from an order that is no more; and it is early for us to have it.
        if seen < self.floor || seen > self.seen {
            return Verdict::Drop;
        }
        let latest = self.urls.get(key::url(key)).copied().unwrap_or_default();
        let selecting = |purge: &Purge| store::selects(&purge.what, key, entry, true);
        let others = self.others.iter().filter(|(id, _)| *id > seen);
        let others = others.map(|(_, purge)| purge);
        let mut soft = latest.soft > seen;
        if latest.hard > seen {
            return Verdict::Drop;
        }
        for purge in others.chain(self.pending.values()) {
            if selecting(purge) {
                if !purge.soft {
                    return Verdict::Drop;
                }
                soft = true;
            }
        }
        if soft { Verdict::Soft } else { Verdict::Keep }
    }
}

#[cfg(test)]
mod tests;
