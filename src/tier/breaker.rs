//! When Redis is asked, and when it is left alone. Time and randomness are arguments.

use std::time::Duration;

use crate::time::Tick;

/// Failures in a row after which nobody asks any more.
const FAILURES: u32 = 3;

/// The first rest, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// While it is closed, requests ask Redis. While it is open none does, and from time to time a new connection is tried.
#[derive(Debug)]
pub struct Breaker {
    /// When to try next; `None` while it is closed.
    open: Option<Tick>,
    failures: u32,
    /// Openings since the last request that succeeded.
    openings: u32,
}

impl Breaker {
    /// Open, and to be tried at once.
    pub fn new() -> Self {
        Breaker {
            open: Some(Tick::ZERO),
            failures: 0,
            openings: 0,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// When to try to connect; `None` while it is closed.
    pub fn due(&self) -> Option<Tick> {
        self.open
    }

    /// A connection was made and has answered. The rests stay as long as they are until a request succeeds, because a server
    /// that answers greetings and nothing else would be tried over and over.
    pub fn connected(&mut self) {
        self.open = None;
        self.failures = 0;
    }

    /// A request was answered in time.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.openings = 0;
    }

    /// A request was not answered in time, or with an error. True if that opened it.
    pub fn failed(&mut self, now: Tick, unit: f64) -> bool {
        self.failures += 1;
        let opens = self.is_closed() && self.failures >= FAILURES;
        if opens {
            self.lost(now, unit);
        }
        opens
    }

    /// The connection is gone, or could not be made. `unit` in `[0, 1)` spreads the next attempts of many.
    pub fn lost(&mut self, now: Tick, unit: f64) {
        let doubled = FIRST.saturating_mul(1 << self.openings.min(10));
        self.open = Some(now + doubled.min(LONGEST).mul_f64(0.8 + 0.4 * unit));
        self.openings = self.openings.saturating_add(1);
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(breaker: &Breaker, now: Tick) -> Duration {
        breaker.due().expect("it is open").since(now)
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_no_fewer() {
        let mut breaker = Breaker::new();
        breaker.connected();
        let now = Tick::from_millis(5);
        for _ in 0..10 {
            assert!(!breaker.failed(now, 0.5));
            assert!(!breaker.failed(now, 0.5));
            breaker.succeeded();
        }
        assert!(!breaker.failed(now, 0.5) && !breaker.failed(now, 0.5));
        assert!(breaker.is_closed());
        assert!(breaker.failed(now, 0.5));
        assert!(!breaker.is_closed());
        // What was still under way changes nothing.
        assert!(!breaker.failed(now, 0.5));
        assert_eq!(rest(&breaker, now), FIRST);
    }

    #[test]
    fn rests_double_up_to_the_longest_and_stay_within_their_spread() {
        let mut breaker = Breaker::new();
        assert_eq!(breaker.due(), Some(Tick::ZERO));
        let now = Tick::from_millis(70_000);
        for expected in [100, 200, 400, 800, 1600, 2000, 2000, 2000] {
            breaker.lost(now, 0.5);
            assert_eq!(rest(&breaker, now), Duration::from_millis(expected));
        }
        for _ in 0..100 {
            breaker.lost(now, 0.999);
            assert!(rest(&breaker, now) <= LONGEST.mul_f64(1.2));
        }
        breaker.lost(now, 0.0);
        assert_eq!(rest(&breaker, now), LONGEST.mul_f64(0.8));
    }

    #[test]
    fn only_an_answer_makes_the_rests_short_again() {
        let mut breaker = Breaker::new();
        let now = Tick::from_millis(1);
        breaker.lost(now, 0.5);
        breaker.connected();
        assert!(breaker.is_closed());
        breaker.lost(now, 0.5);
        assert_eq!(rest(&breaker, now), FIRST * 2);
        breaker.connected();
        breaker.succeeded();
        breaker.lost(now, 0.5);
        assert_eq!(rest(&breaker, now), FIRST);
    }
}
