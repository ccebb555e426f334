//! What a request asks of a stored response: RFC 9111 sections 4, 4.2.4 and 5.2.1.

use super::*;

const FRESH: fn(u32) -> Reuse = |age| Reuse::Fresh { age };
const STALE: fn(u32) -> Reuse = |age| Reuse::Stale { age };

/// RFC 9111 section 5.2.1.1: max-age: none that is older.
#[test]
fn a_requests_max_age_bounds_the_age() {
    let said = cc("max-age=60");
    assert_eq!(said.reuse("max-age=10", 10), FRESH(10));
    assert_eq!(said.reuse("max-age=10", 11), Reuse::Validate);
    assert_eq!(said.reuse("max-age=0", 0), FRESH(0));
    assert_eq!(said.reuse("max-age=0", 1), Reuse::Validate);
    assert_eq!(said.reuse("max-age=x", 1), Reuse::Validate);
    assert_eq!(said.reuse("max-age=\"10\"", 9), FRESH(9));
    // It does not make stale ones fresh.
    assert_eq!(said.reuse("max-age=100", 61), Reuse::Validate);
    assert_eq!(said.reuse("max-age=99999999999999999999", 59), FRESH(59));
}

/// RFC 9111 section 5.2.1.3: min-fresh: none that will not be fresh for so long.
#[test]
fn min_fresh_asks_for_freshness_left() {
    let said = cc("max-age=60");
    assert_eq!(said.reuse("min-fresh=20", 40), FRESH(40));
    assert_eq!(said.reuse("min-fresh=20", 41), Reuse::Validate);
    assert_eq!(said.reuse("min-fresh=x", 0), Reuse::Validate);
    assert_eq!(said.reuse("min-fresh=0", 59), FRESH(59));
    assert_eq!(said.reuse("min-fresh=0", 60), Reuse::Validate);
    // Who wants it fresher wants it stale no less.
    assert_eq!(said.reuse("min-fresh=20, max-stale", 70), Reuse::Validate);
}

/// RFC 9111 section 5.2.1.2: max-stale with a value: no more seconds past freshness than that.
#[test]
fn max_stale_bounds_the_staleness() {
    let said = cc("max-age=60");
    assert_eq!(said.reuse("max-stale=10", 59), FRESH(59));
    assert_eq!(said.reuse("max-stale=10", 60), STALE(60));
    assert_eq!(said.reuse("max-stale=10", 70), STALE(70));
    assert_eq!(said.reuse("max-stale=10", 71), Reuse::Validate);
    assert_eq!(said.reuse("max-stale=x", 61), Reuse::Validate);
    assert_eq!(said.reuse("max-stale=0", 61), Reuse::Validate);
}

/// RFC 9111 section 5.2.1.2: max-stale without a value: any age.
#[test]
fn max_stale_without_a_value_takes_any() {
    assert_eq!(
        cc("max-age=60").reuse("max-stale", 1_000_000),
        STALE(1_000_000)
    );
    // Together with max-age both bounds hold.
    assert_eq!(
        cc("max-age=60").reuse("max-stale, max-age=70", 70),
        STALE(70)
    );
    assert_eq!(
        cc("max-age=60").reuse("max-stale, max-age=70", 71),
        Reuse::Validate
    );
}

/// RFC 9111 section 4.2.4: must-revalidate, proxy-revalidate, s-maxage and no-cache forbid stale ones, whatever a client takes.
#[test]
fn a_response_can_forbid_stale_use() {
    for value in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "s-maxage=60",
        "max-age=600, s-maxage=60",
        "max-age=60, must-revalidate=x",
    ] {
        assert_eq!(cc(value).reuse("max-stale", 59), FRESH(59), "{value}");
        assert_eq!(cc(value).reuse("max-stale", 60), Reuse::Validate, "{value}");
    }
    assert_eq!(
        cc("max-age=60, no-cache").reuse("max-stale", 0),
        Reuse::Validate
    );
}

/// RFC 9111 section 5.2.2.8: proxy-revalidate leaves freshness as it is.
#[test]
fn proxy_revalidate_does_not_end_freshness() {
    assert_eq!(cc("max-age=60, proxy-revalidate").reuse("", 59), FRESH(59));
}

/// RFC 9111 section 5.2.1.4: a request's no-cache: nothing unvalidated.
#[test]
fn a_requests_no_cache_asks_for_validation() {
    assert_eq!(cc("max-age=60").reuse("no-cache", 0), Reuse::Validate);
    assert_eq!(
        cc("max-age=60").reuse("no-cache, max-stale", 0),
        Reuse::Validate
    );
    let pragma = wants(&[("pragma", "no-cache")]);
    let life = cc("max-age=60").life();
    assert_eq!(
        policy::reuse(&life, false, &pragma, after(0)),
        Reuse::Validate
    );
}

/// RFC 9111 section 5.2.1.5: a request's no-store forbids to store, not to use.
#[test]
fn a_requests_no_store_may_be_served_from_the_store() {
    assert_eq!(cc("max-age=60").reuse("no-store", 5), FRESH(5));
}

/// RFC 9111 section 5.2.1.7: only-if-cached is a wish about backends, not about freshness.
#[test]
fn only_if_cached_changes_no_freshness() {
    assert!(wants(&[("cache-control", "only-if-cached")]).only_if_cached);
    assert_eq!(cc("max-age=60").reuse("only-if-cached", 59), FRESH(59));
    assert_eq!(
        cc("max-age=60").reuse("only-if-cached", 60),
        Reuse::Validate
    );
    assert_eq!(
        cc("max-age=60").reuse("only-if-cached, max-stale", 60),
        STALE(60)
    );
}

/// What else a request carries is told apart.
#[test]
fn wants_say_what_a_request_carries() {
    let none = wants(&[]);
    assert_eq!(none, Wants::default());
    assert!(wants(&[("authorization", "")]).authorized);
    assert!(wants(&[("cookie", "")]).cookie);
    assert!(wants(&[("range", "")]).range);
    assert!(wants(&[("if-none-match", "")]).conditional);
    assert!(wants(&[("if-modified-since", "")]).conditional);
    let head = policy::ask(&Rules::default(), &Method::HEAD, "/", &HeaderMap::new());
    assert!(matches!(head, Ask::Use(w) if w.head));
}
