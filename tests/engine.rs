//! The engine against exact arithmetic, simple models and its own promises. No time passes here but what a test says.

mod fairness;
mod fresh;
mod hash;
mod model;
mod reload;
mod semantics;
mod sessions;
mod strategies;
mod table;

use std::time::Duration;

use weirkeeper::engine::trace::NoTrace;
use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{
    BackOffSpec, BackendId, BackendSpec, Grant, Meta, Offer, Outcome, Phase, QueueSpec, Slot,
    Strategy, UpstreamSpec,
};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

/// An upstream of backends 0, 1, 2, ... with these weights and max_in_flights.
fn spec(strategy: Strategy, backends: &[(u32, Option<u32>)]) -> UpstreamSpec {
    UpstreamSpec {
        strategy,
        max_in_flight: None,
        queue: QueueSpec {
            capacity: 1024,
            timeout: Duration::from_secs(5),
        },
        backends: (0..)
            .zip(backends)
            .map(|(id, &(weight, max_in_flight))| BackendSpec {
                id: BackendId(id),
                weight,
                max_in_flight,
                key: u64::from(id),
            })
            .collect(),
        back_off: BackOffSpec {
            base: Duration::from_secs(1),
            max: Duration::from_secs(8),
        },
        outlier: None,
        phase: Phase::Zero,
    }
}

/// The same with weights alone.
fn weighted(strategy: Strategy, weights: &[u32]) -> UpstreamSpec {
    let backends: Vec<_> = weights.iter().map(|&w| (w, None)).collect();
    spec(strategy, &backends)
}

/// The same without backend `id`.
fn without(mut spec: UpstreamSpec, id: u32) -> UpstreamSpec {
    spec.backends.retain(|b| b.id != BackendId(id));
    spec
}

/// One request at the very beginning, which is admitted at once.
fn run(upstream: &mut Upstream) -> Slot {
    let meta = Meta::first(Tick::ZERO);
    admitted(upstream.offer(Tick::ZERO, &meta, &mut NoTrace))
}

fn upstream(spec: UpstreamSpec) -> Upstream {
    Upstream::new(Tick::ZERO, spec, Rng::new(1))
}

/// One request that finishes at once; says where it ran.
fn turn(upstream: &mut Upstream) -> usize {
    let slot = admitted(upstream.offer(Tick::ZERO, &Meta::first(Tick::ZERO), &mut NoTrace));
    let place = slot.backend.0 as usize;
    upstream.finish(Tick::ZERO, slot, Outcome::Success, &mut NoTrace);
    place
}

fn admitted(offer: Offer) -> Slot {
    match offer {
        Offer::Admit(slot) => slot,
        other => panic!("admitted at once, not {other:?}"),
    }
}

fn grants(upstream: &mut Upstream) -> Vec<Grant> {
    std::iter::from_fn(|| upstream.next_grant()).collect()
}
