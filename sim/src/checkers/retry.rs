//! A request whose method is not idempotent is executed at most once (RFC 9110 section 9.2.2). One that is idempotent and whose
//! body is at hand is not lost because a kept connection turns out to be closed: where backends do nothing worse than to close
//! connections that idle, it is answered. Nor is it answered by a status that
//! another backend is to be tried for, while there is one.

use std::collections::{BTreeMap, BTreeSet};

use weirkeeper::engine::retry::Repeats;
use weirkeeper::engine::trace::Event;

use crate::ledger::End;
use crate::run::Run;
use crate::scenario::FaultKind;

/// Bytes that a proxy holds of a body, to send it again.
const HELD: u64 = 64 << 10;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for execution in run.book.executions.iter().filter(|e| e.worked.is_some()) {
        *times.entry(execution.request).or_default() += 1;
    }
    let request = |id: u64| {
        usize::try_from(id)
            .ok()
            .and_then(|i| run.book.requests.get(i))
    };
    let twice = times.into_iter().filter(|(_, n)| *n > 1);
    let found = twice.filter_map(|(id, n)| match request(id) {
        Some(request) if request.idempotent || bears_all(run) => None,
        Some(_) => Some(format!(
            "request {id} is not idempotent and was executed {n} times"
        )),
        None => Some(format!("request {id} was executed and never offered")),
    });
    found.chain(lost(run)).chain(poor(run)).take(5).collect()
}

/// Is every request known to be borne twice?
fn bears_all(run: &Run) -> bool {
    let mut upstreams = run.plan.config.upstreams.iter();
    upstreams.all(|u| u.retry.repeats == Repeats::All)
}

/// Requests that were answered by a status that another backend is to be tried for, though one was left, in a world where
/// nothing else keeps a backend from being tried.
fn poor(run: &Run) -> Vec<String> {
    let plan = &run.plan;
    let [upstream] = plan.config.upstreams.as_slice() else {
        return Vec::new();
    };
    let only_fails = plan.faults.iter().all(|f| f.kind == FaultKind::Fail);
    let calm = plan
        .backends
        .iter()
        .all(|b| b.model.malformed_rate == 0.0 && b.habits.leaves == 0.0 && b.manner.is_none());
    let plain = plan.site.is_none() && plan.traffic.is_none() && plan.generations.is_empty();
    let shed = |(_, _, event): &(usize, _, Event)| matches!(event, Event::Shed(..));
    let is_ample = upstream.retry.budget_ratio >= 1.0;
    if !(only_fails && calm && plain && is_ample) || run.book.engine.iter().any(shed) {
        return Vec::new();
    }
    let most = usize::from(upstream.retry.attempts) + 1;
    let most = most.min(upstream.backends.len());
    let statuses = &upstream.retry.on.statuses;
    let mut tried: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for execution in &run.book.executions {
        let backends = tried.entry(execution.request).or_default();
        backends.insert(execution.backend);
    }
    let requests = (0_u64..).zip(&run.book.requests);
    let found = requests.filter_map(|(id, request)| {
        let (model, _) = plan.clients.get(request.group)?;
        let kind = model.requests.get(request.kind)?;
        let held = request.idempotent && u64::from(kind.body_bytes) <= HELD;
        let Some((at, End::Answered { status })) = request.end else {
            return None;
        };
        let tried = tried.get(&id).map_or(0, BTreeSet::len);
        (held && statuses.contains(status) && tried < most).then(|| {
            format!("request {id} was answered {status} at {at} by {tried} backends, and {most} may be tried")
        })
    });
    found.collect()
}

/// Idempotent requests without an answer, in a world where nothing keeps a backend from answering.
fn lost(run: &Run) -> Vec<String> {
    let plan = &run.plan;
    let calm = plan.backends.iter().all(|b| {
        let leaves = b.habits.leaves > 0.0 || b.manner.is_some();
        b.model.malformed_rate == 0.0 && !leaves
    });
    let plain = plan.site.is_none() && plan.traffic.is_none() && plan.faults.is_empty();
    if !(calm && plain) {
        return Vec::new();
    }
    let requests = (0_u64..).zip(&run.book.requests);
    let found = requests.filter_map(|(id, request)| {
        let (model, _) = plan.clients.get(request.group)?;
        let kind = model.requests.get(request.kind)?;
        let held = request.idempotent && u64::from(kind.body_bytes) <= HELD;
        let refused = matches!(request.end, Some((_, End::Refused { status: 502 })));
        (held && refused).then(|| {
            let (method, size) = (&kind.method, kind.body_bytes);
            format!(
                "request {id}, a {method} of {size} bytes, is idempotent and was not sent again"
            )
        })
    });
    found.collect()
}
