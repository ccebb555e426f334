//! Everything towards backends: admission (gate), connections (pool, dial), the tries that a piece of work has (tries), a request
//! over HTTP (attempt), and its exchange (exchange, then fetch), which HTTP/1.1 (h1) or HTTP/2 (h2) carries. Absent: the client,
//! whom only [`origin::Origin`] and the request speak of, and which backend is chosen, which the engine decides.

pub mod ahead;
pub mod attempt;
pub mod audience;
pub mod carrier;
pub mod conversation;
pub mod dial;
pub mod exchange;
pub mod failure;
pub mod fetch;
pub mod gate;
pub mod h1;
pub mod h2;
pub mod inbound;
pub mod origin;
pub mod pool;
pub mod prober;
pub mod replay;
mod sending;
pub mod tries;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::config::model;
use crate::engine::retry::RetrySpec;
use crate::engine::{BackendId, Standing};
use crate::env::Env;
use crate::message::cause::{Cause, Side};
use crate::message::pseudonym::Pseudonym;
use crate::telemetry::{BackendStatus, Enrolled, UpstreamStatus};
use crate::upstream::gate::Gate;
use crate::upstream::pool::Backend;
use crate::upstream::prober::Checks;

/// One upstream at work, as one generation of the config has it. What a generation that follows it keeps is shared.
pub struct Upstream<E: Env> {
    /// Its number and those of its backends, by which they are counted.
    enrolled: Enrolled,
    /// Its config.
    pub model: model::Upstream,
    /// By which it knows what it has sent before. The same in every generation, and on every core.
    pub pseudonym: Pseudonym,
    /// The log has a line of what came back to it.
    loop_told: AtomicBool,
    /// Admission and the choice of a backend.
    pub gate: Arc<Gate<E>>,
    /// Upgraded connections that may still be opened.
    pub tunnels: Arc<Semaphore>,
    /// UDP sessions that wait for a place.
    pub sessions_waiting: Arc<AtomicUsize>,
    /// How the health checks of its backends have gone.
    pub checks: Arc<Checks>,
    /// Bytes of request bodies that are held before their requests ask for places.
    pub ahead: Arc<AtomicUsize>,
    /// By id. Every generation has those of the latest, since a request that waited may be led to any of them.
    backends: Arc<ArcSwap<Backends<E>>>,
}

type Backends<E> = BTreeMap<BackendId, Arc<Backend<E>>>;

impl<E: Env> Upstream<E> {
    /// Its number, by which it is counted.
    pub fn number(&self) -> usize {
        self.enrolled.upstream
    }

    /// One of its backends; `None` if it was removed.
    pub fn backend(&self, id: BackendId) -> Option<Arc<Backend<E>>> {
        self.backends.load().get(&id).map(Arc::clone)
    }

    /// All of its backends, and those that the latest generation removed.
    pub fn backends(&self) -> Vec<Arc<Backend<E>>> {
        self.backends.load().values().map(Arc::clone).collect()
    }

    /// May another backend be tried by this policy, after `failed` attempts of which the last one ended by `cause`? If so, a
    /// retry is spent.
    pub fn may_try_another(&self, policy: &RetrySpec, failed: u8, cause: Cause) -> bool {
        // Another backend may be reached from a port that is taken for this one.
        let backends = self.model.backends.len();
        (cause.side() == Side::Backend || cause == Cause::NoPort)
            && policy.has_another(failed, backends)
            && self.gate.may_spend_retry()
    }

    /// Nothing in flight, no connection yet.
    pub fn new(env: &E, model: &model::Upstream, enrolled: Enrolled) -> Arc<Self> {
        let backends = (0..model.backends.len()).map(|i| {
            let backend = Backend::new(env, model, i, enrolled.backends[i]);
            (model.spec.backends[i].id, Arc::new(backend))
        });
        let backends = Arc::new(ArcSwap::from_pointee(backends.collect()));
        let gate = Gate::new(env, &model.name, model.spec.clone(), model.retry);
        gate.name_backends(names(model));
        let pseudonym = format!("pseudonym of {}", model.name);
        Arc::new(Upstream {
            enrolled,
            pseudonym: Pseudonym::of(env.rng(&pseudonym, 0).next_u64()),
            loop_told: AtomicBool::new(false),
            tunnels: Arc::new(Semaphore::new(tunnel_bound(model))),
            sessions_waiting: Arc::default(),
            ahead: Arc::default(),
            checks: Arc::default(),
            model: model.clone(),
            gate,
            backends,
        })
    }

