//! How long one stored response lives: computed once, when it is stored, so that a hit is a comparison.

use std::time::Duration;

use crate::time::Tick;

/// No response is kept by others for longer, whatever it says of itself.
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// A stored response's life. Seconds, as the protocol counts; ages beyond 2^31 are that (RFC 9111 section 1.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// When its head was received (or last validated). By the monotonic clock, so that ages do not step with the date.
    pub received: Tick,
    /// Seconds that it was old then: corrected_initial_age (RFC 9111 section 4.2.3).
    pub initial_age: u32,
    /// Seconds of freshness: freshness_lifetime (RFC 9111 section 4.2.1).
    pub lifetime: u32,
    /// Seconds after freshness in which it may be served while it is validated (RFC 5861 section 3).
    pub stale_while_revalidate: u32,
    /// Seconds after freshness in which it may be served in the place of an error (RFC 5861 section 4).
    pub stale_if_error: u32,
    /// How long fetching it took, in milliseconds: what an early refresh is timed by.
    pub fetch_millis: u32,
    /// Its freshness was said, or configured in the place of what was said; not guessed, and no default.
    pub explicit: bool,
    /// Never served stale without validation: must-revalidate, proxy-revalidate or s-maxage (RFC 9111 section 4.2.4).
    pub must_revalidate: bool,
    /// Never served without validation: an unqualified no-cache (RFC 9111 section 5.2.2.4).
    pub no_cache: bool,
}

impl Life {
    /// current_age in whole seconds (RFC 9111 section 4.2.3).
    pub fn age(&self, now: Tick) -> u32 {
        let resident = now.since(self.received).as_secs();
        let resident = u32::try_from(resident).unwrap_or(u32::MAX);
        self.initial_age.saturating_add(resident).min(1 << 31)
    }

    /// Seconds of freshness that are left; negative is staleness.
    pub fn ttl(&self, now: Tick) -> i64 {
        i64::from(self.lifetime) - i64::from(self.age(now))
    }

    /// How long it may be of use from `now` on, fresh or stale.
    pub fn left(&self, now: Tick) -> Duration {
        self.left_after(now.since(self.received))
    }

    /// How long it may be of use, once it has been here for `resident`.
    fn left_after(&self, resident: Duration) -> Duration {
        let stale = self.stale_while_revalidate.max(self.stale_if_error);
        let all = self.lifetime.saturating_add(stale);
        let left = Duration::from_secs(all.saturating_sub(self.initial_age).into());
        left.saturating_sub(resident).min(LONGEST)
    }

    /// The life of a response that another machine stored: it had been there for `resident` when it was handed to a server that
    /// was to keep it for as long as it is of use, and at `now` that server keeps it for `left` more. So its age goes by the
    /// server's clock, which all share, and by nobody's date. `None` if the server keeps it for longer than it was told to: its
    /// clock has stepped, and nobody knows the age.
    pub fn kept_elsewhere(mut self, resident: Duration, left: Duration, now: Tick) -> Option<Self> {
        let there = self.left_after(resident).checked_sub(left)?;
        let resident = resident + there;
        // What it lived before our clock began counts as age, rounded up.
        let here = resident.min(now.since(Tick::ZERO));
        let before = (resident - here).as_millis().div_ceil(1000);
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        self.initial_age = self.initial_age.saturating_add(before);
        self.received = Tick::ZERO + (now.since(Tick::ZERO) - here);
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever reads a record counts every second that the response has lived, wherever it did so, and at most one too many.
        /// A server that keeps it for longer than it was told to knows nothing of its age.
        #[test]
        fn what_was_kept_elsewhere_has_its_whole_age(
            (initial_age, lifetime, stale) in (0_u32..1000, 0_u32..2_000_000, 0_u32..1000),
            (resident, there, running) in (0_u64..10_000_000, 0_u64..2_000_000_000, 0_u64..20_000_000),
            later in 0_u64..100_000,
        ) {
            let millis = Duration::from_millis;
            let life = Life { initial_age, lifetime, stale_if_error: stale, ..Life::default() };
            let (written, now) = (Tick::ZERO + millis(resident), Tick::ZERO + millis(running));
            let told = life.left(written);
            let Some(left) = told.checked_sub(millis(there)) else {
                // The server has let go of it.
                return Ok(());
            };
            let read = life.kept_elsewhere(millis(resident), left, now);
            let read = read.expect("it is kept for no longer than it was told to be");
            let lived = u64::from(initial_age) * 1000 + resident + there + later;
            let age = u64::from(read.age(now + millis(later)));
            prop_assert!(age >= lived / 1000 && age <= lived / 1000 + 1, "{age} s for {lived} ms");
            prop_assert!(read.received <= now);
            prop_assert_eq!(life.kept_elsewhere(millis(resident), told + millis(1), now), None);
        }
    }
}
