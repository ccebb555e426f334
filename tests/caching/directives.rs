//! Cache-Control as it is found in the wild: case, quotes, blanks, lists, junk. RFC 9111 sections 5.2 and 4.2.1, RFC 9110 5.6.

use super::*;
use weirkeeper::cache::directives::{FOREVER, RequestDirectives, ResponseDirectives, Scope};

fn said(value: &str) -> ResponseDirectives {
    ResponseDirectives::of(&map(&[("cache-control", value)]))
}

fn asked(value: &str) -> RequestDirectives {
    RequestDirectives::of(&map(&[("cache-control", value)]))
}

/// RFC 9111 section 5.2: directives are matched without regard to case.
#[test]
fn directives_have_no_case() {
    let d = said(
        "Max-Age=60, S-MAXAGE=5, PUBLIC, Must-Revalidate, Proxy-Revalidate, Stale-While-Revalidate=1",
    );
    assert_eq!(
        (d.max_age, d.s_maxage, d.stale_while_revalidate),
        (Some(60), Some(5), Some(1))
    );
    assert!(d.public && d.must_revalidate && d.proxy_revalidate);
    assert!(asked("No-Cache").no_cache && asked("NO-STORE").no_store);
}

/// RFC 9111 section 5.2: an argument as a token and as a quoted string are the same.
#[test]
fn an_argument_may_be_quoted() {
    for value in [
        "max-age=60",
        "max-age=\"60\"",
        "max-age=\" 60 \"",
        "max-age = 60",
        "max-age= \"60\"",
    ] {
        assert_eq!(said(value).max_age, Some(60), "{value}");
    }
}

/// RFC 9110 section 5.6.1: empty items, blanks and several lines make one list.
#[test]
fn lists_are_read_as_lists() {
    for value in [
        "max-age=60,no-store",
        " , ,max-age=60 ,\t, no-store,",
        "max-age=60,,,no-store",
    ] {
        assert_eq!(
            (said(value).max_age, said(value).no_store),
            (Some(60), true),
            "{value}"
        );
    }
    let lines = [
        ("cache-control", ""),
        ("cache-control", "max-age=60"),
        ("cache-control", "no-store"),
    ];
    let d = ResponseDirectives::of(&map(&lines));
    assert_eq!((d.max_age, d.no_store), (Some(60), true));
}

/// RFC 9110 section 5.6.4: a comma inside a quoted string separates nothing.
#[test]
fn quoted_commas_do_not_separate() {
    let d = said("ext=\"a, no-store, private\", max-age=60");
    assert_eq!(
        (d.no_store, &d.private, d.max_age),
        (false, &Scope::None, Some(60))
    );
    let d = said("ext=\"a\\\", no-store\", max-age=60");
    assert_eq!((d.no_store, d.max_age), (false, Some(60)));
}

/// A quote that never ends must not hide what forbids to share: then every comma separates.
#[test]
fn an_unterminated_quote_hides_nothing() {
    for value in [
        "ext=\"a, no-store, private",
        "ext=\"a, no-store, private, x=\"\"",
        "ext=\"a\\\", no-store, private",
        "ext=\"\\\", no-store, private",
        "max-age=\"60, no-store, private",
        "\"no-store, private",
        "ext=\"a\"\", no-store, private",
    ] {
        let d = said(value);
        assert!(d.no_store, "{value}");
        assert_eq!(d.private, Scope::All, "{value}");
    }
}

/// Directives parted by semicolons, by blanks or inside quotes are junk that servers do send. What forbids is heard in it.
#[test]
fn what_forbids_is_heard_in_junk() {
    for value in [
        "no-store; max-age=60",
        "max-age=60; no-store",
        "max-age=60;no-store",
        "no-store max-age=60",
        "\"no-store\"",
        "\"max-age=60, no-store\"",
        "'no-store'",
        "no-store\u{fc}",
        "no-store:",
        "no-store=",
    ] {
        assert!(said(value).no_store, "{value}");
    }
    for value in [
        "private; max-age=60",
        "max-age=60; private",
        "private max-age=60",
        "\"private, max-age=60\"",
    ] {
        assert_eq!(said(value).private, Scope::All, "{value}");
    }
    for value in [
        "no-cache; max-age=60",
        "max-age=60;no-cache",
        "\"no-cache\"",
    ] {
        assert_eq!(said(value).no_cache, Scope::All, "{value}");
    }
}

