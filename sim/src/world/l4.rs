//! A world of L4: the same hosts and the same phases, with callers and askers as clients, and backends that take whatever
//! bytes come.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::config::model::Protocol;
use weirkeeper::env::{Clock, Env};
use weirkeeper::time::Tick;

use super::hosts::{DRAIN, PROBES, host_proxies, reach, replace_in_time};
use crate::env::{Fabric, SimEnv};
use crate::ledger::Ledger;
use crate::model::faults::{Held, PROXIES, Striking, zone_name};
use crate::model::l4::Traffic;
use crate::model::l4::asker::Askers;
use crate::model::l4::caller::Callers;
use crate::model::l4::peer::Peer;
use crate::plan::{BackendPlan, Plan};
use crate::run::{Run, Subject};
use crate::shares::shares;
use crate::sometimes;

/// Runs `plan` with `subject` in its middle.
pub(super) fn run(plan: &Plan, traffic: &Arc<Traffic>, subject: impl Subject) -> Run {
    let limit = plan.healed() + 2 * DRAIN + Duration::from_secs(60);
    let mut sim = crate::turmoil_builder(plan.seed, plan.jitter, limit).build();
    let zones = plan.backends.iter().map(|b| b.zone + 1).max().unwrap_or(0);
    let ips: Vec<_> = (0..zones).map(|z| sim.lookup(zone_name(z))).collect();
    let proxy = sim.lookup(PROXIES[0]);
    let place = |b: &BackendPlan| SocketAddr::new(ips[b.zone], b.port);
    let names = plan.backends.iter();
    let names = names.map(|b| (b.address.clone(), vec![place(b)])).collect();
    let fabric = Fabric::new(plan.seed, plan.chop, names);
    let ledger = Ledger::default();
    let envs: Vec<SimEnv> = (0..zones).map(|_| SimEnv::new(&fabric, "zone")).collect();
    let make = |(i, b): (usize, &BackendPlan)| {
        let (upstream, member) = b.members[0];
        let upstream = &plan.config.upstreams[upstream];
        let protocol = upstream.backends[member].scheme.protocol();
        let own = (envs[b.zone].clone(), ledger.clone());
        let says = (protocol, upstream.proxy_protocol);
        Peer::new(i, (b.clone(), traffic.backends[i]), says, own, place(b))
    };
    let peers: Vec<Arc<Peer>> = plan.backends.iter().enumerate().map(make).collect();
    host_zones(&mut sim, plan, &envs, &peers, &ledger);
    let subject = Rc::new(subject);
    let driver = Drive {
        plan: plan.clone(),
        traffic: Arc::clone(traffic),
        env: SimEnv::new(&fabric, "clients"),
        ledger: ledger.clone(),
        proxy,
        peers: peers.clone(),
        subject: Rc::clone(&subject),
    };
    host_proxies(&mut sim, plan, &fabric, &ledger, &subject);
    sim.client("clients", driver.run());
    let stopped = sim.run().err().map(|error| error.to_string());
    ledger.close();
    // Before the world is dropped, and with it what still runs.
    let status = subject.status();
    drop(sim);
    let mut book = ledger.take();
    reach(&mut book, plan);
    let notes = sometimes::of_l4(&book, plan);
    notes.into_iter().for_each(|note| book.reach(note));
    let open: Vec<_> = peers.iter().map(|p| fabric.open_to(p.place())).collect();
    Run {
        plan: plan.clone(),
        peaks: open.iter().map(|o| o.peak).collect(),
        open,
        panics: fabric.take_panics(),
        shares: (0..plan.config.upstreams.len())
            .map(|u| shares(plan, &book, u))
            .collect(),
        status,
        book,
        stopped,
    }
}

/// The hosts of the failure domains, each with its backends and the faults that strike them.
fn host_zones(
    sim: &mut turmoil::Sim<'_>,
    plan: &Plan,
    envs: &[SimEnv],
    peers: &[Arc<Peer>],
    ledger: &Ledger,
) {
    let held: Held = Arc::new(Mutex::new(vec![0; envs.len()]));
    for (zone, env) in envs.iter().enumerate() {
        let (env, plan, peers) = (env.clone(), plan.clone(), peers.to_vec());
        let (ledger, held) = (ledger.clone(), Arc::clone(&held));
        sim.host(zone_name(zone), move || {
            let here = |i: &usize| plan.backends[*i].zone == zone;
            let (env, peers) = (env.clone(), peers.clone());
            let opened: Vec<usize> = (0..peers.len()).filter(here).collect();
            let faults = plan.faults.iter().filter_map(|fault| {
                let index = plan.backend(&fault.backend).filter(here)?;
                let striking = Striking {
                    backend: Arc::clone(&peers[index]),
                    index,
                    zone,
                    replicas: 1,
                    fault: fault.clone(),
                    origin: plan.warmup,
                    healed: plan.healed(),
                };
                Some(striking.run(env.clone(), ledger.clone(), Arc::clone(&held)))
            });
            let faults: Vec<_> = faults.collect();
            async move {
                opened.iter().for_each(|i| peers[*i].open());
                faults.into_iter().for_each(|work| {
                    env.spawn("fault", work);
                });
                std::future::pending().await
            }
        });
    }
}

