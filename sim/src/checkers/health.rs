//! Who fails its health checks gets no request while another backend is sound; who cannot be reached for long enough is found to
//! be down; and after every fault nobody is down any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weirkeeper::config::model::Upstream;
use weirkeeper::engine::trace::Event;
use weirkeeper::time::Tick;

use crate::plan::{Plan, recovery};
use crate::run::Run;
use crate::scenario::fault::FaultKind;

/// What the network and the clock may add.
const SLACK: Duration = Duration::from_millis(150);

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    for (u, upstream) in run.plan.config.upstreams.iter().enumerate() {
        if upstream.health.is_some() {
            found.extend(picked(run, u, upstream));
            found.extend(missed(run, u, upstream));
        }
    }
    if run.stopped.is_none() && !run.plan.stops_early {
        let all = run.status.iter().flat_map(|u| &u.backends);
        let down = all.filter(|b| b.down);
        found.extend(down.map(|b| format!("{} is down, long after every fault", b.name)));
    }
    found.truncate(5);
    found
}

/// Picks of who was down while another one was sound. A request that has failed elsewhere may have no other.
fn picked(run: &Run, u: usize, upstream: &Upstream) -> Vec<String> {
    if upstream.retry.attempts > 0 {
        return Vec::new();
    }
    let removed = run.plan.removed.filter(|(upstream, _, _)| *upstream == u);
    let is_there =
        |id, now| removed.is_none_or(|(_, gone, at)| id != gone || now < Tick::ZERO + at);
    let mut down = BTreeSet::new();
    let mut backed_off = BTreeMap::new();
    let mut ejected = BTreeSet::new();
    let mut found = Vec::new();
    for (_, at, event) in run.book.engine.iter().filter(|(i, _, _)| *i == u) {
        match event {
            Event::Down(id) => {
                down.insert(*id);
            }
            Event::Up(id) => {
                down.remove(id);
            }
            Event::BackedOff(id, until) => {
                backed_off.insert(*id, *until);
            }
            Event::Ejected(id, ..) => {
                ejected.insert(*id);
            }
            Event::Returned(id) => {
                ejected.remove(id);
            }
            Event::Picked { backend, .. } if down.contains(backend) => {
                let mut others = upstream
                    .spec
                    .backends
                    .iter()
                    .filter(|b| is_there(b.id, *at));
                let is_sound = |id| {
                    let is_over = backed_off.get(&id).is_none_or(|until| until < at);
                    !down.contains(&id) && !ejected.contains(&id) && is_over
                };
                if others.any(|b| is_sound(b.id)) {
                    found.push(format!(
                        "backend {} was picked at {at} while it was down",
                        backend.0
                    ));
                }
            }
            _ => {}
        }
    }
    found
}

/// Backends that refused connections for so long that their checks must have found it, and did not.
fn missed(run: &Run, u: usize, upstream: &Upstream) -> Vec<String> {
    let (plan, Some(check)) = (&run.plan, &upstream.health) else {
        return Vec::new();
    };
    let spec = &check.spec;
    let each = spec.fast_interval.mul_f64(1.1) + check.timeout;
    let bound = spec.interval.mul_f64(1.1) + check.timeout + each * spec.unhealthy + SLACK;
    // Where what runs goes on, it may hold all places, and checks are skipped.
    let is_bounded = |name: &str| {
        let place = upstream.backends.iter().position(|b| b.name == name);
        place.is_none_or(|i| upstream.spec.backends[i].max_in_flight.is_some())
    };
    let faults = plan.faults.iter().filter(|f| {
        let refuses = match f.kind {
            FaultKind::Crash => true,
            FaultKind::Restart | FaultKind::Refuse => !is_bounded(&f.backend),
            _ => false,
        };
        refuses && f.lasts.0 > bound
    });
    let mut found = Vec::new();
    for fault in faults {
        let Some(id) = upstream.id_of(&fault.backend) else {
            continue;
        };
        let due = Tick::ZERO + plan.warmup + fault.at.0 + bound;
        if is_bounded(&fault.backend) && stalls(plan, fault.at.0 + bound) {
            continue;
        }
        // Another generation begins its checks anew, and one that lacks the backend makes none.
        if disturbed(plan, u, due, bound) {
            continue;
        }
        let events = run
            .book
            .engine
            .iter()
            .filter(|(i, at, _)| *i == u && *at <= due);
        let mut known = events.filter_map(|(_, _, event)| match event {
            Event::Down(d) if *d == id => Some(true),
            Event::Up(d) if *d == id => Some(false),
            _ => None,
        });
        if !known.next_back().unwrap_or(!spec.is_up_at_first) {
            let name = &fault.backend;
            found.push(format!(
                "{name} refused from {:?} on, and was not down at {due}",
                fault.at.0
            ));
        }
    }
    found
}

/// Has anything been silent by `until`, so that requests may hold places for as long as they are patient?
fn stalls(plan: &Plan, until: Duration) -> bool {
    let silent = |kind| {
        matches!(
            kind,
            FaultKind::Hang | FaultKind::Blackhole | FaultKind::Slow
        )
    };
    plan.faults.iter().any(|f| silent(f.kind) && f.at.0 < until)
}

fn disturbed(plan: &Plan, u: usize, due: Tick, bound: Duration) -> bool {
    let replaced = |g: &crate::plan::Generation| {
        let at = Tick::ZERO + g.at;
        at <= due && at + bound >= due
    };
    let lacks = plan
        .removed
        .is_some_and(|(upstream, _, at)| upstream == u && Tick::ZERO + at <= due);
    // A world that ends before sees nothing of it.
    let ends = due + recovery(plan) > Tick::ZERO + plan.healed();
    lacks || ends || plan.generations.iter().any(replaced)
}
