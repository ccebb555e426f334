//! `/cache` and `/cache/purge`: what the cache holds, and orders to forget. It reads queries and writes JSON, and it refuses what
//! a web page in somebody's browser could have sent. Absent: the cache itself.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use http::uri::Authority;
use serde_json::{Value, json};

use crate::cache::purge::{Purge, Selection};
use crate::proxy::Purged;
use crate::proxy::Replicas;
use crate::proxy::StoredStatus;
use crate::proxy::UrlStatus;
use crate::proxy::normal_url;
use crate::telemetry::{CachingStatus, RedisStatus};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a query has to say.
const USAGE: &str = "give one of ?url=URL, ?prefix=URL, ?tag=TAG and ?all, and &soft to keep what is purged for validation";

/// Why a request must not change anything: a browser sent it for a page that is not ours, or under a name that anybody can have
/// lead to this machine. `None` when it may.
///
/// The admin port has no password; its guard is that it listens on loopback. A page that the operator looks at can send requests
/// there as well, so whatever names another site is refused, and so is a Host that is a name: by DNS rebinding, a page of
/// that name would be of the same origin. An address cannot be rebound.
pub(super) fn refused(headers: &HeaderMap) -> Option<&'static str> {
    let one = |name: &HeaderName| {
        let mut lines = headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(drop),
            (Some(_), Some(_)) => Err(()),
        }
    };
    let host = one(&HOST).ok().flatten().unwrap_or_default();
    if !is_ours(host) {
        return Some("refused: the Host field is neither localhost nor an address");
    }
    match one(&SEC_FETCH_SITE) {
        Ok(None | Some("same-origin" | "none")) => {}
        _ => return Some("refused: sent by a browser for a page of another site (Sec-Fetch-Site)"),
    }
    match one(&ORIGIN) {
        Ok(None) => None,
        Ok(Some(origin)) if origin.eq_ignore_ascii_case(&format!("http://{host}")) => None,
        _ => Some("refused: sent by a browser for a page of another site (Origin)"),
    }
}

fn is_ours(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let inner = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || inner.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// Reads `url=…&soft` and its like. The error is for a person.
pub(super) fn order(query: Option<&str>) -> Result<Purge, String> {
    let mut what = None;
    let mut soft = false;
    for (name, value) in parameters(query) {
        let selection = match (name, value) {
            ("soft", None) => {
                soft = true;
                continue;
            }
            ("all", None) => Selection::All,
            ("soft" | "all", Some(_)) => {
                return Err(format!(
                    "\"{name}\" has no value: leave it out, or write it alone"
                ));
            }
            ("url", Some(value)) => Selection::Url(url(name, value)?),
            ("prefix", Some(value)) => Selection::Prefix(url(name, value)?),
            ("tag", Some(value)) => Selection::Tag(tag(value)?),
            ("url" | "prefix" | "tag", None) => {
                return Err(format!("\"{name}\" is empty; {USAGE}"));
            }
            _ => return Err(unknown(name)),
        };
        if what.replace(selection).is_some() {
            return Err(format!("more than one thing to purge; {USAGE}"));
        }
    }
    let what = what.ok_or_else(|| format!("nothing to purge; {USAGE}"))?;
    Ok(Purge { what, soft })
}

/// Reads what `/cache` is asked: a URL, or nothing.
pub(super) fn asked(query: Option<&str>) -> Result<Option<String>, String> {
    let mut found = None;
    for (name, value) in parameters(query) {
        let ("url", Some(value)) = (name, value) else {
            return Err(match name {
                "url" => "\"url\" is empty".into(),
                _ => unknown(name),
            });
        };
        if found.replace(url(name, value)?).is_some() {
            return Err("one url at a time".into());
        }
    }
    Ok(found)
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, Option<&str>)> {
    let pairs = query.unwrap_or_default().split('&');
    let pairs = pairs.filter(|pair| !pair.is_empty());
    pairs.map(|pair| match pair.split_once('=') {
        Some((name, value)) => (name, Some(value).filter(|v| !v.is_empty())),
        None => (pair, None),
    })
}

/// Most likely the rest of a URL that was written as it is.
fn unknown(name: &str) -> String {
    let name: String = name.chars().take(40).collect();
    format!("\"{name}\" is not known here; within a URL, & is written %26")
}

fn url(name: &str, value: &str) -> Result<String, String> {
    normal_url(&decoded(value)?).map_err(|fault| format!("\"{name}\" is not a URL here: {fault}"))
}

fn tag(value: &str) -> Result<String, String> {
    let tag = decoded(value)?;
    let trimmed = tag.trim();
    if trimmed.is_empty() || trimmed.contains(',') || trimmed.chars().any(char::is_control) {
        return Err("one tag, without commas, at a time".into());
    }
    Ok(trimmed.to_owned())
}

/// Percent-decoded. A plus stays a plus: it stands in URLs, and a space does not.
fn decoded(text: &str) -> Result<String, String> {
    let broken = || "a % is followed by two hexadecimal digits, and itself written %25".to_string();
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || (bytes.next()? as char).to_digit(16);
        let (high, low) = digit().zip(digit()).ok_or_else(broken)?;
        out.push(u8::try_from(high * 16 + low).map_err(|_| broken())?);
    }
    String::from_utf8(out).map_err(|_| "it is not UTF-8 once it is decoded".into())
}

/// The answer to a purge.
pub(super) fn purged(purge: &Purge, purged: Purged) -> String {
    let (kind, which) = match &purge.what {
        Selection::Url(url) => ("url", json!(url)),
        Selection::Prefix(prefix) => ("prefix", json!(prefix)),
        Selection::Tag(tag) => ("tag", json!(tag)),
        Selection::All => ("all", json!(true)),
    };
    let replicas = match purged.replicas {
        Replicas::None => "none",
        Replicas::Queued => "queued",
        Replicas::Unreachable => "unreachable",
    };
    line(&json!({
        "purged": purged.entries,
        "soft": purge.soft,
        kind: which,
        "replicas": replicas,
    }))
}

/// What the whole cache is at.
pub(super) fn totals(status: Option<&CachingStatus>) -> String {
    let Some(status) = status else {
        return line(&json!({ "cached": false }));
    };
    let mut value = json!({
        "cached": true,
        "entries": status.store.entries,
        "bytes": status.store.bytes,
        "limit": status.store.limit,
        "evictions": status.store.evictions,
        "flights": status.flights,
        "filling": status.filling,
    });
    if let Some(redis) = &status.redis {
        value["redis"] = self::redis(redis);
    }
    line(&value)
}

fn redis(r: &RedisStatus) -> Value {
    json!({
        "up": r.up,
        "cores_away": r.cores_away,
        "hits": r.hits,
        "misses": r.misses,
        "timeouts": r.timeouts,
        "errors": r.errors,
        "corrupt": r.corrupt,
        "writes": r.writes,
        "dropped": r.dropped,
        "banned": r.banned,
        "purges_sent": r.purges_sent,
        "purges_heard": r.purges_heard,
        "bans": r.bans,
    })
}

/// What lies under one URL.
pub(super) fn stored(url: &str, status: &UrlStatus) -> String {
    let response = |s: &StoredStatus| {
        json!({
            "status": s.status,
            "age": s.age,
            "ttl": s.ttl,
            "hits": s.hits,
            "bytes": s.bytes,
            "soft": s.soft,
            "whole": s.whole,
            "tags": s.tags,
        })
    };
    line(&json!({
        "url": url,
        "count": status.count,
        "varies_by": status.varies_by,
        "responses": status.responses.iter().map(response).collect::<Vec<_>>(),
    }))
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
