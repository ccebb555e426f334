//! `listeners` of the full form.

use std::net::SocketAddr;
use std::sync::Arc;

use super::address;
use super::model::{Listener, Protocol};
use super::reader::{Entry, Node, Object};
use super::settings::{Defaults, NOT_BUILT};

/// Every listener of the file that could be read.
pub(crate) fn read_all(file: &Object<'_>, defaults: &Defaults) -> Vec<Listener> {
    let example = "\"listeners\": {\"web\": {\"bind\": \":8080\"}}";
    let Some(node) = file.require("listeners", example) else {
        return Vec::new();
    };
    let entries = node.entries().unwrap_or_default();
    if node.is_object() && entries.is_empty() {
        node.error(format!("there is no listener, for example {example}"));
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for entry in &entries {
        check_name(entry);
        let Some(object) = entry.node.object() else {
            continue;
        };
        let listener = read(entry.key, &object, defaults, &listeners);
        object.finish();
        listeners.extend(listener);
    }
    listeners
}

fn read(name: &str, o: &Object<'_>, defaults: &Defaults, earlier: &[Listener]) -> Option<Listener> {
    for key in NOT_BUILT {
        o.refuse(key, &format!("\"{key}\" is not built yet"));
    }
    let word = |n: Node<'_>| {
        let all = [Protocol::Http, Protocol::Tcp, Protocol::Udp];
        n.word(&all.map(|p| (p.name(), p)))
    };
    let protocol = o.get("protocol").and_then(word).unwrap_or(Protocol::Http);
    let d = defaults.for_listener(o);
    let node = o.require("bind", "\"bind\": \":8080\"");
    let bind = node.as_ref().and_then(bind);
    if let (Some(bind), Some(node)) = (bind, &node)
        && let Some(other) = earlier.iter().find(|l| l.collides(bind, protocol))
    {
        node.error(format!(
            "the listener \"{}\" binds this address as well",
            other.name
        ));
    }
    Some(Listener {
        name: name.to_owned(),
        // A listener without an address gave its error above. It stays, so that routes may name it.
        bind: bind.unwrap_or(address::all_interfaces(0)),
        protocol,
        routes: Arc::default(),
        trusted_proxies: d.trusted_proxies,
        timeouts: d.client,
        limits: d.limits,
    })
}

/// An address to bind.
pub(crate) fn bind(node: &Node<'_>) -> Option<SocketAddr> {
    if node.is_number() {
        let port = node.integer(0..=65_535)?;
        node.error_hint(
            "expected an address such as \":8080\", found a number",
            Some(&format!(":{port}")),
        );
        return None;
    }
    match address::parse_bind(&node.string()?) {
        Ok(addr) => Some(addr),
        Err((what, hint)) => {
            node.error_hint(what, hint.as_deref());
            None
        }
    }
}

/// Names stand in logs, metrics and scenarios, so they are short and plain.
pub(crate) fn check_name(entry: &Entry<'_>) {
    if let Err(what) = plain_name(entry.key) {
        entry.key_error(what, None);
    }
}

/// Letters, digits, `-`, `_`: no dot, since a scenario writes `web.p99`.
pub(crate) fn plain_name(name: &str) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(letter) {
        return Ok(());
    }
    Err(format!(
        "the name {name:?} must be 1 to 64 letters, digits, `-` or `_`"
    ))
}
