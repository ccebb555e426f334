//! Arbitrary sequences of calls against a model that is too simple to be wrong: its queue is a `Vec`, its rules are loops. The
//! model doesn't know the strategies; it checks that a pick was eligible, and everything else exactly: who waits, who is
//! granted or refused, in which order and why, and that no request is lost or answered twice.

mod ejection;
mod ops;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weirkeeper::engine::trace::Event;
use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{
    BackendId, BackendSpec, Exclude, Grant, Meta, Offer, Outcome, ShedReason, Slot, Standing,
    Strategy as Rule, UpstreamSpec, WaiterId,
};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use self::ejection::Judged;
use self::ops::{Op, op, upstream_spec};
use super::grants;

/// How often something rare happened over all cases.
type Seen = BTreeMap<&'static str, u64>;

#[derive(Clone, Debug)]
struct ModelBackend {
    spec: BackendSpec,
    in_flight: u32,
    until: Option<Tick>,
    is_down: bool,
    ejected: Option<Tick>,
    judged: Judged,
    streak: u32,
    failures: u32,
}

impl ModelBackend {
    fn standing(&self) -> Standing {
        match (self.is_down, self.ejected, self.until) {
            (true, _, _) => Standing::Down,
            (false, Some(_), _) => Standing::Ejected,
            (false, None, Some(_)) => Standing::BackedOff,
            (false, None, None) => Standing::Sound,
        }
    }

    fn is_full(&self) -> bool {
        let max = self.spec.max_in_flight;
        max.is_some_and(|max| self.in_flight >= max)
    }
}

#[derive(Clone, Debug)]
struct Waiting {
    arrived: Tick,
    id: WaiterId,
    expiry: Tick,
    reason: ShedReason,
    exclude: Exclude,
}

#[derive(Debug, Default)]
struct Tally {
    offered: usize,
    finished: usize,
    shed: usize,
    cancelled: usize,
}

struct Model {
    spec: UpstreamSpec,
    backends: Vec<ModelBackend>,
    leaving: Vec<ModelBackend>,
    waiting: Vec<Waiting>,
    /// With the failure steps of the backend that were known at the grant.
    running: Vec<(Slot, u32)>,
    tally: Tally,
    seen: Seen,
    /// What the engine has decided and the model has not yet accounted for.
    grants: VecDeque<Grant>,
    frees: VecDeque<u32>,
}

