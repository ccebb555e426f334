//! A world built from a plan: the proxy's host between one host of clients and a few of backends, run to its end.
//!
//! Phases: load with faults (the beginning of it is the warm-up), everything heals, what is under way drains, and probes
//! ask whether all is well again. Absent: judgement, which the checkers pass on the [`Run`].

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::engine::BackendSpec;
use weirkeeper::engine::trace::Event;
use weirkeeper::env::{Clock, Env};
use weirkeeper::telemetry::UpstreamStatus;
use weirkeeper::time::Tick;

use crate::checkers::{Shares, shares};
use crate::env::{Fabric, Open, SimEnv};
use crate::ledger::{Book, End, Ledger, PROBE};
use crate::model::backend::Backend;
use crate::model::client::Group;
use crate::model::faults::{Held, PROXY, Striking, zone_name};
use crate::plan::Plan;
use crate::scenario::ClientModel;

/// What is rehearsed: something that serves a config on a simulated host.
pub trait Subject: 'static {
    /// Serves until the world ends. An error fails the run.
    fn serve(&self, env: SimEnv, plan: &Plan, ledger: Ledger) -> Serving;

    /// What it says of its upstreams; empty if it has no such thing.
    fn status(&self) -> Vec<UpstreamStatus>;
}

/// A subject at work.
pub type Serving = Pin<Box<dyn Future<Output = std::io::Result<()>>>>;

/// How long what is under way may take to end once the load is over. Simulated, so that waiting costs little.
const DRAIN: Duration = Duration::from_secs(120);

/// Rounds of probes after healing.
const PROBES: u64 = 6;

/// What a run leaves behind.
#[derive(Debug)]
pub struct Run {
    /// What was run.
    pub plan: Plan,
    /// What happened.
    pub book: Book,
    /// Connections to each backend, as they were dialled.
    pub open: Vec<Open>,
    /// The most requests that each backend had at once, orphans aside.
    pub peaks: Vec<u32>,
    /// Panics within tasks.
    pub panics: Vec<String>,
    /// What each upstream's backends earned and were given.
    pub shares: Vec<Shares>,
    /// What the subject said of its upstreams at the end.
    pub status: Vec<UpstreamStatus>,
    /// Why the world came to a stop before its end.
    pub stopped: Option<String>,
}

/// Runs `plan` with `subject` in its middle.
pub fn run(plan: &Plan, subject: impl Subject) -> Run {
    let limit = plan.healed() + DRAIN + Duration::from_secs(60);
    let mut sim = crate::turmoil_builder(plan.seed, plan.jitter, limit).build();
    let zones = plan.backends.iter().map(|b| b.zone + 1).max().unwrap_or(0);
    let ips: Vec<IpAddr> = (0..zones).map(|z| sim.lookup(zone_name(z))).collect();
    let proxy = sim.lookup(PROXY);
    let place = |b: &crate::plan::BackendPlan| SocketAddr::new(ips[b.zone], b.port);
    let names: BTreeMap<_, _> = plan
        .backends
        .iter()
        .map(|b| (b.address.clone(), vec![place(b)]))
        .collect();
    let fabric = Fabric::new(plan.seed, plan.chop, names);
    let ledger = Ledger::default();
    let held: Held = Arc::new(Mutex::new(vec![0; zones]));
    let backends: Vec<Arc<Backend>> = {
        let envs: Vec<SimEnv> = (0..zones).map(|_| SimEnv::new(&fabric, "zone")).collect();
        let make = |(i, b): (usize, &crate::plan::BackendPlan)| {
            Backend::new(i, b.clone(), envs[b.zone].clone(), ledger.clone())
        };
        plan.backends.iter().enumerate().map(make).collect()
    };
    for zone in 0..zones {
        let env = SimEnv::new(&fabric, "zone");
        let (plan, backends) = (plan.clone(), backends.clone());
        let (ledger, held) = (ledger.clone(), Arc::clone(&held));
        sim.host(zone_name(zone), move || {
            let (env, plan, backends) = (env.clone(), plan.clone(), backends.clone());
            let (ledger, held) = (ledger.clone(), Arc::clone(&held));
            async move {
                let here = plan
                    .backends
                    .iter()
                    .zip(&backends)
                    .filter(|(b, _)| b.zone == zone);
                here.for_each(|(_, backend)| backend.open());
                for striking in strikes(&plan, &backends, zone) {
                    let work = striking.run(env.clone(), ledger.clone(), Arc::clone(&held));
                    env.spawn("fault", work);
                }
                std::future::pending().await
            }
        });
    }
    let env = SimEnv::new(&fabric, PROXY);
    let (served, book) = (plan.clone(), ledger.clone());
    let subject = Rc::new(subject);
    let status = Rc::clone(&subject);
    sim.host(PROXY, move || {
        let (subject, env) = (Rc::clone(&subject), env.clone());
        let (plan, book) = (served.clone(), book.clone());
        async move { subject.serve(env, &plan, book).await.map_err(Into::into) }
    });
    let env = SimEnv::new(&fabric, "clients");
    sim.client(
        "clients",
        drive(plan.clone(), env, ledger.clone(), proxy, backends.clone()),
    );
    let stopped = sim.run().err().map(|error| error.to_string());
    ledger.close();
    // Before the world is dropped, and with it what still runs.
    let status = status.status();
    drop(sim);
    let mut book = ledger.take();
    reach(&mut book, plan);
    Run {
        plan: plan.clone(),
        open: plan
            .backends
            .iter()
            .map(|b| fabric.open_to(place(b)))
            .collect(),
        peaks: backends.iter().map(|b| b.peak()).collect(),
        panics: fabric.take_panics(),
        shares: (0..plan.config.upstreams.len())
            .map(|u| shares(plan, &book, u))
            .collect(),
        status,
        book,
        stopped,
    }
}

