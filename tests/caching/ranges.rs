//! Byte ranges out of a stored whole: RFC 9110 sections 13.1.5 and 14.

use super::*;
use weirkeeper::cache::range::{Ranged, multipart, select, slice};

const TEN: &str = "0123456789";

/// What a Range comes to on ten stored bytes.
fn range(value: &str) -> Ranged {
    select_from(TEN, &[], &[("range", value)])
}

fn select_from(body: &'static str, stored: Fields<'_>, request: Fields<'_>) -> Ranged {
    let mut all = vec![("cache-control", "max-age=60")];
    all.extend_from_slice(stored);
    select(&map(request), &got(&all).stored(body), then(0).wall)
        .expect("a stored whole answers everything")
}

fn one(first: u64, last: u64) -> Ranged {
    let total = 10;
    Ranged::One { first, last, total }
}

/// RFC 9110 section 14.1.2: first and last position, an open end, a suffix; an end beyond the end is the end.
#[test]
fn one_range_is_cut_out() {
    for (value, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=2-", 2, 9),
        ("bytes=2-9", 2, 9),
        ("bytes=2-10", 2, 9),
        ("bytes=2-99999999999999999999999", 2, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-10", 0, 9),
        ("bytes=-11", 0, 9),
        ("bytes=-99999999999999999999999", 0, 9),
        ("Bytes=2-5", 2, 5),
        ("bytes= 2-5 ", 2, 5),
        ("bytes=,2-5,", 2, 5),
        ("bytes=002-005", 2, 5),
    ] {
        assert_eq!(range(value), one(first, last), "{value}");
    }
}

/// RFC 9110 section 14.2: a Range that cannot be read, or of another unit, is passed over.
#[test]
fn junk_is_passed_over() {
    for value in [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1 -2",
        "bytes=1-2-3",
        "bytes=--3",
        "bytes=0x1-2",
        "bytes:1-2",
        "items=1-2",
        "bytes=1-2;3-4",
        "bytes=1-2, x",
    ] {
        assert_eq!(range(value), Ranged::Whole, "{value:?}");
    }
    let twice = [("range", "bytes=1-2"), ("range", "bytes=1-2")];
    assert_eq!(select_from(TEN, &[], &twice), Ranged::Whole);
}

/// RFC 9110 section 15.5.17: 416 where nothing that was asked for is there.
#[test]
fn what_lies_outside_is_unsatisfiable() {
    for value in [
        "bytes=10-",
        "bytes=10-20",
        "bytes=-0",
        "bytes=11-,-0",
        "bytes=99999999999999999999-",
    ] {
        assert_eq!(range(value), Ranged::Unsatisfiable { total: 10 }, "{value}");
    }
    // As long as one of them is there the others are passed over.
    assert_eq!(range("bytes=20-,2-5"), one(2, 5));
}

/// RFC 9110 section 14.1.2: of nothing every suffix is all, which no Content-Range can say; no position lies in it.
#[test]
fn of_an_empty_body_a_suffix_is_all() {
    let of = |value| select_from("", &[], &[("range", value)]);
    assert_eq!(of("bytes=-5"), Ranged::Whole);
    assert_eq!(of("bytes=0-"), Ranged::Unsatisfiable { total: 0 });
    assert_eq!(of("bytes=-0"), Ranged::Unsatisfiable { total: 0 });
}

/// RFC 9110 section 14.2: several ranges in the order of the request; too many or overlapping ones get the whole.
#[test]
fn several_ranges_are_bounded() {
    assert_eq!(range("bytes=0-1, 4-5"), Ranged::Many(vec![(0, 1), (4, 5)]));
    assert_eq!(
        range("bytes=4-5,0-1,-1"),
        Ranged::Many(vec![(4, 5), (0, 1), (9, 9)])
    );
    assert_eq!(range("bytes=0-4,4-5"), Ranged::Whole);
    assert_eq!(range("bytes=0-,0-,0-"), Ranged::Whole);
    assert_eq!(range("bytes=5-,0-9"), Ranged::Whole);
    let eight = "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7";
    assert!(matches!(range(eight), Ranged::Many(parts) if parts.len() == 8));
    assert_eq!(range(&format!("{eight},8-8")), Ranged::Whole);
}

/// RFC 9110 section 14.6: a body of several parts says of each where it belongs.
#[test]
fn several_ranges_make_a_multipart_body() {
    let body = Body::Whole(Bytes::from_static(TEN.as_bytes()));
    let made = multipart(&[(0, 1), (9, 9)], 10, Some(b"text/plain"), &body, "B").unwrap();
    let text = "\r\n--B\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10\r\n\r\n01\
                \r\n--B\r\ncontent-type: text/plain\r\ncontent-range: bytes 9-9/10\r\n\r\n9\r\n--B--\r\n";
    assert_eq!(made, text);
    assert_eq!(multipart(&[(0, 10)], 10, None, &body, "B"), None);
    assert_eq!(slice(&body, 3, 5).as_deref(), Some(&b"345"[..]));
    for (first, last) in [
        (0, 10),
        (10, 10),
        (5, 4),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        assert_eq!(slice(&body, first, last), None, "{first}-{last}");
    }
}

/// RFC 9110 section 13.1.5: If-Range holds for the same strong tag; otherwise the whole is sent.
#[test]
fn if_range_takes_a_strong_tag() {
    let asked = |stored: &str, condition: &str| {
        let request = [("range", "bytes=2-5"), ("if-range", condition)];
        select_from(TEN, &[("etag", stored)], &request)
    };
    assert_eq!(asked("\"a\"", "\"a\""), one(2, 5));
    for (stored, condition) in [
        ("\"a\"", "\"b\""),
        ("\"a\"", "W/\"a\""),
        ("W/\"a\"", "W/\"a\""),
        ("W/\"a\"", "\"a\""),
        ("\"a\"", "*"),
        ("\"a\"", "a"),
        ("\"a\"", ""),
        ("\"a\"", "\"a\", \"b\""),
    ] {
        assert_eq!(
            asked(stored, condition),
            Ranged::Whole,
            "{stored} {condition}"
        );
    }
    let twice = [
        ("range", "bytes=2-5"),
        ("if-range", "\"a\""),
        ("if-range", "\"b\""),
    ];
    assert_eq!(
        select_from(TEN, &[("etag", "\"a\"")], &twice),
        Ranged::Whole
    );
}

/// RFC 9110 sections 13.1.5 and 8.8.2.2: a date must be the very Last-Modified, and that a strong validator: older than Date by a
/// second at least, or the content could have changed twice within it.
#[test]
fn if_range_takes_a_strong_date() {
    let asked = |modified_at, date_at, condition: &str| {
        let (modified, made) = (date(modified_at), date(date_at));
        let stored = [
            ("last-modified", modified.as_str()),
            ("date", made.as_str()),
        ];
        select_from(
            TEN,
            &stored,
            &[("range", "bytes=2-5"), ("if-range", condition)],
        )
    };
    assert_eq!(asked(-100, 0, &date(-100)), one(2, 5));
    assert_eq!(asked(-1, 0, &date(-1)), one(2, 5));
    assert_eq!(asked(0, 0, &date(0)), Ranged::Whole);
    assert_eq!(asked(5, 0, &date(5)), Ranged::Whole);
    assert_eq!(asked(-100, 0, &date(-99)), Ranged::Whole);
    assert_eq!(asked(-100, 0, &date(-101)), Ranged::Whole);
    assert_eq!(asked(-100, 0, "junk"), Ranged::Whole);
    let junk = [("last-modified", "junk")];
    let request = [("range", "bytes=2-5"), ("if-range", "junk")];
    assert_eq!(select_from(TEN, &junk, &request), Ranged::Whole);
}

/// RFC 9110 section 13.1.5: If-Range without Range says nothing.
#[test]
fn if_range_alone_says_nothing() {
    assert_eq!(
        select_from(TEN, &[("etag", "\"a\"")], &[("if-range", "\"a\"")]),
        Ranged::Whole
    );
}
