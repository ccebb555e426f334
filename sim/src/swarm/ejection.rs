//! Ejections in some worlds, and backends that fail so that there are some. Absent: what follows from them (checkers).

use std::sync::Arc;
use std::time::Duration;

use weirkeeper::config::model::{Config, Ejection};
use weirkeeper::engine::outlier::OutlierSpec;
use weirkeeper::rng::Rng;

use crate::plan::Plan;
use crate::scenario::fault;

/// Has some worlds eject backends; in the others nobody is. Unless it is `calm`, some backends fail for a while.
pub fn add(seed: u64, plan: &mut Plan, calm: bool) {
    let mut rng = Rng::new(seed).stream("ejection", 0);
    let ejects = rng.chance(0.4);
    let config = Arc::make_mut(&mut plan.config);
    for u in 0..config.upstreams.len() {
        let ejection = (ejects && rng.chance(0.8)).then(|| ejection(&mut rng));
        set(config, u, ejection);
    }
    if ejects && !calm {
        let names: Vec<String> = plan.backends.iter().map(|b| b.name.clone()).collect();
        let faults = fault::swarm_failing(seed, &names, 1 + rng.below(4), plan.measure);
        plan.faults.extend(faults);
    }
}

fn set(config: &mut Config, upstream: usize, ejection: Option<Ejection>) {
    let upstream = &mut config.upstreams[upstream];
    upstream.spec.outlier = ejection.as_ref().map(|ejection| ejection.spec);
    upstream.ejection = ejection;
}

fn ejection(rng: &mut Rng) -> Ejection {
    let millis = |n: u64| Duration::from_millis(n);
    let base = 50 + rng.below(400);
    let small = |rng: &mut Rng, n| u32::try_from(rng.below(n)).unwrap_or(0);
    Ejection {
        spec: OutlierSpec {
            consecutive: [0, 2, 3, 5, 5][small(rng, 5) as usize],
            failure_percent: [0, 30, 50][small(rng, 3) as usize],
            latency_percent: [0, 0, 300][small(rng, 3) as usize],
            min_requests: 3 + small(rng, 10),
            window: millis(200 + rng.below(2000)),
            base: millis(base),
            max: millis(base * (1 + rng.below(6))),
            max_ejected_percent: [34, 50, 50, 100][small(rng, 4) as usize],
            slow_start: millis([0, 500, 2000][small(rng, 3) as usize]),
        },
        status: vec![500..=599],
    }
}
