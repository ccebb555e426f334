//! Whatever bytes a backend or a client sends: no panic, no time that grows with the square, and nothing shared that was
//! forbidden.

use proptest::prelude::*;

use super::*;
use weirkeeper::cache::directives::{RequestDirectives, ResponseDirectives, Scope};
use weirkeeper::cache::stored::Varies;
use weirkeeper::cache::{conditional, key, range};

/// The fields that the policy reads, of requests and responses.
const READ: [&str; 25] = [
    "cache-control",
    "cdn-cache-control",
    "weirkeeper-cache-control",
    "pragma",
    "expires",
    "date",
    "age",
    "last-modified",
    "etag",
    "vary",
    "set-cookie",
    "cookie",
    "authorization",
    "accept-encoding",
    "accept",
    "if-none-match",
    "if-modified-since",
    "if-range",
    "range",
    "content-range",
    "location",
    "content-location",
    "content-type",
    "surrogate-key",
    "x-a",
];

/// So many milliseconds after the beginning of both clocks.
fn at(millis: u64) -> Moment {
    Moment {
        tick: Tick::from_millis(millis),
        wall: Wall::from_millis(millis),
    }
}

/// Everything that reads fields, over these: as a request's, a response's and a 304's.
fn run_all(fields: &HeaderMap, status: u16, now: Moment, other: Moment) {
    let rules = Rules {
        heuristic: true,
        key_headers: vec!["x-a".parse().unwrap()],
        ..Rules::default()
    };
    let times = Times {
        requested: other.tick,
        received: now,
    };
    let _ = RequestDirectives::of(fields);
    let wants = match policy::ask(&rules, &Method::GET, "/", fields) {
        Ask::Use(wants) => wants,
        Ask::Bypass(_) => Wants::default(),
    };
    let mut primary = Vec::new();
    key::primary(&mut primary, &rules, "http", "h", ("/", Some("a")), fields);
    let names = READ.iter().map(|n| n.parse().unwrap()).collect();
    key::variant(
        &mut primary,
        &Varies {
            names,
            generation: 1,
        },
        fields,
    );
    let _ = policy::also_invalidates("http", "h", "/a?b", fields);
    let _ = range::part(206, fields, Bytes::from_static(b"abc"));
    let Ok(keep) = policy::store(&rules, &Wants::default(), status, fields, times) else {
        return;
    };
    let head = policy::head_of(fields, &keep, now.wall);
    let stored = Stored::new(
        status,
        head,
        Body::Whole(Bytes::from_static(b"abc")),
        keep.life,
    );
    for time in [now.tick, other.tick] {
        let _ = policy::reuse(&keep.life, false, &wants, time);
        let _ = policy::on_error(&keep.life, &wants, time);
        let _ = policy::early(&keep.life, time, 0.5, 1.0);
    }
    let _ = conditional::evaluate(fields, &stored.head, now.wall);
    let _ = range::select(fields, &stored, now.wall);
    let _ = policy::validators(&stored.head);
    let _ = policy::matches_304(&stored.head, fields);
    let _ = policy::refresh(&rules, &wants, &stored, fields, times);
}

/// Bytes of a field's value: mostly what parsers stumble over.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(|p| p.as_bytes().to_vec()),
        1 => prop::collection::vec(prop_oneof![32_u8..=126, 128_u8..=255, Just(9)], 0..6),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

const PIECES: &[&str] = &[
    "max-age=",
    "s-maxage=",
    "no-store",
    "private",
    "no-cache",
    "public",
    "must-revalidate",
    "must-understand",
    "stale-while-revalidate=",
    "=",
    ",",
    ";",
    " ",
    "\"",
    "\\",
    "(",
    ")",
    "?0",
    "?1",
    "*",
    "-",
    "0",
    "1",
    "99999999999999999999",
    "W/",
    "\"a\"",
    "bytes=",
    "bytes ",
    "0-1",
    "/",
    "..",
    "//",
    "http://h",
    ":",
    "[",
    "%2e",
    "%",
    "gzip",
    ";q=0.5",
    "Fri, 15 Jan 2027 08:00:00 GMT",
    "Friday, 15-Jan-27 08:00:00 GMT",
    "Fri Jan 15 08:00:00 2027",
    "Sun, 31 Dec 9999 23:59:59 GMT",
    "Thu, 01 Jan 0000 00:00:00 GMT",
    "x-a",
    "vary",
    "\u{fc}",
];

fn fields() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((prop::sample::select(&READ[..]), value()), 0..10).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, HeaderValue::from_bytes(&value).expect("no controls"));
        }
        map
    })
}

/// The year 10000 has no HTTP date.
#[test]
fn a_clock_past_the_last_date_does_not_make_it_panic() {
    let now = at(253_402_300_800_000);
    run_all(&map(&[("expires", "")]), 200, now, at(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_fields_make_it_panic(fields in fields(), status in 0_u16..1000, now in any::<u64>(), other in any::<u64>()) {
        run_all(&fields, status, at(now), at(other));
    }

    /// Leniency goes one way: with a plain no-store or private among its items, no Cache-Control is ever stored.
    #[test]
    fn what_forbids_is_never_lost(before in value(), word in 0..2_usize, after in value()) {
        let word = ["no-store", "private"][word];
        // Inside a quoted string that is whole it would be an argument, and no directive.
        let mut text: Vec<u8> = before.into_iter().filter(|b| *b != b'"').collect();
        text.extend_from_slice(b",");
        text.extend_from_slice(word.as_bytes());
        text.extend_from_slice(b",");
        text.extend_from_slice(&after);
        let mut fields = HeaderMap::new();
        fields.append("cache-control", HeaderValue::from_bytes(&text).expect("no controls"));
        let d = ResponseDirectives::of(&fields);
        let heard = if word == "private" { d.private == Scope::All } else { d.no_store };
        prop_assert!(heard, "{}", text.escape_ascii());
    }
}

/// A head of 32 KiB of one pattern must cost about what 32 heads of 1 KiB cost. Nothing is timed: there are so many of them
/// that a reader whose work grows with the square would be noticed by whoever waits for this test.
#[test]
fn large_heads_cost_in_proportion() {
    let now = then(0);
    for pattern in [
        ",",
        " ",
        "\"",
        "\\",
        "a",
        "a,",
        "a=1,",
        "a;",
        "\"a\",",
        "\"\\",
        "W/\"a\",",
        "private=\"a\",",
        "no-cache=\"b\",",
        "1,",
        "0-0,",
        "gzip;q=0.1,",
        "../",
        "%2e/",
        "//",
        "?",
        "(",
        "a=(1 2),",
        ":",
        "-",
        "x=\"",
    ] {
        let text = pattern.repeat(32 * 1024 / pattern.len());
        for name in READ {
            let mut fields = map(&[("cache-control", "max-age=60")]);
            fields.append(name, HeaderValue::from_str(&text).unwrap());
            run_all(&fields, 200, now, now);
        }
    }
}
