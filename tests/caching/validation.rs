//! Validation: what is asked, which 304 counts, and what it changes. RFC 9111 sections 3.2, 4.3.1, 4.3.3 and 4.3.4.

use super::*;
use weirkeeper::cache::policy::{matches_304, refresh, validators};

/// The fields with which a stored response would be validated.
fn asks(fields: Fields<'_>) -> Vec<(String, String)> {
    let mut all = vec![("cache-control", "max-age=60")];
    all.extend_from_slice(fields);
    let found = validators(&got(&all).stored("").head).unwrap_or_default();
    let text = |(n, v): (HeaderName, HeaderValue)| (n.to_string(), v.to_str().unwrap().to_owned());
    found.into_iter().map(text).collect()
}

/// Does a 304 with the second fields speak of a stored response with the first?
fn speaks(stored: Fields<'_>, fields: Fields<'_>) -> bool {
    let mut all = vec![("cache-control", "max-age=60")];
    all.extend_from_slice(stored);
    matches_304(&got(&all).stored("").head, &map(fields))
}

/// A stored response after a 304 that came 100 seconds later.
fn refreshed(stored: &Exchange, fields: Fields<'_>) -> Result<(Stored, Keep), Uncacheable> {
    let times = Times {
        requested: after(100),
        received: then(100),
    };
    let old = stored.stored("body");
    refresh(&stored.rules, &stored.wants(), &old, &map(fields), times)
}

/// RFC 9111 section 4.3.1: the entity tag and the date of the last change, as they were sent.
#[test]
fn validation_sends_what_was_stored() {
    let modified = date(-100);
    assert_eq!(asks(&[]), []);
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!(asks(&[("etag", "\"a\"")]), [pair("if-none-match", "\"a\"")]);
    assert_eq!(
        asks(&[("etag", "W/\"a\"")]),
        [pair("if-none-match", "W/\"a\"")]
    );
    assert_eq!(
        asks(&[("last-modified", &modified)]),
        [pair("if-modified-since", &modified)]
    );
    let both = asks(&[("etag", "\"a\""), ("last-modified", &modified)]);
    assert_eq!(
        both,
        [
            pair("if-none-match", "\"a\""),
            pair("if-modified-since", &modified)
        ]
    );
}

/// RFC 9111 section 4.3.4: a strong validator selects what has the same strong one, and nothing else.
#[test]
fn a_strong_tag_in_a_304_must_be_the_stored_one() {
    assert!(speaks(&[("etag", "\"a\"")], &[("etag", "\"a\"")]));
    assert!(!speaks(&[("etag", "\"a\"")], &[("etag", "\"b\"")]));
    assert!(!speaks(&[("etag", "W/\"a\"")], &[("etag", "\"a\"")]));
    let modified = date(-100);
    assert!(!speaks(
        &[("last-modified", &modified)],
        &[("etag", "\"a\"")]
    ));
    // Also when another validator is the same.
    let both = [("etag", "\"a\""), ("last-modified", modified.as_str())];
    assert!(!speaks(
        &both,
        &[("etag", "\"b\""), ("last-modified", &modified)]
    ));
}

