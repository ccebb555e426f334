//! What may be stored and what may be served, by a shared cache (RFC 9111, with RFC 5861, RFC 9213 and XFetch).
//!
//! Absent: the answer to a condition or a range (`conditional`, `range`), keys (`key`), and doing any of it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::directives::{RequestDirectives, ResponseDirectives, Scope, seconds};
use super::life::Life;
use super::rules::Rules;
use super::status::Forward;
use super::stored::{Head, Stored};
use crate::message::fields;
use crate::time::Wall;

/// What a cache may guess at most (RFC 9111 section 4.2.2 leaves it open).
const HEURISTIC_MAX: u64 = 86_400;

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
    /// It carries If-None-Match or its kin.
    pub conditional: bool,
}

/// Reads a request (RFC 9111 sections 4 and 5.2.1). Only GET and HEAD meet the cache.
pub fn ask(rules: &Rules, method: &Method, path: &str, headers: &HeaderMap) -> Ask {
    let head = *method == Method::HEAD;
    if !(head || *method == Method::GET) {
        return Ask::Bypass(Forward::Method);
    }
    if rules.bypass_methods.contains(method)
        || rules
            .bypass_paths
            .iter()
            .any(|p| path.starts_with(p.as_str()))
        || rules
            .bypass_headers
            .iter()
            .any(|name| headers.contains_key(name))
        || (!rules.bypass_cookies.is_empty() && has_cookie(headers, &rules.bypass_cookies))
    {
        return Ask::Bypass(Forward::Bypass);
    }
    let d = RequestDirectives::of(headers);
    let has = |name: &HeaderName| headers.contains_key(name);
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
        conditional: has(&header::IF_NONE_MATCH)
            || has(&header::IF_MODIFIED_SINCE)
            || has(&header::IF_MATCH)
            || has(&header::IF_UNMODIFIED_SINCE),
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
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// request_time (RFC 9111 section 4.2.3).
    pub requested: Wall,
    /// response_time.
    pub received: Wall,
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
    /// The status is no final one, or means nothing by itself.
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

/// May this response be stored, and for how long (RFC 9111 section 3)? `headers` are the backend's, without hop-by-hop fields. The
/// part of a 206 is judged as a 200, by whoever asked for one.
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
        0..200 | 304 | 600.. => return Err(Uncacheable::Status),
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
    let lifted = d.public || d.must_revalidate || d.s_maxage.is_some();
    if wants.authorized && !lifted {
        return Err(Uncacheable::Authorization);
    }
    let vary = vary(headers).ok_or(Uncacheable::VaryAll)?;
    let life = life(rules, &d, status, headers, times).ok_or(Uncacheable::NoFreshness)?;
    if !life.explicit && (wants.authorized || wants.cookie) {
        return Err(Uncacheable::Cookie);
    }
    Ok(Keep { life, vary, drop })
}

