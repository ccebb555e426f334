//! Faults at work: each is a task of its own within its backend's host, from its beginning to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::env::{Clock, Env};
use weirkeeper::time::Tick;

use crate::env::{SimEnv, lock};
use crate::ledger::Ledger;
use crate::scenario::{Fault, FaultKind};

/// The replicas' hosts, from which a blackhole cuts a zone off.
pub const PROXIES: [&str; 2] = ["proxy", "proxy-2"];

/// How many blackholes hold each zone's link. Shared by all zones.
pub type Held = Arc<Mutex<Vec<u32>>>;

/// A failure domain's name as a host.
pub fn zone_name(zone: usize) -> String {
    format!("zone-{zone}")
}

/// What faults do to a backend, whatever it speaks.
pub trait Struck: Send + Sync + 'static {
    /// It does not accept, for as long as it is not reopened as often.
    fn close(&self);
    /// One reason less not to accept.
    fn reopen(self: &Arc<Self>);
    /// Every connection ends now, with a reset if so wished.
    fn kill_connections(&self, reset: bool);
    /// Connections end with what they are about.
    fn retire_connections(&self);
    /// Nothing is said before `until`.
    fn hang(&self, until: Tick);
    /// Work that begins takes `factor` times as long.
    fn slow(&self, factor: f64);
    /// Takes one `factor` back.
    fn quicken(&self, factor: f64);
    /// This share of answers is not what it should be.
    fn garble(&self, share: f64);
    /// Takes one `share` back.
    fn mend(&self, share: f64);
    /// It answers at once that it has failed, or no longer does, where it has such answers.
    fn fail(&self, _fails: bool) {}
}

/// One fault, bound to its backend.
pub struct Striking<B> {
    /// Where it strikes.
    pub backend: Arc<B>,
    /// The backend's index in the plan.
    pub index: usize,
    /// Its failure domain.
    pub zone: usize,
    /// What happens.
    pub fault: Fault,
    /// Replicas of the proxy.
    pub replicas: usize,
    /// When measuring begins.
    pub origin: Duration,
    /// When every fault is over.
    pub healed: Duration,
}

impl<B: Struck> Striking<B> {
    /// Waits for its time, strikes, and heals.
    pub async fn run(self, env: SimEnv, ledger: Ledger, held: Held) {
        let clock = env.clock();
        let at = Tick::ZERO + self.origin + self.fault.at.0;
        let healed = Tick::ZERO + self.healed;
        if at >= healed {
            return;
        }
        let end = (at + self.fault.lasts.0).min(healed);
        clock.sleep_until(at).await;
        ledger
            .book()
            .fault(clock.now(), self.fault.kind.name(), self.index, true);
        self.begin(end, &held);
        clock.sleep_until(end).await;
        self.end(&held);
        ledger
            .book()
            .fault(clock.now(), self.fault.kind.name(), self.index, false);
    }

    fn begin(&self, end: Tick, held: &Held) {
        let backend = &self.backend;
        match self.fault.kind {
            FaultKind::Crash => {
                backend.close();
                backend.kill_connections(false);
            }
            FaultKind::Restart => {
                backend.close();
                backend.retire_connections();
            }
            FaultKind::Refuse => backend.close(),
            FaultKind::Hang => backend.hang(end),
            FaultKind::Slow => backend.slow(self.fault.factor),
            FaultKind::Malformed => backend.garble(self.fault.factor),
            FaultKind::Fail => backend.fail(true),
            FaultKind::Reset => backend.kill_connections(true),
            FaultKind::RedisCrash
            | FaultKind::RedisLoss
            | FaultKind::RedisStall
            | FaultKind::RedisSlow
            | FaultKind::RedisLies
            | FaultKind::ClockStep => {}
            FaultKind::Blackhole => {
                let holds = &mut lock(held)[self.zone];
                *holds += 1;
                if *holds == 1 {
                    for proxy in &PROXIES[..self.replicas] {
                        turmoil::hold(*proxy, zone_name(self.zone));
                    }
                }
            }
        }
    }

    fn end(&self, held: &Held) {
        let backend = &self.backend;
        match self.fault.kind {
            FaultKind::Crash | FaultKind::Restart | FaultKind::Refuse => backend.reopen(),
            FaultKind::Slow => backend.quicken(self.fault.factor),
            FaultKind::Malformed => backend.mend(self.fault.factor),
            FaultKind::Fail => backend.fail(false),
            FaultKind::Hang
            | FaultKind::Reset
            | FaultKind::RedisCrash
            | FaultKind::RedisLoss
            | FaultKind::RedisStall
            | FaultKind::RedisSlow
            | FaultKind::RedisLies
            | FaultKind::ClockStep => {}
            FaultKind::Blackhole => {
                let holds = &mut lock(held)[self.zone];
                *holds -= 1;
                if *holds == 0 {
                    for proxy in &PROXIES[..self.replicas] {
                        turmoil::release(*proxy, zone_name(self.zone));
                    }
                }
            }
        }
    }
}
