//! Parts of a response: stored, joined and answered from. RFC 9111 sections 3.3 and 3.4, RFC 9110 sections 14.4 and 15.3.7.

use proptest::prelude::*;

use super::*;
use weirkeeper::cache::range::{Ranged, join, part, select, slice};
use weirkeeper::cache::stored::Head;

fn head(etag: &str) -> Head {
    let fields: &[_] = if etag.is_empty() {
        &[]
    } else {
        &[("etag", etag)]
    };
    Head::of(&map(fields))
}

/// What lies there under that tag.
fn stored(etag: &str, body: Body) -> Stored {
    Stored::new(200, head(etag), body, cc("max-age=60").life())
}

fn parts(total: u64, ranges: &[(u64, &str)]) -> Body {
    let owned = |(first, text): &(u64, &str)| (*first, Bytes::copy_from_slice(text.as_bytes()));
    let ranges = ranges.iter().map(owned).collect();
    Body::Parts { total, ranges }
}

fn whole(text: &str) -> Body {
    Body::Whole(Bytes::copy_from_slice(text.as_bytes()))
}

fn joined(old: Option<&Stored>, etag: &str, first: u64, total: u64, text: &str) -> Option<Body> {
    join(
        old,
        &head(etag),
        first,
        total,
        Bytes::copy_from_slice(text.as_bytes()),
    )
}

/// RFC 9110 section 14.4: a part must say where it belongs, and hold as much as it says.
#[test]
fn a_part_says_where_it_belongs() {
    let read = |status, value: &str, body: &'static str| {
        let found = part(
            status,
            &map(&[("content-range", value)]),
            Bytes::from_static(body.as_bytes()),
        );
        found.map(|(first, total, _)| (first, total))
    };
    assert_eq!(read(206, "bytes 2-4/10", "abc"), Some((2, 10)));
    assert_eq!(read(206, "Bytes 2-4/10", "abc"), Some((2, 10)));
    assert_eq!(read(206, "bytes 0-0/1", "a"), Some((0, 1)));
    for (status, value, body) in [
        (200, "bytes 2-4/10", "abc"),
        (206, "bytes 2-4/10", "ab"),
        (206, "bytes 2-4/10", "abcd"),
        (206, "bytes 2-4/*", "abc"),
        (206, "bytes */10", ""),
        (206, "bytes 2-4/4", "abc"),
        (206, "bytes 8-10/10", "abc"),
        (206, "bytes 4-2/10", "abc"),
        (
            206,
            "bytes 0-18446744073709551615/18446744073709551616",
            "abc",
        ),
        (206, "items 2-4/10", "abc"),
        (206, "bytes 2-4", "abc"),
        (206, "bytes=2-4/10", "abc"),
        (206, "bytes -4/10", "abc"),
        (206, "", ""),
        (206, "bytes 5-4/10", ""),
    ] {
        assert_eq!(read(status, value, body), None, "{status} {value}");
    }
    let twice = map(&[
        ("content-range", "bytes 0-0/9"),
        ("content-range", "bytes 1-1/9"),
    ]);
    assert_eq!(part(206, &twice, Bytes::from_static(b"a")), None);
    assert_eq!(part(206, &HeaderMap::new(), Bytes::from_static(b"a")), None);
}

/// RFC 9111 section 3.4: parts are joined under the same strong validator only; without one a part is not stored.
#[test]
fn parts_join_under_a_strong_tag_only() {
    let old = stored("\"a\"", parts(10, &[(0, "012")]));
    assert_eq!(
        joined(Some(&old), "\"a\"", 5, 10, "567"),
        Some(parts(10, &[(0, "012"), (5, "567")]))
    );
    assert_eq!(
        joined(Some(&old), "\"b\"", 5, 10, "567"),
        Some(parts(10, &[(5, "567")]))
    );
    assert_eq!(joined(Some(&old), "W/\"a\"", 5, 10, "567"), None);
    assert_eq!(joined(Some(&old), "", 5, 10, "567"), None);
    assert_eq!(joined(None, "", 5, 10, "567"), None);
    let weak = stored("W/\"a\"", parts(10, &[(0, "012")]));
    assert_eq!(
        joined(Some(&weak), "\"a\"", 5, 10, "567"),
        Some(parts(10, &[(5, "567")]))
    );
    // Another length is another representation, whatever its tag.
    assert_eq!(
        joined(Some(&old), "\"a\"", 5, 11, "567"),
        Some(parts(11, &[(5, "567")]))
    );
    assert_eq!(joined(Some(&old), "\"a\"", 5, 10, ""), None);
}

