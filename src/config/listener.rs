//! `listeners` of the full form.

use std::net::SocketAddr;
use std::sync::Arc;

use super::acme;
use super::address;
use super::model::{Cidr, Limits, Listener, Protocol};
use super::reader::{Entry, Node, Object};
use super::settings::{Defaults, network};
use super::tls;

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
    let sections = entries.iter().filter_map(|entry| {
        // One that is no object has given its error.
        let object = entry.node.is_object().then(|| entry.node.object())??;
        Some((entry.key, object.get("tls")?))
    });
    acme::lint(sections, &listeners);
    listeners
}

fn read(name: &str, o: &Object<'_>, defaults: &Defaults, earlier: &[Listener]) -> Option<Listener> {
    o.refuse(
        "ejection",
        "\"ejection\" is for an upstream, or at the top of the file for all of them",
    );
    o.refuse(
        "health",
        "\"health\" is for an upstream, or at the top of the file for all of them",
    );
    let word = |n: Node<'_>| {
        let all = [Protocol::Http, Protocol::Tcp, Protocol::Udp];
        n.word(&all.map(|p| (p.name(), p)))
    };
    let protocol = o.get("protocol").and_then(word).unwrap_or(Protocol::Http);
    let proxied = o.get("proxy_protocol");
    if let (Protocol::Udp, Some(node)) = (protocol, &proxied) {
        node.error("the PROXY protocol is for TCP, and this listener's is \"udp\"");
    }
    let proxy_protocol = proxied.and_then(|n| proxy_protocol(&n));
    let d = defaults.for_listener(o);
    doubtful_bounds(o, protocol, &d.limits);
    let tls = o.get("tls");
    if let (Protocol::Udp, Some(node)) = (protocol, &tls) {
        node.error("there is no TLS over udp here");
    }
    if let (Protocol::Tcp | Protocol::Udp, Some(node)) = (protocol, o.get("http2"))
        && !node.is_off()
    {
        node.error("HTTP/2 belongs to listeners of the protocol \"http\"");
    }
    let http2 = d.http2.filter(|_| protocol == Protocol::Http);
    let tls = tls.and_then(|n| tls::read(&n, protocol, http2.is_some()));
    let (path, untrusted_fields) = match protocol {
        Protocol::Http => (d.path, d.untrusted_fields),
        Protocol::Tcp | Protocol::Udp => {
            for node in ["path", "untrusted_fields"]
                .iter()
                .filter_map(|key| o.get(key))
            {
                node.error("it belongs to listeners of the protocol \"http\"");
            }
            Default::default()
        }
    };
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
        proxy_protocol,
        timeouts: d.client,
        limits: d.limits,
        tls: tls.map(Arc::new),
        http2,
        path,
        untrusted_fields,
    })
}

/// Warns of bounds on clients that a listener names and that have no effect there.
fn doubtful_bounds(listener: &Object<'_>, protocol: Protocol, limits: &Limits) {
    let said = |section: &'static str, key: &'static str| {
        let node = listener.get(section)?.object()?.get(key)?;
        (!node.is_off()).then_some(node)
    };
    if let Some(node) = said("limits", "connections_per_address") {
        let each = limits.connections_per_address.unwrap_or(u32::MAX) as usize;
        if protocol == Protocol::Udp {
            node.warn("it has no effect, since there are no connections over udp");
        } else if each >= limits.connections {
            node.warn(format_args!(
                "it has no effect, since the listener takes {} connections from all together",
                limits.connections
            ));
        }
    }
    let keys = [
        ("limits", "requests_per_connection"),
        ("timeouts", "connection_age"),
    ];
    for (section, key) in keys {
        if let (true, Some(node)) = (protocol != Protocol::Http, said(section, key)) {
            node.warn("it has no effect, since only connections of HTTP end between two requests");
        }
    }
}

/// Who may connect, with a header. There must be somebody, or the listener could be left out.
fn proxy_protocol(node: &Node<'_>) -> Option<Vec<Cidr>> {
    let example = "{\"trusted\": [\"10.0.0.0/8\"]}";
    if !node.is_object() {
        node.error(format!("expected an object such as {example}"));
        return None;
    }
    let o = node.object()?;
    let trusted = o.require("trusted", &example[1..example.len() - 1]);
    o.finish();
    let items = trusted.as_ref()?.items()?;
    if let (true, Some(node)) = (items.is_empty(), &trusted) {
        node.error("nobody is trusted, so every connection would be closed");
    }
    Some(items.iter().filter_map(network).collect())
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
