//! Who fetches while others wait: one flight a key, and for a short while the memory of keys whose responses could not be shared.
//!
//! `T` is whatever followers need of a leader. Absent: waiting, which the shell does.

use std::collections::{BTreeMap, VecDeque};

use crate::time::Tick;

/// How a request joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join<T> {
    /// It fetches, and others follow.
    Lead(T),
    /// It follows.
    Follow(T),
    /// It goes alone: what came lately under this key was for nobody else.
    Pass,
}

/// Flights under way, and what is not worth one.
#[derive(Debug)]
pub struct Flights<T> {
    flying: BTreeMap<Box<[u8]>, T>,
    passes: BTreeMap<Box<[u8]>, Tick>,
    /// The passes in the order in which they were noted, which is nearly that in which they end.
    noted: VecDeque<(Tick, Box<[u8]>)>,
    max_passes: usize,
}

impl<T: Clone> Flights<T> {
    /// None yet; at most `max_passes` keys are remembered as not shared.
    pub fn new(max_passes: usize) -> Self {
        Flights {
            flying: BTreeMap::new(),
            passes: BTreeMap::new(),
            noted: VecDeque::new(),
            max_passes,
        }
    }

    /// Joins the flight under `key`, or begins it with what `make` gives.
    pub fn join(&mut self, now: Tick, key: &[u8], make: impl FnOnce() -> T) -> Join<T> {
        if let Some(flight) = self.flying.get(key) {
            return Join::Follow(flight.clone());
        }
        match self.passes.get(key) {
            Some(until) if now < *until => return Join::Pass,
            Some(_) => {
                self.passes.remove(key);
            }
            None => {}
        }
        let flight = make();
        self.flying.insert(key.into(), flight.clone());
        Join::Lead(flight)
    }

    /// Has it followed under another key as well, unless another flight is there.
    pub fn also(&mut self, key: &[u8], flight: T) {
        self.flying.entry(key.into()).or_insert(flight);
    }

    /// Ends the flight under `key`, if it is still the one that `same` knows.
    pub fn land(&mut self, key: &[u8], same: impl Fn(&T) -> bool) {
        if self.flying.get(key).is_some_and(same) {
            self.flying.remove(key);
        }
    }

    /// Do requests for `key` go alone now?
    pub fn is_passed(&self, now: Tick, key: &[u8]) -> bool {
        self.passes.get(key).is_some_and(|until| now < *until)
    }

    /// Has requests for `key` go alone until then. The oldest memory gives way.
    pub fn remember(&mut self, key: &[u8], until: Tick) {
        if self.max_passes == 0 {
            return;
        }
        self.passes.insert(key.into(), until);
        self.noted.push_back((until, key.into()));
        while self.noted.len() > self.max_passes {
            let Some((until, key)) = self.noted.pop_front() else {
                break;
            };
            // Unless it was noted again since.
            if self.passes.get(&key) == Some(&until) {
                self.passes.remove(&key);
            }
        }
    }

    /// Ends every flight whose key matches; `f` sees each.
    pub fn taint(&mut self, matching: impl Fn(&[u8]) -> bool, f: impl Fn(&T)) {
        self.flying.retain(|key, flight| {
            let hit = matching(key);
            if hit {
                f(flight);
            }
            !hit
        });
    }

    /// Flights under way.
    pub fn len(&self) -> usize {
        self.flying.len()
    }

    /// Is none under way?
    pub fn is_empty(&self) -> bool {
        self.flying.is_empty()
    }

    /// Keys that are remembered as not shared.
    pub fn remembered(&self) -> usize {
        self.noted.len()
    }
}
