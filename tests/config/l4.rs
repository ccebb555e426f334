//! L4 in both forms: what is meant, and what of HTTP cannot stand there.

use std::time::Duration;

use weirkeeper::config::expand;
use weirkeeper::config::model::Protocol;

use super::{environment, errors, good};
use crate::support::secure::{Authority, Folder};

#[test]
fn the_flat_form_drops_the_scheme_and_says_the_protocol_by_itself() {
    for (proto, protocol) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)] {
        let config = good(&format!(
            r#"{{"port": "5432", "level": "L4", "proto": "{proto}", "maxWorkers": 5, "servers":
                {{"http://a:1": 3, "tcp://b:2": 2, "udp://c:3/": 1}}}}"#
        ));
        let (listener, upstream) = (&config.listeners[0], &config.upstreams[0]);
        assert_eq!(listener.protocol, protocol);
        assert_eq!(listener.leads_to(None), Some(0));
        let urls: Vec<String> = upstream.backends.iter().map(|b| b.url()).collect();
        let expected = ["a:1", "b:2", "c:3"].map(|b| format!("{proto}://{b}"));
        assert_eq!(urls, expected);
        assert_eq!(upstream.spec.max_in_flight, Some(5));
        assert!(config.warnings[0].contains("take 6 together"));
    }
}

#[test]
fn level_4_ignores_caching_and_says_so() {
    for caching in ["baseline", "redis"] {
        let config = good(&format!(
            r#"{{"port": 1, "level": "L4", "caching": "{caching}", "servers": {{"http://a:1": 1}}}}"#
        ));
        assert!(config.redis.is_none() && !config.is_cached());
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(config.warnings[0].contains("ignores \"caching\""));
    }
}

const FULL: &str = r#"{"listeners": {
        "web": {"bind": ":80"}, "raw": {"bind": ":81", "protocol": "tcp"}, "dns": {"bind": ":80", "protocol": "udp"}},
    "routes": [ROUTES {"upstream": "u"}, {"upstream": "t"}, {"upstream": "d"}],
    "upstreams": {"u": {"backends": ["http://a"]}, "t": {"backends": ["tcp://a:1"]}, "d": {"backends": ["udp://a:1"]}}}"#;

#[test]
fn a_route_without_listeners_serves_those_of_its_protocol() {
    let config = good(&FULL.replace("ROUTES", ""));
    let leads: Vec<_> = config.listeners.iter().map(|l| l.leads_to(None)).collect();
    assert_eq!(leads, [Some(0), Some(1), Some(2)]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let timeouts = &config.listeners[1].timeouts;
    assert_eq!(
        (timeouts.tunnel, timeouts.session),
        (Duration::from_secs(600), Duration::from_secs(30))
    );
    assert_eq!(config.listeners[2].limits.sessions, 10_000);
    let text = FULL.replace("ROUTES", "");
    let once = expand("a.json", &text, &environment).expect("it is good");
    let twice = expand("a.json", &once, &environment).expect("what is expanded is good");
    assert_eq!(once, twice);
}

#[test]
fn a_tcp_route_may_name_whom_it_takes() {
    let named =
        r#"{"upstream": "t", "match": {"sni": ["A.example", "*.b.example"], "alpn": "h2"}},"#;
    let text = FULL.replace("ROUTES", named);
    let config = good(&text);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let raw = &config.listeners[1];
    assert!(raw.asks_for_hello() && !config.listeners[2].asks_for_hello());
    assert_eq!(
        raw.routes[0].matches.server_names,
        ["a.example", "*.b.example"]
    );
    assert_eq!(raw.routes[0].matches.alpn, ["h2"]);
    let once = expand("a.json", &text, &environment).expect("it is good");
    let twice = expand("a.json", &once, &environment).expect("what is expanded is good");
    assert_eq!(once, twice);
    let hidden = r#"{"upstream": "t", "match": {"sni": "*.b.example"}},
        {"upstream": "t", "match": {"sni": "x.b.example", "alpn": "h2"}},"#;
    let config = good(&FULL.replace("ROUTES", hidden));
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("\"route-2\" never runs"));
}