impl Model {
    fn new(spec: UpstreamSpec) -> Self {
        let backends = spec.backends.iter().map(fresh).collect();
        Model {
            spec,
            backends,
            leaving: Vec::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            tally: Tally::default(),
            seen: Seen::new(),
            grants: VecDeque::new(),
            frees: VecDeque::new(),
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn usable(&self, exclude: &Exclude) -> Vec<&ModelBackend> {
        let usable = |b: &&ModelBackend| !exclude.contains(b.spec.id);
        self.backends.iter().filter(usable).collect()
    }

    fn eligible(&self, exclude: &Exclude) -> Vec<BackendId> {
        let usable = self.usable(exclude);
        let best = usable.iter().map(|b| b.standing()).min();
        usable
            .into_iter()
            .filter(|b| !b.is_full() && Some(b.standing()) == best)
            .map(|b| b.spec.id)
            .collect()
    }

    fn has_room(&self) -> bool {
        let max = self.spec.max_in_flight;
        max.is_none_or(|max| self.running.len() < max as usize)
    }

    /// The engine granted this slot to a request that excludes those.
    fn take(&mut self, slot: Slot, exclude: &Exclude) {
        let eligible = self.eligible(exclude);
        assert!(self.has_room() && eligible.contains(&slot.backend));
        assert_eq!(self.frees.pop_front(), Some(eligible.len() as u32));
        let id = slot.backend;
        self.bounded(id, &eligible);
        let backend = self.backends.iter_mut().find(|b| b.spec.id == id);
        let backend = backend.expect("an eligible backend is configured");
        backend.in_flight += 1;
        let (known, standing) = (backend.failures, backend.standing());
        self.running.push((slot, known));
        match standing {
            Standing::Sound => {}
            Standing::BackedOff => self.saw("fail open"),
            Standing::Ejected => self.saw("fail open to who is ejected"),
            Standing::Down => self.saw("fail open to who is down"),
        }
    }

    /// Under hashing, the picked one runs no more than its bound: its part, rounded up, of what all the eligible then run.
    fn bounded(&mut self, picked: BackendId, eligible: &[BackendId]) {
        let Rule::Hash {
            load_percent: Some(percent),
        } = self.spec.strategy
        else {
            return;
        };
        // What a backend that has come back leaves to others is theirs beside their bound.
        if self.spec.outlier.is_some_and(|o| !o.slow_start.is_zero()) {
            return;
        }
        let among = self.backends.iter();
        let among: Vec<_> = among.filter(|b| eligible.contains(&b.spec.id)).collect();
        let running: u32 = among.iter().map(|b| b.in_flight).sum();
        let weight: u32 = among.iter().map(|b| b.spec.weight).sum();
        let bound =
            |b: &ModelBackend| ((running + 1) * b.spec.weight * percent).div_ceil(100 * weight);
        let full = among.iter().filter(|b| b.in_flight >= bound(b)).count();
        let b = among.iter().find(|b| b.spec.id == picked);
        let b = b.expect("it is eligible");
        assert!(b.in_flight < bound(b), "{b:?} among {among:?}");
        if full > 0 {
            self.saw("a backend at its bound");
        }
    }

    fn next_grant(&mut self, waiter: WaiterId) -> Result<Slot, ShedReason> {
        let grant = self.grants.pop_front().expect("a decision is due");
        assert_eq!(grant.waiter, waiter);
        grant.verdict
    }

    fn expect_shed(&mut self, waiter: WaiterId, reason: ShedReason) {
        assert_eq!(self.next_grant(waiter), Err(reason));
        self.tally.shed += 1;
        self.saw(reason.name());
    }

    fn advance(&mut self, now: Tick) {
        let mut due: Vec<Waiting> = self.waiting.extract_if(.., |w| w.expiry <= now).collect();
        due.sort_by_key(|w| (w.expiry, w.id));
        for w in due {
            self.expect_shed(w.id, w.reason);
        }
        for b in &mut self.backends {
            b.until = b.until.filter(|until| *until > now);
            b.end_ejection(now);
        }
        self.waiting.sort_by_key(|w| (w.arrived, w.id));
        let mut overtaken = false;
        let mut i = 0;
        while i < self.waiting.len() {
            if self.has_room() && !self.eligible(&self.waiting[i].exclude).is_empty() {
                let w = self.waiting.remove(i);
                let slot = self.next_grant(w.id).expect("a backend is eligible for it");
                self.take(slot, &w.exclude);
                if overtaken {
                    self.saw("an excluding waiter does not block");
                }
                (i, overtaken) = (0, false);
            } else {
                overtaken = true;
                i += 1;
            }
        }
    }

    fn offered(&mut self, now: Tick, meta: &Meta, offer: Offer) {
        self.tally.offered += 1;
        self.advance(now);
        let timeout = meta.arrived + self.spec.queue.timeout;
        let (expiry, reason) = match meta.deadline {
            Some(deadline) if deadline < timeout => (deadline, ShedReason::Deadline),
            _ => (timeout, ShedReason::QueueTimeout),
        };
        let expected = if self.usable(&meta.exclude).is_empty() {
            Err(ShedReason::NoBackend)
        } else if meta.deadline.is_some_and(|deadline| deadline <= now) {
            Err(ShedReason::Deadline)
        } else if self.has_room() && !self.eligible(&meta.exclude).is_empty() {
            Ok(true)
        } else if expiry <= now {
            Err(reason)
        } else if self.waiting.len() >= self.spec.queue.capacity {
            Err(ShedReason::QueueFull)
        } else {
            Ok(false)
        };
        match (offer, expected) {
            (Offer::Admit(slot), Ok(true)) => self.take(slot, &meta.exclude),
            (Offer::Wait(id), Ok(false)) => self.waiting.push(Waiting {
                arrived: meta.arrived,
                id,
                expiry,
                reason,
                exclude: meta.exclude.clone(),
            }),
            (Offer::Shed(got), Err(want)) => {
                assert_eq!(got, want);
                self.tally.shed += 1;
                self.saw(want.name());
            }
            (got, want) => panic!("{got:?} where {want:?} is right"),
        }
    }

    fn finished(&mut self, now: Tick, slot: (BackendId, Tick), known: u32, outcome: Outcome) {
        let (id, granted) = slot;
        self.tally.finished += 1;
        if let Some(b) = self.leaving.iter_mut().find(|b| b.spec.id == id) {
            b.in_flight -= 1;
            self.leaving.retain(|b| b.in_flight > 0);
            self.saw("finished on a removed backend");
            return self.advance(now);
        }
        let spec = self.spec.back_off;
        let b = self.backends.iter_mut().find(|b| b.spec.id == id);
        let b = b.expect("it runs on a backend that is there, or leaving");
        b.in_flight -= 1;
        let mut stale = false;
        match outcome {
            Outcome::Success | Outcome::Failed | Outcome::Refused | Outcome::Died
                if known != b.failures =>
            {
                stale = true;
            }
            Outcome::Success | Outcome::Failed => (b.streak, b.until) = (0, None),
            Outcome::Refused | Outcome::Died => {
                let length = (spec.base * 2_u32.pow(b.streak.min(20))).min(spec.max);
                b.streak += 1;
                b.failures += 1;
                if !length.is_zero() {
                    b.until = Some(now + length);
                }
            }
            _ => {}
        }
        if stale {
            self.saw("an outcome from before the failure");
        }
        self.judge(now, id, granted, outcome);
        self.advance(now);
    }

    fn find(&mut self, id: BackendId) -> Option<&mut ModelBackend> {
        self.backends.iter_mut().find(|b| b.spec.id == id)
    }

    fn applied(&mut self, now: Tick, spec: UpstreamSpec) {
        let mut known: Vec<ModelBackend> = self.backends.drain(..).collect();
        known.append(&mut self.leaving);
        for s in &spec.backends {
            let kept = known.iter().position(|b| b.spec.id == s.id);
            let mut b = kept.map_or_else(|| fresh(s), |i| known.remove(i));
            b.spec = *s;
            if spec.outlier.is_none() {
                b.ejected = None;
            }
            self.backends.push(b);
        }
        self.leaving = known.into_iter().filter(|b| b.in_flight > 0).collect();
        self.spec = spec;
        self.waiting.sort_by_key(|w| (w.arrived, w.id));
        for w in std::mem::take(&mut self.waiting) {
            if self.usable(&w.exclude).is_empty() {
                self.expect_shed(w.id, ShedReason::NoBackend);
                self.saw("a reload left a waiter nothing");
            } else {
                self.waiting.push(w);
            }
        }
        self.advance(now);
    }

    fn agrees(&self, upstream: &Upstream) {
        assert!(self.grants.is_empty(), "unexplained: {:?}", self.grants);
        assert!(self.frees.is_empty());
        upstream.check_invariants();
        let status = upstream.status();
        assert_eq!(status.waiting, self.waiting.len());
        assert_eq!(status.in_flight as usize, self.running.len());
        assert_eq!(status.backends.len(), self.backends.len());
        for (is, should) in status.backends.iter().zip(&self.backends) {
            assert_eq!(is.id, should.spec.id);
            assert_eq!(is.in_flight, should.in_flight);
            assert_eq!(is.backed_off_until, should.until);
            assert_eq!(is.ejected_until, should.ejected);
            assert_eq!(is.standing, should.standing());
        }
        let expiries = self.waiting.iter().map(|w| w.expiry);
        let due = expiries.chain(self.backends.iter().filter_map(|b| b.until));
        let due = due.chain(self.backends.iter().filter_map(|b| b.ejected));
        assert_eq!(upstream.next_deadline(), due.min());
        let t = &self.tally;
        let known = t.finished + t.shed + t.cancelled + status.waiting + self.running.len();
        assert_eq!(t.offered, known, "a request was lost or answered twice");
    }
}

fn fresh(spec: &BackendSpec) -> ModelBackend {
    ModelBackend {
        spec: *spec,
        in_flight: 0,
        until: None,
        is_down: false,
        ejected: None,
        judged: Judged::default(),
        streak: 0,
        failures: 0,
    }
}

fn meta(now: Tick, exclude: u8, age: u64, deadline: Option<u64>) -> Meta {
    let age = Duration::from_millis(age).as_nanos() as u64;
    let mut meta = Meta::first(Tick::from_nanos(now.as_nanos().saturating_sub(age)));
    meta.deadline = deadline.map(|ms| now + Duration::from_millis(ms));
    for id in (0..5).filter(|id| exclude >> id & 1 == 1) {
        meta.exclude.insert(BackendId(id));
    }
    meta
}

fn run(spec: UpstreamSpec, ops: Vec<Op>) -> Seen {
    let mut now = Tick::from_millis(1000);
    let mut upstream = Upstream::new(now, spec.clone(), Rng::new(3));
    let mut model = Model::new(spec);
    for op in ops {
        let mut trace: Vec<(Tick, Event)> = Vec::new();
        let explain = |model: &mut Model, upstream: &mut Upstream, trace: &[(Tick, Event)]| {
            model.grants = grants(upstream).into();
            let free = |(_, event): &(Tick, Event)| match event {
                Event::Picked { free, .. } => Some(*free),
                _ => None,
            };
            model.frees = trace.iter().filter_map(free).collect();
        };
        match op {
            Op::Offer(exclude, age, deadline, client) => {
                let mut meta = meta(now, exclude, age, deadline);
                meta.client = client;
                let offer = upstream.offer(now, &meta, &mut trace);
                explain(&mut model, &mut upstream, &trace);
                model.offered(now, &meta, offer);
            }
            Op::Cancel(i) if !model.waiting.is_empty() => {
                let waiter = model.waiting.remove(i % model.waiting.len()).id;
                assert!(upstream.cancel(now, waiter, &mut trace));
                assert!(!upstream.cancel(now, waiter, &mut trace), "only once");
                model.tally.cancelled += 1;
            }
            Op::Finish(i, outcome) if !model.running.is_empty() => {
                let (slot, known) = model.running.remove(i % model.running.len());
                let of = (slot.backend, slot.granted);
                upstream.finish(now, slot, outcome, &mut trace);
                explain(&mut model, &mut upstream, &trace);
                model.finished(now, of, known, outcome);
            }
            Op::Cancel(_) | Op::Finish(..) => {}
            Op::Wait(ms) => now = now + Duration::from_millis(ms),
            Op::Poll => {
                upstream.poll(now, &mut trace);
                explain(&mut model, &mut upstream, &trace);
                model.advance(now);
            }
            Op::MayCheck(id) => {
                let may = upstream.may_check(BackendId(id));
                let found = model.find(BackendId(id));
                assert_eq!(may, found.is_some_and(|b| !b.is_full()));
                if !may {
                    model.saw("no place for a check");
                }
            }
            Op::SetDown(id, is_down) => {
                let id = BackendId(id);
                let is_new = upstream.set_down(now, id, is_down, &mut trace);
                explain(&mut model, &mut upstream, &trace);
                let changes = model.find(id).filter(|b| b.is_down != is_down);
                assert_eq!(changes.is_some(), is_new);
                if let Some(b) = changes {
                    b.is_down = is_down;
                }
                model.advance(now);
            }
            Op::Apply(spec) => {
                upstream.apply(now, spec.clone(), &mut trace);
                explain(&mut model, &mut upstream, &trace);
                model.applied(now, spec);
            }
        }
        model.agrees(&upstream);
    }
    model.seen
}

#[test]
fn any_sequence_of_calls_does_what_the_model_says() {
    let seen = RefCell::new(Seen::new());
    let config = ProptestConfig {
        cases: 3000,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&(upstream_spec(), vec(op(), 1..120)), |(spec, ops)| {
            for (what, count) in run(spec, ops) {
                *seen.borrow_mut().entry(what).or_default() += count;
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.into_inner();
    println!("rare states: {seen:?}");
    let rare = [
        "fail open",
        "an excluding waiter does not block",
        "finished on a removed backend",
        "an outcome from before the failure",
        "a reload left a waiter nothing",
        "a backend at its bound",
        "fail open to who is down",
        "fail open to who is ejected",
        "ejected for failures in a row",
        "ejected for its share of failures",
        "ejected again for twice as long",
        "spared for the others that are out",
        "spared since the others fail as well",
        "no place for a check",
    ];
    let reasons = ShedReason::ALL.map(ShedReason::name);
    for what in rare.into_iter().chain(reasons) {
        assert!(seen.contains_key(what), "never happened: {what}");
    }
}
