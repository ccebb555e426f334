//! What health checks make of a backend: so many failures in a row take it out, so many successes bring it back. Absent: what a
//! check is and when it is skipped (upstream), and who is picked while a backend is down (pool).

use std::time::Duration;

use crate::rng::Rng;

/// When checks are made, and what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSpec {
    /// From one check to the next, give or take a tenth.
    pub interval: Duration,
    /// The same while the latest result contradicts how the backend stands, and before the first one.
    pub fast_interval: Duration,
    /// Successes in a row that bring a backend back, at least 1.
    pub healthy: u32,
    /// Failures in a row that take it out, at least 1.
    pub unhealthy: u32,
    /// It is up until its checks say otherwise. If not, one success is enough at the beginning.
    pub is_up_at_first: bool,
}

/// What is known of one backend by its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    is_up: bool,
    /// A check has been made.
    is_known: bool,
    /// Results in a row that contradict it.
    contrary: u32,
}

impl Health {
    /// Nothing known yet.
    pub fn new(spec: &HealthSpec) -> Self {
        Health {
            is_up: spec.is_up_at_first,
            is_known: false,
            contrary: 0,
        }
    }

    /// Is it up, as far as is known?
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Takes in how a check went. `Some` says that the backend is up from here on, or down.
    pub fn handle(&mut self, spec: &HealthSpec, passed: bool) -> Option<bool> {
        let is_first = !self.is_known;
        self.is_known = true;
        if passed == self.is_up {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let needed = match passed {
            true if is_first => 1,
            true => spec.healthy,
            false => spec.unhealthy,
        };
        if self.contrary < needed {
            return None;
        }
        (self.is_up, self.contrary) = (passed, 0);
        Some(passed)
    }

    /// How long to wait until the next check.
    pub fn wait(&self, spec: &HealthSpec, rng: &mut Rng) -> Duration {
        let is_changing = self.contrary > 0 || !self.is_known;
        rng.about(match is_changing {
            true => spec.fast_interval.min(spec.interval),
            false => spec.interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    fn spec(healthy: u32, unhealthy: u32, is_up_at_first: bool) -> HealthSpec {
        HealthSpec {
            interval: Duration::from_secs(5),
            fast_interval: Duration::from_secs(1),
            healthy,
            unhealthy,
            is_up_at_first,
        }
    }

    /// The same, out of all that has been: as many of the latest results say the opposite as are needed, all of them since the
    /// last change.
    fn model(spec: &HealthSpec, results: &[bool]) -> bool {
        let (mut is_up, mut since) = (spec.is_up_at_first, 0);
        for end in 1..=results.len() {
            let latest = results[since..end].iter().rev();
            let contrary = latest.take_while(|passed| **passed != is_up).count();
            let needed = match is_up {
                true => spec.unhealthy,
                false if end == 1 => 1,
                false => spec.healthy,
            };
            if contrary >= needed as usize {
                (is_up, since) = (!is_up, end);
            }
        }
        is_up
    }

    proptest! {
        #[test]
        fn so_many_in_a_row_change_it_and_nothing_else(
            healthy in 1_u32..4,
            unhealthy in 1_u32..4,
            is_up_at_first in any::<bool>(),
            results in prop::collection::vec(any::<bool>(), 0..40),
        ) {
            let spec = spec(healthy, unhealthy, is_up_at_first);
            let mut health = Health::new(&spec);
            let mut rng = Rng::new(1);
            for end in 0..results.len() {
                let before = health.is_up();
                let change = health.handle(&spec, results[end]);
                prop_assert_eq!(health.is_up(), model(&spec, &results[..=end]));
                prop_assert_eq!(change, (before != health.is_up()).then_some(health.is_up()));
                // It is looked at more often exactly while it may change soon.
                let is_settled = results[end] == health.is_up();
                let wait = health.wait(&spec, &mut rng);
                prop_assert_eq!(is_settled, wait > Duration::from_secs(4));
            }
        }
    }
}