/// RFC 9111 section 3.4: what overlaps or adjoins becomes one, and all of it the whole.
#[test]
fn parts_become_the_whole() {
    let old = stored("\"a\"", parts(10, &[(0, "0123"), (8, "89")]));
    assert_eq!(
        joined(Some(&old), "\"a\"", 4, 10, "4567"),
        Some(whole("0123456789"))
    );
    assert_eq!(
        joined(Some(&old), "\"a\"", 2, 10, "2345678"),
        Some(whole("0123456789"))
    );
    assert_eq!(
        joined(Some(&old), "\"a\"", 1, 10, "12"),
        Some(parts(10, &[(0, "0123"), (8, "89")]))
    );
    assert_eq!(
        joined(Some(&old), "\"a\"", 4, 10, "4"),
        Some(parts(10, &[(0, "01234"), (8, "89")]))
    );
    assert_eq!(joined(None, "\"a\"", 0, 3, "012"), Some(whole("012")));
    let all = stored("\"a\"", whole("0123456789"));
    assert_eq!(
        joined(Some(&all), "\"a\"", 2, 10, "23"),
        Some(whole("0123456789"))
    );
}

/// Pieces are bounded: a client cannot have one response stored in countless scraps.
#[test]
fn scraps_are_bounded() {
    let mut body = None;
    for n in 0..40_u64 {
        let old = body.clone().map(|b| stored("\"a\"", b));
        let next = joined(old.as_ref(), "\"a\"", n * 10, 1000, "x");
        assert_eq!(next.is_some(), n < 32, "{n}");
        body = next.or(body);
    }
}

/// RFC 9111 section 3.3: what is stored in parts answers for these alone, and never as the whole.
#[test]
fn parts_answer_for_themselves_alone() {
    let old = stored("\"a\"", parts(10, &[(0, "0123"), (8, "89")]));
    let ask = |fields: Fields<'_>| select(&map(fields), &old, then(0).wall);
    let one = |first, last| {
        Some(Ranged::One {
            first,
            last,
            total: 10,
        })
    };
    assert_eq!(ask(&[("range", "bytes=1-3")]), one(1, 3));
    assert_eq!(ask(&[("range", "bytes=-2")]), one(8, 9));
    assert_eq!(ask(&[("range", "bytes=8-")]), one(8, 9));
    assert_eq!(
        ask(&[("range", "bytes=0-1,8-8")]),
        Some(Ranged::Many(vec![(0, 1), (8, 8)]))
    );
    assert_eq!(
        ask(&[("range", "bytes=10-")]),
        Some(Ranged::Unsatisfiable { total: 10 })
    );
    for fields in [
        &[][..],
        &[("range", "bytes=1-4")],
        &[("range", "bytes=3-8")],
        &[("range", "bytes=0-1,4-5")],
        &[("range", "junk")],
        &[("range", "bytes=1-3"), ("if-range", "\"b\"")],
    ] {
        assert_eq!(ask(fields), None, "{fields:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// RFC 9111 section 3.4: whatever parts of a representation come in whatever order, no byte is ever out of its place.
    #[test]
    fn joined_parts_are_what_they_are_parts_of(
        content in prop::collection::vec(any::<u8>(), 1..40),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
    ) {
        let content = Bytes::from(content);
        let total = content.len() as u64;
        let mut seen = vec![false; content.len()];
        let mut body: Option<Body> = None;
        for (one, other) in cuts {
            let (a, b) = (one.index(content.len()), other.index(content.len()));
            let (a, b) = (a.min(b), a.max(b));
            seen[a..=b].fill(true);
            let old = body.map(|b| stored("\"a\"", b));
            body = join(old.as_ref(), &head("\"a\""), a as u64, total, content.slice(a..=b));
            let body = body.as_ref().expect("few enough");
            for (at, there) in seen.iter().enumerate() {
                let at64 = at as u64;
                let expected = there.then(|| content.slice(at..=at));
                prop_assert_eq!(slice(body, at64, at64), expected);
            }
            let is_whole = matches!(body, Body::Whole(_));
            prop_assert_eq!(is_whole, seen.iter().all(|s| *s));
        }
    }
}
