//! May a stored response be served now: fresh, stale, while it is validated, in the place of an error, or not (RFC 9111 section
//! 4.2.4, RFC 5861, XFetch).

use super::Wants;
use crate::cache::life::Life;
use crate::time::Tick;

/// How a stored response may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// As it is.
    Fresh {
        /// Seconds.
        age: u32,
    },
    /// As it is, though stale: the client takes it.
    Stale {
        /// Seconds.
        age: u32,
    },
    /// As it is, though stale, while it is validated.
    WhileRevalidate {
        /// Seconds.
        age: u32,
    },
    /// After validation, or not at all.
    Validate,
}

/// May it be served without asking a backend (RFC 9111 section 4.2, RFC 5861 section 3)? `soft` is a response that was purged
/// softly.
pub fn reuse(life: &Life, soft: bool, wants: &Wants, now: Tick) -> Reuse {
    if life.no_cache || wants.no_cache {
        return Reuse::Validate;
    }
    let age = life.age(now);
    if wants.max_age.is_some_and(|max| age > max) {
        return Reuse::Validate;
    }
    // Purged softly it is as if it had ended just now.
    let fresh = if soft { 0 } else { life.ttl(now).max(0) };
    let stale = (-life.ttl(now)).max(0);
    let wanted = i64::from(wants.min_fresh.unwrap_or(0));
    if fresh > 0 && fresh >= wanted {
        return Reuse::Fresh { age };
    }
    if life.must_revalidate || wants.min_fresh.is_some() {
        return Reuse::Validate;
    }
    if !soft && wants.max_stale.is_some_and(|max| stale <= i64::from(max)) {
        return Reuse::Stale { age };
    }
    // A client that names an age wants no older one.
    if stale < i64::from(life.stale_while_revalidate) && wants.max_age.is_none() {
        return Reuse::WhileRevalidate { age };
    }
    Reuse::Validate
}

/// May it be served in the place of an error (RFC 5861 section 4)? Its age then.
pub fn on_error(life: &Life, wants: &Wants, now: Tick) -> Option<u32> {
    if life.no_cache || life.must_revalidate || wants.no_cache {
        return None;
    }
    let age = life.age(now);
    let allowed = life.stale_if_error.max(wants.stale_if_error.unwrap_or(0));
    let stale = (-life.ttl(now)).max(0);
    let old = wants.max_age.is_some_and(|max| age > max);
    (allowed > 0 && stale < i64::from(allowed) && !old).then_some(age)
}

/// An answer that is none (RFC 5861 section 4).
pub fn is_error(status: u16) -> bool {
    matches!(status, 500 | 502..=504)
}

/// XFetch (Vattani, Chierichetti and Lowenstein, 2015): should this request refresh ahead of the end? `unit` is uniform in (0,
/// 1].
pub fn early(life: &Life, now: Tick, unit: f64, beta: f64) -> bool {
    let ahead = f64::from(life.fetch_millis) * beta * -unit.max(f64::MIN_POSITIVE).ln();
    let resident = now.since(life.received).as_millis() as f64;
    let age = f64::from(life.initial_age) * 1000.0 + resident;
    age + ahead >= f64::from(life.lifetime) * 1000.0
}
