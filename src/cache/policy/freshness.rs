//! How long a response is fresh, and how old it is when it comes (RFC 9111 sections 4.2.1 to 4.2.3).

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

use super::Times;
use crate::cache::date;
use crate::cache::directives::{FOREVER, ResponseDirectives, Scope, seconds};
use crate::cache::life::Life;
use crate::cache::rules::Rules;
use crate::message::fields;

/// What a cache may guess at most (RFC 9111 section 4.2.2 leaves it open).
const HEURISTIC_MAX: u32 = 86_400;

/// Freshness and staleness; `None` where nothing allows to store.
pub(super) fn life(
    rules: &Rules,
    d: &ResponseDirectives,
    status: u16,
    headers: &HeaderMap,
    times: Times,
) -> Option<Life> {
    let date = date_of(headers, &header::DATE, times).unwrap_or(date::seconds(times.received.wall));
    let said = d
        .s_maxage
        .or(d.max_age)
        .or_else(|| expires(d, headers, date, times));
    let no_cache = d.no_cache == Scope::All;
    let may_guess = is_heuristic(status) || d.public;
    let (lifetime, explicit) = match (rules.ttl, said) {
        // It replaces what is said, and allows nothing by itself.
        (Some(ttl), said) if said.is_some() || may_guess => (whole(ttl), true),
        (_, Some(said)) => (said, true),
        _ if !may_guess => return None,
        (_, None) if no_cache => (0, true),
        (_, None) => (guess(rules, headers, date, times)?, false),
    };
    let must_revalidate = d.must_revalidate || d.proxy_revalidate || d.s_maxage.is_some();
    let fetch = times.received.tick.since(times.requested);
    Some(Life {
        received: times.received.tick,
        initial_age: initial_age(headers, date, times),
        lifetime,
        stale_while_revalidate: d
            .stale_while_revalidate
            .unwrap_or(whole(rules.stale_while_revalidate)),
        stale_if_error: d.stale_if_error.unwrap_or(whole(rules.stale_if_error)),
        fetch_millis: u32::try_from(fetch.as_millis()).unwrap_or(u32::MAX),
        explicit,
        must_revalidate,
        no_cache,
    })
}

/// Is freshness guessed for it? RFC 9110 section 15.1 allows 405, 414 and 501 as well. But these are about one request, and
/// what provokes them is often no part of the key (a field that overrides the method, say): a guess would give them to everybody.
fn is_heuristic(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 410)
}

/// What Expires says, beside no targeted field (RFC 9213 section 2.2). What is no date is in the past (RFC 9111 section 5.3),
/// and so are two of them.
fn expires(d: &ResponseDirectives, headers: &HeaderMap, date: i64, times: Times) -> Option<u32> {
    if d.targeted {
        return None;
    }
    let mut lines = headers.get_all(header::EXPIRES).iter();
    let first = lines.next()?;
    let at = match lines.next() {
        None => date::parse(first.as_bytes(), times.received.wall),
        Some(_) => None,
    };
    Some(at.map_or(0, |at| span(date, at)))
}

/// A lifetime where nothing explicit is said: the config's, or a tenth of the time since the last change.
fn guess(rules: &Rules, headers: &HeaderMap, date: i64, times: Times) -> Option<u32> {
    if let Some(ttl) = rules.default_ttl {
        return Some(whole(ttl));
    }
    let modified = date_of(headers, &header::LAST_MODIFIED, times)
        .filter(|m| rules.heuristic && *m <= date)?;
    Some((span(modified, date) / 10).min(HEURISTIC_MAX))
}

/// corrected_initial_age (RFC 9111 section 4.2.3), in whole seconds.
fn initial_age(headers: &HeaderMap, date: i64, times: Times) -> u32 {
    let apparent = span(date, date::seconds(times.received.wall));
    let said = headers.get(header::AGE).and_then(|age| {
        // Of a list the first counts; what is no number says nothing (RFC 9111 section 5.1).
        let first = fields::list_items(age.as_bytes()).next()?;
        seconds(first)
    });
    let delay = whole(times.received.tick.since(times.requested));
    apparent.max(said.unwrap_or(0).saturating_add(delay))
}

fn date_of(headers: &HeaderMap, name: &HeaderName, times: Times) -> Option<i64> {
    date::parse(headers.get(name)?.as_bytes(), times.received.wall)
}

/// Whole seconds.
fn whole(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Seconds from one date to another; none if it is before.
fn span(from: i64, to: i64) -> u32 {
    let secs = to.saturating_sub(from).clamp(0, i64::from(FOREVER));
    u32::try_from(secs).unwrap_or(FOREVER)
}
