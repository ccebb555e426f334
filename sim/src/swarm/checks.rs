//! Health checks in some worlds: often enough that faults are found within the time of a world. Absent: what the checks find
//! (checkers), and what backends say to them (model).

use std::sync::Arc;
use std::time::Duration;

use weirkeeper::config::model::HealthCheck;
use weirkeeper::engine::health::HealthSpec;
use weirkeeper::rng::Rng;

use crate::plan::{CHECKED, Plan};

/// Has some worlds check their backends.
pub fn add(seed: u64, plan: &mut Plan) {
    let mut rng = Rng::new(seed).stream("checks", 0);
    if !rng.chance(0.35) {
        return;
    }
    let config = Arc::make_mut(&mut plan.config);
    for upstream in &mut config.upstreams {
        upstream.health = rng.chance(0.8).then(|| check(&mut rng));
    }
}

/// Has a world check nobody.
pub fn clear(plan: &mut Plan) {
    let config = Arc::make_mut(&mut plan.config);
    config.upstreams.iter_mut().for_each(|u| u.health = None);
}

fn check(rng: &mut Rng) -> HealthCheck {
    let millis = |n: u64| Duration::from_millis(n);
    let fast = 20 + rng.below(60);
    HealthCheck {
        spec: HealthSpec {
            interval: millis(fast * (1 + rng.below(5))),
            fast_interval: millis(fast),
            healthy: 1 + u32::try_from(rng.below(3)).unwrap_or(0),
            unhealthy: 1 + u32::try_from(rng.below(3)).unwrap_or(0),
            is_up_at_first: rng.chance(0.7),
        },
        timeout: millis(60 + rng.below(100)),
        path: CHECKED.to_owned(),
        host: None,
        status: vec![200..=299],
    }
}
