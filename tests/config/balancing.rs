//! Hashing and the PROXY protocol, as users write them.

use super::{errors, good};
use weirkeeper::config::expand;
use weirkeeper::engine::Strategy;
use weirkeeper::message::affinity::{HashBy, stable_hash};
use weirkeeper::message::proxy_protocol::Version;

fn full(listener: &str, upstream: &str) -> String {
    format!(
        r#"{{"listeners": {{"a": {{"bind": ":1"{listener}}}}},
            "upstreams": {{"u": {{"backends": ["http://h:80", "http://i:80"]{upstream}}}}}}}"#
    )
}

/// The strategy and the key of a text, read directly and after its expansion.
fn hashing(text: &str) -> (Strategy, HashBy) {
    let expanded = expand("f", text, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    let [direct, expanded] = [text, &expanded].map(|text| {
        let config = good(text);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let upstream = &config.upstreams[0];
        (upstream.spec.strategy, upstream.hash_by.clone())
    });
    assert_eq!(direct, expanded, "{text}");
    direct
}

#[test]
fn both_forms_say_by_what_they_hash_and_how_far() {
    let percent = |load_percent| Strategy::Hash { load_percent };
    for (said, strategy, by) in [
        ("", percent(Some(125)), HashBy::Address),
        (r#", "hash_by": "address""#, Strategy::HASH, HashBy::Address),
        (
            r#", "hash_by": "path", "hash_load_factor": 1"#,
            percent(Some(100)),
            HashBy::Path,
        ),
        (
            r#", "hash_by": {"header": "X-User"}, "hash_load_factor": 1.1"#,
            percent(Some(110)),
            HashBy::Header("x-user".parse().expect("a name")),
        ),
        (
            r#", "hash_by": {"cookie": "SID"}, "hash_load_factor": "off""#,
            percent(None),
            HashBy::Cookie("SID".into()),
        ),
    ] {
        let upstream = format!(r#", "strategy": "hash"{said}"#);
        assert_eq!(hashing(&full("", &upstream)), (strategy, by.clone()));
        let flat = format!(r#"{{"port": 1, "servers": {{"http://a": 3}}{upstream}}}"#);
        assert_eq!(hashing(&flat), (strategy, by));
    }
}

#[test]
fn backends_are_hashed_by_their_names_whatever_their_order() {
    let keys = |text: &str| -> Vec<(String, u64)> {
        let upstream = &good(text).upstreams[0];
        let names = upstream.backends.iter().map(|b| b.name.clone());
        names
            .zip(upstream.spec.backends.iter().map(|b| b.key))
            .collect()
    };
    let written = full("", "");
    let turned = written.replace(
        r#""http://h:80", "http://i:80""#,
        r#""http://i:80", "http://h:80""#,
    );
    let (mut before, after) = (keys(&written), keys(&turned));
    before.reverse();
    assert_eq!(before, after);
    assert_eq!(after[0], ("i:80".into(), stable_hash(b"i:80")));
}

#[test]
fn what_belongs_to_hashing_has_no_effect_without_it() {
    let config = good(&full("", r#", "hash_by": "path", "hash_load_factor": 2"#));
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("\"hash_by\" has no effect without"));
    let all = errors(
        r#"{"listeners": {"a": {"bind": ":1"}}, "routes": [{"respond": {}}], "hash_by": "path"}"#,
    );
    assert!(all.contains("belongs to the flat form"), "{all}");
}

#[test]
fn the_proxy_protocol_stands_on_either_side() {
    let trusted = r#", "proxy_protocol": {"trusted": ["10.0.0.0/8", "::1"]}"#;
    let text = full(trusted, r#", "proxy_protocol": "v1""#);
    let expanded = expand("f", &text, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    for text in [text, expanded] {
        let config = good(&text);
        let trusted = config.listeners[0].proxy_protocol.as_deref();
        let trusted = trusted.expect("it is asked for").iter();
        let trusted: Vec<String> = trusted.map(ToString::to_string).collect();
        assert_eq!(trusted, ["10.0.0.0/8", "::1/128"]);
        assert_eq!(config.upstreams[0].proxy_protocol, Some(Version::V1));
    }
    let neither = good(&full("", ""));
    assert!(neither.listeners[0].proxy_protocol.is_none());
    assert!(neither.upstreams[0].proxy_protocol.is_none());
    let udp = errors(&full(&format!("{trusted}, \"protocol\": \"udp\""), ""));
    assert!(udp.contains("the PROXY protocol is for TCP"), "{udp}");
}