    /// The same upstream by another config, in which each backend that stays has the id that it has here. It keeps its waiters
    /// and what is in flight; a backend that did not change keeps its connections.
    pub fn follow(&self, env: &E, model: &model::Upstream, enrolled: Enrolled) -> Arc<Self> {
        let before = self.backends.load_full();
        let mut backends = Backends::new();
        for (i, spec) in model.spec.backends.iter().enumerate() {
            let backend = match before.get(&spec.id) {
                Some(same) if same.is_as(model, i) => Arc::clone(same),
                Some(other) => Arc::new(other.follow(env, model, i)),
                None => Arc::new(Backend::new(env, model, i, enrolled.backends[i])),
            };
            backends.insert(spec.id, backend);
        }
        // A request that was led to a backend a moment before it was removed still finds it.
        let mut gone = Vec::new();
        for spec in &self.model.spec.backends {
            if let (Some(backend), false) = (before.get(&spec.id), backends.contains_key(&spec.id))
            {
                gone.push((spec.id, Arc::clone(backend)));
            }
        }
        backends.extend(gone.iter().cloned());
        // Before anybody is led to them.
        self.backends.store(Arc::new(backends));
        self.gate.name_backends(names(model));
        self.gate.apply(model.spec.clone(), model.retry);
        for (_, backend) in gone {
            backend.retire();
        }
        // Those that are open were counted by the bound of their time.
        let tunnels = match model.max_tunnels == self.model.max_tunnels {
            true => Arc::clone(&self.tunnels),
            false => Arc::new(Semaphore::new(tunnel_bound(model))),
        };
        Arc::new(Upstream {
            enrolled,
            model: model.clone(),
            gate: Arc::clone(&self.gate),
            tunnels,
            sessions_waiting: Arc::clone(&self.sessions_waiting),
            ahead: Arc::clone(&self.ahead),
            checks: Arc::clone(&self.checks),
            backends: Arc::clone(&self.backends),
            pseudonym: self.pseudonym,
            loop_told: AtomicBool::new(false),
        })
    }

    /// Something that was sent to it has come back. One line in the log is enough, since each is counted.
    pub fn tell_of_loop(&self) {
        if !self.loop_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                upstream = %self.model.name,
                "what goes to it comes back to this proxy, and is refused then; a backend is this proxy itself, or leads to it"
            );
        }
    }

    /// What runs, waits and is passed over at this moment.
    pub fn status(&self) -> UpstreamStatus {
        let status = self.gate.status();
        let tunnels = tunnel_bound(&self.model) - self.tunnels.available_permits();
        let known = self.backends.load();
        let ejects = self.model.ejection.is_some();
        let backends = status.backends.iter().filter_map(|b| {
            let backend = known.get(&b.id)?;
            Some(BackendStatus {
                name: backend.model.name.clone(),
                in_flight: b.in_flight,
                max_in_flight: b.max_in_flight,
                open_connections: backend.open_connections(),
                backed_off: b.backed_off_until.is_some(),
                down: b.standing == Standing::Down,
                ejected: b.ejected_until.is_some(),
                ejections: ejects.then(|| self.gate.ejections(b.id)),
                checks: self.checks.status(b.id),
            })
        });
        UpstreamStatus {
            name: self.model.name.clone(),
            waiting: status.waiting,
            in_flight: status.in_flight,
            max_in_flight: self.model.spec.max_in_flight,
            tunnels: u32::try_from(tunnels).unwrap_or(u32::MAX),
            max_tunnels: self.model.max_tunnels,
            backends: backends.collect(),
        }
    }
}

fn names(model: &model::Upstream) -> BTreeMap<BackendId, String> {
    let ids = model.spec.backends.iter().map(|b| b.id);
    ids.zip(model.backends.iter().map(|b| b.name.clone()))
        .collect()
}

fn tunnel_bound(model: &model::Upstream) -> usize {
    model
        .max_tunnels
        .map_or(Semaphore::MAX_PERMITS, |max| max as usize)
}
