//! A world of HTTP: the proxy's replicas between one host of clients and a few of backends, with a Redis beside them where the
//! config has one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::env::{Clock, Env};
use weirkeeper::time::Tick;

use super::hosts::{DRAIN, PROBES, host_proxies, reach, replace_in_time};
use crate::env::{Fabric, SimEnv};
use crate::ledger::{End, Ledger, PROBE};
use crate::model::backend::Backend;
use crate::model::client::Group;
use crate::model::content::Site;
use crate::model::faults::{Held, PROXIES, Striking, zone_name};
use crate::model::origin::Origin;
use crate::model::redis::{self, REDIS, Redis};
use crate::model::unruly::Crowd;
use crate::model::visitor::Visitors;
use crate::plan::{BackendPlan, Plan, recovery};
use crate::run::{Run, Subject};
use crate::scenario::ClientModel;
use crate::shares::shares;

/// Runs `plan` with `subject` in its middle.
pub(super) fn run(plan: &Plan, subject: impl Subject) -> Run {
    let limit = plan.healed() + DRAIN + Duration::from_secs(60);
    let mut sim = crate::turmoil_builder(plan.seed, plan.jitter, limit).build();
    let zones = plan.backends.iter().map(|b| b.zone + 1).max().unwrap_or(0);
    let ips: Vec<IpAddr> = (0..zones).map(|z| sim.lookup(zone_name(z))).collect();
    let proxies = PROXIES[..plan.replicas].iter();
    let proxies: Vec<IpAddr> = proxies.map(|name| sim.lookup(*name)).collect();
    let place = |b: &BackendPlan| SocketAddr::new(ips[b.zone], b.port);
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
        let make = |(i, b): (usize, &BackendPlan)| {
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

/// Does nothing go wrong behind the proxy?
fn is_calm(plan: &Plan) -> bool {
    let breaks = plan.site.as_ref().is_some_and(|s| s.break_rate > 0.0);
    let well = |b: &BackendPlan| {
        let rates = [b.model.malformed_rate, b.model.close_rate, b.habits.leaves];
        rates.iter().all(|rate| *rate == 0.0)
    };
    plan.faults.is_empty() && !breaks && plan.backends.iter().all(well)
}

/// May a request wait in a queue?
fn may_wait(plan: &Plan) -> bool {
    plan.config.upstreams.iter().any(|upstream| {
        let mut backends = upstream.spec.backends.iter();
        upstream.spec.max_in_flight.is_some() || backends.any(|b| b.max_in_flight.is_some())
    })
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
            let scene = (pages, is_calm(&self.plan), may_wait(&self.plan));
            Crowd::new(unruly.clone(), scene, self.proxies.clone(), env, ledger).start(healed);
        }
        replace_in_time(&self.plan, &self.env, &self.subject, &self.ledger).await;
        self.backends.iter().for_each(|b| b.heal());
        if let Err(what) = self.end(healed).await {
            self.ledger.book().violation("liveness", what);
        }
        Ok(())
    }

    /// What is under way ends, what is new is served, and the proxy stops with nothing left to cut; or it is asked to stop first,
    /// and ends what is under way.
    async fn end(&self, healed: Tick) -> Result<(), String> {
        if self.plan.stops_early {
            // The last requests have arrived.
            self.rest(60).await;
            if self.ledger.book().open > 0 {
                self.ledger.book().reach("the proxy stopped under load");
            }
            self.subject.stop();
            let asked = self.env.clock().now();
            self.drain(healed + DRAIN).await?;
            if is_calm(&self.plan) {
                self.ended_in_order(asked)?;
            }
            return self.stop().await;
        }
        self.drain(healed + DRAIN).await?;
        self.probe().await?;
        // What was under way when the last fault ended may have failed until now.
        let clock = self.env.clock();
        clock.sleep_until(clock.now() + recovery(&self.plan)).await;
        self.stop().await
    }

    /// Nothing has broken off since the proxy was asked to stop.
    fn ended_in_order(&self, asked: Tick) -> Result<(), String> {
        let book = self.ledger.book();
        let mut ends = book.requests.iter().filter_map(|r| r.end);
        let broken = ends.find(|(at, end)| *at >= asked && *end == End::Broken);
        match broken {
            Some((at, _)) => Err(format!(
                "an answer broke off at {at}, after the proxy was asked at {asked} to finish what runs"
            )),
            None => Ok(()),
        }
    }

    /// What is under way ends, faults being over: for the clients, and for the proxy, which goes on with what it cannot know
    /// that nobody waits for. Who has ended its side in order may still be there.
    async fn drain(&self, limit: Tick) -> Result<(), String> {
        loop {
            let open = self.ledger.book().open;
            let status = self.subject.status();
            let orphans = status.iter().any(|u| u.waiting > 0 || u.in_flight > 0);
            if open == 0 && !orphans {
                return Ok(());
            }
            if self.env.clock().now() >= limit {
                return Err(format!(
                    "{open} requests had no end {DRAIN:?} after healing, or the proxy goes on: {status:?}"
                ));
            }
            self.rest(5).await;
        }
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
