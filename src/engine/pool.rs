//! The backends of one upstream: who is eligible for a request, who is picked, what comes back. The queue and the bound on the
//! whole upstream are not here.
//!
//! A backend is *eligible* for a request when it is not full, not excluded by the request, and of the best standing that any
//! backend has which the request does not exclude, full or not: when none of these is sound, those in back-off are tried, and
//! when all are down, these (fail open). An *open* backend is one that is eligible for a request without exclusions, and the
//! scheduler holds exactly the open ones. Each change costs O(log n), except that the moments when the last sound backend fails
//! or the first one recovers touch all of them.

mod ejection;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::ejection::Verdict;
use super::backend::{Backend, Change};
use super::outlier::OutlierSpec;
use super::scheduler::{Entry, Scheduler};
use super::{BackOffSpec, BackendId, Exclude, Outcome, Phase, Slot, Standing, UpstreamSpec};
use crate::rng::Rng;
use crate::time::Tick;

/// All backends of an upstream and the strategy that picks among them.
#[derive(Debug)]
pub(crate) struct Pool {
    /// In config order.
    backends: Vec<Backend>,
    index: BTreeMap<BackendId, u32>,
    /// Which list of backends this is; slots remember it.
    layout: u32,
    /// Removed by a reload, with requests still running.
    leaving: BTreeMap<BackendId, Backend>,
    scheduler: Scheduler,
    rng: Rng,
    back_off: BackOffSpec,
    /// How many are open.
    open: usize,
    /// The ends of all back-offs, with the backends' places.
    back_offs: BTreeSet<(Tick, u32)>,
    /// How many are of each standing.
    standings: Standings,
    outlier: Option<OutlierSpec>,
    /// The ends of all ejections, with the backends' places.
    ejections: BTreeSet<(Tick, u32)>,
    /// How many get a part of their share.
    ramps: usize,
}

/// What a slot that came back means for its backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aftermath {
    /// It is passed over until then.
    pub(crate) backed_off: Option<Tick>,
    /// What its requests have come to.
    pub(crate) verdict: Option<Verdict>,
}

/// Counts of backends by their standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standings {
    counts: [usize; Standing::ALL.len()],
    /// The best one that somebody has; sound if there is nobody.
    best: Standing,
}

impl Standings {
    fn of<'a>(backends: impl IntoIterator<Item = &'a Backend>) -> Self {
        let mut standings = Standings {
            counts: [0; Standing::ALL.len()],
            best: Standing::Sound,
        };
        for backend in backends {
            standings.counts[backend.standing() as usize] += 1;
        }
        standings.look();
        standings
    }

    /// One that stood so stands otherwise.
    fn change(&mut self, from: Standing, to: Standing) {
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
        self.look();
    }

    /// Those that are not among these.
    fn without(mut self, others: Self) -> Self {
        for (count, other) in self.counts.iter_mut().zip(others.counts) {
            *count -= other;
        }
        self.look();
        self
    }

    fn look(&mut self) {
        let mut all = Standing::ALL.into_iter().zip(self.counts);
        let best = all.find(|(_, count)| *count > 0);
        self.best = best.map_or(Standing::Sound, |(standing, _)| standing);
    }
}

impl Pool {
    /// All idle and in good standing.
    pub(crate) fn new(spec: &UpstreamSpec, mut rng: Rng) -> Self {
        let scheduler = Scheduler::new(spec.strategy, &entries(spec), spec.phase, &mut rng);
        let mut pool = Pool {
            backends: spec.backends.iter().map(|b| Backend::new(*b)).collect(),
            index: index(spec),
            layout: 0,
            leaving: BTreeMap::new(),
            scheduler,
            rng,
            back_off: spec.back_off,
            open: 0,
            back_offs: BTreeSet::new(),
            standings: Standings::of([]),
            outlier: spec.outlier,
            ejections: BTreeSet::new(),
            ramps: 0,
        };
        pool.standings = Standings::of(&pool.backends);
        pool.refresh_all();
        pool
    }

