//! Everything towards backends: admission (gate), connections (pool, dial), the tries that a request has (attempt), and one
//! exchange over HTTP/1.1 (h1) or HTTP/2 (h2). Absent: the client, whom only [`origin::Origin`] and the request speak of, and
//! which backend is chosen, which the engine decides.

pub mod ahead;
pub mod attempt;
pub mod conversation;
pub mod dial;
pub mod fetch;
pub mod gate;
pub mod h1;
pub mod h2;
pub mod inbound;
pub mod origin;
pub mod pool;
pub mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;

use crate::config::model;
use crate::engine::BackendId;
use crate::env::Env;
use crate::message::cause::{Cause, Side};
use crate::telemetry::{BackendStatus, UpstreamStatus};
use crate::upstream::gate::Gate;
use crate::upstream::pool::Backend;

/// One upstream at work.
pub struct Upstream<E: Env> {
    /// Its place in the config.
    pub index: usize,
    /// Its config.
    pub model: model::Upstream,
    /// Admission and the choice of a backend.
    pub gate: Arc<Gate<E>>,
    /// Upgraded connections that may still be opened.
    pub tunnels: Arc<Semaphore>,
    /// UDP sessions that wait for a place.
    pub sessions_waiting: AtomicUsize,
    /// Bytes of request bodies that are held before their requests ask for places.
    pub ahead: Arc<AtomicUsize>,
    /// By id.
    pub backends: BTreeMap<BackendId, Arc<Backend<E>>>,
}

impl<E: Env> Upstream<E> {
    /// May another backend be tried, after `failed` attempts of which the last one ended by `cause`? If so, a retry is spent.
    pub fn may_try_another(&self, failed: u8, cause: Cause) -> bool {
        // Another backend may be reached from a port that is taken for this one.
        (cause.side() == Side::Backend || cause == Cause::NoPort)
            && self.model.retry.has_another(failed, self.backends.len())
            && self.gate.may_spend_retry()
    }

    /// Nothing in flight, no connection yet.
    pub fn new(env: &E, index: usize, model: &model::Upstream) -> Arc<Self> {
        let backends = model
            .spec
            .backends
            .iter()
            .enumerate()
            .map(|(i, spec)| (spec.id, Arc::new(Backend::new(env, i, model))))
            .collect();
        let gate = Gate::new(env, &model.name, model.spec.clone(), model.retry);
        Arc::new(Upstream {
            index,
            tunnels: Arc::new(Semaphore::new(tunnel_bound(model))),
            sessions_waiting: AtomicUsize::new(0),
            ahead: Arc::default(),
            model: model.clone(),
            gate,
            backends,
        })
    }

    /// What runs, waits and is passed over at this moment.
    pub fn status(&self) -> UpstreamStatus {
        let status = self.gate.status();
        let tunnels = tunnel_bound(&self.model) - self.tunnels.available_permits();
        let backends = status.backends.iter().filter_map(|b| {
            let backend = self.backends.get(&b.id)?;
            Some(BackendStatus {
                name: backend.model.name.clone(),
                in_flight: b.in_flight,
                max_in_flight: b.max_in_flight,
                open_connections: backend.open_connections(),
                backed_off: b.backed_off_until.is_some(),
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

fn tunnel_bound(model: &model::Upstream) -> usize {
    model
        .max_tunnels
        .map_or(Semaphore::MAX_PERMITS, |max| max as usize)
}
