//! When an attempt may be made again: a pure rule over method and progress, and a budget that keeps retries from becoming
//! the load.

use std::time::Duration;

use crate::time::Tick;

/// An upstream's retry policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySpec {
    /// Further attempts after the first, each on another backend. A reuse race on a kept-alive connection is made up for on
    /// a fresh connection and does not count.
    pub attempts: u8,
    /// Retries allowed for each request, on average: 0.2 is 20 %.
    pub budget_ratio: f64,
    /// Retries a second allowed whatever the load.
    pub budget_per_second: f64,
    /// After what another attempt is made.
    pub on: Conditions,
    /// Which requests may be sent again though a backend may have worked on them.
    pub repeats: Repeats,
    /// From the beginning of an attempt to the head of its answer; `None` leaves the backend's timeouts alone in force.
    pub per_try: Option<Duration>,
}

/// After what another attempt is made. A reuse race is made up for whatever stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// No connection was made.
    pub connect: bool,
    /// The backend broke off before its answer began.
    pub reset: bool,
    /// The backend took too long to begin its answer.
    pub timeout: bool,
    /// It answered with one of these.
    pub statuses: Statuses,
}

/// A set of statuses, 100 to 599.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses([u64; 8]);

impl Statuses {
    /// None at all.
    pub const NONE: Statuses = Statuses([0; 8]);

    /// Adds one; what is no status is left out.
    pub fn insert(&mut self, status: u16) {
        if let 100..=599 = status {
            let bit = usize::from(status - 100);
            self.0[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Is this one of them?
    #[inline]
    pub fn contains(&self, status: u16) -> bool {
        let bit = usize::from(status.wrapping_sub(100));
        self.0
            .get(bit / 64)
            .is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Is there none?
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Statuses::NONE
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (100..=599).filter(|status| self.contains(*status))
    }
}

/// Which requests may be sent again though a backend may have worked on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Those whose method is idempotent (RFC 9110 section 9.2.2).
    Idempotent,
    /// Those, and those with an Idempotency-Key, by which backends know a request that they have had.
    Keyed,
    /// Every request: its backends are known to bear it.
    All,
}

impl Repeats {
    /// May a request of this method be sent again, which has such a key or not?
    pub fn allows(self, method: &http::Method, is_keyed: impl FnOnce() -> bool) -> bool {
        match self {
            _ if method.is_idempotent() => true,
            Repeats::Idempotent => false,
            Repeats::Keyed => is_keyed(),
            Repeats::All => true,
        }
    }
}

impl Default for RetrySpec {
    /// 1 attempt, after what leaves no doubt but a reset; 20 % + 3/s.
    fn default() -> Self {
        RetrySpec {
            attempts: 1,
            budget_ratio: 0.2,
            budget_per_second: 3.0,
            on: Conditions {
                connect: true,
                reset: true,
                timeout: false,
                statuses: Statuses::NONE,
            },
            repeats: Repeats::Idempotent,
            per_try: None,
        }
    }
}

impl RetrySpec {
    /// Is there another attempt after `failed` of them, each of which had another one of `backends`?
    pub fn has_another(&self, failed: u8, backends: usize) -> bool {
        failed <= self.attempts && usize::from(failed) < backends
    }

    /// May a request be sent to another backend after an attempt that came so far? `repeatable` says that a backend may work on
    /// it twice, `whole` that all of its body is still there.
    pub fn may_retry(&self, progress: Progress, repeatable: bool, whole: bool) -> bool {
        let is_meant = match progress {
            Progress::NeverSent => self.on.connect,
            Progress::Sent => self.on.reset,
            Progress::Abandoned => self.on.timeout,
            Progress::Answered => false,
        };
        is_meant && whole && (repeatable || progress == Progress::NeverSent)
    }

    /// Is an answer of this status given up for that of another backend?
    #[inline]
    pub fn is_poor(&self, status: u16) -> bool {
        self.on.statuses.contains(status)
    }
}

/// How far an attempt had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No byte of the request can have reached the backend.
    NeverSent,
    /// Some of it may have, and no response byte came back before the connection ended.
    Sent,
    /// Some of it may have, and nobody knows whether the backend is still at work on it: it took too long.
    Abandoned,
    /// The response has begun.
    Answered,
}

/// May the request be sent again after a reuse race (RFC 9110 section 9.2.2)? Only if it is there as a `whole`, with all of its
/// body that was taken, and either never reached a backend, or it is `repeatable` and nothing came back.
pub fn may_repeat(progress: Progress, repeatable: bool, whole: bool) -> bool {
    match progress {
        Progress::NeverSent => whole,
        Progress::Sent => whole && repeatable,
        Progress::Abandoned | Progress::Answered => false,
    }
}

/// A token bucket: each request adds a share of a token, each second adds some, each retry takes one.
#[derive(Clone, Debug)]
pub struct Budget {
    spec: RetrySpec,
    tokens: f64,
    refilled: Tick,
}

/// What a full bucket holds: a burst of failures, such as all requests on one killed backend, is made up for at once.
const BURST: f64 = 100.0;

impl Budget {
    /// A reload: what has been saved up is kept, up to the bucket's size.
    pub fn apply(&mut self, spec: RetrySpec) {
        self.spec = spec;
    }