/// What permits is heard only as the grammar has it.
#[test]
fn what_permits_is_not_heard_in_junk() {
    for value in [
        "\"public\"",
        "'public'",
        "public x",
        "public=1",
        "public\u{fc}",
        "\"public, max-age=60\"",
    ] {
        let d = said(value);
        assert!(!d.public && !d.lifts_authorization, "{value}");
        assert_eq!(d.max_age, None, "{value}");
    }
    for value in [
        "no-storex",
        "x-no-store",
        "not-private",
        "no_store",
        "nostore",
    ] {
        let d = said(value);
        assert_eq!((d.no_store, d.private), (false, Scope::None), "{value}");
    }
}

/// RFC 9111 section 5.2.3: what is not known is passed over, whatever it looks like.
#[test]
fn unknown_directives_are_passed_over() {
    let d =
        said("community=\"UCI\", =5, =, max-age=60, pre-check=0, post-check=0, immutable, a=b=c");
    assert_eq!(
        d,
        ResponseDirectives {
            max_age: Some(60),
            ..ResponseDirectives::default()
        }
    );
}

/// RFC 9111 section 4.2.1: where directives conflict the most restrictive holds.
#[test]
fn the_most_restrictive_holds() {
    assert_eq!(
        cc("public, private, max-age=60").refused(),
        Uncacheable::Private
    );
    assert_eq!(
        cc("no-store, public, max-age=60").refused(),
        Uncacheable::NoStore
    );
    assert_eq!(cc("max-age=60, no-cache").reuse("", 0), Reuse::Validate);
    let d = said(
        "stale-while-revalidate=60, stale-while-revalidate=5, stale-if-error=x, stale-if-error=9",
    );
    assert_eq!(
        (d.stale_while_revalidate, d.stale_if_error),
        (Some(5), Some(0))
    );
}

/// RFC 9111 section 5.2.1: each directive of a request, with what cannot be read taken for the strictest.
#[test]
fn request_directives_are_read() {
    let d = asked(
        "no-cache, no-store, only-if-cached, max-age=5, min-fresh=6, max-stale=7, stale-if-error=8",
    );
    assert!(d.no_cache && d.no_store && d.only_if_cached);
    let numbers = (d.max_age, d.min_fresh, d.max_stale, d.stale_if_error);
    assert_eq!(numbers, (Some(5), Some(6), Some(7), Some(8)));
    let d = asked("max-age=x, min-fresh=x, max-stale=x, stale-if-error=x");
    let numbers = (d.max_age, d.min_fresh, d.max_stale, d.stale_if_error);
    assert_eq!(numbers, (Some(0), Some(FOREVER), Some(0), Some(0)));
    assert_eq!(asked("max-stale").max_stale, Some(FOREVER));
    let d = asked("max-age=9, max-age=5, min-fresh=6, min-fresh=9, max-stale, max-stale=7");
    assert_eq!(
        (d.max_age, d.min_fresh, d.max_stale),
        (Some(5), Some(9), Some(7))
    );
    assert!(asked("no-cache=\"x\"").no_cache);
}

/// RFC 9111 section 5.4: Pragma counts only where there is no Cache-Control.
#[test]
fn pragma_counts_without_cache_control_alone() {
    let of = |fields: Fields<'_>| RequestDirectives::of(&map(fields)).no_cache;
    assert!(of(&[("pragma", "no-cache")]));
    assert!(of(&[("pragma", "x, No-Cache")]));
    assert!(of(&[("pragma", "x"), ("pragma", "no-cache")]));
    assert!(!of(&[
        ("pragma", "no-cache"),
        ("cache-control", "max-age=5")
    ]));
    assert!(!of(&[("pragma", "no-cache"), ("cache-control", "")]));
    assert!(!of(&[("pragma", "no-cachex")]));
}

/// A list as long as a head may be is read to its end.
#[test]
fn very_long_lists_are_read() {
    let value = format!("{}no-store", "a=1, ,".repeat(5000));
    assert!(said(&value).no_store);
    let names = (0..3000)
        .map(|n| format!("x-{n}"))
        .collect::<Vec<_>>()
        .join(",");
    // More fields than anybody means are all of them.
    assert_eq!(said(&format!("private=\"{names}\"")).private, Scope::All);
}
