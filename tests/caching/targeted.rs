//! Fields that are meant for this cache, read as structured fields: RFC 9213.

use super::*;

/// A response with these two fields, in the order in which they count, beside a Cache-Control.
fn beside(own: Option<&str>, cdn: Option<&str>, value: &str) -> Exchange {
    let mut fields = vec![("cache-control", value)];
    fields.extend(own.map(|v| ("weirkeeper-cache-control", v)));
    fields.extend(cdn.map(|v| ("cdn-cache-control", v)));
    got(&fields)
}

fn cdn(value: &str) -> Exchange {
    beside(None, Some(value), "max-age=5")
}

/// RFC 9213 section 2.2: the first of the targets that is there and valid is the only one that counts.
#[test]
fn the_most_specific_field_counts_alone() {
    let fresh_for = |own, cdn| beside(own, cdn, "max-age=5").fresh_for();
    assert_eq!(fresh_for(Some("max-age=7"), Some("max-age=6")), 7);
    assert_eq!(fresh_for(None, Some("max-age=6")), 6);
    assert_eq!(fresh_for(None, None), 5);
    assert_eq!(
        beside(Some("max-age=7"), Some("no-store"), "private").fresh_for(),
        7
    );
    assert_eq!(beside(None, Some("max-age=6"), "no-store").fresh_for(), 6);
    assert_eq!(
        beside(None, Some("no-store"), "max-age=5").refused(),
        Uncacheable::NoStore
    );
}

/// RFC 9213 section 2.1: an empty field, or one that does not parse, is as if it were not there, all of it.
#[test]
fn an_invalid_field_is_passed_over_wholly() {
    for junk in [
        "",
        " ",
        "max-age=60,",
        "max-age=60, &&&",
        "max-age = 60",
        "max-age=60; no-store=",
        "Max-Age=60",
        "max-age=60 no-store",
        "max-age=",
        "no-cache=\"x",
        "max-age=9999999999999999",
        "max-age=@60",
        "ext=%\"x\"",
        "max-age=60, ext=\u{fc}",
    ] {
        assert_eq!(cdn(junk).fresh_for(), 5, "{junk:?}");
        // And the next one has its turn.
        let own = beside(Some(junk), Some("max-age=6"), "max-age=5");
        assert_eq!(own.fresh_for(), 6, "{junk:?}");
    }
}

/// RFC 9213 section 2.2: beside a field that counts, Expires and Cache-Control say nothing.
#[test]
fn expires_says_nothing_beside_it() {
    let expires = date(600);
    let said = got(&[
        ("cdn-cache-control", "must-revalidate"),
        ("expires", &expires),
    ]);
    assert_eq!(said.refused(), Uncacheable::NoFreshness);
    let said = got(&[
        ("cdn-cache-control", "max-age=60"),
        ("expires", "0"),
        ("pragma", "no-cache"),
    ]);
    assert_eq!(said.fresh_for(), 60);
    let said = got(&[("cdn-cache-control", "("), ("expires", &expires)]);
    assert_eq!(said.fresh_for(), 600);
}

/// RFC 8941 section 3.2: of a member that comes twice the last counts; several lines are one dictionary.
#[test]
fn the_last_of_two_members_counts() {
    assert_eq!(cdn("max-age=60, max-age=10").fresh_for(), 10);
    assert_eq!(cdn("max-age=10, max-age=60").fresh_for(), 60);
    let lines = [
        ("cdn-cache-control", "no-store"),
        ("cdn-cache-control", "max-age=60, no-store=?0"),
    ];
    assert_eq!(got(&lines).fresh_for(), 60);
}

/// RFC 9213 section 2.1: a directive without a value is a true Boolean; a false one unsays it.
#[test]
fn booleans_say_and_unsay() {
    assert_eq!(
        cdn("no-store=?1, max-age=60").refused(),
        Uncacheable::NoStore
    );
    assert_eq!(cdn("no-store=?0, max-age=60").fresh_for(), 60);
    assert_eq!(cdn("private=?0, no-cache=?0, max-age=60").fresh_for(), 60);
    assert!(!cdn("must-revalidate=?0, max-age=60").life().must_revalidate);
}

