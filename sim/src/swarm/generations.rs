//! Other configs for a world that runs: the same upstreams, backends and routes by their names, each in another place and with
//! another number, as a file that was edited has them. Whatever goes by places is led astray. Some lack a backend from then on.
//! Absent: when they are put to work (world).

use std::sync::Arc;
use std::time::Duration;

use weirkeeper::config::model::{Action, Config, Route, Upstream};
use weirkeeper::engine::{BackendId, Strategy};
use weirkeeper::rng::Rng;

use crate::plan::{Generation, Plan};

/// Lets some worlds have further generations while their load lasts.
pub fn add(seed: u64, plan: &mut Plan) {
    plan.generations.clear();
    plan.removed = None;
    let mut rng = Rng::new(seed).stream("generations", 0);
    if !rng.chance(0.35) {
        return;
    }
    let count = 1 + rng.below(4);
    let mut times: Vec<Duration> = (0..count)
        .map(|_| plan.warmup + plan.measure.mul_f64(rng.unit()))
        .collect();
    times.sort();
    plan.removed = times
        .first()
        .and_then(|at| removed(&plan.config, &mut rng).map(|(upstream, id)| (upstream, id, *at)));
    let lacks = plan.removed.map(|(upstream, id, _)| (upstream, id));
    let config = lacks.map_or_else(
        || Config::clone(&plan.config),
        |lacks| without(&plan.config, lacks),
    );
    let generation = |at| Generation {
        at,
        config: rearranged(&config, &mut rng),
    };
    plan.generations = times.into_iter().map(generation).collect();
}

/// A backend that others can stand in for. Where the same backend is meant to be had for a key, none is taken away.
fn removed(config: &Config, rng: &mut Rng) -> Option<(usize, BackendId)> {
    let upstream = usize::try_from(rng.below(config.upstreams.len() as u64)).ok()?;
    let spec = &config.upstreams[upstream].spec;
    let is_hashed = matches!(spec.strategy, Strategy::Hash { .. });
    if is_hashed || spec.backends.len() < 2 || !rng.chance(0.5) {
        return None;
    }
    let place = usize::try_from(rng.below(spec.backends.len() as u64)).ok()?;
    let id = spec.backends[place].id;
    // Where places are bounded, they still are.
    let left = without(config, (upstream, id));
    let is_same = left.upstreams[upstream].read_ahead() == config.upstreams[upstream].read_ahead();
    is_same.then_some((upstream, id))
}

fn without(config: &Config, (upstream, id): (usize, BackendId)) -> Config {
    let mut config = config.clone();
    let upstream = &mut config.upstreams[upstream];
    if let Some(place) = upstream.spec.backends.iter().position(|b| b.id == id) {
        upstream.spec.backends.remove(place);
        upstream.backends.remove(place);
    }
    config
}

/// The same by names, and by nothing else.
fn rearranged(config: &Config, rng: &mut Rng) -> Config {
    let mut next = config.clone();
    shuffle(&mut next.upstreams, rng);
    if rng.chance(0.5)
        && let Some(other) = next.upstreams.first().cloned()
    {
        // Nobody is led there.
        next.upstreams.insert(0, quiet(other));
    }
    for upstream in &mut next.upstreams {
        let specs = upstream.spec.backends.drain(..);
        let mut pairs: Vec<_> = specs.zip(upstream.backends.drain(..)).collect();
        shuffle(&mut pairs, rng);
        (upstream.spec.backends, upstream.backends) = pairs.into_iter().unzip();
        if rng.chance(0.3) {
            // Its connections are of an older kind from here on.
            upstream.timeouts.idle = upstream.timeouts.idle.mul_f64(0.9);
        }
    }
    let specs = next.upstreams.iter_mut().flat_map(|u| &mut u.spec.backends);
    (0..)
        .zip(specs)
        .for_each(|(id, spec)| spec.id = BackendId(id));
    let upstreams: Vec<String> = next.upstreams.iter().map(|u| u.name.clone()).collect();
    for listener in &mut next.listeners {
        let routes = listener.routes.iter().map(|route| {
            let mut route = Route::clone(route);
            if let Action::Forward { upstream, .. } = &mut route.action {
                let name = &config.upstreams[*upstream].name;
                let place = upstreams.iter().position(|other| other == name);
                *upstream = place.expect("each upstream has been kept");
            }
            Arc::new(route)
        });
        listener.routes = Arc::new(routes.collect());
    }
    next
}

/// Another upstream than `like`, to which no route leads.
fn quiet(like: Upstream) -> Upstream {
    Upstream {
        name: "quiet".to_string(),
        // Nor would it know of the places that the other one fills.
        health: None,
        ..like
    }
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for i in (1..items.len()).rev() {
        let other = usize::try_from(rng.below(i as u64 + 1)).unwrap_or(i);
        items.swap(i, other);
    }
}