#[test]
fn where_tls_ends_no_protocol_is_agreed_on_that_could_lead() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["a.example"]);
    let certificate = folder.write("a.pem", &issued.pem);
    let key = folder.write("a.key", &issued.key_pem);
    let tls = format!(r#""tcp", "tls": {{"certificate": "{certificate}", "key": "{key}"}}"#);
    let route = r#"{"upstream": "t", "match": {"alpn": "h2"}},"#;
    let config = good(&FULL.replace("ROUTES", route).replace("\"tcp\"", &tls));
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("\"raw\", which ends TLS"));
}

#[test]
fn what_is_of_http_cannot_serve_another_listener() {
    for (route, said) in [
        (
            r#"{"listeners": ["raw"], "upstream": "u"}"#,
            "the listener \"raw\" is tcp, and the backends of the upstream \"u\" are http (/routes/0/upstream)",
        ),
        (
            r#"{"listeners": ["web"], "upstream": "d"}"#,
            "the listener \"web\" is http, and the backends of the upstream \"d\" are udp",
        ),
        (
            r#"{"listeners": ["raw"], "respond": {}}"#,
            "\"respond\" is of HTTP, and this route serves the listener \"raw\", which is tcp",
        ),
        (
            r#"{"listeners": ["raw"], "upstream": "t", "match": {"path": "/a"}}"#,
            "\"path\" is of HTTP",
        ),
        (
            r#"{"listeners": ["dns"], "upstream": "d", "cache": true}"#,
            "\"cache\" is of HTTP",
        ),
        (
            r#"{"upstream": "u", "match": {"sni": "a.example"}}"#,
            "\"sni\" is of TCP, and this route serves the listener \"web\", which is http",
        ),
        (
            r#"{"upstream": "d", "match": {"alpn": "h2"}}"#,
            "\"alpn\" is of TCP, and this route serves the listener \"dns\", which is udp",
        ),
        (
            r#"{"upstream": "t", "match": {"sni": "a.example:443"}}"#,
            "(/routes/0/match/sni)",
        ),
        (
            r#"{"upstream": "t", "match": {"alpn": ["h2", ""]}}"#,
            "1 to 255 bytes (/routes/0/match/alpn/1)",
        ),
        (
            r#"{"upstream": "t", "strip_prefix": "/a"}"#,
            "\"strip_prefix\" is of HTTP",
        ),
        (
            r#"{"upstream": "t", "request_headers": {"remove": ["X"]}}"#,
            "\"request_headers\" is of HTTP",
        ),
    ] {
        let all = errors(&FULL.replace("ROUTES", &format!("{route},")));
        assert!(all.contains(said), "{route}:\n{all}");
        assert_eq!(all.lines().count(), 1, "{route}:\n{all}");
    }
}

#[test]
fn addresses_and_protocols_that_do_not_fit_are_refused() {
    let full = |listener: &str, backends: &str| {
        errors(&format!(
            r#"{{"listeners": {{"l": {{"bind": ":80", {listener}}}}}, "upstreams": {{"u": {{"backends": [{backends}]}}}}}}"#
        ))
    };
    let tcp = r#""protocol": "tcp""#;
    for (listener, backends, said) in [
        (
            tcp,
            r#""http://a""#,
            "are http (/listeners/l) - did you mean \"tcp://host:port\"",
        ),
        (
            tcp,
            r#""tcp://a:1", "udp://a:1""#,
            "an upstream has one protocol",
        ),
        (tcp, r#""tcp://a""#, "it has no port"),
        (tcp, r#""tcp://a:1/b""#, "a path is of HTTP"),
        (
            r#""protocol": "sctp""#,
            r#""http://a""#,
            "not one of http, tcp, udp",
        ),
    ] {
        let all = full(listener, backends);
        assert!(all.contains(said), "{backends}:\n{all}");
        assert_eq!(all.lines().count(), 1, "{backends}:\n{all}");
    }
    let flat = errors(r#"{"port": 1, "level": "L4", "servers": {"http://a:1/b": 1}}"#);
    assert!(flat.contains("a path is of HTTP"), "{flat}");
    let flat = errors(r#"{"port": 1, "servers": {"tcp://a:1": 1}}"#);
    assert!(flat.contains("level L7 is HTTP"), "{flat}");
}
