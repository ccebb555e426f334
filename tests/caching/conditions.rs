//! Conditions of requests, evaluated by the cache: RFC 9110 sections 8.8.3 and 13, RFC 9111 section 4.3.2.

use super::*;
use weirkeeper::cache::conditional::{Answer, evaluate};
use weirkeeper::cache::status::Forward;

/// Is this request answered with 304, out of a stored 200 with these fields?
fn unchanged(stored: Fields<'_>, request: Fields<'_>) -> bool {
    let mut all = vec![("cache-control", "max-age=60")];
    all.extend_from_slice(stored);
    let stored = got(&all).stored("body");
    evaluate(&map(request), &stored.head, then(0).wall) == Answer::NotModified
}

/// RFC 9110 section 13.1.2: If-None-Match names the stored tag, by weak comparison, or everything.
#[test]
fn if_none_match_compares_weakly() {
    let tags =
        |stored: &str, asked: &str| unchanged(&[("etag", stored)], &[("if-none-match", asked)]);
    assert!(tags("\"a\"", "\"a\""));
    assert!(tags("W/\"a\"", "\"a\""));
    assert!(tags("\"a\"", "W/\"a\""));
    assert!(tags("W/\"a\"", "W/\"a\""));
    assert!(tags("\"a\"", "*"));
    assert!(tags("\"a\"", "\"b\", W/\"c\",\"a\""));
    assert!(tags("\"\"", "\"\""));
    for asked in [
        "\"b\"",
        "\"A\"",
        "a",
        "",
        "\"a",
        "\"b\", \"c\"",
        "'a'",
        "\"*\"",
        "w/\"a\"",
    ] {
        assert!(!tags("\"a\"", asked), "{asked:?}");
    }
    assert!(!unchanged(&[], &[("if-none-match", "\"a\"")]));
    assert!(unchanged(&[], &[("if-none-match", "*")]));
}

/// RFC 9110 section 8.8.3: a tag may hold commas and backslashes, which escape nothing.
#[test]
fn tags_are_no_quoted_strings() {
    let tags =
        |stored: &str, asked: &str| unchanged(&[("etag", stored)], &[("if-none-match", asked)]);
    assert!(tags("\"a,b\"", "\"x\", \"a,b\""));
    assert!(!tags("\"b\"", "\"a, \"b\"\""));
    assert!(tags("\"a\\\"", "\"a\\\", \"b\""));
    assert!(tags("\"b\"", "\"a\\\", \"b\""));
    assert!(!tags("\"b\"", "\"a\\, b\""));
}

/// RFC 9110 section 5.3: several lines are one list.
#[test]
fn several_lines_are_one_list() {
    let asked = [("if-none-match", "\"b\""), ("if-none-match", "\"a\"")];
    assert!(unchanged(&[("etag", "\"a\"")], &asked));
}

/// RFC 9110 section 13.1.3: If-Modified-Since, by the date of the last change.
#[test]
fn if_modified_since_compares_dates() {
    let modified = date(-100);
    let since = |offset| {
        unchanged(
            &[("last-modified", &modified)],
            &[("if-modified-since", &date(offset))],
        )
    };
    assert!(since(-100) && since(-99) && since(1000));
    assert!(!since(-101));
    // In another form it is the same date.
    let stored = [("last-modified", "Fri, 15 Jan 2027 07:00:00 GMT")];
    for same in [
        "Friday, 15-Jan-27 07:00:00 GMT",
        "Fri Jan 15 07:00:00 2027",
        "fri, 15 jan 2027 07:00:00 gmt",
    ] {
        assert!(unchanged(&stored, &[("if-modified-since", same)]), "{same}");
    }
}

/// RFC 9111 section 4.3.2: without Last-Modified the cache compares with Date, which is at least when it arrived.
#[test]
fn without_last_modified_date_counts() {
    let made = date(-100);
    let since = |offset| unchanged(&[("date", &made)], &[("if-modified-since", &date(offset))]);
    assert!(since(-100) && since(0));
    assert!(!since(-101));
    assert!(unchanged(&[], &[("if-modified-since", &date(0))]));
    assert!(!unchanged(&[], &[("if-modified-since", &date(-1))]));
    // A Last-Modified that cannot be read says nothing.
    assert!(!unchanged(
        &[("last-modified", "x"), ("date", &made)],
        &[("if-modified-since", &date(-101))]
    ));
}

/// RFC 9110 section 13.1.3: what is no date, or more than one, is no condition.
#[test]
fn a_condition_that_is_no_date_is_none() {
    let modified = date(-100);
    let stored = [("last-modified", modified.as_str())];
    for junk in ["", "0", "yesterday", "Fri, 15 Jan 2027 08:00:00 PST"] {
        assert!(
            !unchanged(&stored, &[("if-modified-since", junk)]),
            "{junk:?}"
        );
    }
    let twice = [
        ("if-modified-since", modified.as_str()),
        ("if-modified-since", modified.as_str()),
    ];
    assert!(!unchanged(&stored, &twice));
}

/// RFC 9110 section 13.2.2: If-None-Match before If-Modified-Since, which then says nothing.
#[test]
fn if_none_match_comes_first() {
    let modified = date(-100);
    let stored = [("etag", "\"a\""), ("last-modified", modified.as_str())];
    let now = date(0);
    assert!(!unchanged(
        &stored,
        &[("if-none-match", "\"b\""), ("if-modified-since", &now)]
    ));
    let old = date(-9999);
    assert!(unchanged(
        &stored,
        &[("if-none-match", "\"a\""), ("if-modified-since", &old)]
    ));
    assert!(!unchanged(
        &stored,
        &[("if-none-match", ""), ("if-modified-since", &now)]
    ));
}

/// RFC 9110 section 13.2.2 and RFC 9111 section 4.3.2: If-Match and If-Unmodified-Since are for origin servers to evaluate, so
/// that a request with one of them goes there.
#[test]
fn if_match_goes_to_the_origin() {
    for name in ["if-match", "if-unmodified-since"] {
        let asked = policy::ask(
            &Rules::default(),
            &Method::GET,
            "/",
            &map(&[(name, "\"a\"")]),
        );
        assert!(matches!(asked, Ask::Bypass(Forward::Bypass)), "{name}");
    }
}
