//! What bad files are told: every error of a run, in file order, with its place.

use super::{errors, json_files, load, read};
use weirkeeper::config::{load_str, read as read_config};

/// Each file of fixtures/configs/bad beside the errors that it gives, under the name that stands in them.
#[test]
fn every_bad_file_gives_the_errors_beside_it() {
    let files = json_files("configs/bad");
    assert!(files.len() >= 11, "{} files", files.len());
    for file in files {
        let name = file
            .file_name()
            .and_then(|n| n.to_str())
            .expect("a plain name");
        let said = match load_str(name, &read(&file), &|_| None) {
            Ok(_) => panic!("{name} has no error"),
            Err(errors) => errors.to_string() + "\n",
        };
        let expected = read(&file.with_extension("expected"));
        assert!(
            said == expected,
            "{name} gives\n{said}\nand not\n{expected}"
        );
    }
}

#[test]
fn three_errors_of_three_kinds_have_three_places_in_one_run() {
    let text = read(&super::fixtures("configs/bad/three.json"));
    let errors = load(&text).expect_err("it is bad").0;
    let places: Vec<_> = errors.iter().map(|e| (e.line, e.col)).collect();
    assert_eq!(places, [(3, 15), (7, 5), (9, 25)]);
    assert_eq!(errors[0].hint.as_deref(), Some("round-robin"));
    assert!(errors[1].what.contains("twice") && errors[2].what.contains("duration"));
}

