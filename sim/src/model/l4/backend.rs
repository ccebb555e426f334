//! A modelled backend at L4, of connections or of datagrams. Faults act on it from outside, as on those of HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::config::model::Protocol;
use weirkeeper::env::{Clock, Env, Listener, Net, Task};
use weirkeeper::message::proxy_protocol::Version;
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::traffic::PeerModel;
use super::{answerer, replier};
use crate::env::{Link, SimEnv, SimStream, lock};
use crate::ledger::Ledger;
use crate::ledger::l4::Whose;
use crate::model::faults::Struck;
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
    protocol: Protocol,
    /// What a connection to it begins with.
    pub(super) header: Option<Version>,
    /// Where it is.
    place: SocketAddr,
    state: Mutex<State>,
}

/// What changes.
#[derive(Debug)]
struct State {
    rng: Rng,
    /// Faults that keep it from accepting.
    closed: u32,
    accepting: Option<Task>,
    connections: BTreeMap<usize, (Task, Arc<Link>)>,
    hang_until: Tick,
    slow: Vec<f64>,
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

    /// Listens, unless a fault keeps it from that. Runs within its host.
    pub fn open(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.closed > 0 || state.accepting.is_some() {
            return;
        }
        let at = SocketAddr::from(([0, 0, 0, 0], self.plan.port));
        let this = Arc::clone(self);
        state.accepting = Some(match self.protocol {
            Protocol::Udp => {
                let socket = self.env.net().datagram(at).expect("the port is its own");
                self.env.fabric().receives(self.place, true);
                self.env.spawn("peer receive", async move {
                    replier::run(this, socket).await;
                })
            }
            _ => {
                let listener = self.env.net().listen(at).expect("the port is its own");
                self.env.spawn("peer accept", async move {
                    loop {
                        this.unhung().await;
                        match listener.accept().await {
                            Ok((stream, _)) => this.connected(stream),
                            Err(_) => return,
                        }
                    }
                })
            }
        });
    }

    /// From now on it does nothing wrong by itself either.
    pub fn heal(&self) {
        lock(&self.state).healed = true;
    }

    fn connected(self: &Arc<Self>, stream: SimStream) {
        let way = self.way();
        let willing = !matches!(way, Way::Early(_) | Way::Reset(_));
        let now = self.env.clock().now();
        let joint = self.ledger.book().accepted(now, self.index, willing);
        let link = Arc::clone(stream.link());
        let this = Arc::clone(self);
        let task = self.env.spawn("peer connection", async move {
            answerer::serve(&this, joint, stream, way).await;
            lock(&this.state).connections.remove(&joint);
        });
        lock(&self.state).connections.insert(joint, (task, link));
    }

    fn way(&self) -> Way {
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

impl Struck for Peer {
    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed += 1;
        if let Some(task) = state.accepting.take() {
            task.abort();
        }
        if self.protocol == Protocol::Udp {
            self.env.fabric().receives(self.place, false);
        }
    }

    fn reopen(self: &Arc<Self>) {
        lock(&self.state).closed -= 1;
        self.open();
    }

    fn kill_connections(&self, reset: bool) {
        let connections = std::mem::take(&mut lock(&self.state).connections);
        for (joint, (task, link)) in connections {
            let mut book = self.ledger.book();
            if let Some(joint) = book.l4.joints.get_mut(joint) {
                joint.willing = false;
            }
            if reset {
                link.reset();
                book.at_end(Whose::Joint(joint), |end| end.broke = true);
            }
            task.abort();
        }
    }

    /// No connection of L4 is idle: each goes on to its end.
    fn retire_connections(&self) {}

    fn hang(&self, until: Tick) {
        let mut state = lock(&self.state);
        state.hang_until = state.hang_until.max(until);
    }

    fn slow(&self, factor: f64) {
        lock(&self.state).slow.push(factor);
    }

    fn quicken(&self, factor: f64) {
        let slow = &mut lock(&self.state).slow;
        if let Some(at) = slow.iter().position(|x| *x == factor) {
            slow.remove(at);
        }
    }

    /// Bytes mean nothing here.
    fn garble(&self, _: f64) {}

    fn mend(&self, _: f64) {}
}