/// The clients' host, from the first call to the last.
struct Drive<S> {
    plan: Plan,
    traffic: Arc<Traffic>,
    env: SimEnv,
    ledger: Ledger,
    proxy: IpAddr,
    peers: Vec<Arc<Peer>>,
    subject: Rc<S>,
}

impl<S: Subject> Drive<S> {
    async fn run(self) -> turmoil::Result {
        // Listening comes first.
        self.rest(2).await;
        let healed = Tick::ZERO + self.plan.healed();
        for index in 0..self.traffic.callers.len() {
            self.callers(index).start(healed);
        }
        for index in 0..self.traffic.askers.len() {
            self.askers(index).start(healed);
        }
        let clock = self.env.clock();
        let counting = async {
            while clock.now() < healed {
                self.rest(1).await;
                self.count();
            }
        };
        let replacing = replace_in_time(&self.plan, &self.env, &self.subject, &self.ledger);
        tokio::join!(counting, replacing);
        self.peers.iter().for_each(|p| p.heal());
        if let Err(what) = self.end().await {
            self.ledger.book().violation("liveness", what);
        }
        Ok(())
    }

    /// What is under way ends, what is new is served, and the proxy stops with nothing left to cut.
    async fn end(&self) -> Result<(), String> {
        self.drain().await?;
        let mut rng = self.env.rng("probes", 0);
        for index in 0..self.traffic.callers.len() {
            let callers = self.callers(index);
            for _ in 0..PROBES {
                let probing = callers.probe(&mut rng);
                let probed = self.env.clock().timeout(DRAIN, probing).await;
                let probed = probed.unwrap_or(Err("a call had no end".to_string()));
                probed.map_err(|what| format!("after healing, {what}"))?;
                // The place is free when the connection's end has come through.
                self.rest(20).await;
            }
        }
        for index in 0..self.traffic.askers.len() {
            // A session holds its place for as long as it may be silent.
            self.drain().await?;
            let probed = self.askers(index).probe().await;
            probed.map_err(|what| format!("after healing, {what}"))?;
        }
        self.drain().await?;
        self.rest(20).await;
        self.subject.stop();
        let limit = self.env.clock().now() + self.plan.config.shutdown_grace;
        loop {
            self.rest(5).await;
            match self.subject.stopped() {
                Some(0) => return Ok(()),
                Some(cut) => return Err(format!("stopping cut {cut} connections off")),
                None if self.env.clock().now() > limit => {
                    return Err("it did not stop within its grace".to_string());
                }
                None => {}
            }
        }
    }

    /// What is under way ends, the sessions too, and what backends do for clients who have left.
    async fn drain(&self) -> Result<(), String> {
        let limit = self.env.clock().now() + DRAIN;
        loop {
            self.count();
            let (open, working) = {
                let book = self.ledger.book();
                let working = book.l4.joints.iter().any(|j| j.end.over.is_none());
                (book.open, working)
            };
            let held: u32 = self.peers.iter().map(|p| self.open(p)).sum();
            if open == 0 && held == 0 && !working {
                return Ok(());
            }
            if self.env.clock().now() >= limit {
                let book = self.ledger.book();
                let mut conns = book.l4.conns.values();
                let first = conns.find(|c| c.end.over.is_none());
                let first = first.map_or(String::new(), |c| format!(", such as {c:?}"));
                let mut joints = book.l4.joints.iter();
                let at = joints.find(|j| j.end.over.is_none());
                let at = at.map_or(String::new(), |j| format!(", a backend is at {j:?}"));
                return Err(format!(
                    "{DRAIN:?} after all was said, {open} clients had no end{first}, \
                     {held} sockets to backends were open{at}"
                ));
            }
            self.rest(5).await;
        }
    }

    /// Sessions of a listener within its limit, looked at while the proxy rests.
    fn count(&self) {
        for asker in &self.traffic.askers {
            let listener = &self.plan.config.listeners[asker.listener];
            let leads = listener.leads_to(None);
            let mine = |p: &&Arc<Peer>| p.protocol() == Protocol::Udp && p.upstream() == leads;
            let sessions: u32 = self.peers.iter().filter(mine).map(|p| self.open(p)).sum();
            if sessions as usize > listener.limits.sessions {
                let (name, most) = (&listener.name, listener.limits.sessions);
                let what = format!("listener {name} had {sessions} sessions, and may have {most}");
                self.ledger.book().violation("sessions", what);
            }
        }
    }

    fn open(&self, peer: &Peer) -> u32 {
        self.env.fabric().open_to(peer.place()).now
    }

    fn callers(&self, index: usize) -> Arc<Callers> {
        let model = self.traffic.callers[index].clone();
        let listener = &self.plan.config.listeners[model.listener];
        let target = SocketAddr::new(self.proxy, listener.bind.port());
        let proxied = listener.proxy_protocol.is_some();
        let (env, ledger) = (self.env.clone(), self.ledger.clone());
        Callers::new(index, (model, proxied), target, env, ledger)
    }

    fn askers(&self, index: usize) -> Arc<Askers> {
        let model = self.traffic.askers[index].clone();
        let listener = &self.plan.config.listeners[model.listener];
        let target = SocketAddr::new(self.proxy, listener.bind.port());
        Askers::new(index, model, target, self.env.clone(), self.ledger.clone())
    }

    async fn rest(&self, millis: u64) {
        let clock = self.env.clock();
        let until = clock.now() + Duration::from_millis(millis);
        clock.sleep_until(until).await;
    }
}
