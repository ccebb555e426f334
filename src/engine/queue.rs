//! The central queue of one upstream: bounded, ordered by arrival, with an expiry for each waiter. It knows which waiters stand
//! first; who may run is the upstream's to say.
//!
//! Waiters that leave out the same backends form a group. Whether anything is eligible is the same question for a whole group,
//! so a freed slot costs one question a group (nearly always one group: those who leave out nothing) and O(log n), however many
//! retries stand at the head.

use std::collections::{BTreeMap, BTreeSet};

use super::{Exclude, Meta, QueueSpec, ShedReason, WaiterId};
use crate::time::Tick;

/// A place in the order: by arrival, then by the order in which waiting began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    arrived: Tick,
    /// Who stands there.
    pub(crate) id: WaiterId,
}

/// One waiting request.
#[derive(Clone, Debug)]
struct Waiter {
    arrived: Tick,
    expiry: Tick,
    reason: ShedReason,
    exclude: Exclude,
    client: u64,
}

/// All waiting requests of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    spec: QueueSpec,
    next: u64,
    waiters: BTreeMap<WaiterId, Waiter>,
    /// No group is empty.
    groups: BTreeMap<Exclude, BTreeSet<Place>>,
    expiries: BTreeSet<(Tick, WaiterId)>,
}

impl Queue {
    /// An empty queue.
    pub(crate) fn new(spec: QueueSpec) -> Self {
        Queue {
            spec,
            next: 0,
            waiters: BTreeMap::new(),
            groups: BTreeMap::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// New bounds. Those who wait already stay, with the expiry that they were promised, even above a lower capacity.
    pub(crate) fn apply(&mut self, spec: QueueSpec) {
        self.spec = spec;
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Lets a request wait, or says why it can't.
    pub(crate) fn push(&mut self, now: Tick, meta: &Meta) -> Result<WaiterId, ShedReason> {
        let (expiry, reason) = expiry(&self.spec, meta);
        if expiry <= now {
            return Err(reason);
        }
        if self.waiters.len() >= self.spec.capacity {
            return Err(ShedReason::QueueFull);
        }
        let id = WaiterId(self.next);
        self.next += 1;
        let waiter = Waiter {
            arrived: meta.arrived,
            expiry,
            reason,
            exclude: meta.exclude.clone(),
            client: meta.client,
        };
        let place = Place {
            arrived: meta.arrived,
            id,
        };
        match self.groups.get_mut(&meta.exclude) {
            Some(group) => {
                group.insert(place);
            }
            None => {
                self.groups
                    .insert(meta.exclude.clone(), BTreeSet::from([place]));
            }
        }
        self.expiries.insert((expiry, id));
        self.waiters.insert(id, waiter);
        Ok(id)
    }

    /// Takes a waiter out, wherever it stands, and returns what it leaves out and its client. `None`: it does not wait.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<(Exclude, u64)> {
        let waiter = self.waiters.remove(&id)?;
        self.expiries.remove(&(waiter.expiry, id));
        let place = Place {
            arrived: waiter.arrived,
            id,
        };
        if let Some(group) = self.groups.get_mut(&waiter.exclude) {
            group.remove(&place);
            if group.is_empty() {
                self.groups.remove(&waiter.exclude);
            }
        }
        Some((waiter.exclude, waiter.client))
    }

    /// Takes out one waiter whose time is up, the earliest first.
    pub(crate) fn pop_expired(&mut self, now: Tick) -> Option<(WaiterId, ShedReason)> {
        let &(expiry, id) = self.expiries.first()?;
        if expiry > now {
            return None;
        }
        let reason = self
            .waiters
            .get(&id)
            .map_or(ShedReason::QueueTimeout, |w| w.reason);
        self.remove(id);
        Some((id, reason))
    }

    /// When the next waiter's time is up.
    pub(crate) fn next_expiry(&self) -> Option<Tick> {
        self.expiries.first().map(|&(expiry, _)| expiry)
    }

    /// What each group leaves out, and who stands first in it.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (&Exclude, Place)> {
        self.groups
            .iter()
            .filter_map(|(exclude, group)| group.first().map(|&place| (exclude, place)))
    }

    /// Takes out, in order, everyone in those groups for which `which` holds.
    pub(crate) fn take_groups(&mut self, which: impl Fn(&Exclude) -> bool) -> Vec<WaiterId> {
        let mut places: Vec<Place> = self
            .groups
            .iter()
            .filter(|(exclude, _)| which(exclude))
            .flat_map(|(_, group)| group.iter().copied())
            .collect();
        places.sort_unstable();
        let ids: Vec<WaiterId> = places.iter().map(|place| place.id).collect();
        for &id in &ids {
            self.remove(id);
        }
        ids
    }

    /// Panics unless the three views of the queue agree.
    pub(crate) fn check_invariants(&self) {
        let grouped: usize = self.groups.values().map(BTreeSet::len).sum();
        assert_eq!(grouped, self.waiters.len());
        assert_eq!(self.expiries.len(), self.waiters.len());
        for (id, waiter) in &self.waiters {
            assert!(id.0 < self.next);
            assert!(self.expiries.contains(&(waiter.expiry, *id)));
            let place = Place {
                arrived: waiter.arrived,
                id: *id,
            };
            assert!(
                self.groups
                    .get(&waiter.exclude)
                    .is_some_and(|g| g.contains(&place))
            );
        }
    }
}

/// When a waiter's time is up, and what its refusal is called then.
fn expiry(spec: &QueueSpec, meta: &Meta) -> (Tick, ShedReason) {
    let timeout = meta.arrived + spec.timeout;
    match meta.deadline {
        Some(deadline) if deadline < timeout => (deadline, ShedReason::Deadline),
        _ => (timeout, ShedReason::QueueTimeout),
    }
}
