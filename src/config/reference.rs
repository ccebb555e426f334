//! The schema as Markdown: a section for each kind of object, with a table of its keys. Sections come in the order in which
//! the full form leads to them. Absent: the schema itself, which `raw` derives, and the page around the tables.

use std::fmt::Write;

use serde_json::{Map, Value};

/// What every section begins with.
const HEAD: &str = "| key | value | default | meaning |\n|---|---|---|---|\n";

/// The sections for both forms, with a line break at the end.
pub(super) fn markdown(schema: &Value) -> String {
    let empty = Map::new();
    let defs = schema["$defs"].as_object().unwrap_or(&empty);
    let mut reference = Reference {
        defs,
        sections: Vec::new(),
    };
    let (full, flat) = (&defs["FullFile"], &defs["FlatFile"]);
    let common: Vec<&String> = keys(full)
        .filter(|(key, of_full)| keys(flat).any(|(k, of_flat)| k == *key && of_flat == *of_full))
        .map(|(key, _)| key)
        .collect();
    let mut out = String::new();
    out.push_str("### Both forms\n\nWhat both forms know at the top of the file.\n\n");
    reference.table(full, |key| common.contains(&key), &mut out);
    for (title, form) in [("Full form", full), ("Flat form", flat)] {
        let about = text(&form["description"]);
        let _ = write!(out, "\n### {title}\n\n{about}\n\n");
        reference.table(form, |key| !common.contains(&key), &mut out);
    }
    reference.visit_keys(full, "");
    reference.visit_keys(flat, "");
    for (name, paths) in &reference.sections {
        reference.section(name, paths, &mut out);
    }
    out
}

struct Reference<'a> {
    defs: &'a Map<String, Value>,
    /// Each kind of object by its name, with the paths where it stands.
    sections: Vec<(&'a str, Vec<String>)>,
}

impl<'a> Reference<'a> {
    /// Notes every kind of object below `object`, which stands at `path`.
    fn visit_keys(&mut self, object: &'a Value, path: &str) {
        for (key, value) in keys(object) {
            let dot = if path.is_empty() { "" } else { "." };
            self.visit(value, &format!("{path}{dot}{key}"));
        }
    }

    fn visit(&mut self, schema: &'a Value, path: &str) {
        if let Some(name) = referred(schema) {
            let target = &self.defs[name];
            if keys(target).next().is_some() {
                let at = match self.sections.iter().position(|(known, _)| *known == name) {
                    Some(at) => at,
                    None => {
                        self.sections.push((name, Vec::new()));
                        self.sections.len() - 1
                    }
                };
                let paths = &mut self.sections[at].1;
                if paths.iter().any(|known| known == path) {
                    return;
                }
                paths.push(path.to_owned());
                self.visit_keys(target, path);
            } else {
                self.visit(target, path);
            }
        }
        for alternative in alternatives(schema) {
            self.visit(alternative, path);
        }
        if let Some(items) = schema.get("items") {
            self.visit(items, &format!("{path}[]"));
        }
        if let Some(members) = schema.get("additionalProperties").filter(|m| m.is_object()) {
            self.visit(members, &format!("{path}.NAME"));
        }
    }

    fn section(&self, name: &str, paths: &[String], out: &mut String) {
        let object = &self.defs[name];
        let places: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
        let one_of = if object.get("properties").is_none() {
            " It has exactly one of these keys."
        } else {
            ""
        };
        let _ = write!(
            out,
            "\n### {}\n\n{}{one_of} It stands at {}.\n\n",
            title(name),
            text(&object["description"]),
            places.join(", ")
        );
        self.table(object, |_| true, out);
    }

