//! Under which name a response is stored: RFC 9111 section 2, RFC 9110 section 4.2.3, RFC 3986 section 6.

use proptest::prelude::*;

use super::*;
use weirkeeper::cache::key::{authority, primary, url, variant};
use weirkeeper::cache::rules::QueryKey;
use weirkeeper::cache::stored::Varies;

fn key(
    rules: &Rules,
    scheme: &str,
    host: &str,
    path: &str,
    query: Option<&str>,
    fields: Fields<'_>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let target = (path, query);
    primary(&mut out, rules, scheme, host, target, &map(fields));
    out
}

fn path_key(rules: &Rules, path: &str, query: Option<&str>) -> String {
    let key = key(rules, "http", "h", path, query, &[]);
    String::from_utf8(url(&key).to_vec()).unwrap()
}

/// RFC 9110 section 4.2.3: the port that a scheme implies is none; any other belongs to the key.
#[test]
fn default_ports_are_left_out() {
    assert_eq!(authority("h", None, "http"), "h");
    assert_eq!(authority("h", Some(80), "http"), "h");
    assert_eq!(authority("h", Some(443), "https"), "h");
    assert_eq!(authority("h", Some(443), "http"), "h:443");
    assert_eq!(authority("h", Some(80), "https"), "h:80");
    assert_eq!(authority("[::1]", Some(8080), "http"), "[::1]:8080");
}

/// RFC 9111 section 2: scheme, authority, path and query; no query and an empty one are two (RFC 3986 section 6.2.3).
#[test]
fn the_url_is_the_key() {
    let rules = Rules::default();
    assert_eq!(path_key(&rules, "/a", None), "http://h/a");
    assert_eq!(path_key(&rules, "/a", Some("")), "http://h/a?");
    assert_eq!(
        path_key(&rules, "/a", Some("b=c&b=d&a")),
        "http://h/a?b=c&b=d&a"
    );
    assert_ne!(
        path_key(&rules, "/a", Some("x=1&y=2")),
        path_key(&rules, "/a", Some("y=2&x=1"))
    );
}

/// A query can be left out wholly, or by parameters' names, in every spelling of these.
#[test]
fn queries_can_be_left_out() {
    let none = Rules {
        query: QueryKey::None,
        ..Rules::default()
    };
    assert_eq!(path_key(&none, "/a", Some("x")), "http://h/a");
    let names = vec!["utm".to_owned(), "a b".to_owned(), "é".to_owned()];
    let without = Rules {
        query: QueryKey::Without(names),
        ..Rules::default()
    };
    for (query, left) in [
        ("utm=1", ""),
        ("utm", ""),
        ("%75tm=1", ""),
        ("ut%6D=1", ""),
        ("ut%6d=1&x=2", "?x=2"),
        ("x=2&utm=1&y=3", "?x=2&y=3"),
        ("a%20b=1&x", "?x"),
        ("%C3%A9=1&x", "?x"),
        ("UTM=1", "?UTM=1"),
        ("utmx=1", "?utmx=1"),
        ("x=utm", "?x=utm"),
        ("%2575tm=1", "?%2575tm=1"),
        ("utm%=1", "?utm%=1"),
        ("%7=1", "?%7=1"),
        ("", "?"),
        ("&utm", "?"),
    ] {
        assert_eq!(
            path_key(&without, "/a", Some(query)),
            format!("http://h/a{left}"),
            "{query}"
        );
    }
}

/// A route's partition and its key headers belong to the key; a field that is absent is not one that is empty.
#[test]
fn partitions_and_key_headers_divide() {
    let rules = |partition: &str, names: &[&str]| Rules {
        partition: partition.to_owned(),
        key_headers: names.iter().map(|n| n.parse().unwrap()).collect(),
        ..Rules::default()
    };
    let of = |rules: &Rules, fields: Fields<'_>| key(rules, "http", "h", "/", None, fields);
    let (plain, parted) = (rules("", &[]), rules("p", &[]));
    assert_ne!(of(&plain, &[]), of(&parted, &[]));
    let tenant = rules("", &["x-tenant"]);
    let values: [Fields<'_>; 6] = [
        &[],
        &[("x-tenant", "")],
        &[("x-tenant", "a")],
        &[("x-tenant", "A")],
        &[("x-tenant", "a,b")],
        &[("x-tenant", "a"), ("x-tenant", "b")],
    ];
    for (i, one) in values.iter().enumerate() {
        for (j, other) in values.iter().enumerate() {
            assert_eq!(
                of(&tenant, one) == of(&tenant, other),
                i == j,
                "{one:?} {other:?}"
            );
        }
    }
    let two = rules("", &["x-a", "x-b"]);
    assert_ne!(of(&two, &[("x-a", "1")]), of(&two, &[("x-b", "1")]));
    assert_eq!(of(&tenant, &[("x-other", "1")]), of(&tenant, &[]));
}

