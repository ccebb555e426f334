//! What worlds of every kind have in common: the hosts of the replicas, how long phases last, and what only the whole book shows.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use weirkeeper::engine::BackendSpec;
use weirkeeper::engine::trace::Event;
use weirkeeper::env::{Clock, Env};
use weirkeeper::time::Tick;

use crate::env::{Fabric, SimEnv};
use crate::ledger::{Book, End, Ledger};
use crate::model::faults::PROXIES;
use crate::plan::Plan;
use crate::run::Subject;
use crate::scenario::fault::{Fault, FaultKind};
use crate::sometimes;

/// How long what is under way may take to end once the load is over. Simulated, so that waiting costs little.
pub(super) const DRAIN: Duration = Duration::from_secs(120);

/// Rounds of probes after healing.
pub(super) const PROBES: u64 = 6;

/// The hosts of the replicas.
pub(super) fn host_proxies(
    sim: &mut turmoil::Sim<'_>,
    plan: &Plan,
    fabric: &Arc<Fabric>,
    ledger: &Ledger,
    subject: &Rc<impl Subject>,
) {
    for (replica, name) in PROXIES[..plan.replicas].iter().enumerate() {
        let env = SimEnv::new(fabric, name);
        let (served, book) = (plan.clone(), ledger.clone());
        let subject = Rc::clone(subject);
        sim.host(*name, move || {
            let (subject, env) = (Rc::clone(&subject), env.clone());
            let (plan, book) = (served.clone(), book.clone());
            async move {
                let steps = plan.faults.iter();
                let steps = steps.filter(|f| replica == 0 && f.kind == FaultKind::ClockStep);
                for fault in steps {
                    let span = (plan.warmup, plan.healed());
                    let work = step(env.clone(), book.clone(), fault.clone(), span);
                    env.spawn("fault", work);
                }
                subject.serve(env, &plan, book).await.map_err(Into::into)
            }
        });
    }
}

/// Sets a proxy's date ahead or back, and right again when the fault is over.
async fn step(env: SimEnv, ledger: Ledger, fault: Fault, (origin, healed): (Duration, Duration)) {
    let clock = env.clock();
    let at = Tick::ZERO + origin + fault.at.0;
    let healed = Tick::ZERO + healed;
    if at >= healed {
        return;
    }
    let (name, millis) = (fault.kind.name(), (fault.factor * 1e3) as i64);
    clock.sleep_until(at).await;
    ledger.book().fault(clock.now(), name, 0, true);
    clock.step(millis);
    clock.sleep_until((at + fault.lasts.0).min(healed)).await;
    clock.step(-millis);
    ledger.book().fault(clock.now(), name, 0, false);
}

/// Notes the rare states that only the whole book shows.
pub(super) fn reach(book: &mut Book, plan: &Plan) {
    let mut attempts: BTreeMap<u64, u32> = BTreeMap::new();
    for execution in &book.executions {
        *attempts.entry(execution.request).or_default() += 1;
    }
    let mut notes = Vec::new();
    for (id, request) in (0_u64..).zip(&book.requests) {
        let attempts = attempts.get(&id).copied().unwrap_or(0);
        let answered = match request.end {
            Some((_, End::Answered { status })) if attempts > 1 => status,
            _ => 0,
        };
        let mut policies = plan.config.upstreams.iter().map(|u| &u.retry);
        if policies.any(|retry| retry.is_poor(answered)) {
            notes.push("answered poorly by one backend after another");
        }
        match request.end {
            Some((_, End::Answered { status: 200 })) if attempts > 1 => {
                notes.push("retried and answered");
                let kind = plan.clients.get(request.group);
                let kind = kind.and_then(|(model, _)| model.requests.get(request.kind));
                let with_body = kind.is_some_and(|kind| kind.body_bytes > 0);
                if with_body && request.idempotent && plan.site.is_none() {
                    notes.push("idempotent, and sent again with its body");
                }
            }
            Some((_, End::Refused { status: 502 })) if attempts == 1 && !request.idempotent => {
                notes.push("not idempotent, and not made up for");
            }
            _ => {}
        }
    }
    let mut over: BTreeMap<(usize, u32), Tick> = BTreeMap::new();
    for (upstream, at, event) in &book.engine {
        match event {
            Event::BackedOff(id, until) => {
                over.insert((*upstream, id.0), *until);
            }
            Event::Picked { .. } => {
                let spec = &plan.config.upstreams[*upstream].spec;
                let passed = |b: &BackendSpec| {
                    over.get(&(*upstream, b.id.0))
                        .is_some_and(|until| until > at)
                };
                if spec.backends.iter().all(passed) {
                    notes.push("fail open");
                }
            }
            _ => {}
        }
    }
    notes.extend(sometimes::of_caches(book));
    notes.into_iter().for_each(|note| book.reach(note));
}

/// Puts each further generation of the plan to work in its time, and ends when the load does.
pub(super) async fn replace_in_time(
    plan: &Plan,
    env: &SimEnv,
    subject: &Rc<impl Subject>,
    ledger: &Ledger,
) {
    for generation in &plan.generations {
        env.clock().sleep_until(Tick::ZERO + generation.at).await;
        if let Err(error) = subject.replace(&generation.config) {
            ledger.book().violation("generations", error.to_string());
        }
        ledger.book().reach("another generation came under load");
        if plan.removed.is_some_and(|(_, _, at)| at == generation.at) {
            ledger.book().reach("a backend was removed under load");
        }
    }
    env.clock().sleep_until(Tick::ZERO + plan.healed()).await;
}
