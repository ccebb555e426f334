//! Vary: which fields select a response, and which values are the same. RFC 9111 section 4.1, RFC 9110 sections 12.5.3 and
//! 12.5.5.

use super::*;
use weirkeeper::cache::key::variant;
use weirkeeper::cache::stored::Varies;

fn vary(lines: &[&str]) -> Result<Vec<String>, Uncacheable> {
    let mut fields = vec![("cache-control", "max-age=60")];
    fields.extend(lines.iter().map(|line| ("vary", *line)));
    let keep = got(&fields).store()?;
    Ok(keep.vary.iter().map(ToString::to_string).collect())
}

fn key(names: &[&str], fields: Fields<'_>) -> Vec<u8> {
    let varies = Varies {
        names: names.iter().map(|n| n.parse().unwrap()).collect(),
        generation: 7,
    };
    let mut out = b"primary".to_vec();
    variant(&mut out, &varies, &map(fields));
    out
}

/// Do both values of this field choose the same variant?
fn same(name: &str, one: &str, other: &str) -> bool {
    key(&[name], &[(name, one)]) == key(&[name], &[(name, other)])
}

/// RFC 9110 section 12.5.5: names without regard to case, order and repetition; an empty Vary selects nothing.
#[test]
fn names_are_normalised() {
    assert_eq!(vary(&[]).unwrap(), [""; 0]);
    assert_eq!(vary(&[""]).unwrap(), [""; 0]);
    let expected = ["accept-encoding", "origin"];
    for lines in [
        &["Origin, Accept-Encoding"][..],
        &["accept-encoding", "ORIGIN"],
        &[",origin,,accept-encoding,origin,", "Origin"],
    ] {
        assert_eq!(vary(lines).unwrap(), expected, "{lines:?}");
    }
}

/// RFC 9111 section 4.1: `*` matches no request, alone or among others; what is no name is as good as it.
#[test]
fn a_star_matches_nothing() {
    for lines in [
        &["*"][..],
        &["origin, *"],
        &["origin", "*"],
        &["accept encoding"],
        &["\"origin\""],
        &["a;b"],
    ] {
        assert_eq!(vary(lines), Err(Uncacheable::VaryAll), "{lines:?}");
    }
}

