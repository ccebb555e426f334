//! Field names and values in a config, and what a rule may change.

use http::{HeaderName, HeaderValue};

use super::model::HeaderRules;
use super::reader::Node;

/// What a rule may do to a request's or a response's fields.
pub(crate) fn rules(node: &Node<'_>, request: bool) -> HeaderRules {
    let mut rules = HeaderRules::default();
    let Some(o) = node.object() else {
        return rules;
    };
    for (key, list) in [("set", &mut rules.set), ("add", &mut rules.add)] {
        let host_too = request && key == "set";
        // Names differ in case only: JSON does not see that they are the same.
        let mut seen = Vec::new();
        for entry in o.get(key).and_then(|n| n.entries()).unwrap_or_default() {
            let name = match header_name(entry.key).and_then(|n| changeable(n, host_too)) {
                Ok(name) => name,
                Err(what) => {
                    entry.key_error(what, None);
                    continue;
                }
            };
            if seen.contains(&name) {
                entry.key_error(format!("\"{name}\" stands here twice"), None);
            }
            seen.push(name.clone());
            if let Some(value) = header_value(&entry.node) {
                list.push((name, value));
            }
        }
    }
    for item in o.get("remove").and_then(|n| n.items()).unwrap_or_default() {
        let Some(text) = item.string() else {
            continue;
        };
        match header_name(&text).and_then(|n| changeable(n, false)) {
            Ok(name) => rules.remove.push(name),
            Err(what) => item.error(what),
        }
    }
    o.finish();
    rules
}

/// A field's name (RFC 9110 section 5.1).
pub(crate) fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a field name"))
}

/// Framing and connection fields are the proxy's own: a rule that touched them could split messages.
fn changeable(name: HeaderName, host_too: bool) -> Result<HeaderName, String> {
    const OWN: [&str; 8] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if name == http::header::VIA {
        let what = "the field \"via\" is the proxy's own; \"via\": \"off\" in an upstream leaves its word out of it";
        return Err(what.into());
    }
    if OWN.contains(&name.as_str()) {
        return Err(format!(
            "the field \"{name}\" is the proxy's own and cannot be changed by a rule"
        ));
    }
    if name == http::header::HOST && !host_too {
        return Err("the field \"host\" can only be set, and only on requests".into());
    }
    Ok(name)
}

fn header_value(node: &Node<'_>) -> Option<HeaderValue> {
    let text = node.string()?;
    match HeaderValue::from_str(&text) {
        // The library takes bytes beyond ASCII as well, of which nobody knows what a client reads in them.
        Ok(value) if value.to_str().is_ok() && text.trim_matches([' ', '\t']) == text => {
            Some(value)
        }
        _ => {
            node.error(format!(
                "{text:?} is not a field value: visible ASCII, no line breaks, no space at its ends"
            ));
            None
        }
    }
}
