//! The JSON Schema: it is what the fixture says, and it knows the same keys as the reader.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{fixtures, good, load, read};

#[test]
fn the_fixture_is_current() {
    let ours = weirkeeper::config::schema();
    assert!(
        ours == read(&fixtures("config.schema.json")),
        "fixtures/config.schema.json is out of date; `cargo run -- schema > fixtures/config.schema.json` writes it"
    );
}

/// A flat file with every key of its own.
const FLAT: &str = r#"{"port": "1", "level": "L7", "strategy": "hash", "hash_by": {"cookie": "a"},
    "hash_load_factor": 1.5, "caching": "none", "proto": "tcp",
    "serializer": "none", "servers": {"http://a": 1}, "maxWorkers": 1, "cache-ignore": ["/a"]}"#;

const UNKNOWN: &str = "zzzzzzzzzzzzzzzz";

#[test]
fn the_schema_and_the_reader_know_the_same_keys() {
    let schema: Value =
        serde_json::from_str(&weirkeeper::config::schema()).expect("the schema is JSON");
    let full: Value =
        serde_json::from_str(&read(&fixtures("configs/good/full.json"))).expect("JSON");
    let flat: Value = serde_json::from_str(FLAT).expect("JSON");
    let mut compared = BTreeSet::new();
    for (file, form) in [(&full, 0), (&flat, 1)] {
        good(&file.to_string());
        let root = &forms(&schema, &schema)[form];
        compare(&schema, &[*root], file, file, String::new(), &mut compared);
    }
    // Each kind of object in the full form was met at least once: full.json leaves none out.
    for pointer in [
        "",
        "/admin",
        "/access_log",
        "/cache",
        "/cache/query",
        "/cache/bypass",
        "/redis",
        "/redis/tls",
        "/routes/0/cache",
        "/timeouts",
        "/limits",
        "/retry",
        "/queue",
        "/back_off",
        "/listeners/web",
        "/listeners/web/timeouts",
        "/listeners/web/limits",
        "/listeners/web/proxy_protocol",
        "/listeners/secure/tls",
        "/listeners/secure/tls/acme",
        "/listeners/secure/tls/acme/external_account_binding",
        "/routes/0",
        "/routes/0/match",
        "/routes/0/match/path",
        "/routes/0/request_headers",
        "/routes/0/response_headers",
        "/routes/1/replace_prefix",
        "/routes/2/redirect",
        "/routes/3/respond",
        "/upstreams/web",
        "/upstreams/web/queue",
        "/upstreams/web/timeouts",
        "/upstreams/web/retry",
        "/upstreams/web/back_off",
        "/upstreams/web/tls",
        "/upstreams/web/backends/1",
        "/upstreams/api/hash_by",
    ] {
        assert!(compared.contains(pointer), "{pointer} was not compared");
    }
}

/// At every object of `value` with known keys: the reader's list of them, as its error tells it, is the schema's.
fn compare(
    schema: &Value,
    at: &[&Value],
    file: &Value,
    value: &Value,
    pointer: String,
    compared: &mut BTreeSet<String>,
) {
    let alternatives: Vec<&Value> = at.iter().flat_map(|s| forms(schema, s)).collect();
    match value {
        Value::Object(members) => {
            let known = |s: &&Value| s.get("properties").and_then(Value::as_object).cloned();
            let properties: Map<String, Value> =
                alternatives.iter().filter_map(known).flatten().collect();
            if !properties.is_empty() {
                let ours: BTreeSet<String> = properties.keys().cloned().collect();
                assert_eq!(
                    reader_keys(file, &pointer),
                    ours,
                    "the reader's keys against the schema's at {pointer:?}"
                );
                compared.insert(pointer.clone());
            }
            for (key, member) in members {
                let next: Vec<&Value> = alternatives
                    .iter()
                    .filter_map(|s| {
                        let named = s.get("properties").and_then(|p| p.get(key));
                        named.or_else(|| s.get("additionalProperties").filter(|a| a.is_object()))
                    })
                    .collect();
                assert!(!next.is_empty(), "the schema does not know {pointer}/{key}");
                compare(
                    schema,
                    &next,
                    file,
                    member,
                    format!("{pointer}/{}", key.replace('/', "~1")),
                    compared,
                );
            }
        }
        Value::Array(items) => {
            let next: Vec<&Value> = alternatives.iter().filter_map(|s| s.get("items")).collect();
            for (i, item) in items.iter().enumerate() {
                compare(
                    schema,
                    &next,
                    file,
                    item,
                    format!("{pointer}/{i}"),
                    compared,
                );
            }
        }
        _ => {}
    }
}

