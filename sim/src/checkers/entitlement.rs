//! Shares follow weights: what a backend has earned and not been given stays small. Picks whose field could not be told (retries
//! that exclude somebody) widen the bound by one each.

use weirkeeper::engine::Strategy;

use crate::run::Run;

/// The worst lag that is let pass: the theorem's bound is below 1 on constant sets and 2 between any two moments; under
/// change no constant bound exists, and a small lag is what was found.
const BOUND: f64 = 3.0;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    for (u, upstream) in run.plan.config.upstreams.iter().enumerate() {
        if !matches!(
            upstream.spec.strategy,
            Strategy::RoundRobin | Strategy::WeightedRoundRobin
        ) {
            continue;
        }
        let shares = &run.shares[u];
        if shares.worst > BOUND + shares.unknown as f64 {
            let (name, worst) = (&upstream.name, shares.worst);
            found.push(format!(
                "a backend of {name} was {worst:.2} picks off its share"
            ));
        }
    }
    found
}
