//! Configs in the pages: whole files load, parts of one fit somewhere into a file, and what is said to be a fixture is it.

use serde_json::{Map, Value, json};
use weirkeeper::config::load_str;
use weirkeeper_sim::scenario::Scenario;

use super::{blocks, pages, read, spans};
use crate::support::secure::{Authority, Folder};

/// A folder with every certificate that the pages name.
fn folder() -> Folder {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["example.org", "localhost"]);
    for name in ["ca.pem", "clients.pem"] {
        folder.write(name, &authority.pem);
    }
    for name in ["cert.pem", "example.pem", "other.pem", "weir.pem"] {
        folder.write(name, &issued.pem);
    }
    for name in ["key.pem", "example.key", "other.key", "weir.key"] {
        folder.write(name, &issued.key_pem);
    }
    folder
}

/// What is wrong with a file in that folder.
fn fault(folder: &Folder, text: &str) -> Option<String> {
    let name = folder.0.join("config.json").display().to_string();
    let error = load_str(&name, text, &|_| None).err()?;
    Some(error.to_string())
}

/// Files that a part may belong to, and where in them.
fn homes() -> Vec<(Value, &'static str)> {
    let backends = |url: &str| json!({"backends": [{"url": url}]});
    let http = json!({
        "listeners": {"web": {"bind": ":8080"}},
        "routes": [{"upstream": "app", "match": {}}],
        "upstreams": {"app": backends("http://localhost:8081")},
    });
    let https = json!({
        "listeners": {"web": {"bind": ":8443", "tls": {"certificate": "cert.pem", "key": "key.pem"}}},
        "upstreams": {"app": backends("http://localhost:8081")},
    });
    let tcp = json!({
        "listeners": {"web": {"bind": ":5432", "protocol": "tcp"}},
        "upstreams": {
            "shop": backends("tcp://localhost:1"),
            "mail": backends("tcp://localhost:2"),
            "rest": backends("tcp://localhost:3"),
        },
        "routes": [{"upstream": "rest"}],
    });
    let flat = json!({"port": "8080", "servers": {"http://localhost:8081": 3}});
    let mut l4 = flat.clone();
    l4["level"] = json!("L4");
    let mut homes = vec![
        (flat, ""),
        (l4, ""),
        (tcp, ""),
        (https, "/listeners/web/tls"),
    ];
    for place in [
        "",
        "/listeners/web",
        "/routes/0",
        "/routes/0/match",
        "/upstreams/app",
        "/upstreams/app/backends/0",
    ] {
        homes.push((http.clone(), place));
    }
    homes
}

/// Is there a file in which these members are right?
fn fits(folder: &Folder, part: &Map<String, Value>) -> bool {
    homes().into_iter().any(|(mut file, place)| {
        let home = file.pointer_mut(place).and_then(Value::as_object_mut);
        home.expect("the place is an object").extend(part.clone());
        fault(folder, &file.to_string()).is_none()
    })
}

/// `"key": value` as an object.
fn part(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(&format!("{{{text}}}")).ok()
}

#[test]
fn every_config_in_a_block_is_right() {
    let folder = folder();
    let mut files = 0;
    for (name, page) in pages() {
        for (_, block) in blocks(&page, "json") {
            let parsed: Option<Value> = serde_json::from_str(block).ok();
            match parsed {
                Some(file) if file.get("version").is_some() => {
                    assert_eq!(Scenario::parse(block).map(drop), Ok(()), "{name}: {block}");
                }
                Some(_) => {
                    assert_eq!(fault(&folder, block), None, "{name}: {block}");
                    files += 1;
                }
                None => {
                    let part = part(block).unwrap_or_else(|| panic!("{name}: no JSON: {block}"));
                    assert!(fits(&folder, &part), "{name}: fits nowhere: {block}");
                }
            }
        }
    }
    assert!(files >= 8, "{files} files were loaded");
}

#[test]
fn every_part_of_a_config_in_a_sentence_fits_somewhere() {
    let folder = folder();
    let mut parts = 0;
    for (name, page) in pages() {
        for span in spans(&page) {
            let is_part = span.starts_with('"') && span.contains("\": ") && !span.contains("...");
            if is_part {
                let part = part(span).unwrap_or_else(|| panic!("{name}: no JSON: {span}"));
                assert!(fits(&folder, &part), "{name}: fits nowhere: {span}");
                parts += 1;
            }
        }
    }
    assert!(parts >= 10, "{parts} parts were found");
}

#[test]
fn a_part_that_is_wrong_fits_nowhere() {
    let folder = folder();
    for wrong in [
        r#""upgrade": "off""#,
        r#""strategy": "hashed""#,
        r#""timeouts": {"tunnel": 5}"#,
    ] {
        assert!(!fits(&folder, &part(wrong).expect("JSON")), "{wrong}");
    }
}

#[test]
fn what_a_page_calls_a_fixture_is_that_fixture() {
    let mut shown = 0;
    for (name, page) in pages() {
        for (before, block) in blocks(&page, "json") {
            let Some(marker) = before.strip_prefix("<!-- ") else {
                continue;
            };
            let fixture = marker.trim_end_matches(" -->");
            let folders = ["fixtures/configs/good", "fixtures/scenarios"];
            let paths = folders.map(|folder| format!("{folder}/{fixture}.json"));
            let path = paths.iter().find(|path| page.contains(*path));
            let path = path.unwrap_or_else(|| panic!("{name} does not say where {fixture} is"));
            assert!(block == read(path), "{name}: {fixture} is not {path}");
            shown += 1;
        }
    }
    assert_eq!(shown, 4);
}