/// A schema's alternatives, with references followed.
fn forms<'a>(schema: &'a Value, at: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
        let target = schema
            .pointer(reference.trim_start_matches('#'))
            .expect("the reference leads somewhere");
        return forms(schema, target);
    }
    let mut found = Vec::new();
    for key in ["anyOf", "oneOf"] {
        for alternative in at.get(key).and_then(Value::as_array).into_iter().flatten() {
            found.extend(forms(schema, alternative));
        }
    }
    if found.is_empty() || at.get("properties").is_some() {
        found.push(at);
    }
    found
}

/// The keys that the reader lists when it meets an unknown one at `pointer`.
fn reader_keys(file: &Value, pointer: &str) -> BTreeSet<String> {
    let mut file = file.clone();
    file.pointer_mut(pointer)
        .expect("the pointer comes from this file")[UNKNOWN] = json!(1);
    let errors = load(&file.to_string())
        .expect_err("an unknown field is refused")
        .0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path, format!("{pointer}/{UNKNOWN}"));
    let (_, known) = errors[0]
        .what
        .split_once("known here: ")
        .expect("the known ones are listed");
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_word_that_the_schema_lists_is_read() {
    let schema: Value =
        serde_json::from_str(&weirkeeper::config::schema()).expect("the schema is JSON");
    let words = |name: &str| -> Vec<String> {
        let list = schema
            .pointer(&format!("/$defs/{name}/enum"))
            .and_then(Value::as_array);
        let list = list.unwrap_or_else(|| panic!("{name} is not a list of words"));
        list.iter()
            .map(|w| w.as_str().expect("a word").to_owned())
            .collect()
    };
    assert_eq!(words("Strategy").len(), 6);
    for (name, file) in [
        (
            "Strategy",
            r#"{"port": 1, "servers": {"http://a": 1}, "strategy": "WORD"}"#,
        ),
        (
            "Caching",
            r#"{"port": 1, "servers": {"http://a": 1}, "caching": "WORD"}"#,
        ),
        (
            "CacheQueryWord",
            r#"{"port": 1, "servers": {"http://a": 1}, "cache": {"query": "WORD"}}"#,
        ),
        (
            "CacheSerializer",
            r#"{"port": 1, "servers": {"http://a": 1}, "caching": "redis", "redis": {"serializer": "WORD"}}"#,
        ),
        (
            "HashWord",
            r#"{"port": 1, "servers": {"http://a": 1}, "strategy": "hash", "hash_by": "WORD"}"#,
        ),
        (
            "ProxyVersion",
            r#"{"listeners": {"a": {"bind": ":1"}}, "upstreams": {"u": {"backends": ["http://a"], "proxy_protocol": "WORD"}}}"#,
        ),
        (
            "AcmeChallenge",
            r#"{"port": 1, "servers": {"http://a": 1}, "tls": {"acme":
                {"domains": ["a.example"], "agree_to_terms": true, "storage": "s", "challenge": "WORD"}}}"#,
        ),
        (
            "Phase",
            r#"{"port": 1, "servers": {"http://a": 1}, "phase": "WORD"}"#,
        ),
        (
            "BackendProtocol",
            r#"{"listeners": {"a": {"bind": ":80"}}, "upstreams": {"u": {"backends": ["https://a"], "protocol": "WORD",
                "tls": {"verify": false}}}}"#,
        ),
        (
            "LogFormat",
            r#"{"port": 1, "servers": {"http://a": 1}, "access_log": {"format": "WORD"}}"#,
        ),
    ] {
        for word in words(name) {
            good(&file.replace("WORD", &word));
        }
    }
}
