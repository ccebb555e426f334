//! Policies of retries in some worlds: by statuses, after timeouts, with a bound on each attempt, for every method. Absent: how
//! many there may be, which each world draws (swarm).

use std::sync::Arc;
use std::time::Duration;

use weirkeeper::engine::retry::{Conditions, Repeats, Statuses};
use weirkeeper::rng::Rng;

use crate::plan::Plan;

/// Has some worlds retry for more reasons than those that leave no doubt.
pub fn add(seed: u64, plan: &mut Plan) {
    let mut rng = Rng::new(seed).stream("retries", 0);
    if !rng.chance(0.4) {
        return;
    }
    // What may be sent again is the same in the whole world, since clients do not know where their requests go.
    let repeats = match rng.chance(0.3) {
        true => Repeats::All,
        false => Repeats::Idempotent,
    };
    let config = Arc::make_mut(&mut plan.config);
    for upstream in &mut config.upstreams {
        let mut statuses = Statuses::NONE;
        if rng.chance(0.7) {
            statuses.insert(500);
            statuses.insert(503);
        }
        upstream.retry.on = Conditions {
            connect: rng.chance(0.9),
            reset: rng.chance(0.9),
            timeout: rng.chance(0.5),
            statuses,
        };
        upstream.retry.repeats = repeats;
        let millis = [0, 0, 80, 300][usize::try_from(rng.below(4)).unwrap_or(0)];
        upstream.retry.per_try = (millis > 0).then(|| Duration::from_millis(millis));
    }
}