    /// A full bucket.
    pub fn new(now: Tick, spec: RetrySpec) -> Self {
        Budget {
            spec,
            tokens: BURST,
            refilled: now,
        }
    }

    /// Counts a request.
    pub fn deposit(&mut self) {
        self.tokens = (self.tokens + self.spec.budget_ratio).min(BURST);
    }

    /// Takes a token for a retry; false when there is none.
    pub fn withdraw(&mut self, now: Tick) -> bool {
        let elapsed: Duration = now.since(self.refilled);
        self.refilled = now;
        self.tokens =
            (self.tokens + elapsed.as_secs_f64() * self.spec.budget_per_second).min(BURST);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRESS: [Progress; 4] = [
        Progress::NeverSent,
        Progress::Sent,
        Progress::Abandoned,
        Progress::Answered,
    ];

    #[test]
    fn what_must_not_be_worked_on_twice_is_sent_again_only_if_it_never_went_out() {
        let mut all = RetrySpec::default();
        all.on.timeout = true;
        for spec in [RetrySpec::default(), all] {
            for progress in PROGRESS {
                let never = progress == Progress::NeverSent;
                assert_eq!(spec.may_retry(progress, false, true), never);
                assert_eq!(may_repeat(progress, false, true), never);
                // Part of its body is lost.
                assert!(!spec.may_retry(progress, true, false));
                assert!(!may_repeat(progress, true, false));
                let is_timeout = progress == Progress::Abandoned;
                let again = progress != Progress::Answered && (spec.on.timeout || !is_timeout);
                assert_eq!(spec.may_retry(progress, true, true), again);
            }
        }
    }

    #[test]
    fn keys_and_routes_make_a_post_repeatable() {
        use http::Method;
        for keyed in [false, true] {
            let allows = |repeats: Repeats, method| repeats.allows(&method, || keyed);
            for repeats in [Repeats::Idempotent, Repeats::Keyed, Repeats::All] {
                assert!(allows(repeats, Method::PUT));
            }
            assert!(!allows(Repeats::Idempotent, Method::POST));
            assert_eq!(allows(Repeats::Keyed, Method::POST), keyed);
            assert!(allows(Repeats::All, Method::POST));
        }
    }

    #[test]
    fn a_set_of_statuses_has_what_was_put_in() {
        let mut set = Statuses::default();
        for status in [0, 99, 100, 163, 164, 503, 599, 600, u16::MAX] {
            set.insert(status);
        }
        let all: Vec<u16> = set.iter().collect();
        assert_eq!(all, [100, 163, 164, 503, 599]);
        assert!(!set.contains(0) && !set.contains(612) && !set.contains(u16::MAX));
    }

    #[test]
    fn attempts_end_with_the_policy_or_with_the_backends() {
        for attempts in 0..5_u8 {
            let spec = RetrySpec {
                attempts,
                ..RetrySpec::default()
            };
            for backends in 0..5_usize {
                let made = (1..10_u8).find(|failed| !spec.has_another(*failed, backends));
                let most = (usize::from(attempts) + 1).min(backends.max(1));
                assert_eq!(
                    made.map(usize::from),
                    Some(most),
                    "{attempts} of {backends}"
                );
            }
        }
    }

    #[test]
    fn the_budget_bounds_retries_to_its_ratio_and_rate() {
        let mut budget = Budget::new(Tick::ZERO, RetrySpec::default());
        let mut granted = 0;
        for i in 0..10_000_u64 {
            budget.deposit();
            granted += u32::from(budget.withdraw(Tick::from_millis(i)));
        }
        // 10,000 requests over 10 seconds: the burst, 20 % and 3/s, within one.
        assert!((2129..=2130).contains(&granted), "{granted}");
    }
}
