//! Paths that are read in two ways, claims of strangers, and backends that are the proxy itself: what is set, and what a file is
//! told that was probably not meant.

use weirkeeper::message::path::{PathRules, Treatment};

use super::good;

/// A file with these members beside an upstream `app`, and its warnings.
fn warnings(more: &str) -> Vec<String> {
    let listeners = r#""listeners": {"web": {"bind": ":8080"}}"#;
    let upstreams = r#""upstreams": {"app": {"backends": ["http://127.0.0.1:8081"]}}"#;
    let mut text = format!("{{{more}");
    for (key, section) in [("\"listeners\"", listeners), ("\"upstreams\"", upstreams)] {
        if !more.contains(key) {
            text.push_str(&format!(", {section}"));
        }
    }
    good(&(text + "}")).warnings
}

#[test]
fn what_a_listener_says_holds_beside_what_the_file_says() {
    let text = r#"{
        "path": {"merge_slashes": true, "parameters": "reject"},
        "listeners": {
            "a": {"bind": ":8080"},
            "b": {"bind": ":8081", "path": {"parameters": "strip", "backslashes": "slash"}},
            "c": {"bind": ":8082", "protocol": "tcp"}
        },
        "routes": [{"listeners": ["a", "b"], "upstream": "app"}, {"listeners": ["c"], "upstream": "raw"}],
        "upstreams": {"app": {"backends": ["http://127.0.0.1:9000"]}, "raw": {"backends": ["tcp://127.0.0.1:9001"]}}
    }"#;
    let config = good(text);
    let all = PathRules {
        merge_slashes: true,
        parameters: Treatment::Reject,
        ..PathRules::KEEP
    };
    assert_eq!(config.listeners[0].path, all);
    let b = PathRules {
        parameters: Treatment::Resolve,
        backslashes: Treatment::Resolve,
        ..all
    };
    assert_eq!(config.listeners[1].path, b);
    assert_eq!(config.listeners[2].path, PathRules::KEEP);
}

#[test]
fn a_backend_that_is_the_proxy_itself_is_told() {
    let to = |bind: &str, backend: &str| {
        let more = format!(
            r#""listeners": {{"web": {{"bind": "{bind}"}}}}, "upstreams": {{"app": {{"backends": ["{backend}"]}}}}"#
        );
        warnings(&more)
    };
    for (bind, backend) in [
        (":8080", "http://127.0.0.1:8080"),
        (":8080", "http://localhost:8080"),
        (":8080", "http://[::1]:8080"),
        (":8080", "http://0.0.0.0:8080"),
        ("127.0.0.1:8080", "http://localhost:8080"),
        ("10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("0.0.0.0:80", "http://127.0.0.1"),
    ] {
        let told = to(bind, backend);
        let is_told = told
            .iter()
            .any(|w| w.contains("own listener \"web\"") && w.contains("508"));
        assert!(is_told, "{bind} {backend}: {told:?}");
    }
    for (bind, backend) in [
        (":8080", "http://127.0.0.1:8081"),
        (":8080", "http://10.0.0.1:8080"),
        ("10.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:8080", "http://[::1]:8080"),
        (":8080", "http://app.example:8080"),
    ] {
        assert_eq!(to(bind, backend), [""; 0], "{bind} {backend}");
    }
    let flat = good(r#"{"port": 8080, "servers": {"http://localhost:8080": 1}}"#).warnings;
    assert!(
        flat.iter().any(|w| w.contains("own listener \"web\"")),
        "{flat:?}"
    );
}

#[test]
fn only_a_way_that_comes_round_is_told() {
    let chain = |last: &str| {
        format!(
            r#"{{"listeners": {{
                "front": {{"bind": ":443", "protocol": "tcp"}}, "middle": {{"bind": ":8080", "protocol": "tcp"}}
            }},
            "routes": [{{"listeners": ["front"], "upstream": "a"}}, {{"listeners": ["middle"], "upstream": "b"}}],
            "upstreams": {{"a": {{"backends": ["tcp://127.0.0.1:8080"]}}, "b": {{"backends": ["tcp://{last}"]}}}}}}"#
        )
    };
    assert_eq!(good(&chain("10.0.0.1:9000")).warnings, [""; 0]);
    let round = good(&chain("127.0.0.1:443")).warnings;
    assert_eq!(round.len(), 2, "{round:?}");
    assert!(round.iter().all(|w| w.contains("are closed")), "{round:?}");
}

#[test]
fn a_rule_that_leaves_its_path_open_is_told() {
    let refusing = |path: &str| {
        warnings(&format!(
            r#""routes": [{{"match": {{"path": {path}}}, "respond": {{"status": 403}}}}, {{"upstream": "app"}}]"#
        ))
    };
    let told = refusing(r#"{"prefix": "/admin/"}"#);
    assert!(
        told.iter()
            .any(|w| w.contains("leaves \"/admin\" itself open")),
        "{told:?}"
    );
    let told = refusing(r#""/admin""#);
    assert!(
        told.iter()
            .any(|w| w.contains("leaves what lies below it open")),
        "{told:?}"
    );
    assert_eq!(refusing(r#"{"prefix": "/admin"}"#), [""; 0]);
    // Nothing goes on behind it.
    let alone = r#""routes": [{"match": {"path": "/admin"}, "respond": {"status": 403}},
        {"match": {"path": "/app"}, "upstream": "app"}]"#;
    assert_eq!(warnings(alone), [""; 0]);
    // An answer that is no refusal closes nothing.
    let fine = r#""routes": [{"match": {"path": "/healthz"}, "respond": {"status": 200}}, {"upstream": "app"}]"#;
    assert_eq!(warnings(fine), [""; 0]);
}

#[test]
fn a_path_that_no_request_has_is_told() {
    let with = |path: &str, rule: &str| {
        warnings(&format!(
            r#""path": {{{rule}}}, "routes": [{{"match": {{"path": {{"prefix": "{path}"}}}}, "upstream": "app"}}]"#
        ))
    };
    for (path, rule) in [
        ("/a//b", r#""merge_slashes": true"#),
        ("/a%2Fb", r#""encoded_slashes": "reject""#),
        ("/a%5Cb", r#""backslashes": "slash""#),
        ("/a;b", r#""parameters": "strip""#),
    ] {
        let told = with(path, rule);
        assert!(
            told.iter().any(|w| w.contains("leaves none")),
            "{path}: {told:?}"
        );
        assert_eq!(with(path, ""), [""; 0], "{path}");
    }
}
