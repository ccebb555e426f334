//! One configured backend within an upstream: what runs on it, and whether it is passed over. Which backends are eligible
//! together, and who is picked among them, is decided by [`upstream`](super::upstream) and [`scheduler`](super::scheduler).
//! Absent: what health checks (health) and its requests beside those of its
//! peers (outlier) make of it.

use std::time::Duration;

use super::outlier::{Outlier, Ramp};
use super::{BackOffSpec, BackendSpec, Outcome, Standing};
use crate::time::Tick;

/// A backend's state. It outlives a reload, and its own removal for as long as requests run on it.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    /// As configured.
    pub(crate) spec: BackendSpec,
    /// Slots that are out.
    pub(crate) in_flight: u32,
    /// The scheduler may pick it for a request without exclusions. Kept by the upstream.
    pub(crate) open: bool,
    /// Passed over until then.
    pub(crate) backed_off_until: Option<Tick>,
    /// Its health checks fail.
    pub(crate) is_down: bool,
    /// Requests alone have taken it out until then.
    pub(crate) ejected_until: Option<Tick>,
    /// What they tell of it.
    pub(crate) outlier: Outlier,
    /// It has come back a while ago, and gets a part of its share.
    pub(crate) ramp: Option<Ramp>,
    /// Failure steps in a row: the exponent of the next back-off.
    streak: u32,
    /// Failure steps ever. A slot remembers the value at its grant, which tells whether it saw the latest step.
    pub(crate) failures: u32,
}

/// What an outcome does to a backend's back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// One begins, or begins anew, until then.
    Begins(Tick),
    /// The backend has proved alive before it was over.
    Ends,
}

impl Backend {
    /// Idle and in good standing.
    pub(crate) fn new(spec: BackendSpec) -> Self {
        Backend {
            spec,
            in_flight: 0,
            open: false,
            backed_off_until: None,
            is_down: false,
            ejected_until: None,
            outlier: Outlier::default(),
            ramp: None,
            streak: 0,
            failures: 0,
        }
    }

    /// Does it run as many requests as it takes?
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.spec
            .max_in_flight
            .is_some_and(|max| self.in_flight >= max)
    }

    /// How it stands.
    #[inline]
    pub(crate) fn standing(&self) -> Standing {
        match self.backed_off_until {
            _ if self.is_down => Standing::Down,
            _ if self.ejected_until.is_some() => Standing::Ejected,
            Some(_) => Standing::BackedOff,
            None => Standing::Sound,
        }
    }

    /// Takes note of how a slot ended that was granted when `known` failure steps had been seen, and says what follows for the
    /// back-off, which the pool keeps.
    ///
    /// A slot from before the latest step says nothing new: requests that fail together are one step, and a success that was
    /// under way when the backend failed does not vouch for it.
    pub(crate) fn record(
        &mut self,
        now: Tick,
        known: u32,
        outcome: Outcome,
        spec: &BackOffSpec,
    ) -> Change {
        if known != self.failures {
            return Change::None;
        }
        match outcome {
            Outcome::Success | Outcome::Failed => {
                self.streak = 0;
                match self.backed_off_until {
                    Some(_) => Change::Ends,
                    None => Change::None,
                }
            }
            Outcome::Refused | Outcome::Died => {
                let length = back_off(spec, self.streak);
                self.streak = self.streak.saturating_add(1);
                self.failures = self.failures.wrapping_add(1);
                if length.is_zero() {
                    return Change::None;
                }
                Change::Begins(now + length)
            }
            Outcome::Broken | Outcome::ReuseRace | Outcome::Cancelled => Change::None,
        }
    }
}

/// The back-off after `streak` earlier failures in a row: base, doubled each time, at most max.
fn back_off(spec: &BackOffSpec, streak: u32) -> Duration {
    let factor = 1_u32.checked_shl(streak).unwrap_or(u32::MAX);
    spec.base.saturating_mul(factor).min(spec.max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::BackendId;

    const SPEC: BackOffSpec = BackOffSpec {
        base: Duration::from_secs(1),
        max: Duration::from_secs(5),
    };

    fn backend() -> Backend {
        Backend::new(BackendSpec {
            id: BackendId(1),
            weight: 1,
            max_in_flight: Some(2),
            key: 1,
        })
    }

    #[test]
    fn back_offs_double_up_to_their_maximum() {
        let seconds = |streak| back_off(&SPEC, streak).as_secs();
        assert_eq!(
            [0, 1, 2, 3, 31, 32, 1000].map(seconds),
            [1, 2, 4, 5, 5, 5, 5]
        );
    }

    #[test]
    fn requests_that_fail_together_are_one_step() {
        let mut b = backend();
        let now = Tick::from_millis(10);
        let step = |known, b: &mut Backend| b.record(now, known, Outcome::Died, &SPEC);
        assert_eq!(step(0, &mut b), Change::Begins(now + SPEC.base));
        // Both of these were granted before the first failure came in.
        assert_eq!(step(0, &mut b), Change::None);
        assert_eq!(b.record(now, 0, Outcome::Success, &SPEC), Change::None);
        // This one was granted after it.
        assert_eq!(step(1, &mut b), Change::Begins(now + SPEC.base * 2));
    }

    #[test]
    fn a_success_since_the_failure_ends_the_back_off_and_its_doubling() {
        let mut b = backend();
        let now = Tick::ZERO;
        b.record(now, 0, Outcome::Died, &SPEC);
        b.record(now, 1, Outcome::Refused, &SPEC);
        b.backed_off_until = Some(now + SPEC.max);
        assert_eq!(b.record(now, 2, Outcome::Broken, &SPEC), Change::None);
        assert_eq!(b.record(now, 2, Outcome::Success, &SPEC), Change::Ends);
        assert_eq!(
            b.record(now, 2, Outcome::Died, &SPEC),
            Change::Begins(now + SPEC.base)
        );
    }
}
