//! Unruly clients of HTTP/1.1: late bodies that look like requests, pipelined requests, ends said too early and without a word,
//! slow readers, beside the clients that ask as one should. A connection is drawn whole (script) and then
//! seen through (talk).
//!
//! Some of what they ask for the proxy answers by itself. Whatever comes to backends in their name is held against what was
//! really sent as a head (the ledger's claims).

mod course;
mod ear;
mod judge;
mod mouth;
mod script;
mod slow;
mod talk;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use weirkeeper::env::{Clock, Env, Net};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use self::script::{Scene, Script};
use self::talk::{Door, Talk};
use super::speech::Unruly;
use crate::env::SimEnv;
use crate::ledger::Ledger;

/// What is left undone in good time before the load ends.
const LAST: Duration = Duration::from_secs(2);

/// Share of those that are slow on purpose, where there is a listener that minds.
const SLOW_SHARE: f64 = 0.3;

/// All unruly clients of a world.
#[derive(Debug)]
pub struct Crowd {
    model: Unruly,
    scene: Scene,
    /// The replicas' hosts.
    proxies: Vec<IpAddr>,
    env: SimEnv,
    ledger: Ledger,
    /// Nothing goes wrong but what they do.
    calm: bool,
    waits: bool,
}

impl Crowd {
    /// Clients that behave as `model` says towards `proxies`, which have so many cacheable pages behind them, if any, and
    /// perhaps nothing that goes wrong.
    pub fn new(
        model: Unruly,
        (pages, calm, waits): (usize, bool, bool),
        proxies: Vec<IpAddr>,
        env: SimEnv,
        ledger: Ledger,
    ) -> Arc<Self> {
        let scene = Scene {
            paths: model.paths.clone(),
            pages,
        };
        Arc::new(Crowd {
            model,
            scene,
            proxies,
            env,
            ledger,
            calm,
            waits,
        })
    }

    /// Comes until shortly before `end`. Runs within its host; what is under way then goes on by itself.
    pub fn start(self: &Arc<Self>, end: Tick) {
        let this = Arc::clone(self);
        let mut rng = self.env.rng("unruly", 0);
        self.env.spawn("unruly", async move {
            let mut next = Duration::ZERO;
            for index in 0.. {
                next += Duration::from_secs_f64(rng.exponential(1.0 / this.model.rate));
                let at = Tick::ZERO + next;
                if at + LAST >= end {
                    return;
                }
                if at > this.env.clock().now() {
                    this.env.clock().sleep_until(at).await;
                }
                let rng = this.env.rng("unruly connection", index);
                let come = Arc::clone(&this);
                this.env
                    .spawn("unruly connection", async move { come.come(rng).await });
            }
        });
    }

    /// One connection from its beginning to its end.
    async fn come(&self, mut rng: Rng) {
        let pick = |rng: &mut Rng, len: usize| usize::try_from(rng.below(len as u64)).unwrap_or(0);
        let replica = pick(&mut rng, self.proxies.len());
        if let Some(paced) = &self.model.paced
            && rng.chance(SLOW_SHARE)
        {
            let target = SocketAddr::new(self.proxies[replica], paced.port);
            return slow::come(&self.env, &self.ledger, &mut rng, target, paced).await;
        }
        let (port, limit) = self.model.doors[pick(&mut rng, self.model.doors.len())];
        let script = Script::draw(&mut rng, &self.scene);
        let target = SocketAddr::new(self.proxies[replica], port);
        // Nobody has asked for anything yet, but the world waits for whoever is here.
        self.ledger.book().open += 1;
        if let Ok(stream) = self.env.net().connect(target).await {
            let (env, ledger) = (self.env.clone(), self.ledger.clone());
            let door = Door {
                replica,
                limit,
                calm: self.calm,
                waits: self.waits,
            };
            let talk = Talk::new(env, ledger, script, door);
            talk.run(stream).await;
        }
        self.ledger.book().open -= 1;
    }
}
