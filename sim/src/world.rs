//! A world built from a plan: the proxy's host between one host of clients and a few of backends, run to its end.
//!
//! Phases: load with faults (the beginning of it is the warm-up), everything heals, what is under way drains, and probes
//! ask whether all is well again. Absent: judgement, which the checkers pass on the [`Run`].

mod l4;

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
use crate::model::content::Site;
use crate::model::faults::{Held, PROXIES, Striking, zone_name};
use crate::model::origin::Origin;
use crate::model::redis::{self, REDIS, Redis};
use crate::model::unruly::Crowd;
use crate::model::visitor::Visitors;
use crate::plan::Plan;
use crate::scenario::ClientModel;
use crate::sometimes;

/// What is rehearsed: something that serves a config on a simulated host.
pub trait Subject: 'static {
    /// Serves until the world ends. An error fails the run.
    fn serve(&self, env: SimEnv, plan: &Plan, ledger: Ledger) -> Serving;

    /// What it says of its upstreams; empty if it has no such thing.
    fn status(&self) -> Vec<UpstreamStatus>;

    /// Asks it to finish what runs and stop.
    fn stop(&self);

    /// How many connections it cut when it stopped; `None` while it has not.
    fn stopped(&self) -> Option<usize>;
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
    match &plan.traffic {
        None => of_http(plan, subject),
        Some(traffic) => l4::run(plan, traffic, subject),
    }
}

