//! What may be stored and what may be served, by a shared cache (RFC 9111, with RFC 5861, RFC 9213 and XFetch). Here: what a
//! request asks, and what may be stored; the rest in a room for each question.
//!
//! Absent: the answer to a condition or a range (`conditional`, `range`), keys (`key`), and doing any of it.

mod freshness;
mod invalidate;
mod reuse;
mod validate;

use http::{HeaderMap, HeaderName, Method, header};

use super::directives::{RequestDirectives, ResponseDirectives, Scope};
use super::life::Life;
use super::rules::Rules;
use super::status::Forward;
use crate::message::fields;
use crate::time::{Moment, Tick};

pub use self::invalidate::{also_invalidates, invalidates};
pub use self::reuse::{Reuse, early, is_error, on_error, reuse};
pub use self::validate::{head_of, head_of_part, matches_304, refresh, validators};

/// Selecting fields of one response; beyond that it is as if it were selected by everything.
const VARY_MAX: usize = 16;

/// How a request meets the cache.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// It does.
    Use(Wants),
    /// It goes past it.
    Bypass(Forward),
}

/// What a request wants of a stored response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Nothing without validation.
    pub no_cache: bool,
    /// The response is not to be stored.
    pub no_store: bool,
    /// Nothing from a backend.
    pub only_if_cached: bool,
    /// Seconds of age at most.
    pub max_age: Option<u32>,
    /// Seconds of freshness left at least.
    pub min_fresh: Option<u32>,
    /// Seconds of staleness at most.
    pub max_stale: Option<u32>,
    /// Seconds of staleness in the place of an error.
    pub stale_if_error: Option<u32>,
    /// It carries Authorization.
    pub authorized: bool,
    /// It carries cookies.
    pub cookie: bool,
    /// It is a HEAD.
    pub head: bool,
    /// It carries Range.
    pub range: bool,
    /// It carries If-None-Match or If-Modified-Since.
    pub conditional: bool,
}

/// Reads a request (RFC 9111 sections 4 and 5.2.1). Only GET and HEAD meet the cache.
pub fn ask(rules: &Rules, method: &Method, path: &str, headers: &HeaderMap) -> Ask {
    let head = *method == Method::HEAD;
    if !(head || *method == Method::GET) {
        return Ask::Bypass(Forward::Method);
    }
    if rules.bypass_methods.contains(method)
        || rules.bypasses(path)
        || rules
            .bypass_headers
            .iter()
            .any(|name| headers.contains_key(name))
        || (!rules.bypass_cookies.is_empty() && has_cookie(headers, &rules.bypass_cookies))
    {
        return Ask::Bypass(Forward::Bypass);
    }
    let has = |name: &HeaderName| headers.contains_key(name);
    // Only an origin server evaluates these (RFC 9110 section 13.2.2), so it is asked.
    if has(&header::IF_MATCH) || has(&header::IF_UNMODIFIED_SINCE) {
        return Ask::Bypass(Forward::Bypass);
    }
    let d = RequestDirectives::of(headers);
    Ask::Use(Wants {
        no_cache: d.no_cache,
        no_store: d.no_store,
        only_if_cached: d.only_if_cached,
        max_age: d.max_age,
        min_fresh: d.min_fresh,
        max_stale: d.max_stale,
        stale_if_error: d.stale_if_error,
        authorized: has(&header::AUTHORIZATION),
        cookie: has(&header::COOKIE),
        head,
        range: has(&header::RANGE),
        conditional: has(&header::IF_NONE_MATCH) || has(&header::IF_MODIFIED_SINCE),
    })
}

fn has_cookie(headers: &HeaderMap, names: &[String]) -> bool {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'))
        .filter_map(|pair| pair.split(|b| *b == b'=').next())
        .any(|name| names.iter().any(|n| n.as_bytes() == name.trim_ascii()))
}

/// When a request left and when its response's head came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// request_time (RFC 9111 section 4.2.3): delays are counted from it.
    pub requested: Tick,
    /// response_time: time here is counted from it, and the response's dates are held against it.
    pub received: Moment,
}