/// RFC 9213 section 2.1: parameters of a directive are passed over.
#[test]
fn parameters_are_passed_over() {
    assert_eq!(cdn("max-age=60;x=1;no-store").fresh_for(), 60);
    assert_eq!(cdn("no-store;x=?0").refused(), Uncacheable::NoStore);
}

/// RFC 9213 section 2.1: a lifetime is an Integer; of another type it cannot be read, and so is none.
#[test]
fn a_lifetime_of_another_type_is_none() {
    for value in [
        "60.5", "\"60\"", "sixty", "?1", "?0", ":NjA=:", "(60)", "()", "-60",
    ] {
        assert_eq!(cdn(&format!("max-age={value}")).fresh_for(), 0, "{value}");
    }
    assert_eq!(cdn("max-age").fresh_for(), 0);
    assert_eq!(cdn("max-age=999999999999999").life().lifetime, 1 << 31);
}

/// What forbids is heeded in any type; what permits only in its own.
#[test]
fn a_wrong_type_forbids_and_never_permits() {
    for value in ["1", "1.5", "\"x\"", "x", "(a b)", "()", ":eA==:"] {
        let forbid = |name: &str| cdn(&format!("{name}={value}, max-age=60"));
        assert_eq!(
            forbid("no-store").refused(),
            Uncacheable::NoStore,
            "{value}"
        );
        if !value.starts_with('"') {
            assert_eq!(forbid("private").refused(), Uncacheable::Private, "{value}");
            assert!(forbid("no-cache").life().no_cache, "{value}");
        }
        for permit in ["public", "must-revalidate"] {
            let authorized = forbid(permit).request(&[("authorization", "x")]);
            assert_eq!(
                authorized.refused(),
                Uncacheable::Authorization,
                "{permit}={value}"
            );
        }
        let lifted = cdn(&format!("must-understand={value}, no-store, max-age=60"));
        assert_eq!(lifted.refused(), Uncacheable::NoStore, "{value}");
        let authorized = forbid("s-maxage").request(&[("authorization", "x")]);
        let shared = value == "1";
        assert_eq!(authorized.store().is_ok(), shared, "{value}");
    }
}

/// RFC 9213 section 2.1: the fields of no-cache and private are a String.
#[test]
fn fields_are_a_string() {
    let said = got(&[
        (
            "cdn-cache-control",
            "max-age=60, private=\"x-a, x-b\", no-cache=\"x-c\"",
        ),
        ("x-a", "1"),
        ("x-b", "1"),
        ("x-c", "1"),
        ("x-d", "1"),
    ]);
    let stored = said.stored("");
    let has = |name| stored.head.get(name).is_some();
    assert_eq!(
        [has("x-a"), has("x-b"), has("x-c"), has("x-d")],
        [false, false, false, true]
    );
}

/// RFC 9213 section 3: caches further on may be meant as well, and a validation judges anew: both fields are kept and sent on.
#[test]
fn targeted_fields_are_kept_and_sent_on() {
    let stored = beside(Some("max-age=7"), Some("max-age=6"), "max-age=5").stored("");
    assert_eq!(
        stored.head.get("weirkeeper-cache-control"),
        Some(&b"max-age=7"[..])
    );
    assert_eq!(
        stored.head.get("cdn-cache-control"),
        Some(&b"max-age=6"[..])
    );
}

/// RFC 9213 section 2.2 with RFC 5861: stale directives of a targeted field are its own.
#[test]
fn stale_directives_come_from_the_same_field() {
    let life = beside(
        None,
        Some("max-age=60, stale-while-revalidate=30"),
        "stale-if-error=99",
    )
    .life();
    assert_eq!((life.stale_while_revalidate, life.stale_if_error), (30, 0));
}