/// A response that varies by more fields than anybody means is not worth storing.
#[test]
fn too_many_names_are_everything() {
    let names = |n: usize| {
        (0..n)
            .map(|i| format!("x-{i}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(vary(&[&names(16)]).unwrap().len(), 16);
    assert_eq!(vary(&[&names(17)]), Err(Uncacheable::VaryAll));
    // The same one often is one.
    assert_eq!(vary(&[&"origin,".repeat(1000)]).unwrap(), ["origin"]);
}

/// RFC 9111 section 4.1: a field that is missing matches one that is missing, and not an empty one.
#[test]
fn missing_is_not_empty() {
    for name in ["origin", "accept-encoding", "accept-language"] {
        assert_ne!(key(&[name], &[]), key(&[name], &[(name, "")]), "{name}");
        assert_ne!(key(&[name], &[]), key(&[name], &[(name, "a")]), "{name}");
        assert_ne!(
            key(&[name], &[(name, "")]),
            key(&[name], &[(name, "a")]),
            "{name}"
        );
    }
    assert_ne!(
        key(&["a", "b"], &[("a", "1")]),
        key(&["a", "b"], &[("b", "1")])
    );
}

/// RFC 9111 section 4.1: blanks, empty items and lines make no difference where the field is known to be a list.
#[test]
fn lists_are_compared_as_lists() {
    for name in ["accept", "accept-language", "accept-charset"] {
        assert!(
            same(name, "a, b", "a,b") && same(name, "a,b", " a ,, b , "),
            "{name}"
        );
        assert_eq!(
            key(&[name], &[(name, "a"), (name, "b")]),
            key(&[name], &[(name, "a,b")]),
            "{name}"
        );
        assert!(!same(name, "a,b", "b,a"), "{name}");
        assert!(!same(name, "a,b", "ab"), "{name}");
    }
    assert!(!same("accept", "a;x=\"1,2\"", "a;x=\"1, 2\""));
    assert_ne!(
        key(&["accept"], &[("accept", "a;x=\"1"), ("accept", "2\"")]),
        key(&["accept"], &[("accept", "a;x=\"1,2\"")])
    );
}

/// RFC 9111 section 4.1: of any other field nothing is known, and the value counts as it is.
#[test]
fn other_fields_are_compared_as_they_are() {
    for name in [
        "cookie",
        "authorization",
        "user-agent",
        "origin",
        "x-tenant",
    ] {
        for (one, other) in [
            ("a, b", "a,b"),
            ("a,,b", "a,b"),
            ("a,", "a"),
            ("A", "a"),
            ("a  b", "a b"),
        ] {
            assert!(!same(name, one, other), "{name}: {one} {other}");
        }
        assert_ne!(
            key(&[name], &[(name, "a"), (name, "b")]),
            key(&[name], &[(name, "a,b")]),
            "{name}"
        );
        assert!(same(name, "a", "a"));
    }
}

/// RFC 9110 section 12.5.3: the same codings with the same weights are one variant, in any order and spelling.
#[test]
fn accept_encoding_has_a_normal_form() {
    let same = |one: &str, other: &str| same("accept-encoding", one, other);
    assert!(same("gzip, br", "br,gzip"));
    assert!(same("gzip, br", "GZIP ,Br"));
    assert!(same("gzip;q=1, br;q=1.000", "br,gzip;q=1.0"));
    assert!(same("gzip;q=0.50, br", "br, gzip ; Q=0.5"));
    assert!(same("gzip, gzip", "gzip"));
    assert!(same("gzip;q=0.0, br", "gzip;q=0,br"));
}

/// RFC 9110 section 12.5.3: weights count; a weight of 0 refuses a coding, which is not the same as not to name it.
#[test]
fn accept_encoding_keeps_refusals_apart() {
    let values = [
        "",
        "gzip",
        "gzip;q=0",
        "gzip;q=0.5",
        "gzip;q=0.001",
        "gzip, br",
        "gzip;q=0, br",
        "gzip, br;q=0",
        "gzip;q=0.5, br",
        "gzip, br;q=0.5",
        "identity;q=0",
        "*;q=0",
        "*",
        "identity",
        "gzip, *;q=0",
        "gzip, gzip;q=0",
    ];
    for (i, one) in values.iter().enumerate() {
        for (j, other) in values.iter().enumerate() {
            assert_eq!(
                same("accept-encoding", one, other),
                i == j,
                "{one:?} {other:?}"
            );
        }
    }
}

/// What does not follow the grammar is compared as it is: servers may read it in another way, and one could be made to store what
/// others cannot decode.
#[test]
fn junk_in_accept_encoding_is_compared_as_it_is() {
    let good = ["", "gzip", "gzip;q=0", "gzip;q=0.5", "gzip,br", "gzip;q=1"];
    let junk = [
        "gzip;1",
        "gzip;0",
        "gzip;",
        "gzip;q=",
        "gzip;q=2",
        "gzip;q=1.001",
        "gzip;q=.5",
        "gzip;q=0.5555",
        "gzip;q=0.5;x=1",
        "gzip;x=1",
        "gzip;q=\"0\"",
        "gzip;q=-0",
        "gzip br",
        "gzip;q = 0",
        "gzip;0.5",
        "\"gzip\"",
        "gzip,br;1",
    ];
    for one in junk {
        for other in good.iter().chain(&junk) {
            assert_eq!(
                same("accept-encoding", one, other),
                one == *other,
                "{one:?} {other:?}"
            );
        }
    }
}

/// RFC 9111 section 4.1: a new generation leaves all variants of the old one behind.
#[test]
fn generations_divide_variants() {
    let of = |generation| {
        let mut out = Vec::new();
        variant(
            &mut out,
            &Varies {
                names: vec!["origin".parse().unwrap()],
                generation,
            },
            &HeaderMap::new(),
        );
        out
    };
    assert_ne!(of(1), of(2));
    assert_eq!(of(1), of(1));
}