/// A status whose caching rules this cache knows: the final ones of RFC 9110.
fn is_understood(status: u16) -> bool {
    matches!(status, 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

/// May freshness be guessed for it (RFC 9110 section 15.1)?
fn is_heuristic(status: u16) -> bool {
    matches!(
        status,
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
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

/// Freshness and staleness (RFC 9111 section 4.2); `None` where nothing allows to store.
fn life(
    rules: &Rules,
    d: &ResponseDirectives,
    status: u16,
    headers: &HeaderMap,
    times: Times,
) -> Option<Life> {
    let date = date(headers, &header::DATE).unwrap_or_else(|| times.received.into());
    let said = d.s_maxage.or(d.max_age).or_else(|| {
        let expires = headers.get(header::EXPIRES).filter(|_| !d.targeted)?;
        // What is no date is in the past (RFC 9111 section 5.3), and so are two of them.
        let one = headers.get_all(header::EXPIRES).iter().count() == 1;
        let at = expires.to_str().ok().and_then(parse_date).filter(|_| one);
        Some(at.map_or(0, |at| span(date, at)))
    });
    let no_cache = d.no_cache == Scope::All;
    let (lifetime, explicit) = match (rules.ttl, said) {
        (Some(ttl), _) => (whole(ttl), true),
        (None, Some(said)) => (said, true),
        (None, None) if no_cache => (0, true),
        (None, None) => (guess(rules, d, status, headers, date)?, false),
    };
    let must_revalidate = d.must_revalidate || d.proxy_revalidate || d.s_maxage.is_some();
    let fetch = times.received.since(times.requested);
    Some(Life {
        received: times.received,
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

fn whole(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// A lifetime where nothing explicit is said: the config's, or a tenth of the time since the last change.
fn guess(
    rules: &Rules,
    d: &ResponseDirectives,
    status: u16,
    headers: &HeaderMap,
    date: SystemTime,
) -> Option<u32> {
    if !(is_heuristic(status) || d.public) {
        return None;
    }
    if let Some(ttl) = rules.default_ttl {
        return Some(whole(ttl));
    }
    let modified = self::date(headers, &header::LAST_MODIFIED).filter(|_| rules.heuristic)?;
    let tenth = date.duration_since(modified).ok()?.as_secs() / 10;
    Some(u32::try_from(tenth.min(HEURISTIC_MAX)).unwrap_or(0))
}

/// corrected_initial_age (RFC 9111 section 4.2.3), in whole seconds.
fn initial_age(headers: &HeaderMap, date: SystemTime, times: Times) -> u32 {
    let received: SystemTime = times.received.into();
    let apparent = received.duration_since(date).unwrap_or_default();
    let said = headers.get(header::AGE).and_then(|age| {
        // Of a list the first counts; what is no number says nothing (RFC 9111 section 5.1).
        let first = fields::list_items(age.as_bytes()).next()?;
        seconds(first)
    });
    let delay = times.received.since(times.requested);
    let corrected = Duration::from_secs(said.unwrap_or(0).into()) + delay;
    let age = apparent.max(corrected);
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    parse_date(headers.get(name)?.to_str().ok()?)
}

/// All three forms (RFC 9110 section 5.6.7).
pub(super) fn parse_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

fn span(from: SystemTime, to: SystemTime) -> u32 {
    let secs = to.duration_since(from).unwrap_or_default().as_secs();
    u32::try_from(secs).unwrap_or(u32::MAX).min(1 << 31)
}

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

/// May it be served without asking a backend (RFC 9111 section 4.2, RFC 5861 section 3)? `soft` is a response that was purged softly.
pub fn reuse(life: &Life, soft: bool, wants: &Wants, now: Wall) -> Reuse {
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
pub fn on_error(life: &Life, wants: &Wants, now: Wall) -> Option<u32> {
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

/// The conditions for a validating GET (RFC 9111 section 4.3.1); `None` where there is nothing to validate with.
pub fn validators(head: &Head) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let field = |name: &str| HeaderValue::from_bytes(head.get(name)?).ok();
    let etag = field("etag").map(|v| (header::IF_NONE_MATCH, v));
    let modified = field("last-modified").map(|v| (header::IF_MODIFIED_SINCE, v));
    let found: Vec<_> = etag.into_iter().chain(modified).collect();
    (!found.is_empty()).then_some(found)
}

/// Does a 304 speak of what is stored (RFC 9111 section 4.3.4)? Not if it names another validator.
pub fn matches_304(head: &Head, headers: &HeaderMap) -> bool {
    let same = |name: &HeaderName| match (headers.get(name), head.get(name.as_str())) {
        (Some(new), Some(old)) => Some(opaque(new.as_bytes()) == opaque(old)),
        _ => None,
    };
    same(&header::ETAG)
        .or_else(|| same(&header::LAST_MODIFIED))
        .unwrap_or(true)
}

/// An entity tag without the mark of weakness.
pub(super) fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// A stored response after a 304: its fields replaced by those that came, its life begun anew (RFC 9111 section 3.2).
///
/// # Errors
/// The 304 says that it may no longer be stored.
pub fn refresh(
    rules: &Rules,
    wants: &Wants,
    stored: &Stored,
    headers: &HeaderMap,
    times: Times,
) -> Result<(Stored, Keep), Uncacheable> {
    // What describes the content that came with them, which a 304 has none of.
    const KEPT: [HeaderName; 5] = [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::TRANSFER_ENCODING,
    ];
    let mut merged = stored.head.to_map();
    for name in headers.keys().filter(|n| !KEPT.contains(n)) {
        merged.remove(name);
        for value in headers.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    // An age is what the 304 says of itself; without a date of its own it was made now.
    if !headers.contains_key(header::DATE) {
        merged.remove(header::DATE);
    }
    let keep = store(rules, wants, stored.status, &merged, times)?;
    let head = head_of(&merged, &keep, times.received);
    let refreshed = Stored::new(stored.status, head, stored.body.clone(), keep.life);
    Ok((refreshed, keep))
}

/// The fields as they are stored: without what is said anew each time and what is one user's, and with a Date (RFC 9110
/// section 6.6.1).
pub fn head_of(headers: &HeaderMap, keep: &Keep, received: Wall) -> Head {
    const ANEW: [HeaderName; 2] = [header::CONTENT_LENGTH, header::AGE];
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        let left_out =
            ANEW.contains(name) || keep.drop.contains(name) || fields::is_hop_by_hop(name);
        if !left_out {
            kept.append(name, value.clone());
        }
    }
    if !kept.contains_key(header::DATE)
        && let Ok(value) = HeaderValue::try_from(httpdate::fmt_http_date(received.into()))
    {
        kept.insert(header::DATE, value);
    }
    Head::of(&kept)
}

/// Does this exchange make stored responses outdated (RFC 9111 section 4.4)? A successful answer to a method that is not safe does.
pub fn invalidates(method: &Method, status: u16) -> bool {
    let safe = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    !safe && (200..400).contains(&status)
}

/// Which other URLs of the same origin a response makes outdated, by Location and Content-Location: authority, and path with
/// query (RFC 9111 section 4.4).
pub fn also_invalidates(
    scheme: &str,
    authority: &str,
    path_query: &str,
    headers: &HeaderMap,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let Some(text) = headers.get(name).and_then(|v| v.to_str().ok()) else {
            continue;
        };
        let text = text.split('#').next().unwrap_or_default();
        let target = if let Some((named, rest)) = text.split_once("://") {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            let same = named.eq_ignore_ascii_case(scheme) && host.eq_ignore_ascii_case(authority);
            same.then(|| path.to_owned())
        } else if text.starts_with("//") {
            None
        } else if text.starts_with('/') {
            Some(text.to_owned())
        } else {
            let path = path_query.split('?').next().unwrap_or("/");
            let parent = path.rfind('/').map_or("/", |at| &path[..=at]);
            (!text.is_empty()).then(|| format!("{parent}{text}"))
        };
        if let Some(target) = target.and_then(|t| crate::message::target::normal_path(&t)) {
            found.push((authority.to_owned(), target));
        }
    }
    found
}

/// XFetch (Vattani, Chierichetti and Lowenstein, 2015): should this request refresh ahead of the end? `unit` is uniform in (0, 1].
pub fn early(life: &Life, now: Wall, unit: f64, beta: f64) -> bool {
    let ahead = f64::from(life.fetch_millis) * beta * -unit.max(f64::MIN_POSITIVE).ln();
    let resident = now.since(life.received).as_millis() as f64;
    let age = f64::from(life.initial_age) * 1000.0 + resident;
    age + ahead >= f64::from(life.lifetime) * 1000.0
}