    /// A reload: those who stay, and those who return while requests still run on them, keep their state.
    pub(crate) fn apply(&mut self, spec: &UpstreamSpec) {
        let from: Vec<Option<usize>> = spec.backends.iter().map(|b| self.place(b.id)).collect();
        let nobody = Scheduler::new(spec.strategy, &[], Phase::Zero, &mut self.rng);
        let old = std::mem::replace(&mut self.scheduler, nobody);
        self.scheduler = old.reload(
            spec.strategy,
            &entries(spec),
            &from,
            spec.phase,
            &mut self.rng,
        );
        let is_lenient = spec.outlier.is_none();
        let mut known = std::mem::take(&mut self.leaving);
        known.extend(self.backends.drain(..).map(|b| (b.spec.id, b)));
        for spec in &spec.backends {
            let mut backend = known.remove(&spec.id).unwrap_or(Backend::new(*spec));
            backend.spec = *spec;
            backend.open = false;
            if is_lenient {
                (backend.ejected_until, backend.ramp) = (None, None);
            }
            self.backends.push(backend);
        }
        known.retain(|_, b| b.in_flight > 0);
        self.leaving = known;
        self.index = index(spec);
        self.layout = self.layout.wrapping_add(1);
        self.back_off = spec.back_off;
        self.back_offs = (0_u32..)
            .zip(&self.backends)
            .filter_map(|(i, b)| b.backed_off_until.map(|until| (until, i)))
            .collect();
        self.outlier = spec.outlier;
        self.ejections = (0_u32..)
            .zip(&self.backends)
            .filter_map(|(i, b)| b.ejected_until.map(|until| (until, i)))
            .collect();
        self.ramps = self.backends.iter().filter(|b| b.ramp.is_some()).count();
        self.open = 0;
        self.standings = Standings::of(&self.backends);
        for (i, backend) in self.backends.iter().enumerate() {
            self.scheduler.load(i, backend.in_flight);
        }
        self.refresh_all();
    }

    /// The configured ones, in config order.
    pub(crate) fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Picks for a request of `client` for whom somebody is eligible, and takes the place.
    ///
    /// # Panics
    /// If nobody is.
    #[inline]
    pub(crate) fn admit(&mut self, now: Tick, exclude: &Exclude, client: u64) -> Slot {
        let picked = if exclude.is_empty() {
            self.pick(now, client)
        } else {
            self.pick_excluding(now, exclude, client)
        };
        let i = picked.expect("a request is admitted only when a backend is eligible for it");
        let backend = &mut self.backends[i];
        backend.in_flight += 1;
        let slot = Slot {
            backend: backend.spec.id,
            granted: now,
            index: i as u32,
            layout: self.layout,
            failures: backend.failures,
            failed: false,
            first_byte: None,
            rest: None,
        };
        self.refresh(i);
        slot
    }

    /// Takes a slot back, and says what follows for its backend.
    ///
    /// # Panics
    /// If the slot is another upstream's.
    pub(crate) fn finish(&mut self, now: Tick, slot: &Slot, outcome: Outcome) -> Aftermath {
        let place = if slot.layout == self.layout {
            Some(slot.index as usize)
        } else {
            self.place(slot.backend)
        };
        let Some(i) = place else {
            self.finish_leaving(slot.backend);
            return Aftermath::default();
        };
        let backend = &mut self.backends[i];
        backend.in_flight -= 1;
        self.scheduler.load(i, backend.in_flight);
        let mut aftermath = Aftermath::default();
        let change = backend.record(now, slot.failures, outcome, &self.back_off);
        let change = match slot.rest {
            // It is passed over as after a failure, but for how long it says itself.
            Some(rest) if outcome == Outcome::Success || outcome == Outcome::Failed => {
                Change::Begins(now + rest.min(self.back_off.max))
            }
            _ => change,
        };
        match change {
            Change::None => self.refresh(i),
            Change::Ends => self.set_back_off(i, None),
            Change::Begins(until) => {
                self.set_back_off(i, Some(until));
                aftermath.backed_off = Some(until);
            }
        }
        if let Some(spec) = self.outlier {
            aftermath.verdict = self.judge(now, &spec, i, slot, outcome);
        }
        aftermath
    }

