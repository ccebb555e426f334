//! Warnings: routes that never run, upstreams, listeners and caches that nothing uses, settings without an effect.

use http::Method;

use super::model::{Action, Listener, Protocol};
use super::plan::PlannedRoute;
use super::reader::{Node, Object};
use super::upstream::Named;
use crate::cache::rules::Rules;
use crate::engine::router::{PathMatch, RouteMatch};

/// Warns of routes that one route before them wholly covers. Simple cases only: what it says is true, what it leaves unsaid may
/// still be covered.
pub(crate) fn routes(routes: &[(Node<'_>, PlannedRoute)]) {
    for (i, (node, later)) in routes.iter().enumerate() {
        let covers = |(_, earlier): &&(Node<'_>, PlannedRoute)| {
            later
                .listeners
                .iter()
                .all(|l| earlier.listeners.contains(l))
                && covers(&earlier.route.matches, &later.route.matches)
        };
        if let Some((_, earlier)) = routes[..i].iter().find(covers) {
            node.warn(format_args!(
                "the route \"{}\" never runs, since \"{}\" before it takes all its requests",
                later.route.name, earlier.route.name
            ));
        }
    }
}

/// Warns of a cache that no route uses, and of a Redis without a cache.
pub(crate) fn caching(file: &Object<'_>, routes: &[PlannedRoute], flat: bool) {
    if routes.iter().any(|r| r.route.cache.is_some()) {
        return;
    }
    let how = if flat {
        "\"caching\": \"baseline\""
    } else {
        "\"cache\": true in a route"
    };
    for key in ["cache", "redis"] {
        if flat && key == "redis" {
            continue;
        }
        if let Some(node) = file.get(key) {
            node.warn(format_args!("nothing is cached, since there is no {how}"));
        }
    }
}

/// Warns of lifetimes in a section that something else takes the place of, there or at the top of the file.
pub(crate) fn shadowed(o: &Object<'_>, effective: &Rules) {
    let warn = |key: &'static str, by: &str| {
        if let Some(node) = o.get(key)
            && !node.is_off()
        {
            node.warn(format_args!(
                "\"{key}\" has no effect, since \"{by}\" says how long responses live"
            ));
        }
    };
    if effective.ttl.is_some() {
        warn("default_ttl", "ttl");
        warn("heuristic", "ttl");
    } else if effective.default_ttl.is_some() {
        warn("heuristic", "default_ttl");
    }
}

/// Warns of a cached route whose requests never meet the cache, and of exceptions for paths that it never sees.
pub(crate) fn cached(node: &Node<'_>, matches: &RouteMatch, rules: &Rules) {
    let asked = |m: &Method| {
        (matches.methods.is_empty() || matches.methods.contains(m))
            && !rules.bypass_methods.contains(m)
    };
    if !asked(&Method::GET) && !asked(&Method::HEAD) {
        node.warn(
            "nothing is cached here, since only GET and HEAD are, and this route leaves them out",
        );
    }
    let own = node.is_object().then(|| node.object()).flatten();
    let bypass = own.and_then(|o| o.get("bypass")?.object());
    let paths = bypass.and_then(|o| o.get("paths")).and_then(|n| n.items());
    for item in paths.unwrap_or_default() {
        let Some(path) = item.string() else { continue };
        let meets = match &matches.path {
            PathMatch::Prefix(p) => path.starts_with(p.as_str()) || p.starts_with(&path),
            PathMatch::Exact(p) => p.starts_with(&path),
            PathMatch::Any | PathMatch::Regex(_) => true,
        };
        if !meets {
            item.warn(format_args!(
                "no request to this route begins with \"{path}\""
            ));
        }
    }
}

/// Warns of upstreams that no route leads to and of listeners that no route serves.
pub(crate) fn unused(
    file: &Object<'_>,
    upstreams: &[Named<'_>],
    routes: &[(Node<'_>, PlannedRoute)],
    listeners: &[Listener],
) {
    for (i, named) in upstreams.iter().enumerate() {
        let leads = |r: &PlannedRoute| matches!(r.route.action, Action::Forward { upstream, .. } if upstream == i);
        if !routes.iter().any(|(_, r)| leads(r)) {
            named.node.warn(format_args!(
                "no route leads to the upstream \"{}\"",
                named.upstream.name
            ));
        }
    }
    for entry in file
        .get("listeners")
        .and_then(|n| n.entries())
        .unwrap_or_default()
    {
        let Some(i) = listeners.iter().position(|l| l.name == entry.key) else {
            continue;
        };
        if !routes.iter().any(|(_, r)| r.listeners.contains(&i)) {
            let so = match listeners[i].protocol {
                Protocol::Http => "it answers 404 to everything",
                Protocol::Tcp => "it closes every connection",
                Protocol::Udp => "it drops every datagram",
            };
            entry.node.warn(format_args!(
                "the listener \"{}\" has no route, so {so}",
                entry.key
            ));
        }
    }
}

/// Warns of routes by ALPN on a listener that ends TLS itself: its clients agree on no protocol there.
pub(crate) fn terminated(routes: &[(Node<'_>, PlannedRoute)], listeners: &[Listener]) {
    for (node, planned) in routes {
        let ends = |l: &&usize| listeners[**l].tls.is_some();
        if !planned.route.matches.alpn.is_empty()
            && let Some(listener) = planned.listeners.iter().find(ends)
        {
            node.warn(format_args!(
                "the route \"{}\" takes nothing of the listener \"{}\", which ends TLS and offers no protocol",
                planned.route.name, listeners[*listener].name
            ));
        }
    }
}

/// Without routes every listener leads to the only upstream, which then has to speak the protocol of them all.
pub(crate) fn unfit(
    file: &Object<'_>,
    listeners: &[(&str, Protocol)],
    (upstream, spoken): (&str, Protocol),
) {
    let entries = file.get("listeners").and_then(|n| n.entries());
    for entry in entries.unwrap_or_default() {
        let listener = listeners.iter().find(|(name, _)| *name == entry.key);
        if let Some((name, served)) = listener
            && *served != spoken
        {
            entry.node.error_hint(
                misfit(name, *served, upstream, spoken),
                Some(&format!("{}://host:port", served.name())),
            );
        }
    }
}

/// Says that a listener and an upstream do not go together.
pub(crate) fn misfit(listener: &str, served: Protocol, upstream: &str, spoken: Protocol) -> String {
    format!(
        "the listener \"{listener}\" is {}, and the backends of the upstream \"{upstream}\" are {}",
        served.name(),
        spoken.name()
    )
}

/// Does `a` match whatever `b` matches?
fn covers(a: &RouteMatch, b: &RouteMatch) -> bool {
    let hosts = hosts_cover(&a.hosts, &b.hosts);
    let methods = a.methods.is_empty()
        || (!b.methods.is_empty() && b.methods.iter().all(|m| a.methods.contains(m)));
    let headers = a.headers.iter().all(|h| {
        b.headers
            .iter()
            .any(|other| other.name == h.name && (h.value.is_none() || h.value == other.value))
    });
    let names = hosts_cover(&a.server_names, &b.server_names);
    let alpn =
        a.alpn.is_empty() || (!b.alpn.is_empty() && b.alpn.iter().all(|p| a.alpn.contains(p)));
    hosts && methods && headers && names && alpn && path_covers(&a.path, &b.path)
}

/// Does the first list of hosts cover the second? An empty list is any host.
fn hosts_cover(a: &[String], b: &[String]) -> bool {
    let covered = |h: &String| a.iter().any(|w| host_covers(w, h));
    a.is_empty() || (!b.is_empty() && b.iter().all(covered))
}

fn host_covers(a: &str, b: &str) -> bool {
    a == b
        || a.strip_prefix('*')
            .is_some_and(|parent| b.ends_with(parent))
}

fn path_covers(a: &PathMatch, b: &PathMatch) -> bool {
    let below = |prefix: &str, path: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
    };
    match (a, b) {
        (PathMatch::Any, _) => true,
        (PathMatch::Prefix(root), _) if root == "/" => true,
        (PathMatch::Exact(a), PathMatch::Exact(b)) => a == b,
        (PathMatch::Prefix(a), PathMatch::Exact(b) | PathMatch::Prefix(b)) => below(a, b),
        (PathMatch::Regex(a), PathMatch::Exact(b)) => a.is_match(b),
        (PathMatch::Regex(a), PathMatch::Regex(b)) => a.as_str() == b.as_str(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wholly_covered_counts() {
        let prefix = |p: &str| PathMatch::Prefix(p.into());
        let exact = |p: &str| PathMatch::Exact(p.into());
        assert!(path_covers(&prefix("/a"), &prefix("/a/b")));
        assert!(path_covers(&prefix("/"), &exact("/x")));
        assert!(!path_covers(&prefix("/a"), &prefix("/ab")));
        assert!(!path_covers(&prefix("/a/"), &prefix("/a")));
        assert!(!path_covers(&exact("/a"), &prefix("/a")));
        assert!(
            host_covers("*.a.example", "b.a.example") && !host_covers("*.a.example", "a.example")
        );
    }
}
