//! A modelled backend at L4: what it is, how it fares, and what it feels like doing. Absent: what it does with connections and
//! datagrams (answerer, replier), and how faults act on it (backend).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::config::model::Protocol;
use weirkeeper::env::{Clock, Env, Task};
use weirkeeper::message::proxy_protocol::Version;
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::traffic::PeerModel;
use crate::env::{Link, SimEnv, lock};
use crate::ledger::Ledger;
use crate::plan::BackendPlan;

/// One modelled backend.
#[derive(Debug)]
pub struct Peer {
    pub(super) index: usize,
    pub(super) plan: BackendPlan,
    pub(super) model: PeerModel,
    pub(super) env: SimEnv,
    pub(super) ledger: Ledger,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// What a connection to it begins with.
    pub(super) header: Option<Version>,
    /// Where it is.
    pub(super) place: SocketAddr,
    pub(super) state: Mutex<State>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    rng: Rng,
    /// Faults that keep it from accepting.
    pub(super) closed: u32,
    pub(super) accepting: Option<Task>,
    pub(super) connections: BTreeMap<usize, (Task, Arc<Link>)>,
    pub(super) hang_until: Tick,
    pub(super) slow: Vec<f64>,
    healed: bool,
}

/// What it is to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Say what it hears.
    Echo,
    /// Hear everything, and say what it was.
    Sink,
    /// Say so much at once, hear everything, and say as much again.
    Greet(usize),
    /// Hear so much, say as much, end, and go on hearing.
    Ends(usize),
    /// Hear so much, say as much, and close.
    Early(usize),
    /// Hear so much, say as much, and reset.
    Reset(usize),
}

impl Peer {
    /// A backend that does not accept yet.
    pub fn new(
        index: usize,
        (plan, model): (BackendPlan, PeerModel),
        (protocol, header): (Protocol, Option<Version>),
        (env, ledger): (SimEnv, Ledger),
        place: SocketAddr,
    ) -> Arc<Peer> {
        let rng = env.rng("peer", index as u64);
        Arc::new(Peer {
            index,
            plan,
            model,
            env,
            ledger,
            protocol,
            header,
            place,
            state: Mutex::new(State {
                rng,
                closed: 0,
                accepting: None,
                connections: BTreeMap::new(),
                hang_until: Tick::ZERO,
                slow: Vec::new(),
                healed: false,
            }),
        })
    }

    /// Where it is.
    pub fn place(&self) -> SocketAddr {
        self.place
    }

    /// The upstream that it belongs to.
    pub fn upstream(&self) -> Option<usize> {
        self.plan.members.first().map(|(upstream, _)| *upstream)
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From now on it does nothing wrong by itself either.
    pub fn heal(&self) {
        lock(&self.state).healed = true;
    }

    /// What it is to do with the connection that has come.
    pub(super) fn way(&self) -> Way {
        let model = self.model;
        let mut state = lock(&self.state);
        let healed = state.healed;
        let rng = &mut state.rng;
        let some = |rng: &mut Rng| {
            let most = [1, 100, 3000, 40_000][usize::try_from(rng.below(4)).unwrap_or(0)];
            usize::try_from(rng.below(most)).unwrap_or(0)
        };
        if !healed && rng.chance(model.resets) {
            Way::Reset(some(rng))
        } else if !healed && rng.chance(model.early) {
            Way::Early(some(rng))
        } else if rng.chance(model.greets) {
            Way::Greet(some(rng))
        } else if !healed && rng.chance(0.1) {
            Way::Ends(some(rng))
        } else if rng.chance(model.sinks) {
            Way::Sink
        } else {
            Way::Echo
        }
    }

    /// How long an answer takes now.
    pub(super) fn work(&self) -> Duration {
        let mut state = lock(&self.state);
        let slow: f64 = state.slow.iter().product();
        let time = state.rng.exponential(self.model.work.as_secs_f64()) * slow;
        let most = if state.healed { 0.005 } else { 5.0 };
        Duration::from_secs_f64(time.min(most))
    }

    /// Waits until it hangs no more.
    pub(super) async fn unhung(&self) {
        loop {
            let until = lock(&self.state).hang_until;
            if self.env.clock().now() >= until {
                return;
            }
            self.env.clock().sleep_until(until).await;
        }
    }

    pub(super) async fn rest(&self, time: Duration) {
        if !time.is_zero() {
            let clock = self.env.clock();
            clock.sleep_until(clock.now() + time).await;
        }
    }
}
