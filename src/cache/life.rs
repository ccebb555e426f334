//! How long one stored response lives: computed once, when it is stored, so that a hit is a comparison.

use crate::time::Wall;

/// A stored response's life. Seconds, as the protocol counts; ages beyond 2^31 are that (RFC 9111 section 1.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// When its head was received (or last validated).
    pub received: Wall,
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
    /// current_age in whole seconds (RFC 9111 section 4.2.3). A clock that went backwards adds nothing.
    pub fn age(&self, now: Wall) -> u32 {
        let resident = now.since(self.received).as_secs();
        let resident = u32::try_from(resident).unwrap_or(u32::MAX);
        self.initial_age.saturating_add(resident).min(1 << 31)
    }

    /// Seconds of freshness that are left; negative is staleness.
    pub fn ttl(&self, now: Wall) -> i64 {
        i64::from(self.lifetime) - i64::from(self.age(now))
    }
}