    /// When the next back-off or ejection ends.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        let back_off = self.back_offs.first();
        let next = match (back_off, self.ejections.first()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        next.map(|&(until, _)| until)
    }

    /// Ends the back-offs that are over.
    pub(crate) fn end_back_offs(&mut self, now: Tick) {
        while let Some(&(until, i)) = self.back_offs.first()
            && until <= now
        {
            self.set_back_off(i as usize, None);
        }
    }

    /// Is there no backend that the request may use, now or later?
    #[inline]
    pub(crate) fn excludes_all(&self, exclude: &Exclude) -> bool {
        self.backends.is_empty()
            || (!exclude.is_empty() && self.excluded(exclude).count() == self.backends.len())
    }

    /// How many backends are eligible for a request with these exclusions. O(exclusions log n), or O(n) when it alone fails open.
    #[inline]
    pub(crate) fn eligible(&self, exclude: &Exclude) -> usize {
        if exclude.is_empty() {
            return self.open;
        }
        let excluded = self.excluded(exclude).filter(|&i| self.backends[i].open);
        let open = self.open - excluded.count();
        match self.fails_open_alone(exclude) {
            Some(standing) => open + self.passed_over(exclude, standing).count(),
            None => open,
        }
    }

    fn place(&self, id: BackendId) -> Option<usize> {
        self.index.get(&id).map(|&i| i as usize)
    }

    /// The places of those that are excluded and exist.
    fn excluded<'a>(&'a self, exclude: &'a Exclude) -> impl Iterator<Item = usize> + 'a {
        exclude.iter().filter_map(|id| self.place(id))
    }

    /// The best standing of those that the request does not exclude, if some excluded one has a better one. (If none has, the
    /// rest are open anyway.)
    fn fails_open_alone(&self, exclude: &Exclude) -> Option<Standing> {
        let excluded = Standings::of(self.excluded(exclude).map(|i| &self.backends[i]));
        let best = self.standings.without(excluded).best;
        (best > self.standings.best).then_some(best)
    }

