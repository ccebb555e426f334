//! Sessions of a protocol that has none: who is one, which gives way when there are too many or others wait, and how much may
//! pass for a client that nobody has answered yet.
//!
//! A datagram's source address may be forged. So before a session's first reply only a few datagrams pass, and nothing is
//! ever said to a client that a backend did not say. Absent: sockets, and where a session's datagrams go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::time::Tick;

/// The bounds of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsSpec {
    /// Sessions at once, at least 1.
    pub capacity: usize,
    /// How long one may be silent, both ways.
    pub idle: Duration,
    /// Datagrams that pass before the first reply.
    pub unanswered: u32,
}

/// What core number `core` of `cores` may hold of `all` sessions: together they hold no more, unless there are fewer sessions
/// than cores. A core must be able to hold one, or clients whose datagrams come to it would never be served.
pub fn share(all: usize, cores: usize, core: usize) -> usize {
    let cores = cores.max(1);
    (all / cores + usize::from(core < all % cores)).max(1)
}

/// A session's identity within its table; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// What becomes of a client's datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Passage<'a, V> {
    /// It belongs to this session.
    Passes(&'a V),
    /// It belongs to a session that has had its share and no reply yet.
    Dropped,
    /// There is no session for it.
    Unknown,
}

/// The sessions of one socket by client, each with a value of the caller's.
#[derive(Debug)]
pub struct Sessions<K, V> {
    spec: SessionsSpec,
    entries: BTreeMap<K, Entry<V>>,
    /// When each was used, or some time before: brought up to date only where it matters, at the front.
    order: BTreeSet<(Tick, SessionId, K)>,
    /// Who was answered in full, by a number that grows. True is only what its entry has as well.
    answered: VecDeque<(u64, K)>,
    answers: u64,
    next: u64,
}

#[derive(Debug)]
struct Entry<V> {
    id: SessionId,
    value: V,
    used: Tick,
    /// What `order` says.
    noted: Tick,
    /// Datagrams that may still pass; `None` once there was a reply.
    allowance: Option<u32>,
    /// Datagrams that passed, less replies.
    owed: u32,
    /// The number of the reply by which nothing was owed any more.
    answered: Option<u64>,
}

/// Places in `answered` that may be out of date, beside as many as there are sessions.
const STALE: usize = 64;

impl<K: Copy + Ord, V> Sessions<K, V> {
    /// No session yet.
    pub fn new(spec: SessionsSpec) -> Self {
        Sessions {
            spec,
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
            answered: VecDeque::new(),
            answers: 0,
            next: 0,
        }
    }

    /// Sessions now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A datagram of `client` has come. One that is dropped is no use of the session: it does not keep it alive.
    pub fn arrives(&mut self, now: Tick, client: &K) -> Passage<'_, V> {
        let Some(entry) = self.entries.get_mut(client) else {
            return Passage::Unknown;
        };
        match &mut entry.allowance {
            Some(0) => return Passage::Dropped,
            Some(left) => *left -= 1,
            None => {}
        }
        entry.used = now;
        entry.owed = entry.owed.saturating_add(1);
        entry.answered = None;
        Passage::Passes(&entry.value)
    }

    /// Opens a session for a datagram of `client`, who has none. Where the table is full the idlest gives way, and is
    /// returned.
    pub fn open(&mut self, now: Tick, client: K, value: V) -> (SessionId, Option<V>) {
        debug_assert!(!self.entries.contains_key(&client));
        let evicted = if self.entries.len() >= self.spec.capacity {
            self.pop_idlest()
        } else {
            None
        };
        let id = SessionId(self.next);
        self.next += 1;
        let entry = Entry {
            id,
            value,
            used: now,
            noted: now,
            allowance: Some(self.spec.unanswered.saturating_sub(1)),
            owed: 1,
            answered: None,
        };
        self.order.insert((now, id, client));
        self.entries.insert(client, entry);
        (id, evicted)
    }

    /// A reply of session `id` is to go to `client`. False when that session is no more: the reply is nobody's.
    pub fn replies(&mut self, now: Tick, client: &K, id: SessionId) -> bool {
        let Some(entry) = self.entries.get_mut(client).filter(|e| e.id == id) else {
            return false;
        };
        entry.used = now;
        entry.allowance = None;
        entry.owed = entry.owed.saturating_sub(1);
        if entry.owed == 0 {
            entry.answered = Some(self.answers);
            self.answered.push_back((self.answers, *client));
            self.answers += 1;
            if self.answered.len() > 2 * self.entries.len() + STALE {
                let entries = &self.entries;
                self.answered.retain(|(number, client)| {
                    let entry = entries.get(client);
                    entry.is_some_and(|e| e.answered == Some(*number))
                });
            }
        }
        true
    }

    /// Takes out the session that has been answered in full for the longest, so that another can have its place. In full is as
    /// many replies as datagrams: whoever is owed one stays.
    pub fn pop_answered(&mut self) -> Option<V> {
        while let Some((number, client)) = self.answered.pop_front() {
            let entry = self.entries.get(&client);
            if let Some(entry) = entry.filter(|e| e.answered == Some(number)) {
                return self.close(&client, entry.id);
            }
        }
        None
    }

    /// Session `id` of `client` has ended by itself, unless it was gone before.
    pub fn close(&mut self, client: &K, id: SessionId) -> Option<V> {
        let entry = self.entries.get(client).filter(|e| e.id == id)?;
        self.order.remove(&(entry.noted, id, *client));
        self.entries.remove(client).map(|e| e.value)
    }

    /// Takes out one session that has been silent for too long, if there is one.
    pub fn expire(&mut self, now: Tick) -> Option<V> {
        (self.next_deadline()? <= now).then(|| self.pop_idlest())?
    }

    /// When the next one will have been silent for too long.
    pub fn next_deadline(&mut self) -> Option<Tick> {
        Some(self.idlest()?.0 + self.spec.idle)
    }

    /// Lets no session be silent for longer than this from now on.
    pub fn shorten(&mut self, idle: Duration) {
        self.spec.idle = self.spec.idle.min(idle);
    }

    /// The first in `order`, once it is true.
    fn idlest(&mut self) -> Option<(Tick, SessionId, K)> {
        loop {
            let first = *self.order.first()?;
            let (noted, id, client) = first;
            let entry = self
                .entries
                .get_mut(&client)
                .expect("what is in order is a session");
            if entry.used == noted {
                return Some(first);
            }
            entry.noted = entry.used;
            self.order.remove(&first);
            self.order.insert((entry.used, id, client));
        }
    }

    fn pop_idlest(&mut self) -> Option<V> {
        let first = self.idlest()?;
        self.order.remove(&first);
        self.entries.remove(&first.2).map(|e| e.value)
    }
}