fn of_http(plan: &Plan, subject: impl Subject) -> Run {
    let limit = plan.healed() + DRAIN + Duration::from_secs(60);
    let mut sim = crate::turmoil_builder(plan.seed, plan.jitter, limit).build();
    let zones = plan.backends.iter().map(|b| b.zone + 1).max().unwrap_or(0);
    let ips: Vec<IpAddr> = (0..zones).map(|z| sim.lookup(zone_name(z))).collect();
    let proxies = PROXIES[..plan.replicas].iter();
    let proxies: Vec<IpAddr> = proxies.map(|name| sim.lookup(*name)).collect();
    let place = |b: &crate::plan::BackendPlan| SocketAddr::new(ips[b.zone], b.port);
    let mut names: BTreeMap<_, _> = plan
        .backends
        .iter()
        .map(|b| (b.address.clone(), vec![place(b)]))
        .collect();
    if let Some(address) = &plan.redis {
        let place = SocketAddr::new(sim.lookup(REDIS), redis::PORT);
        names.insert(address.clone(), vec![place]);
    }
    let fabric = Fabric::new(plan.seed, plan.chop, names);
    let ledger = Ledger::default();
    let held: Held = Arc::new(Mutex::new(vec![0; zones]));
    let backends: Vec<Arc<Backend>> = {
        let envs: Vec<SimEnv> = (0..zones).map(|_| SimEnv::new(&fabric, "zone")).collect();
        let origin = plan.site.clone().map(Origin::new);
        let make = |(i, b): (usize, &crate::plan::BackendPlan)| {
            let env = envs[b.zone].clone();
            Backend::new(i, b.clone(), env, ledger.clone(), origin.clone())
        };
        plan.backends.iter().enumerate().map(make).collect()
    };
    for zone in 0..zones {
        let env = SimEnv::new(&fabric, "zone");
        let hosted = Zone {
            zone,
            plan: plan.clone(),
            backends: backends.clone(),
            ledger: ledger.clone(),
            held: Arc::clone(&held),
        };
        sim.host(zone_name(zone), move || hosted.clone().run(env.clone()));
    }
    if plan.redis.is_some() {
        host_redis(&mut sim, plan, &fabric, &ledger);
    }
    let subject = Rc::new(subject);
    let driver = Drive {
        plan: plan.clone(),
        env: SimEnv::new(&fabric, "clients"),
        ledger: ledger.clone(),
        proxies,
        backends: backends.clone(),
        subject: Rc::clone(&subject),
    };
    let status = Rc::clone(&subject);
    host_proxies(&mut sim, plan, &fabric, &ledger, &subject);
    sim.client("clients", driver.run());
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

/// The hosts of the replicas.
fn host_proxies(
    sim: &mut turmoil::Sim<'_>,
    plan: &Plan,
    fabric: &Arc<Fabric>,
    ledger: &Ledger,
    subject: &Rc<impl Subject>,
) {
    for name in &PROXIES[..plan.replicas] {
        let env = SimEnv::new(fabric, name);
        let (served, book) = (plan.clone(), ledger.clone());
        let subject = Rc::clone(subject);
        sim.host(*name, move || {
            let (subject, env) = (Rc::clone(&subject), env.clone());
            let (plan, book) = (served.clone(), book.clone());
            async move { subject.serve(env, &plan, book).await.map_err(Into::into) }
        });
    }
}

/// The host of a Redis, and the faults that strike it.
fn host_redis(sim: &mut turmoil::Sim<'_>, plan: &Plan, fabric: &Arc<Fabric>, ledger: &Ledger) {
    let env = SimEnv::new(fabric, REDIS);
    let redis = Redis::new(env.clone(), ledger.clone());
    let plan = plan.clone();
    sim.host(REDIS, move || {
        let (env, redis, plan) = (env.clone(), Arc::clone(&redis), plan.clone());
        async move {
            redis.open();
            for fault in plan.faults.iter().filter(|f| f.kind.is_redis()) {
                let struck = Arc::clone(&redis);
                let work = struck.strike(fault.clone(), plan.warmup, plan.healed());
                env.spawn("fault", work);
            }
            std::future::pending().await
        }
    });
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
    notes.extend(sometimes::of_caches(book));
    notes.into_iter().for_each(|note| book.reach(note));
}

/// A failure domain's host: its backends, and the faults that strike them.
#[derive(Clone)]
struct Zone {
    zone: usize,
    plan: Plan,
    backends: Vec<Arc<Backend>>,
    ledger: Ledger,
    held: Held,
}

impl Zone {
    async fn run(self, env: SimEnv) -> turmoil::Result {
        for (plan, backend) in self.plan.backends.iter().zip(&self.backends) {
            if plan.zone == self.zone {
                backend.open();
            }
        }
        for fault in &self.plan.faults {
            let Some(index) = self.plan.backend(&fault.backend) else {
                continue;
            };
            if self.plan.backends[index].zone != self.zone {
                continue;
            }
            let striking = Striking {
                backend: Arc::clone(&self.backends[index]),
                index,
                zone: self.zone,
                replicas: self.plan.replicas,
                fault: fault.clone(),
                origin: self.plan.warmup,
                healed: self.plan.healed(),
            };
            let work = striking.run(env.clone(), self.ledger.clone(), Arc::clone(&self.held));
            env.spawn("fault", work);
        }
        std::future::pending().await
    }
}

/// The clients' host, from the first request to the last.
struct Drive<S> {
    plan: Plan,
    env: SimEnv,
    ledger: Ledger,
    proxies: Vec<IpAddr>,
    backends: Vec<Arc<Backend>>,
    subject: Rc<S>,
}

impl<S: Subject> Drive<S> {
    async fn run(self) -> turmoil::Result {
        // Listening comes first.
        self.rest(2).await;
        let healed = Tick::ZERO + self.plan.healed();
        for (index, (model, port)) in self.plan.clients.iter().enumerate() {
            match &self.plan.site {
                None => self.group(index, index, model, *port).start(healed),
                Some(site) => self.visitors(site, index, model, *port).start(healed),
            }
        }
        if let Some(unruly) = &self.plan.unruly {
            let pages = self.plan.site.as_ref().map_or(0, |s| s.pages.len());
            let (env, ledger) = (self.env.clone(), self.ledger.clone());
            Crowd::new(unruly.clone(), pages, self.proxies.clone(), env, ledger).start(healed);
        }
        self.env.clock().sleep_until(healed).await;
        self.backends.iter().for_each(|b| b.heal());
        let ended = match self.drain(healed + DRAIN).await {
            Ok(()) => match self.probe().await {
                Ok(()) => self.stop().await,
                Err(what) => Err(what),
            },
            Err(what) => Err(what),
        };
        if let Err(what) = ended {
            self.ledger.book().violation("liveness", what);
        }
        Ok(())
    }

    /// What is under way ends, faults being over.
    async fn drain(&self, limit: Tick) -> Result<(), String> {
        while self.ledger.book().open > 0 {
            if self.env.clock().now() >= limit {
                let open = self.ledger.book().open;
                return Err(format!(
                    "{open} requests had no end {DRAIN:?} after healing"
                ));
            }
            self.rest(5).await;
        }
        Ok(())
    }

    /// New requests are answered as if nothing had been.
    async fn probe(&self) -> Result<(), String> {
        if self.plan.backends.iter().any(|b| b.manner.is_some()) {
            // Faults are long over, but a backend's manners were bad to the last, and it may be passed over for that.
            let upstreams = &self.plan.config.upstreams;
            let longest = upstreams.iter().map(|u| u.spec.back_off.max).max();
            let clock = self.env.clock();
            clock
                .sleep_until(clock.now() + longest.unwrap_or_default())
                .await;
        }
        let mut rng = self.env.rng("probes", 0);
        for (place, (model, port)) in self.plan.clients.iter().enumerate() {
            let probes = self.group(PROBE, place, model, *port);
            let site = self.plan.site.as_ref();
            let visitors = site.map(|site| self.visitors(site, PROBE, model, *port));
            for _ in 0..PROBES {
                let probing = async {
                    match &visitors {
                        None => probes.probe(&mut rng).await,
                        Some(visitors) => visitors.probe(&mut rng).await,
                    }
                };
                match self.env.clock().timeout(DRAIN, probing).await {
                    Some(Ok(())) => {}
                    Some(Err(what)) => return Err(format!("after healing, {what}")),
                    None => return Err("after healing, a probe had no end".to_string()),
                }
            }
        }
        // Whatever the proxy still does after an answer (a lease that ends, a connection that is put away) happens now.
        self.rest(20).await;
        Ok(())
    }

    /// The proxy stops, and nothing is cut, for nothing runs.
    async fn stop(&self) -> Result<(), String> {
        self.subject.stop();
        let limit = self.env.clock().now() + self.plan.config.shutdown_grace;
        loop {
            self.rest(5).await;
            match self.subject.stopped() {
                Some(0) => return Ok(()),
                Some(cut) => return Err(format!("stopping cut {cut} idle connections off")),
                None if self.env.clock().now() > limit => {
                    return Err("it did not stop within its grace".to_string());
                }
                None => {}
            }
        }
    }

    /// Group number `index`, or its probes, which speaks as the one at `place` does.
    fn group(&self, index: usize, place: usize, model: &ClientModel, port: u16) -> Arc<Group> {
        let target = SocketAddr::new(self.proxies[0], port);
        Group::new(
            index,
            model.clone(),
            target,
            self.plan.speech.get(place).copied().unwrap_or_default(),
            self.env.clone(),
            self.ledger.clone(),
        )
    }

    fn visitors(
        &self,
        site: &Arc<Site>,
        index: usize,
        model: &ClientModel,
        port: u16,
    ) -> Arc<Visitors> {
        let targets = self.proxies.iter().map(|ip| SocketAddr::new(*ip, port));
        Visitors::new(
            index,
            model.clone(),
            Arc::clone(site),
            targets.collect(),
            self.env.clone(),
            self.ledger.clone(),
        )
    }

    async fn rest(&self, millis: u64) {
        let clock = self.env.clock();
        clock
            .sleep_until(clock.now() + Duration::from_millis(millis))
            .await;
    }
}
