//! Field lists and hop-by-hop fields (RFC 9110, sections 5.6.1, 7.6.1 and 10.1.4).

use std::net::IpAddr;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use weirkeeper::message::fields::{
    self, ConnectionTokens, forwarded_for, is_hop_by_hop, list_items,
};
use weirkeeper::message::head::Fields;
use weirkeeper::message::known::Known;

use super::headers;

fn names(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(HeaderName::as_str).collect()
}

#[test]
fn rfc9110_5_6_1_lists_skip_empty_items_and_respect_quotes() {
    let items = |list: &'static str| -> Vec<&str> {
        list_items(list.as_bytes())
            .map(|item| std::str::from_utf8(item).unwrap())
            .collect()
    };
    assert_eq!(items("a, b ,,\tc"), ["a", "b", "c"]);
    assert_eq!(items(r#"a="x,y", b"#), [r#"a="x,y""#, "b"]);
    assert_eq!(items(r#"a="x\",y", b"#), [r#"a="x\",y""#, "b"]);
    assert_eq!(items(r#"a="x\\", b"#), [r#"a="x\\""#, "b"]);
    assert_eq!(items(r#"a="never closed, b"#), [r#"a="never closed, b"#]);
    assert_eq!(items(r"a\, b"), [r"a\", "b"]);
    assert!(items("").is_empty() && items(" , ,").is_empty());
}

#[test]
fn rfc9110_7_6_1_hop_by_hop_fields_go() {
    let all = headers(&[
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic"),
        ("proxy-authentication-info", "x"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "foo"),
        ("http2-settings", "x"),
        ("trailer", "x-sum"),
        ("server", "s"),
        ("date", "d"),
    ]);
    let kept: Vec<_> = all
        .keys()
        .filter(|name| !is_hop_by_hop(name))
        .cloned()
        .collect();
    let mut stripped = Fields::from(all);
    stripped.strip_hop_by_hop();
    let all = stripped.into_map();
    assert_eq!(names(&all).len(), 3);
    assert!(kept.iter().all(|name| all.contains_key(name)));
    assert_eq!(kept, ["trailer", "server", "date"]);
}

#[test]
fn rfc9110_7_6_1_nominated_fields_go_unless_their_loss_misleads() {
    let some = headers(&[
        ("connection", "close, X-One, x-two,\"x-three\""),
        ("connection", "Host, Content-Length, X-Forwarded-For"),
        ("connection", "authorization, x-real-ip, cookie, via"),
        ("x-one", "1"),
        ("x-one", "2"),
        ("x-two", "1"),
        ("x-three", "1"),
        ("x-four", "1"),
        ("host", "h"),
        ("content-length", "3"),
        ("x-forwarded-for", "1.2.3.4"),
        ("authorization", "a"),
        ("x-real-ip", "1.2.3.4"),
        ("cookie", "c"),
        ("via", "v"),
    ]);
    let mut some = Fields::from(some);
    let tokens = ConnectionTokens::of(some.get_all(Known::Connection));
    assert!(tokens.close() && !tokens.keep_alive() && !tokens.upgrade());
    for (name, nominated) in [
        ("x-one", true),
        ("x-two", true),
        ("x-three", false),
        ("x-four", false),
        ("host", false),
        ("content-length", false),
        ("x-forwarded-for", false),
        ("close", false),
    ] {
        for name in [name.to_owned(), name.to_ascii_uppercase()] {
            let found = tokens.nominates(name.as_bytes());
            assert_eq!(found, nominated, "{name}");
        }
    }
    some.strip_hop_by_hop();
    let some = some.into_map();
    let left = [
        "x-three",
        "x-four",
        "host",
        "content-length",
        "x-forwarded-for",
        "authorization",
        "x-real-ip",
        "cookie",
        "via",
    ];
    assert_eq!(some.len(), left.len());
    assert!(left.iter().all(|name| some.contains_key(*name)));
}

#[test]
fn connection_options_are_told_apart() {
    let tokens = |value: &'static str| ConnectionTokens::of([value].into_iter().map(str::as_bytes));
    assert!(tokens("Keep-Alive").keep_alive() && !tokens("Keep-Alive").close());
    assert!(tokens("Upgrade, HTTP2-Settings").upgrade());
    let none = ConnectionTokens::of([].into_iter());
    assert!(!none.close() && !none.keep_alive() && !none.upgrade());
    assert!(!none.nominates(b"x-one"));
}

#[test]
fn rfc9110_10_1_4_trailers_are_taken_only_when_said() {
    let te = |value: &'static str| fields::te_trailers([value].into_iter().map(str::as_bytes));
    assert!(te("trailers") && te("gzip;q=0.5, Trailers"));
    assert!(!te("gzip") && !te("xtrailers") && !te(""));
    assert!(!fields::te_trailers([].into_iter()));
}

#[test]
fn forwarded_for_believes_the_trusted_alone() {
    let sent = headers(&[
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("x-forwarded-for", " "),
        ("x-forwarded-for", "3.3.3.3"),
    ]);
    let value = |peer: &str, trusted| {
        let mut out = BytesMut::new();
        let said = || {
            sent.get_all("x-forwarded-for")
                .iter()
                .map(HeaderValue::as_bytes)
        };
        let peer: IpAddr = peer.parse().unwrap();
        forwarded_for(&mut out, said(), peer, trusted);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(value("9.9.9.9", false), "9.9.9.9");
    assert_eq!(value("9.9.9.9", true), "1.1.1.1, 2.2.2.2, 3.3.3.3, 9.9.9.9");
    assert_eq!(value("::ffff:9.9.9.9", false), "9.9.9.9");
    assert_eq!(value("2001:db8::1", false), "2001:db8::1");
}
