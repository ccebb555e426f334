//! Records come back as they were, and nothing else comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::super::life::Life;
use super::super::stored::Head;
use super::*;
use crate::time::Tick;

const FORMS: [Serializer; 3] = [Serializer::Binary, Serializer::Json, Serializer::Lz4];
const MAX: u64 = 1 << 20;
const KEY: &[u8] = b"http://a.example/b?c\n\n\0";
/// When all is written and read.
const NOW: Tick = Tick::from_millis(1 << 33);
/// Of a record that is about to end.
const ENDING: Kept = Kept {
    left: Duration::ZERO,
    asked: NOW,
};

/// What a server says at once of a record that it was given.
fn kept(entry: &Entry) -> Kept {
    match entry {
        Entry::Response(stored) => Kept {
            left: stored.life.left(NOW),
            asked: NOW,
        },
        Entry::Varies(_) => ENDING,
    }
}

fn life(n: u32) -> Life {
    Life {
        received: Tick::from_millis(n.into()),
        initial_age: n,
        lifetime: n ^ 5,
        stale_while_revalidate: n.rotate_left(7),
        stale_if_error: n / 3,
        fetch_millis: n % 1000,
        explicit: n & 1 == 1,
        must_revalidate: n & 2 == 2,
        no_cache: n & 4 == 4,
    }
}

fn response(body: Body, soft: bool, n: u32) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.append(
        "x-bytes",
        HeaderValue::from_bytes(b"\xff\x80").expect("obs-text"),
    );
    headers.append("x-bytes", HeaderValue::from_static(""));
    let stored = Stored::new(200, Head::of(&headers), body, life(n));
    stored.soft.store(soft, Ordering::Relaxed);
    Entry::Response(Arc::new(stored))
}

fn varies() -> Entry {
    Entry::Varies(Arc::new(Varies {
        names: vec![
            HeaderName::from_static("accept"),
            HeaderName::from_static("x-a"),
        ],
        generation: u64::MAX,
    }))
}

fn samples() -> Vec<Entry> {
    vec![
        response(Body::Whole(Bytes::from_static(b"hello")), true, 7),
        response(Body::Whole(Bytes::new()), false, u32::MAX),
        response(Body::Whole(vec![b'x'; 3000].into()), false, 1),
        response(
            Body::Parts {
                total: 100,
                ranges: vec![
                    (0, Bytes::from_static(b"ab")),
                    (10, Bytes::from_static(b"\0\xff")),
                ]
                .into(),
            },
            false,
            2,
        ),
        varies(),
    ]
}

/// Everything that is to come back.
fn told(entry: &Entry) -> String {
    match entry {
        Entry::Response(s) => format!(
            "{} {:?} {:?} {:?} {}",
            s.status,
            s.head,
            s.body,
            s.life,
            s.is_soft()
        ),
        Entry::Varies(v) => format!("{v:?}"),
    }
}

fn seen() -> Seen {
    Seen {
        millis: 1_700_000_000_123,
        sequence: 4,
    }
}

fn record(entry: &Entry, form: Serializer) -> Bytes {
    encode(entry, KEY, seen(), NOW, form, MAX).expect("it is small")
}

/// The same content with a checksum that holds.
fn sealed(form: u8, content: &[u8]) -> Bytes {
    let mut out = vec![MAGIC, VERSION, form];
    out.extend_from_slice(&checksum(&[MAGIC, VERSION, form], content).to_le_bytes());
    out.extend_from_slice(content);
    out.into()
}

#[test]
fn every_form_brings_everything_back() {
    for entry in samples() {
        for form in FORMS {
            let bytes = record(&entry, form);
            let (back, known) = decode(&bytes, KEY, ENDING, MAX).expect("it was just written");
            assert_eq!(told(&back), told(&entry), "{form:?}");
            assert_eq!(known, seen());
        }
    }
}