/// Notes the rare states that only the whole book shows.
fn reach(book: &mut Book, plan: &Plan) {
    let mut attempts: BTreeMap<u64, u32> = BTreeMap::new();
    for execution in &book.executions {
        *attempts.entry(execution.request).or_default() += 1;
    }
    let mut notes = Vec::new();
    for (id, request) in (0_u64..).zip(&book.requests) {
        let attempts = attempts.get(&id).copied().unwrap_or(0);
        match request.end {
            Some((_, End::Answered { status: 200 })) if attempts > 1 => {
                notes.push("retried and answered");
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
    notes.into_iter().for_each(|note| book.reach(note));
}

fn strikes(plan: &Plan, backends: &[Arc<Backend>], zone: usize) -> Vec<Striking> {
    let bound = plan.faults.iter().filter_map(|fault| {
        let index = plan.backend(&fault.backend)?;
        (plan.backends[index].zone == zone).then(|| Striking {
            backend: Arc::clone(&backends[index]),
            index,
            zone,
            fault: fault.clone(),
            origin: plan.warmup,
            healed: plan.healed(),
        })
    });
    bound.collect()
}

/// The clients' host from the first request to the last probe.
async fn drive(
    plan: Plan,
    env: SimEnv,
    ledger: Ledger,
    proxy: IpAddr,
    backends: Vec<Arc<Backend>>,
) -> turmoil::Result {
    let clock = env.clock();
    let group = |index, model: &ClientModel, port| {
        let target = SocketAddr::new(proxy, port);
        Group::new(index, model.clone(), target, env.clone(), ledger.clone())
    };
    // Listening comes first.
    clock.sleep_until(Tick::from_millis(2)).await;
    let healed = Tick::ZERO + plan.healed();
    for (index, (model, port)) in plan.clients.iter().enumerate() {
        group(index, model, *port).start(healed);
    }
    clock.sleep_until(healed).await;
    backends.iter().for_each(|b| b.heal());
    let limit = healed + DRAIN;
    while ledger.book().open > 0 {
        if clock.now() >= limit {
            let mut book = ledger.book();
            let open = book.open;
            book.violation(
                "liveness",
                format!("{open} requests had no end {DRAIN:?} after healing"),
            );
            return Ok(());
        }
        clock
            .sleep_until(clock.now() + Duration::from_millis(5))
            .await;
    }
    let mut rng = env.rng("probes", 0);
    for (model, port) in &plan.clients {
        let probes = group(PROBE, model, *port);
        for _ in 0..PROBES {
            let probing = probes.probe(&mut rng);
            let what = match clock.timeout(DRAIN, probing).await {
                Some(Ok(())) => continue,
                Some(Err(what)) => what,
                None => "a probe had no end".to_string(),
            };
            ledger
                .book()
                .violation("liveness", format!("after healing, {what}"));
            return Ok(());
        }
    }
    // Whatever the proxy still does after an answer (a lease that ends, a connection that is put away) happens now.
    clock
        .sleep_until(clock.now() + Duration::from_millis(20))
        .await;
    Ok(())
}