    /// Those that are neither full nor excluded, and closed for their standing alone, which is no worse than this.
    fn passed_over<'a>(
        &'a self,
        exclude: &'a Exclude,
        standing: Standing,
    ) -> impl Iterator<Item = usize> + 'a {
        (0..self.backends.len()).filter(move |&i| {
            let backend = &self.backends[i];
            !backend.open
                && !backend.is_full()
                && backend.standing() <= standing
                && !exclude.contains(backend.spec.id)
        })
    }

    /// Picks with the scheduler's set narrowed, or failed open, for this one request. Who is left out of it neither earns nor
    /// owes, as always.
    fn pick_excluding(&mut self, now: Tick, exclude: &Exclude, client: u64) -> Option<usize> {
        let mut flipped: Vec<usize> = self
            .excluded(exclude)
            .filter(|&i| self.backends[i].open)
            .collect();
        if let Some(standing) = self.fails_open_alone(exclude) {
            flipped.extend(self.passed_over(exclude, standing));
        }
        flipped.iter().for_each(|&i| self.flip(i));
        let picked = self.pick(now, client);
        flipped.iter().for_each(|&i| self.flip(i));
        picked
    }

    fn finish_leaving(&mut self, id: BackendId) {
        let backend = self
            .leaving
            .get_mut(&id)
            .expect("a slot comes back to the upstream that granted it");
        backend.in_flight -= 1;
        if backend.in_flight == 0 {
            self.leaving.remove(&id);
        }
    }

    /// Begins, moves or ends a back-off.
    fn set_back_off(&mut self, i: usize, until: Option<Tick>) {
        if let Some(old) = self.backends[i].backed_off_until {
            self.back_offs.remove(&(old, i as u32));
        }
        if let Some(until) = until {
            self.back_offs.insert((until, i as u32));
        }
        self.change(i, |backend| backend.backed_off_until = until);
    }

    /// Changes what a backend's standing hangs on.
    fn change(&mut self, i: usize, change: impl FnOnce(&mut Backend)) {
        let best = self.standings.best;
        let backend = &mut self.backends[i];
        let before = backend.standing();
        change(backend);
        self.standings.change(before, backend.standing());
        if best == self.standings.best {
            self.refresh(i);
        } else {
            self.refresh_all();
        }
    }

    /// Has a backend a place that a health check may use? It takes none, so that no request waits for a check.
    pub(crate) fn may_check(&self, id: BackendId) -> bool {
        let place = self.place(id);
        place.is_some_and(|i| !self.backends[i].is_full())
    }

    /// The best standing that a backend has.
    #[inline]
    pub(crate) fn best(&self) -> Standing {
        self.standings.best
    }

    #[inline]
    fn should_be_open(&self, backend: &Backend) -> bool {
        !backend.is_full() && backend.standing() <= self.standings.best
    }

    /// Opens or closes a backend after something about it has changed.
    #[inline]
    fn refresh(&mut self, i: usize) {
        if self.backends[i].open != self.should_be_open(&self.backends[i]) {
            self.flip(i);
            if self.backends[i].open {
                self.open += 1;
            } else {
                self.open -= 1;
            }
        }
    }

    fn refresh_all(&mut self) {
        (0..self.backends.len()).for_each(|i| self.refresh(i));
    }

    /// Closes an open backend, opens a closed one. `open` counts only what lasts, so it is left to the caller.
    #[inline]
    fn flip(&mut self, i: usize) {
        let backend = &mut self.backends[i];
        backend.open = !backend.open;
        if backend.open {
            self.scheduler.enter(i);
        } else {
            self.scheduler.leave(i);
        }
    }

    /// Panics if the state contradicts itself. Returns the sum of all in flight, those on removed backends included.
    pub(crate) fn check_invariants(&self) -> u32 {
        assert_eq!(self.index.len(), self.backends.len(), "ids are unique");
        let open = self.backends.iter().filter(|b| b.open).count();
        assert_eq!(open, self.open);
        let mut back_offs = 0;
        for (i, backend) in self.backends.iter().enumerate() {
            assert_eq!(self.place(backend.spec.id), Some(i));
            assert_eq!(backend.open, self.should_be_open(backend));
            if let Some(until) = backend.backed_off_until {
                back_offs += 1;
                assert!(self.back_offs.contains(&(until, i as u32)));
            }
        }
        assert_eq!(back_offs, self.back_offs.len());
        self.check_ejections();
        assert_eq!(self.standings, Standings::of(&self.backends));
        self.scheduler.check_invariants(|i| {
            let backend = &self.backends[i];
            (backend.open, backend.in_flight)
        });
        assert!(self.leaving.values().all(|b| b.in_flight > 0));
        let all = self.backends.iter().chain(self.leaving.values());
        all.map(|b| b.in_flight).sum()
    }
}

fn index(spec: &UpstreamSpec) -> BTreeMap<BackendId, u32> {
    spec.backends.iter().map(|b| b.id).zip(0..).collect()
}

fn entries(spec: &UpstreamSpec) -> Vec<Entry> {
    let entry = |b: &super::BackendSpec| Entry {
        weight: b.weight,
        capacity: b.max_in_flight.unwrap_or(b.weight),
        key: b.key,
    };
    spec.backends.iter().map(entry).collect()
}