/// RFC 9111 section 4.3.4: a weak validator selects what it corresponds to.
#[test]
fn a_weak_tag_in_a_304_corresponds_weakly() {
    assert!(speaks(&[("etag", "\"a\"")], &[("etag", "W/\"a\"")]));
    assert!(speaks(&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")]));
    assert!(!speaks(&[("etag", "W/\"a\"")], &[("etag", "W/\"b\"")]));
    let (old, new) = (date(-100), date(-50));
    assert!(speaks(
        &[("last-modified", &old)],
        &[("last-modified", &old)]
    ));
    assert!(!speaks(
        &[("last-modified", &old)],
        &[("last-modified", &new)]
    ));
}

/// RFC 9111 section 4.3.4, with a leniency: servers leave validators out of a 304; it answers the only ones that were sent.
#[test]
fn a_304_without_validators_speaks_of_what_was_asked() {
    let modified = date(-100);
    assert!(speaks(&[], &[]));
    assert!(speaks(&[("etag", "\"a\"")], &[]));
    assert!(speaks(&[("last-modified", &modified)], &[]));
    assert!(speaks(
        &[("etag", "\"a\"")],
        &[("last-modified", &modified)]
    ));
    assert!(speaks(
        &[("last-modified", &modified)],
        &[("etag", "W/\"a\"")]
    ));
}

/// RFC 9111 section 3.2: fields of a 304 replace those of the same name, all lines of them; others stay.
#[test]
fn a_304_replaces_fields() {
    let said = got(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("x-old", "kept"),
        ("link", "<a>"),
        ("link", "<b>"),
        ("content-type", "text/plain"),
        ("set-cookie2", "x"),
    ]);
    let fields = [
        ("cache-control", "max-age=600"),
        ("link", "<c>"),
        ("link", "<d>"),
        ("x-new", "1"),
        ("content-type", "text/html"),
        ("content-location", "/b"),
    ];
    let (stored, keep) = refreshed(&said, &fields).unwrap();
    let lines: Vec<_> = stored
        .head
        .lines()
        .filter(|(n, _)| *n == b"link")
        .map(|(_, v)| v)
        .collect();
    assert_eq!(lines, [b"<c>", b"<d>"]);
    let get = |name| {
        stored
            .head
            .get(name)
            .map(|v| String::from_utf8_lossy(v).into_owned())
    };
    assert_eq!(get("x-old").as_deref(), Some("kept"));
    assert_eq!(get("x-new").as_deref(), Some("1"));
    assert_eq!(get("content-type").as_deref(), Some("text/html"));
    assert_eq!(get("content-location").as_deref(), Some("/b"));
    assert_eq!(get("etag").as_deref(), Some("\"a\""));
    assert_eq!(keep.life.lifetime, 600);
    assert_eq!(stored.body, Body::Whole(Bytes::from_static(b"body")));
    assert_eq!(stored.status, 200);
}

/// RFC 9111 section 3.2: what the stored bytes depend on stays, since a 304 brings none.
#[test]
fn a_304_leaves_what_describes_the_stored_bytes() {
    let said = got(&[
        ("cache-control", "max-age=60"),
        ("content-encoding", "gzip"),
    ]);
    let fields = [
        ("content-encoding", "br"),
        ("content-length", "0"),
        ("content-range", "bytes 0-1/2"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "timeout=1"),
    ];
    let (stored, _) = refreshed(&said, &fields).unwrap();
    assert_eq!(stored.head.get("content-encoding"), Some(&b"gzip"[..]));
    for name in [
        "content-length",
        "content-range",
        "transfer-encoding",
        "connection",
        "keep-alive",
    ] {
        assert_eq!(stored.head.get(name), None, "{name}");
    }
    // Nor does one appear that was not there.
    let (stored, _) = refreshed(&cc("max-age=60"), &[("content-encoding", "br")]).unwrap();
    assert_eq!(stored.head.get("content-encoding"), None);
}

/// RFC 9111 section 4.3.4: freshness begins anew, with the age that the 304 has.
#[test]
fn a_304_begins_a_new_life() {
    let old = date(-1000);
    let said = got(&[
        ("cache-control", "max-age=60"),
        ("date", &old),
        ("etag", "\"a\""),
    ]);
    assert!(!said.is_fresh(0));
    let (stored, _) = refreshed(&said, &[]).unwrap();
    assert_eq!(
        (stored.life.age(after(100)), stored.life.ttl(after(100))),
        (0, 60)
    );
    assert_eq!(stored.head.get("date"), Some(date(100).as_bytes()));
    let (stored, _) = refreshed(&said, &[("age", "7")]).unwrap();
    assert_eq!(stored.life.age(after(100)), 7);
    assert_eq!(stored.head.get("age"), None);
    let earlier = date(90);
    let (stored, _) = refreshed(&said, &[("date", &earlier)]).unwrap();
    assert_eq!(stored.life.age(after(100)), 10);
    assert!(!stored.is_soft());
}

/// RFC 9111 section 3.2 with 5.3: an Expires that the 304 does not renew counts from the new Date.
#[test]
fn an_old_expires_ends_when_it_says() {
    let expires = date(130);
    let said = got(&[("expires", &expires), ("etag", "\"a\"")]);
    let (stored, _) = refreshed(&said, &[]).unwrap();
    assert_eq!(stored.life.ttl(after(100)), 30);
    let later = date(700);
    let (stored, _) = refreshed(&said, &[("expires", &later)]).unwrap();
    assert_eq!(stored.life.ttl(after(100)), 600);
}

/// RFC 9111 section 3.2: after the update the response is judged as if it had come so.
#[test]
fn a_304_can_forbid_to_store_any_longer() {
    let refused = |fields: Fields<'_>| refreshed(&cc("max-age=60"), fields).expect_err("forbidden");
    assert_eq!(
        refused(&[("cache-control", "no-store")]),
        Uncacheable::NoStore
    );
    assert_eq!(
        refused(&[("cache-control", "private")]),
        Uncacheable::Private
    );
    assert_eq!(refused(&[("set-cookie", "a=b")]), Uncacheable::SetCookie);
    assert_eq!(refused(&[("vary", "*")]), Uncacheable::VaryAll);
    assert_eq!(refused(&[("cache-control", "")]), Uncacheable::NoFreshness);
    assert_eq!(
        refused(&[("cdn-cache-control", "no-store")]),
        Uncacheable::NoStore
    );
    let (stored, _) = refreshed(&cc("max-age=60"), &[("cache-control", "no-cache")]).unwrap();
    assert!(stored.life.no_cache);
}

/// RFC 9111 section 5.2.2.7: what was left out for one user stays out after a 304 that brings it, whether or not it says why
/// again.
#[test]
fn private_fields_stay_out_after_a_304() {
    let said = got(&[
        ("cache-control", "max-age=60, private=\"x-user\""),
        ("x-user", "ada"),
    ]);
    for value in [
        None,
        Some(("cache-control", "max-age=60, private=\"x-user\"")),
    ] {
        let mut fields = vec![("x-user", "bob")];
        fields.extend(value);
        let (stored, _) = refreshed(&said, &fields).unwrap();
        assert_eq!(stored.head.get("x-user"), None);
    }
}

/// RFC 9111 section 4.1: variants stay variants after a 304, and follow a Vary that it changes.
#[test]
fn vary_survives_a_304() {
    let said = got(&[("cache-control", "max-age=60"), ("vary", "accept-language")]);
    let (_, keep) = refreshed(&said, &[]).unwrap();
    assert_eq!(keep.vary, ["accept-language"]);
    let (_, keep) = refreshed(&said, &[("vary", "accept-encoding, origin")]).unwrap();
    assert_eq!(keep.vary, ["accept-encoding", "origin"]);
}

/// RFC 9111 section 3.2: a status that is not 200 is validated and kept as it is.
#[test]
fn a_stored_error_is_validated_as_it_is() {
    let said = got(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]).status(404);
    let (stored, _) = refreshed(&said, &[]).unwrap();
    assert_eq!((stored.status, stored.life.lifetime), (404, 60));
}
