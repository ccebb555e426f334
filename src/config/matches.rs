//! `match` of a route: which requests, or connections, it takes.

use http::Method;

use super::address;
use super::headers::header_name;
use super::reader::{Entry, Node};
use crate::engine::router::{HeaderMatch, PathMatch, RouteMatch};

/// What a route takes.
pub(crate) fn read(node: &Node<'_>) -> Option<RouteMatch> {
    let o = node.object()?;
    let hosts = o
        .get("host")
        .and_then(|n| n.one_or_many())
        .unwrap_or_default();
    let path = o.get("path").map_or(Some(PathMatch::Any), |n| path(&n));
    let methods = o
        .get("methods")
        .and_then(|n| n.one_or_many())
        .unwrap_or_default();
    let headers = o
        .get("headers")
        .and_then(|n| n.entries())
        .unwrap_or_default();
    let header = |entry: &Entry<'_>| {
        let name = header_name(entry.key)
            .map_err(|what| entry.key_error(what, None))
            .ok()?;
        let value = if entry.node.is_true() {
            None
        } else if entry.node.is_string() {
            Some(entry.node.string()?)
        } else {
            entry
                .node
                .error("expected the field's value, or true for any value");
            return None;
        };
        Some(HeaderMatch { name, value })
    };
    let names = o.get("sni").and_then(|n| n.one_or_many());
    let alpn = o.get("alpn").and_then(|n| n.one_or_many());
    let found = RouteMatch {
        server_names: names.iter().flatten().filter_map(host).collect(),
        alpn: alpn.iter().flatten().filter_map(protocol).collect(),
        hosts: hosts.iter().filter_map(host).collect(),
        methods: methods.iter().filter_map(method).collect(),
        headers: headers.iter().filter_map(header).collect(),
        path: path.unwrap_or_default(),
    };
    o.finish();
    Some(found)
}

fn host(node: &Node<'_>) -> Option<String> {
    match address::parse_host(&node.string()?) {
        Ok(host) => Some(host),
        Err((what, hint)) => {
            node.error_hint(what, hint.as_deref());
            None
        }
    }
}

/// A protocol's name of 1 to 255 bytes (RFC 7301 section 3.1).
fn protocol(node: &Node<'_>) -> Option<String> {
    let name = node.string()?;
    if !(1..=255).contains(&name.len()) {
        node.error("the name of a protocol has 1 to 255 bytes");
        return None;
    }
    Some(name)
}

fn method(node: &Node<'_>) -> Option<Method> {
    let text = node.string()?;
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        // Methods are case-sensitive (RFC 9110 section 9.1), so a small letter is a slip.
        Ok(method) if text == upper => Some(method),
        Ok(_) => {
            node.error_hint(
                format!("\"{text}\" would never match, methods are case-sensitive"),
                Some(&upper),
            );
            None
        }
        Err(_) => {
            node.error(format!("\"{text}\" is not a method"));
            None
        }
    }
}

fn path(node: &Node<'_>) -> Option<PathMatch> {
    if node.is_string() {
        return plain_path(node).map(PathMatch::Exact);
    }
    if !node.is_object() {
        node.error("expected an exact path, or an object with \"exact\", \"prefix\" or \"regex\"");
        return None;
    }
    let o = node.object()?;
    let (exact, prefix, regex) = (o.get("exact"), o.get("prefix"), o.get("regex"));
    let given = [&exact, &prefix, &regex].into_iter().flatten().count();
    if given != 1 {
        node.error("exactly one of \"exact\", \"prefix\" and \"regex\" must be given");
    }
    o.finish();
    if let Some(n) = exact {
        plain_path(&n).map(PathMatch::Exact)
    } else if let Some(n) = prefix {
        plain_path(&n).map(PathMatch::Prefix)
    } else {
        regex.and_then(|n| compiled(&n)).map(PathMatch::Regex)
    }
}

fn compiled(node: &Node<'_>) -> Option<regex::Regex> {
    match regex::Regex::new(&node.string()?) {
        Ok(regex) => Some(regex),
        Err(e) => {
            // The last line says what is wrong; those before it draw the expression.
            let e = e.to_string();
            let last = e.lines().last().unwrap_or(&e);
            node.error(format!(
                "not a regular expression: {}",
                last.trim_start_matches("error: ")
            ));
            None
        }
    }
}

/// A path that begins with `/`.
pub(crate) fn plain_path(node: &Node<'_>) -> Option<String> {
    let path = node.string()?;
    if !path.starts_with('/') {
        node.error_hint(
            format!("the path \"{path}\" does not begin with /"),
            Some(&format!("/{path}")),
        );
        return None;
    }
    match address::check_path(&path) {
        Ok(()) => Some(path),
        Err(what) => {
            node.error(what);
            None
        }
    }
}