/// What a key is made of.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    scheme: &'static str,
    host: &'static str,
    port: Option<u16>,
    path: String,
    query: Option<String>,
    /// Lines of a key header, and of a field that selects a variant.
    lines: [Vec<String>; 2],
    generation: u64,
}

impl Parts {
    fn key(&self) -> Vec<u8> {
        let rules = Rules {
            key_headers: vec!["x-a".parse().unwrap()],
            ..Rules::default()
        };
        let mut fields = HeaderMap::new();
        for (name, lines) in ["x-a", "x-b"].iter().zip(&self.lines) {
            for line in lines {
                fields.append(*name, HeaderValue::from_str(line).unwrap());
            }
        }
        let host = authority(self.host, self.port, self.scheme);
        let mut out = Vec::new();
        let query = self.query.as_deref();
        primary(
            &mut out,
            &rules,
            self.scheme,
            &host,
            (&self.path, query),
            &fields,
        );
        let varies = Varies {
            names: vec!["x-b".parse().unwrap()],
            generation: self.generation,
        };
        variant(&mut out, &varies, &fields);
        out
    }

    /// The same with what is known to mean the same.
    fn normal(mut self) -> Self {
        let implied = if self.scheme == "https" { 443 } else { 80 };
        self.port = self.port.filter(|p| *p != implied);
        for line in self.lines.iter_mut().flatten() {
            *line = line.trim().to_owned();
        }
        self
    }
}

fn value() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(&["a", "b", ",", "\"", "\\", " ", ";", "=", "0"][..]),
        0..5,
    )
    .prop_map(|pieces| pieces.concat())
}

fn key_parts() -> impl Strategy<Value = Parts> {
    let lines = || prop::collection::vec(value(), 0..3);
    let port = prop::option::of(prop::sample::select(&[80, 443, 8080][..]));
    let text = || prop::sample::select(&["", "a", "ab", "?", "/", "a=b", "//h"][..]);
    (
        prop::sample::select(&["http", "https"][..]),
        prop::sample::select(&["h", "hh", "h.h", "[::1]"][..]),
        port,
        prop::sample::select(&["/", "/a", "/a/", "//h", "/h:80", "/%3F"][..]),
        prop::option::of((text(), text()).prop_map(|(a, b)| format!("{a}{b}"))),
        [lines(), lines()],
        prop::sample::select(&[0, 1, 0xa, 0xab][..]),
    )
        .prop_map(
            |(scheme, host, port, path, query, lines, generation)| Parts {
                scheme,
                host,
                port,
                path: path.to_owned(),
                query,
                lines,
                generation,
            },
        )
}

/// One empty line of a field that the key varies by is not two of them.
#[test]
fn empty_lines_are_counted() {
    let with = |lines: &[&str]| Parts {
        scheme: "https",
        host: "h",
        port: None,
        path: "/".to_owned(),
        query: None,
        lines: [lines.iter().map(|l| (*l).to_owned()).collect(), vec![]],
        generation: 0,
    };
    let (one, two) = (with(&[""]), with(&["", ""]));
    assert_eq!(one.key() == two.key(), one.normal() == two.normal());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// RFC 9111 section 2: no two different requests have one key. One of the pair is the other with one thing changed, most
    /// often.
    #[test]
    fn different_requests_have_different_keys(a in key_parts(), b in key_parts(), keep in 0_u8..128) {
        let mut b = b;
        if keep & 1 > 0 { b.scheme = a.scheme; }
        if keep & 2 > 0 { b.host = a.host; }
        if keep & 4 > 0 { b.port = a.port; }
        if keep & 8 > 0 { b.path.clone_from(&a.path); }
        if keep & 16 > 0 { b.query.clone_from(&a.query); }
        if keep & 32 > 0 { b.lines[0].clone_from(&a.lines[0]); }
        if keep & 64 > 0 { b.generation = a.generation; }
        let same = a.key() == b.key();
        prop_assert_eq!(same, a.normal() == b.normal());
    }
}