    /// The table of those keys of `object` that are `wanted`.
    fn table(&self, object: &Value, wanted: impl Fn(&String) -> bool, out: &mut String) {
        out.push_str(HEAD);
        let required = object["required"].as_array();
        for (key, value) in keys(object).filter(|(key, _)| wanted(key)) {
            let (meaning, default) = split_default(value["description"].as_str().unwrap_or(""));
            let is_required = required.is_some_and(|list| list.iter().any(|k| k == key));
            let default = if is_required { "required" } else { &default };
            // A choice of one key describes the choice.
            let meaning = match alternatives(object).find(|a| a["properties"].get(key).is_some()) {
                Some(choice) if meaning.is_empty() => text(&choice["description"]),
                _ => quoted_as_code(&meaning),
            };
            let cells = [
                format!("`{key}`"),
                self.kind(value),
                quoted_as_code(default),
                meaning,
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }

    /// What a value may be, in words.
    fn kind(&self, schema: &Value) -> String {
        if let Some(name) = referred(schema) {
            return match name {
                "DurationText" | "DurationOrZero" => "duration".into(),
                "DurationOrOff" => "duration, `\"off\"`".into(),
                "Size" => "size".into(),
                "SizeOrOff" => "size, `\"off\"`".into(),
                "Bind" => "address and port".into(),
                "Port" => "port".into(),
                "BackendUrl" | "HttpsUrl" => "URL".into(),
                "PathText" => "path".into(),
                "Name" => "name".into(),
                _ if keys(&self.defs[name]).next().is_some() => link(name),
                _ => self.kind(&self.defs[name]),
            };
        }
        if let Some(value) = schema.get("const") {
            return format!("`{value}`");
        }
        if let Some(words) = schema["enum"].as_array() {
            // `false` and null are other spellings of "off".
            let off = words.iter().any(|word| word == "off") || words.contains(&Value::Null);
            let shown: Vec<String> = match off {
                true => vec!["`\"off\"`".into()],
                false => words.iter().map(|word| format!("`{word}`")).collect(),
            };
            return shown.join(", ");
        }
        let mut kinds: Vec<String> = alternatives(schema).map(|a| self.kind(a)).collect();
        if !kinds.is_empty() {
            kinds.dedup();
            return kinds.join(", ");
        }
        if let Some(items) = schema.get("items") {
            return format!("list of {}", self.kind(items));
        }
        if let Some(members) = schema.get("additionalProperties").filter(|m| m.is_object()) {
            return format!("by name: {}", self.kind(members));
        }
        let kind = match schema["type"].as_str() {
            Some("boolean") => "`true`, `false`",
            Some("integer") => "integer",
            Some("number") => "number",
            _ => "string",
        };
        match (schema.get("minimum"), schema.get("maximum")) {
            (Some(low), Some(high)) => format!("{kind} ({low} to {high})"),
            (None, Some(high)) => format!("{kind} (at most {high})"),
            _ => kind.into(),
        }
    }
}

/// The keys of an object, also of one that is a choice of several.
fn keys(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let own = object["properties"].as_object();
    let chosen = alternatives(object).filter_map(|choice| choice["properties"].as_object());
    own.into_iter().chain(chosen).flatten()
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| schema[key].as_array())
        .flatten()
}

/// The name of the definition that is meant.
fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// `[Listener timeouts](#listener-timeouts)`.
fn link(name: &str) -> String {
    let title = title(name);
    let anchor = title.to_lowercase().replace(' ', "-");
    format!("[{title}](#{anchor})")
}

/// `Listener timeouts` for `ListenerTimeouts`.
fn title(name: &str) -> String {
    // Names that say little outside the source.
    let name = match name {
        "Acme" => return "ACME".into(),
        "BackOff" => return "Back-off".into(),
        "HashSaid" => "HashKey",
        "Http2" => return "HTTP2".into(),
        "PathBy" => "PathComparison",
        "RedisCa" => "RedisTls",
        other => other,
    };
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push(' ');
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
    }
    out.replace(" tls", " TLS")
}

/// A description on one line, with what is quoted as code.
fn text(description: &Value) -> String {
    quoted_as_code(&description.as_str().unwrap_or("").replace('\n', " "))
}

/// What a description says without its default, and the default: `By default 100.` says `100`.
fn split_default(description: &str) -> (String, String) {
    let description = description.replace('\n', " ");
    let Some((before, rest)) = description.split_once("By default ") else {
        return (description, String::new());
    };
    let (default, after) = match rest.split_once(". ") {
        Some((default, after)) => (default, after),
        None => (rest.trim_end_matches('.'), ""),
    };
    let meaning = format!("{} {after}", before.trim_end());
    (meaning.trim().to_owned(), default.to_owned())
}

/// What stands in double quotes, as code with its quotes.
fn quoted_as_code(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            let _ = write!(out, "`\"{part}\"`");
        } else {
            out.push_str(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_has_a_column_of_its_own() {
        let split = |text| split_default(text);
        assert_eq!(
            split("Streams. By default 100."),
            ("Streams.".into(), "100".into())
        );
        assert_eq!(
            split("A share. By default\n1.25. More\nis more."),
            ("A share. More is more.".into(), "1.25".into())
        );
        assert_eq!(split("No default."), ("No default.".into(), String::new()));
    }

    #[test]
    fn every_object_has_a_section_and_every_link_leads_to_one() {
        let schema = super::super::raw::schema_value();
        let page = markdown(&schema);
        let titles: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .map(|title| title.to_lowercase().replace(' ', "-"))
            .collect();
        let links: Vec<&str> = page
            .split("](#")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .collect();
        assert!(links.len() > 40, "{} links", links.len());
        for link in links {
            assert!(titles.iter().any(|title| title == link), "{link}");
        }
        let defs = schema["$defs"].as_object().expect("definitions");
        let objects = defs.values().filter(|d| keys(d).next().is_some()).count();
        // The two forms share a section more.
        assert_eq!(titles.len(), objects + 1, "{titles:?}");
    }

    #[test]
    fn a_row_says_key_value_default_and_meaning() {
        let page = markdown(&super::super::raw::schema_value());
        for row in [
            "| `bind` | address and port | required | The address: `\":8080\"` is all interfaces, IPv4 and IPv6.",
            "| `fields` | integer (1 to 10000) | 100 | Fields of a request head; more are answered 431. |",
            "| `phase` | `\"random\"`, `\"zero\"` | `\"random\"` |",
            "| `limits` | [Limits](#limits) |",
            "| `cookie` | string |  | The value of this cookie. |",
            "It stands at `queue`, `upstreams.NAME.queue`.",
        ] {
            assert!(page.contains(row), "{row:?} is not in\n{page}");
        }
    }
}