/// How a response is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long it lives.
    pub life: Life,
    /// Request fields that select it: sorted, each once; empty without Vary.
    pub vary: Vec<HeaderName>,
    /// Fields that are for one user, or to be validated each time: left out of what is stored.
    pub drop: Vec<HeaderName>,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncacheable {
    /// Cache-Control: no-store (RFC 9111 section 5.2.2.5).
    NoStore,
    /// Cache-Control: private (section 5.2.2.7).
    Private,
    /// The request was authorized, and nothing lifts that (section 3.5).
    Authorization,
    /// It sets a cookie, which is somebody's.
    SetCookie,
    /// The request had cookies, and the response's freshness would be a guess.
    Cookie,
    /// Vary: * (section 4.1).
    VaryAll,
    /// The status is no final one, or means nothing to other requests.
    Status,
    /// Nothing says that it may be stored (section 3).
    NoFreshness,
    /// must-understand, and the status is not understood (section 5.2.2.3).
    MustUnderstand,
    /// The request said no-store (section 5.2.1.5).
    RequestNoStore,
    /// A part, where no part was asked for.
    Partial,
}

impl Uncacheable {
    /// A token for Cache-Status.
    pub fn name(self) -> &'static str {
        match self {
            Uncacheable::NoStore => "no-store",
            Uncacheable::Private => "private",
            Uncacheable::Authorization => "authorization",
            Uncacheable::SetCookie => "set-cookie",
            Uncacheable::Cookie => "cookie",
            Uncacheable::VaryAll => "vary",
            Uncacheable::Status => "status",
            Uncacheable::NoFreshness => "no-freshness",
            Uncacheable::MustUnderstand => "must-understand",
            Uncacheable::RequestNoStore => "request-no-store",
            Uncacheable::Partial => "partial",
        }
    }
}

/// May this response be stored, and for how long (RFC 9111 section 3)? `headers` are the backend's, without hop-by-hop fields.
/// The part of a 206 is judged as a 200, by whoever asked for one.
///
/// # Errors
/// Why it may not.
pub fn store(
    rules: &Rules,
    wants: &Wants,
    status: u16,
    headers: &HeaderMap,
    times: Times,
) -> Result<Keep, Uncacheable> {
    let d = ResponseDirectives::of(headers);
    match status {
        206 => return Err(Uncacheable::Partial),
        // The last three answer conditions, ranges and expectations of one request, which no key holds.
        0..200 | 304 | 600.. | 412 | 416 | 417 => return Err(Uncacheable::Status),
        _ => {}
    }
    if wants.no_store {
        return Err(Uncacheable::RequestNoStore);
    }
    if d.must_understand && !is_understood(status) {
        return Err(Uncacheable::MustUnderstand);
    }
    // A cache that understands the status passes over the no-store beside must-understand.
    if d.no_store && !d.must_understand {
        return Err(Uncacheable::NoStore);
    }
    let mut drop = Vec::new();
    match &d.private {
        Scope::All => return Err(Uncacheable::Private),
        Scope::Fields(names) => drop.extend_from_slice(names),
        Scope::None => {}
    }
    if let Scope::Fields(names) = &d.no_cache {
        drop.extend_from_slice(names);
    }
    if headers.contains_key(header::SET_COOKIE) && !drop.contains(&header::SET_COOKIE) {
        return Err(Uncacheable::SetCookie);
    }
    if wants.authorized && !d.lifts_authorization {
        return Err(Uncacheable::Authorization);
    }
    let vary = vary(headers).ok_or(Uncacheable::VaryAll)?;
    let life =
        freshness::life(rules, &d, status, headers, times).ok_or(Uncacheable::NoFreshness)?;
    if !life.explicit && (wants.authorized || wants.cookie) {
        return Err(Uncacheable::Cookie);
    }
    Ok(Keep { life, vary, drop })
}

/// A status whose caching rules this cache knows: the final ones of RFC 9110.
fn is_understood(status: u16) -> bool {
    matches!(status, 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

/// The selecting fields in one order; `None` for `*`, or for more of them than anybody means.
pub fn vary(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in headers.get_all(header::VARY) {
        for item in fields::list_items(line.as_bytes()) {
            // `*` is no name, and what is neither is as good as it.
            names.push(
                HeaderName::from_bytes(item)
                    .ok()
                    .filter(|n| n.as_str() != "*")?,
            );
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    (names.len() <= VARY_MAX).then_some(names)
}
