//! How a modelled backend at L4 takes connections or datagrams. Faults act on it from outside, as on those of HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use weirkeeper::config::model::Protocol;
use weirkeeper::env::{Clock, Env, Listener, Net};
use weirkeeper::time::Tick;

use super::peer::{Peer, Way};
use super::{answerer, replier};
use crate::env::{SimStream, lock};
use crate::ledger::l4::Whose;
use crate::model::faults::Struck;

impl Peer {
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