#[test]
fn json_is_for_people_and_lz4_only_where_it_is_smaller() {
    let [small, _, large, ..] = &samples()[..] else {
        panic!("there are samples");
    };
    let json = record(small, Serializer::Json);
    let text = std::str::from_utf8(&json[HEADER..]).expect("JSON is text");
    assert!(
        text.contains(r#""body":{"whole":{"text":"hello"}}"#),
        "{text}"
    );
    assert!(text.contains(r#""seen":{"millis":1700000000123"#), "{text}");
    assert_eq!(record(small, Serializer::Lz4)[2], BINARY);
    let packed = record(large, Serializer::Lz4);
    assert_eq!(packed[2], LZ4);
    assert!(packed.len() < 400);
}

#[test]
fn a_body_is_not_copied() {
    let bytes = record(&samples()[2], Serializer::Binary);
    let Ok((Entry::Response(stored), _)) = decode(&bytes, KEY, ENDING, MAX) else {
        panic!("it was just written");
    };
    let Body::Whole(body) = &stored.body else {
        panic!("it is whole");
    };
    assert!(bytes.as_ptr_range().contains(&body.as_ptr()));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_found() {
    for entry in samples() {
        for form in FORMS {
            let good = record(&entry, form);
            for length in 0..good.len() {
                let cut = good.slice(..length);
                assert!(
                    decode(&cut, KEY, ENDING, MAX).is_err(),
                    "{form:?} at {length}"
                );
            }
            for bit in 0..good.len() * 8 {
                let mut bad = good.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    decode(&bad.into(), KEY, ENDING, MAX).is_err(),
                    "{form:?} bit {bit}"
                );
            }
            let longer = [&good[..], b"x"].concat();
            let told = decode(&longer.into(), KEY, ENDING, MAX).map(|_| ());
            assert_eq!(told, Err(Corrupt::Checksum));
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let good = record(&varies(), Serializer::Binary);
    let told = |bytes: &[u8]| decode(&Bytes::copy_from_slice(bytes), KEY, ENDING, MAX).map(|_| ());
    assert_eq!(told(b"W\x01"), Err(Corrupt::Truncated));
    assert_eq!(told(b"just some text"), Err(Corrupt::Foreign));
    let mut newer = good.to_vec();
    newer[1] = VERSION + 1;
    assert_eq!(told(&newer), Err(Corrupt::Version));
    for form in FORMS {
        let bytes = record(&varies(), form);
        let other = decode(&bytes, b"http://a.example/\n", ENDING, MAX).map(|_| ());
        assert_eq!(other, Err(Corrupt::WrongKey), "{form:?}");
        let small = decode(&bytes, KEY, ENDING, bytes.len() as u64 - 1).map(|_| ());
        assert_eq!(small, Err(Corrupt::TooLarge), "{form:?}");
    }
    assert_eq!(told(&sealed(9, b"")), Err(Corrupt::Malformed));
}

#[test]
fn a_record_that_would_be_too_large_is_not_written() {
    let entry = response(Body::Whole(vec![b'x'; 5000].into()), false, 1);
    for form in FORMS {
        assert_eq!(
            encode(&entry, KEY, seen(), NOW, form, 5000),
            None,
            "{form:?}"
        );
        assert!(
            encode(&entry, KEY, seen(), NOW, form, 6000).is_some(),
            "{form:?}"
        );
    }
}

#[test]
fn no_memory_is_given_for_a_length_that_is_only_claimed() {
    // A body of zeros that is small here and would be a gigabyte there.
    let bomb = |claimed: u32, packed: &[u8]| {
        let content = [&claimed.to_le_bytes()[..], packed].concat();
        decode(&sealed(LZ4, &content), KEY, ENDING, MAX).map(|_| ())
    };
    assert_eq!(bomb(1 << 30, &[0; 100]), Err(Corrupt::TooLarge));
    assert_eq!(bomb(u32::MAX, &[]), Err(Corrupt::TooLarge));
    assert_eq!(bomb(1 << 19, &[0; 100]), Err(Corrupt::Malformed));
    // It decompresses to more than it claims.
    let packed = lz4_flex::block::compress(&[0; 10_000]);
    assert_eq!(bomb(5_000, &packed), Err(Corrupt::Malformed));
    assert_eq!(bomb(10_001, &packed), Err(Corrupt::Malformed));
    // A head that claims more body, more ranges, or longer names than there are bytes.
    for content in [
        &b"\xff\xff\xff\xff\x0f"[..],
        b"\x00\x00\x00\x01\xff\xff\xff\xff\x0f",
    ] {
        let told = decode(&sealed(BINARY, content), KEY, ENDING, MAX).map(|_| ());
        assert_eq!(told, Err(Corrupt::Malformed));
    }
}

#[test]
fn what_the_store_never_holds_is_malformed() {
    let part = |total, ranges: &[(u64, &'static [u8])]| {
        let ranges = ranges
            .iter()
            .map(|(f, b)| (*f, Bytes::from_static(b)))
            .collect();
        response(Body::Parts { total, ranges }, false, 1)
    };
    let bad = [
        part(100, &[]),
        part(100, &[(0, b"")]),
        part(3, &[(2, b"ab")]),
        part(100, &[(10, b"ab"), (0, b"ab")]),
        part(100, &[(0, b"ab"), (1, b"ab")]),
        part(100, &[(0, b"ab"), (2, b"ab")]),
        part(u64::MAX, &[(u64::MAX, b"ab")]),
        Entry::Response(Arc::new(Stored::new(
            101,
            Head::default(),
            Body::Whole(Bytes::new()),
            Life::default(),
        ))),
        Entry::Varies(Arc::new(Varies {
            names: vec![HeaderName::from_static("b"), HeaderName::from_static("a")],
            generation: 0,
        })),
    ];
    for entry in bad {
        for form in FORMS {
            let told = decode(&record(&entry, form), KEY, ENDING, MAX).map(|_| ());
            assert_eq!(
                told,
                Err(Corrupt::Malformed),
                "{form:?} {}",
                self::told(&entry)
            );
        }
    }
}

proptest! {
    #[test]
    fn any_response_comes_back(
        status in 200_u16..600,
        fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,9}", "[!-~]{0,20}"), 0..8),
        body in proptest::collection::vec(any::<u8>(), 0..2000),
        key in proptest::collection::vec(any::<u8>(), 0..60),
        n in any::<u32>(),
        form in 0_usize..3,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            headers.append(
                HeaderName::try_from(name).expect("a token"),
                HeaderValue::try_from(value).expect("visible"),
            );
        }
        let stored = Stored::new(status, Head::of(&headers), Body::Whole(body.into()), life(n));
        let entry = Entry::Response(Arc::new(stored));
        let bytes = encode(&entry, &key, seen(), NOW, FORMS[form], MAX).expect("it is small");
        let (back, known) = decode(&bytes, &key, kept(&entry), MAX).expect("it was just written");
        prop_assert_eq!(told(&back), told(&entry));
        prop_assert_eq!(known, seen());
    }

    #[test]
    fn junk_with_a_checksum_that_holds_is_an_error_or_an_entry(
        form in 0_u8..3,
        content in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        // No panic, and nothing beyond the bound.
        if let Ok((entry, _)) = decode(&sealed(form, &content), KEY, ENDING, 1000) {
            prop_assert!(body_size(&entry) <= 1000);
        }
    }

    #[test]
    fn a_changed_record_with_a_checksum_that_holds_is_no_panic(
        sample in 0_usize..5,
        form in 0_usize..3,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let bytes = record(&samples()[sample], FORMS[form]);
        let mut content = bytes[HEADER..].to_vec();
        let at = at.index(content.len());
        content[at] = byte;
        if let Ok((entry, _)) = decode(&sealed(bytes[2], &content), KEY, ENDING, MAX) {
            prop_assert!(body_size(&entry) <= MAX);
        }
    }
}
