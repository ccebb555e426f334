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
}

impl Default for RetrySpec {
    /// 1 attempt; 20 % + 3/s.
    fn default() -> Self {
        RetrySpec {
            attempts: 1,
            budget_ratio: 0.2,
            budget_per_second: 3.0,
        }
    }
}

impl RetrySpec {
    /// Is there another attempt after `failed` of them, each of which had another one of `backends`?
    pub fn has_another(&self, failed: u8, backends: usize) -> bool {
        failed <= self.attempts && usize::from(failed) < backends
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

/// May the request be sent again (RFC 9110 section 9.2.2)? Only if it is there as a `whole`, with all of its body that was taken,
/// and either never reached a backend, or its method is idempotent and nothing came back.
pub fn may_retry(method: &http::Method, progress: Progress, whole: bool) -> bool {
    match progress {
        Progress::NeverSent => whole,
        Progress::Sent => whole && method.is_idempotent(),
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

    #[test]
    fn a_post_is_sent_again_only_if_it_never_went_out() {
        use http::Method;
        assert!(may_retry(&Method::POST, Progress::NeverSent, true));
        assert!(!may_retry(&Method::POST, Progress::Sent, true));
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            assert!(may_retry(&method, Progress::NeverSent, true), "{method}");
            assert!(may_retry(&method, Progress::Sent, true), "{method}");
            // Part of its body is lost.
            assert!(!may_retry(&method, Progress::NeverSent, false), "{method}");
            assert!(!may_retry(&method, Progress::Sent, false), "{method}");
            assert!(!may_retry(&method, Progress::Abandoned, true), "{method}");
            assert!(!may_retry(&method, Progress::Answered, true), "{method}");
        }
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
