//! Cache-Status: RFC 9211, read back by a parser of structured fields.

use sfv::{BareItem, List, ListEntry, Parser};

use super::*;
use weirkeeper::cache::status::{CacheResult, CacheStatus, Forward};

const FORWARDS: [(Forward, &str); 7] = [
    (Forward::Bypass, "bypass"),
    (Forward::Method, "method"),
    (Forward::UriMiss, "uri-miss"),
    (Forward::VaryMiss, "vary-miss"),
    (Forward::Request, "request"),
    (Forward::Stale, "stale"),
    (Forward::Partial, "partial"),
];

const REFUSALS: [Uncacheable; 11] = [
    Uncacheable::NoStore,
    Uncacheable::Private,
    Uncacheable::Authorization,
    Uncacheable::SetCookie,
    Uncacheable::Cookie,
    Uncacheable::VaryAll,
    Uncacheable::Status,
    Uncacheable::NoFreshness,
    Uncacheable::MustUnderstand,
    Uncacheable::RequestNoStore,
    Uncacheable::Partial,
];

/// The parameters of the only member, by name.
fn parameters(status: &CacheStatus) -> Vec<(String, BareItem)> {
    let text = status.to_string();
    let list: List = Parser::new(&text).parse().expect("a structured list");
    let [ListEntry::Item(item)] = &list[..] else {
        panic!("one member: {text}")
    };
    assert!(
        matches!(&item.bare_item, BareItem::Token(t) if t.as_str() == "weir"),
        "{text}"
    );
    let params = item.params.iter();
    params
        .map(|(k, v)| (k.as_str().to_owned(), v.clone()))
        .collect()
}

fn names(status: &CacheStatus) -> Vec<String> {
    parameters(status)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

/// RFC 9211 section 2: every status is a member of a structured list, with each parameter of its type.
#[test]
fn every_status_is_a_member_of_a_list() {
    let details = REFUSALS.iter().map(|why| why.name());
    let details: Vec<Option<&str>> = details
        .chain([
            "redis",
            "only-if-cached",
            "too-large",
            "unframed",
            "error",
            "stale",
            "busy",
        ])
        .map(Some)
        .chain([None])
        .collect();
    for (forward, token) in FORWARDS {
        for detail in &details {
            let status = CacheStatus {
                forward: Some(forward),
                forward_status: Some(304),
                ttl: Some(-5),
                stored: true,
                collapsed: true,
                detail: *detail,
                ..CacheStatus::default()
            };
            for (name, value) in parameters(&status) {
                let fits = match name.as_str() {
                    "fwd" => matches!(&value, BareItem::Token(t) if t.as_str() == token),
                    "fwd-status" => value == BareItem::Integer(304.into()),
                    "ttl" => value == BareItem::Integer((-5).into()),
                    "stored" | "collapsed" => value == BareItem::Boolean(true),
                    "detail" => matches!(&value, BareItem::Token(t) if Some(t.as_str()) == *detail),
                    _ => false,
                };
                assert!(fits, "{name}: {value:?}");
            }
        }
    }
}

/// RFC 9211 section 2.1: hit and fwd exclude each other, and fwd-status, stored and collapsed belong to fwd.
#[test]
fn hit_and_fwd_exclude_each_other() {
    let hit = CacheStatus {
        hit: true,
        ttl: Some(60),
        ..CacheStatus::default()
    };
    assert_eq!(names(&hit), ["hit", "ttl"]);
    let forwarded = CacheStatus {
        forward: Some(Forward::Stale),
        forward_status: Some(503),
        stored: true,
        collapsed: true,
        ..CacheStatus::default()
    };
    assert_eq!(
        names(&forwarded),
        ["fwd", "fwd-status", "stored", "collapsed"]
    );
    // Served stale in the place of an error: the request did go forward.
    let instead = CacheStatus {
        hit: true,
        ttl: Some(-3),
        ..forwarded
    };
    assert!(!names(&instead).contains(&"hit".to_owned()));
    assert_eq!(instead.result(), CacheResult::Stale);
    // Without fwd its kin mean nothing.
    let alone = CacheStatus {
        forward: None,
        ..instead
    };
    assert_eq!(names(&alone), ["hit", "ttl"]);
}

/// One word for counters and logs.
#[test]
fn every_status_has_one_word() {
    let with = |forward, forward_status| CacheStatus {
        forward: Some(forward),
        forward_status,
        ..CacheStatus::default()
    };
    assert_eq!(with(Forward::Bypass, None).result(), CacheResult::Bypass);
    assert_eq!(with(Forward::Method, None).result(), CacheResult::Bypass);
    assert_eq!(with(Forward::UriMiss, None).result(), CacheResult::Miss);
    assert_eq!(
        with(Forward::Stale, Some(304)).result(),
        CacheResult::Revalidated
    );
    assert_eq!(with(Forward::Stale, Some(200)).result(), CacheResult::Miss);
    let hit = CacheStatus {
        hit: true,
        ttl: Some(0),
        ..CacheStatus::default()
    };
    assert_eq!(hit.result(), CacheResult::Hit);
    assert_eq!(
        CacheStatus {
            ttl: Some(-1),
            ..hit
        }
        .result(),
        CacheResult::Stale
    );
    let collapsed = CacheStatus {
        collapsed: true,
        ..with(Forward::UriMiss, None)
    };
    assert_eq!(collapsed.result(), CacheResult::Collapsed);
    let words: Vec<_> = CacheResult::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(
        words,
        ["hit", "stale", "revalidated", "collapsed", "miss", "bypass"]
    );
}