#[test]
fn flat_values_that_cannot_be_are_refused() {
    let file = |key: &str, value: &str| {
        let port = if key == "port" { "" } else { r#""port": 1, "# };
        let servers = if key == "servers" {
            ""
        } else {
            r#""servers": {"http://a": 1}, "#
        };
        errors(&format!("{{{port}{servers}\"{key}\": {value}}}"))
    };
    for (key, value, said) in [
        ("servers", r#"{"http://a": 0}"#, "whole number from 1"),
        ("servers", r#"{"http://a": -1}"#, "whole number from 1"),
        ("servers", r#"{"http://a": 1.5}"#, "whole number from 1"),
        (
            "servers",
            r#"{"http://a": "3"}"#,
            "expected a whole number, found a string",
        ),
        (
            "servers",
            r#"{"http://a": 1, "http://A:80/": 1}"#,
            "same backend",
        ),
        ("servers", r#"{"a:80": 1}"#, "did you mean \"http://a:80\""),
        ("servers", "{}", "there is no server"),
        ("port", "70000", "whole number"),
        ("port", r#""http""#, "not a port"),
        ("proto", r#""udp""#, "level L7"),
        ("maxWorkers", "0", "whole number from 1"),
        ("tls", r#"{"certificate": "x.pem"}"#, "\"key\" is missing"),
        (
            "caching",
            r#""memory""#,
            "\"memory\" is not one of none, baseline, in-memory, redis",
        ),
        ("caching", "true", "expected a string, found true or false"),
        ("serializer", "1", "expected a string, found a number"),
        ("cache-ignore", r#""POST""#, "expected an array"),
        ("cache-ignore", r#"["PSOT"]"#, "did you mean \"POST\""),
        ("cache-ignore", r#"["api/"]"#, "neither a method such as"),
        ("cache-ignore", r#"["/a?b"]"#, "a path has no query"),
        ("cache-ignore", r#"["/a/../b"]"#, "segments"),
        ("redis", "1", "or the URL alone"),
        ("redis", r#""localhost:6379""#, "redis://host:port"),
        (
            "health",
            "5",
            "expected an object such as {\"path\": \"/healthz\"}",
        ),
        ("cache", "true", "expected an object"),
        ("cache", r#"{"memory": "1KiB"}"#, "not from 1048576 to"),
        ("routes", "[]", "belongs to the full form"),
        ("max_workers", "1", "did you mean \"maxWorkers\""),
        ("queue", r#"{"timeout": 5}"#, "did you mean \"5s\""),
    ] {
        let all = file(key, value);
        assert!(all.contains(said), "{key} {value}:\n{all}");
        assert_eq!(all.lines().count(), 1, "{key} {value}:\n{all}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn route_values_that_cannot_be_are_refused() {
    for (route, said) in [
        (r#"{"upstream": "v"}"#, "there is no upstream \"v\""),
        (
            r#"{"upstream": "u", "listeners": ["b"]}"#,
            "there is no listener \"b\"",
        ),
        (r#"{"upstream": "u", "respond": {}}"#, "exactly one of"),
        (r#"{}"#, "exactly one of"),
        (
            r#"{"upstream": "u", "match": {"path": "a"}}"#,
            "did you mean \"/a\"",
        ),
        (
            r#"{"upstream": "u", "match": {"path": {"regex": "("}}}"#,
            "not a regular expression: unclosed group",
        ),
        (
            r#"{"upstream": "u", "match": {"path": {"exact": "/a", "prefix": "/a"}}}"#,
            "exactly one of \"exact\"",
        ),
        (
            r#"{"upstream": "u", "match": {"path": "/a/../b"}}"#,
            "segments",
        ),
        (
            r#"{"upstream": "u", "match": {"host": "a:80"}}"#,
            "did you mean \"a\"",
        ),
        (
            r#"{"upstream": "u", "match": {"methods": ["get"]}}"#,
            "did you mean \"GET\"",
        ),
        (
            r#"{"upstream": "u", "match": {"headers": {"x y": "1"}}}"#,
            "not a field name",
        ),
        (
            r#"{"redirect": {"to": "https://a\r\nSet-Cookie: b"}}"#,
            "cannot stand in a Location",
        ),
        (
            r#"{"redirect": {"to": "https://{hots}/"}}"#,
            "did you mean \"host\"",
        ),
        (r#"{"redirect": {"to": "/{path}"}}"#, "must begin with"),
        (r#"{"redirect": {"to": "{path}"}}"#, "must begin with"),
        (
            r#"{"redirect": {"to": "/a", "status": 304}}"#,
            "304 is not one of",
        ),
        (
            r#"{"redirect": {"to": "/a"}, "strip_prefix": "/b"}"#,
            "only a route with an \"upstream\"",
        ),
        (
            r#"{"respond": {"status": 204, "body": "x"}}"#,
            "has no body",
        ),
        (
            r#"{"respond": {"status": 100}}"#,
            "whole number from 200 to 599",
        ),
        (
            r#"{"respond": {}, "response_headers": {"set": {"X": "a\nb"}}}"#,
            "not a field value",
        ),
        (
            r#"{"respond": {}, "response_headers": {"set": {"Content-Length": "1"}}}"#,
            "proxy's own",
        ),
        (
            r#"{"respond": {}, "response_headers": {"remove": ["Transfer-Encoding"]}}"#,
            "proxy's own",
        ),
        (
            r#"{"upstream": "u", "cache": {"ttl": 5}}"#,
            "a duration needs a unit (/routes/0/cache/ttl) - did you mean \"5s\"?",
        ),
        (
            r#"{"upstream": "u", "cache": {"memory": "1GiB"}}"#,
            "unknown field \"memory\"",
        ),
        (
            r#"{"upstream": "u", "cache": {"max_object": "33MiB"}}"#,
            "a quarter of the cache's memory",
        ),
        (
            r#"{"upstream": "u", "cache": {"stale_if_error": "4000d"}}"#,
            "longer than a year",
        ),
        (
            r#"{"upstream": "u", "cache": {"early_refresh": 11}}"#,
            "not a number from 0 to 10",
        ),
        (
            r#"{"upstream": "u", "cache": {"query": {}}}"#,
            "\"without\" is missing",
        ),
        (
            r#"{"upstream": "u", "cache": {"key_headers": ["a b"]}}"#,
            "not a field name",
        ),
        (
            r#"{"redirect": {"to": "/a"}, "cache": {}}"#,
            "only a route with an \"upstream\" has responses to cache",
        ),
        (
            r#"{"upstream": "u", "request_headers": {"remove": ["Host"]}}"#,
            "can only be set",
        ),
    ] {
        let all = errors(&format!(
            r#"{{"listeners": {{"a": {{"bind": ":1"}}}}, "upstreams": {{"u": {{"backends": ["http://h"]}}}},
                "routes": [{route}]}}"#
        ));
        assert!(all.contains(said), "{route}:\n{all}");
        assert_eq!(all.lines().count(), 1, "{route}:\n{all}");
        assert!(all.contains("(/routes/0"), "{route}:\n{all}");
    }
}

#[test]
fn what_is_missing_is_shown_by_an_example() {
    let all = errors("{}");
    assert!(
        all.contains(
            r#""listeners" is missing, for example "listeners": {"web": {"bind": ":8080"}}"#
        ),
        "{all}"
    );
    assert!(all.contains(r#""upstreams" is missing"#), "{all}");
    for text in ["[]", "1", "\"x\"", ""] {
        assert!(
            errors(text).starts_with("config.json:1:1: error: expected"),
            "{text}: {}",
            errors(text)
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_path() {
    let path = super::fixtures("configs/no-such-file.json");
    let error = read_config(&path).expect_err("it is not there").to_string();
    assert!(
        error.contains("no-such-file.json: error: cannot be read: "),
        "{error}"
    );
    assert_eq!(
        weirkeeper::config::load(&path)
            .expect_err("the same")
            .to_string(),
        error
    );
}

/// Shells of Windows write UTF-16; a mark before UTF-8 is passed over.
#[test]
fn a_file_in_another_encoding_is_told_so() {
    let path = std::env::temp_dir().join(format!("weir-encoding-{}.json", std::process::id()));
    let text = "\u{feff}{\"port\": 8080, \"servers\": {\"http://a\": 1}}";
    let outcome = |bytes: Vec<u8>| {
        std::fs::write(&path, bytes).expect("the temporary folder is writable");
        weirkeeper::config::load(&path)
            .map(drop)
            .map_err(|e| e.to_string())
    };
    let utf8 = outcome(text.into());
    let little = outcome(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    let big = outcome(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
    let latin = outcome(b"{\"name\": \"\xfc\"}".to_vec());
    std::fs::remove_file(&path).expect("it was written");
    assert_eq!(utf8, Ok(()));
    for (said, is) in [
        (little, "is written in UTF-16"),
        (big, "is written in UTF-16"),
        (latin, "it is no UTF-8 at byte 10"),
    ] {
        assert!(
            said.as_ref().is_err_and(|said| said.contains(is)),
            "{said:?}"
        );
    }
}

#[test]
fn an_upstream_of_more_backends_than_the_engine_takes_is_refused() {
    let config = |count: usize| {
        let urls: Vec<String> = (0..count).map(|i| format!("\"http://b{i}\"")).collect();
        let urls = urls.join(",");
        format!(
            r#"{{"listeners": {{"a": {{"bind": ":1"}}}}, "upstreams": {{"u": {{"backends": [{urls}]}}}}}}"#
        )
    };
    super::good(&config(65_536));
    let said = errors(&config(65_538));
    // Once, however many there are.
    assert_eq!(said.lines().count(), 1, "{said}");
    let at = "/upstreams/u/backends/65536";
    assert!(
        said.contains("an upstream has at most 65536 backends") && said.contains(at),
        "{said}"
    );
}

#[test]
fn doubtful_routes_are_warned_of() {
    let config = super::good(
        r#"{"listeners": {"a": {"bind": ":1"}, "b": {"bind": ":2"}},
        "upstreams": {"u": {"backends": ["http://h"]}, "v": {"backends": ["http://i"]}},
        "routes": [
            {"listeners": ["a"], "match": {"path": {"prefix": "/a"}}, "upstream": "u"},
            {"listeners": ["a"], "match": {"path": "/a/b", "methods": ["GET"]}, "upstream": "u"},
            {"listeners": ["a"], "match": {"path": "/b"}, "upstream": "u"}
        ]}"#,
    );
    let warnings = config.warnings.join("\n");
    assert_eq!(config.warnings.len(), 3, "{warnings}");
    for said in [
        "the route \"route-2\" never runs, since \"route-1\" before it takes all its requests (/routes/1)",
        "the listener \"b\" has no route",
        "no route leads to the upstream \"v\" (/upstreams/v)",
    ] {
        assert!(warnings.contains(said), "{said:?} is not in\n{warnings}");
    }
}
