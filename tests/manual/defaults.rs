//! Defaults that are claimed, by the page and by the doc comments that the reference is made of. A claim holds if a file that
//! says it amounts to the same as a file that does not.

use serde_json::{Value, json};
use weirkeeper::config::{expand, schema};

use super::{page, rows};

/// Keys that turn something on, and say by default that it is off.
const SWITCHES: [&str; 7] = [
    "ejection",
    "upstreams.NAME.ejection",
    "routes[].cache",
    "caching",
    "access_log",
    "health",
    "upstreams.NAME.health",
];

/// A file that leaves out whatever has a default. With `on`, it has what is off by default, so that its keys show.
fn file(flat: bool, on: bool) -> Value {
    let acme = json!({"acme": {"domains": ["a.example"], "agree_to_terms": true, "storage": "s"}});
    let mut file = if flat {
        json!({"port": 8080, "servers": {"http://localhost:8081": 3}})
    } else {
        json!({
            "listeners": {"NAME": {"bind": ":8080"}},
            "routes": [{"upstream": "NAME"}],
            "upstreams": {"NAME": {"backends": [{"url": "http://localhost:8081"}]}},
        })
    };
    if on {
        file["access_log"] = json!({});
        file["health"] = json!({});
        file["ejection"] = json!({});
        file["redis"] = json!({"url": "redis://localhost"});
        if flat {
            file["caching"] = json!("redis");
            file["tls"] = acme;
        } else {
            file["routes"][0]["cache"] = json!(true);
            file["listeners"]["NAME"]["tls"] = acme;
        }
    }
    file
}

/// The file in full, or what is wrong with it.
fn full(file: &Value) -> Result<String, String> {
    let text = file.to_string();
    expand("config.json", &text, &|_| None).map_err(|errors| errors.to_string())
}

/// The same file with `value` at a path such as `routes[].cache`. `None` if the file has no such place.
fn with(file: &Value, path: &str, value: &Value) -> Option<Value> {
    let mut file = file.clone();
    let mut at = &mut file;
    let steps: Vec<&str> = path.split('.').collect();
    for (index, step) in steps.iter().enumerate() {
        let (key, is_list) = match step.strip_suffix("[]") {
            Some(key) => (key, true),
            None => (*step, false),
        };
        if !at.is_object() {
            // `true` is an object that says nothing.
            *at = json!({});
        }
        let is_last = index + 1 == steps.len();
        let members = at.as_object_mut()?;
        if is_list || key == "NAME" || (index == 0 && ["listeners", "upstreams"].contains(&key)) {
            at = members.get_mut(key)?;
            if is_list {
                at = at.get_mut(0)?;
            }
        } else {
            let absent = if is_last { Value::Null } else { json!({}) };
            at = members.entry(key).or_insert(absent);
        }
    }
    *at = value.clone();
    Some(file)
}

/// Does saying it change nothing? `None` if no file can say it.
fn holds(path: &str, value: &Value, flat: bool) -> Option<bool> {
    let file = file(flat, !SWITCHES.contains(&path));
    let said = full(&with(&file, path, value)?).ok()?;
    Some(said == full(&file).expect("the file is right"))
}

#[test]
fn the_page_tells_the_defaults_that_are_used() {
    let rows = rows(page("defaults"), "## Settings");
    for row in &rows {
        let path = row[0].trim_matches('`');
        let value: Value = serde_json::from_str(row[1].trim_matches('`'))
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(
            holds(path, &value, false),
            Some(true),
            "{path} is not {value}"
        );
    }
    assert!(rows.len() > 40, "{} defaults", rows.len());
    for (flat, value) in [
        ("queue.capacity", json!(10_000)),
        ("queue.timeout", json!("30s")),
    ] {
        assert_eq!(holds(flat, &value, true), Some(true), "{flat}");
    }
}

#[test]
fn a_default_that_is_not_used_is_found() {
    for (path, wrong) in [
        ("timeouts.idle", json!("76s")),
        ("cache.early_refresh", json!(2.0)),
        ("routes[].cache.heuristic", json!(true)),
        ("upstreams.NAME.backends[].weight", json!(2)),
        ("redis.database", json!(1)),
    ] {
        assert_eq!(holds(path, &wrong, false), Some(false), "{path}");
    }
    assert_eq!(holds("timeouts.idel", &json!("75s"), false), None);
}

#[test]
fn the_doc_comments_tell_the_defaults_that_are_used() {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    let mut claims = Vec::new();
    for (form, flat) in [("FullFile", false), ("FlatFile", true)] {
        let mut found = Vec::new();
        collect(&schema, &schema["$defs"][form], "", &mut found);
        claims.extend(found.into_iter().map(|(path, said)| (path, said, flat)));
    }
    let (mut judged, mut wrong) = (0, Vec::new());
    for (path, said, flat) in claims {
        let of_flat = said
            .split_once(" (")
            .filter(|(_, rest)| rest.ends_with("in the flat form)"));
        let said = match of_flat {
            Some((_, rest)) if flat => rest,
            _ => said.as_str(),
        };
        // Only what is a literal can be compared: `By default the host of the URL` cannot.
        if let Some(value) = literal(said)
            && let Some(holds) = holds(&path, &value, flat)
        {
            if !holds {
                wrong.push(format!(
                    "{path} is said to be {value} by default, and is not"
                ));
            }
            judged += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(judged > 100, "{judged} claims were judged");
}

/// The JSON value that a text is, but for words that explain it. `None` where it depends on something.
fn literal(text: &str) -> Option<Value> {
    let digits = text.replace(',', "");
    let text = if text.starts_with('"') { text } else { &digits };
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let rest = &text[values.byte_offset()..];
    let explains = [", which ", " (", " in the flat form"];
    let is_all = rest.is_empty() || explains.iter().any(|words| rest.starts_with(words));
    is_all.then_some(value)
}

/// Every key below `object` whose description tells a default, with its path and what is told.
fn collect(schema: &Value, object: &Value, path: &str, found: &mut Vec<(String, String)>) {
    for (key, value) in object["properties"].as_object().into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{key}");
        let description = value["description"].as_str().unwrap_or_default();
        if let Some((_, said)) = description.split_once("By default ") {
            let end = said.find(". ").unwrap_or(said.len());
            let said = said[..end].trim_end_matches('.');
            found.push((path.clone(), said.replace('\n', " ")));
        }
        descend(schema, value, &path, found);
    }
}

fn descend(schema: &Value, value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    if let Some(target) = value["$ref"].as_str() {
        let target = schema.pointer(target.trim_start_matches('#'));
        descend(schema, target.expect("it leads somewhere"), path, found);
    }
    for alternative in value["anyOf"].as_array().into_iter().flatten() {
        descend(schema, alternative, path, found);
    }
    if let Some(items) = value.get("items") {
        descend(schema, items, &format!("{path}[]"), found);
    }
    if let Some(members) = value.get("additionalProperties").filter(|m| m.is_object()) {
        descend(schema, members, &format!("{path}.NAME"), found);
    }
    collect(schema, value, path, found);
}
