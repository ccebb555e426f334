//! `routes` of the full form, and the route that there is without them.

use std::sync::Arc;

use super::cache;
use super::error::nearest;
use super::headers;
use super::lint;
use super::listener::plain_name;
use super::matches::{self, plain_path};
use super::model::{Action, Protocol, Rewrite, Route, retry};
use super::plan::PlannedRoute;
use super::reader::{Node, Object};
use super::upstream::Named;
use crate::cache::rules::Rules;
use crate::engine::router::RouteMatch;
use crate::message::upgrade::WEBSOCKET;

/// Every route that could be read, with its place, in file order.
pub(crate) fn read_all<'a>(
    node: &Node<'a>,
    listeners: &[(&str, Protocol)],
    upstreams: &[Named<'_>],
    caching: &cache::Defaults,
) -> Vec<(Node<'a>, PlannedRoute)> {
    let mut routes: Vec<(Node<'a>, PlannedRoute)> = Vec::new();
    let spoken: Vec<_> = upstreams.iter().map(Named::spoken).collect();
    for (i, item) in node.items().unwrap_or_default().into_iter().enumerate() {
        let Some(o) = item.object() else {
            continue;
        };
        let name_node = o.get("name");
        let name = name_node
            .as_ref()
            .and_then(Node::string)
            .unwrap_or_else(|| format!("route-{}", i + 1));
        let blame = name_node.as_ref().unwrap_or(&item);
        if let Err(what) = plain_name(&name) {
            blame.error(what);
        }
        if routes.iter().any(|(_, r)| r.route.name == name) {
            blame.error(format!("a route before it is named \"{name}\" as well"));
        }
        let route = read(&o, name, listeners, &spoken, caching);
        let route = route.map(|r| with_retry(&o, r, upstreams));
        o.finish();
        routes.extend(route.map(|r| (item, r)));
    }
    routes
}

fn read(
    o: &Object<'_>,
    name: String,
    listeners: &[(&str, Protocol)],
    upstreams: &[(&str, Protocol)],
    caching: &cache::Defaults,
) -> Option<PlannedRoute> {
    o.refuse(
        "ejection",
        "\"ejection\" is for an upstream, or at the top of the file for all of them",
    );
    o.refuse(
        "health",
        "\"health\" is for an upstream, or at the top of the file for all of them",
    );
    let matches = o
        .get("match")
        .map_or(Some(RouteMatch::default()), |n| matches::read(&n));
    let action = action(o, upstreams);
    let spoken = match &action {
        Some(Action::Forward { upstream, .. }) => upstreams[*upstream].1,
        _ => Protocol::Http,
    };
    let on = match o.get("listeners") {
        None => Some(all_of(o, listeners, spoken)),
        Some(node) => listener_indices(&node, listeners),
    };
    if let (Some(on), Some(action)) = (&on, &action) {
        for i in on {
            fits(o, listeners[*i], action, upstreams);
        }
    }
    let restore_prefix = restore_prefix(o, action.as_ref());
    let cache_node = o.get("cache");
    let rules = cache_node
        .as_ref()
        .and_then(|n| cache::read_route(n, caching, o.has("upstream")));
    if let (Some(node), Some(rules), Some(matches)) = (&cache_node, &rules, &matches) {
        lint::cached(node, matches, rules);
    }
    let upgrades = o
        .get("upgrades")
        .map_or_else(|| default_upgrades(spoken), |n| upgrades(&n));
    let request = o
        .get("request_headers")
        .map(|n| headers::rules(&n, true))
        .unwrap_or_default();
    let response = o
        .get("response_headers")
        .map(|n| headers::rules(&n, false))
        .unwrap_or_default();
    Some(PlannedRoute {
        listeners: on?,
        route: Route {
            name,
            matches: matches?,
            action: action?,
            restore_prefix,
            retry: None,
            cache: rules,
            upgrades,
            request_headers: request,
            response_headers: response,
        },
    })
}

/// The route with its own policy of retries, if it has one: what it does not say is as its upstream has it.
fn with_retry(o: &Object<'_>, mut planned: PlannedRoute, upstreams: &[Named<'_>]) -> PlannedRoute {
    let Some(node) = o.get("retry") else {
        return planned;
    };
    let Action::Forward { upstream, .. } = planned.route.action else {
        node.error("only a route with an \"upstream\" has anything to retry");
        return planned;
    };
    if let Some(section) = node.object() {
        let mut spec = upstreams[upstream].upstream.retry;
        retry::read(&mut spec, &section, true);
        section.finish();
        planned.route.retry = Some(spec);
    }
    planned
}

/// What a route allows that says nothing.
pub(crate) fn default_upgrades(spoken: Protocol) -> Vec<String> {
    match spoken {
        Protocol::Http => vec![WEBSOCKET.into()],
        Protocol::Tcp | Protocol::Udp => Vec::new(),
    }
}

/// Everything goes to the only upstream.
pub(crate) fn default_route(
    listeners: Vec<usize>,
    cache: Option<Arc<Rules>>,
    spoken: Protocol,
) -> PlannedRoute {
    PlannedRoute {
        listeners,
        route: Route {
            name: "default".into(),
            matches: Default::default(),
            action: Action::Forward {
                upstream: 0,
                rewrite: Rewrite::Keep,
            },
            restore_prefix: false,
            retry: None,
            cache,
            upgrades: default_upgrades(spoken),
            request_headers: Default::default(),
            response_headers: Default::default(),
        },
    }
}

/// The names of protocols, in lower case; "off" is none.
fn upgrades(node: &Node<'_>) -> Vec<String> {
    if node.is_off() {
        return Vec::new();
    }
    let mut tokens: Vec<String> = Vec::new();
    for item in node.one_or_many().unwrap_or_default() {
        let Some(token) = item.string() else {
            continue;
        };
        let token = token.to_ascii_lowercase();
        // RFC 9110 section 5.6.2, with the slash before a version.
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&b);
        if token.is_empty() || !token.bytes().all(letter) {
            item.error(format!("{token:?} is no name of a protocol"));
        } else if token == "h2c" || token.starts_with("http") {
            item.error(format!(
                "\"{token}\" would carry requests that meet no route"
            ));
        } else if tokens.contains(&token) {
            item.error(format!("\"{token}\" stands here twice"));
        } else {
            tokens.push(token);
        }
    }
    tokens
}

/// A route that names no listener serves all those whose protocol is its own.
fn all_of(o: &Object<'_>, listeners: &[(&str, Protocol)], spoken: Protocol) -> Vec<usize> {
    let fits = |(i, (_, served)): (usize, &(&str, Protocol))| (*served == spoken).then_some(i);
    let all: Vec<usize> = listeners.iter().enumerate().filter_map(fits).collect();
    if all.is_empty() && !listeners.is_empty() {
        let node = o.get("upstream");
        node.as_ref().unwrap_or(&o.node).error(format!(
            "this route is {}, and no listener is",
            spoken.name()
        ));
    }
    all
}

/// What of a route is of HTTP, and stands in the way of any other listener.
fn fits(
    o: &Object<'_>,
    (listener, served): (&str, Protocol),
    action: &Action,
    upstreams: &[(&str, Protocol)],
) {
    if let Action::Forward { upstream, .. } = action
        && upstreams[*upstream].1 != served
        && let Some(node) = o.get("upstream")
    {
        let (name, spoken) = upstreams[*upstream];
        node.error(lint::misfit(listener, served, name, spoken));
        return;
    }
    let refuse_as = |of: &str, key: &str, node: Node<'_>| {
        node.error(format!(
            "\"{key}\" is of {of}, and this route serves the listener \"{listener}\", which is {}",
            served.name()
        ));
    };
    let matches = o.get("match").filter(Node::is_object);
    let matches = matches.and_then(|n| n.object());
    if let (Protocol::Http | Protocol::Udp, Some(matches)) = (served, &matches) {
        for key in ["sni", "alpn"] {
            let node = matches.get(key);
            node.into_iter().for_each(|n| refuse_as("TCP", key, n));
        }
    }
    if served == Protocol::Http {
        return;
    }
    let refuse = |key: &str, node: Node<'_>| refuse_as("HTTP", key, node);
    let paths = ["strip_prefix", "replace_prefix", "restore_prefix"];
    for key in ["redirect", "respond"].into_iter().chain(paths) {
        o.get(key).into_iter().for_each(|n| refuse(key, n));
    }
    for key in [
        "retry",
        "cache",
        "upgrades",
        "request_headers",
        "response_headers",
    ] {
        let node = o.get(key).filter(|n| !n.is_off());
        node.into_iter().for_each(|n| refuse(key, n));
    }
    if let Some(matches) = matches {
        for key in ["host", "path", "methods", "headers"] {
            matches.get(key).into_iter().for_each(|n| refuse(key, n));
        }
    }
}

fn listener_indices(node: &Node<'_>, listeners: &[(&str, Protocol)]) -> Option<Vec<usize>> {
    let items = node.items()?;
    if items.is_empty() {
        node.error("a route for no listener at all; leave \"listeners\" out for all of them");
    }
    let mut found = Vec::new();
    for item in items {
        let Some(i) = item
            .string()
            .and_then(|name| index(&item, "listener", &name, listeners))
        else {
            continue;
        };
        if found.contains(&i) {
            item.error(format!(
                "the listener \"{}\" stands here twice",
                listeners[i].0
            ));
        }
        found.push(i);
    }
    // The order has no meaning, so there is one.
    found.sort_unstable();
    Some(found)
}

/// The index of `name`, or an error with the nearest one.
fn index(node: &Node<'_>, what: &str, name: &str, known: &[(&str, Protocol)]) -> Option<usize> {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = names.iter().position(|n| *n == name);
    if found.is_none() {
        let hint = nearest(name, names.iter().copied());
        let known = match hint {
            None if !names.is_empty() => format!(", known are: {}", names.join(", ")),
            _ => String::new(),
        };
        node.error_hint(format!("there is no {what} \"{name}\"{known}"), hint);
    }
    found
}

fn action(o: &Object<'_>, upstreams: &[(&str, Protocol)]) -> Option<Action> {
    let (upstream, redirect, respond) = (o.get("upstream"), o.get("redirect"), o.get("respond"));
    let (strip, replace) = (o.get("strip_prefix"), o.get("replace_prefix"));
    if [&upstream, &redirect, &respond]
        .into_iter()
        .flatten()
        .count()
        != 1
    {
        o.node
            .error("a route needs exactly one of \"upstream\", \"redirect\" and \"respond\"");
    }
    if let (Some(_), Some(node)) = (&strip, &replace) {
        node.error("\"strip_prefix\" and \"replace_prefix\" cannot stand together");
    }
    if upstream.is_none() {
        for node in [&strip, &replace].into_iter().flatten() {
            node.error("only a route with an \"upstream\" can change the path");
        }
    }
    let strip = strip.and_then(|n| prefix(&n)).map(Rewrite::StripPrefix);
    let rewrite = strip
        .or(replace.and_then(|n| replacement(&n)))
        .unwrap_or(Rewrite::Keep);
    let redirect = redirect.and_then(|n| self::redirect(&n));
    let respond = respond.and_then(|n| self::respond(&n));
    match upstream {
        Some(node) => {
            let name = node.string()?;
            let upstream = index(&node, "upstream", &name, upstreams)?;
            Some(Action::Forward { upstream, rewrite })
        }
        None => redirect.or(respond),
    }
}

/// Do responses get the prefix back? Only where one is taken off, and unless it is said otherwise.
fn restore_prefix(o: &Object<'_>, action: Option<&Action>) -> bool {
    let changes = !matches!(
        action,
        Some(
            Action::Forward {
                rewrite: Rewrite::Keep,
                ..
            } | Action::Redirect { .. }
                | Action::Respond { .. }
        )
    );
    let node = o.get("restore_prefix");
    if let Some(node) = node.as_ref().filter(|_| !changes) {
        node.error("there is no prefix to restore: the route has no \"strip_prefix\" and no \"replace_prefix\"");
    }
    changes && node.and_then(|n| n.boolean()).unwrap_or(true)
}

/// A prefix to take off or put on: `/api/` and `/api` are the same, `/` alone is none.
fn prefix(node: &Node<'_>) -> Option<String> {
    let path = plain_path(node)?;
    Some(path.trim_end_matches('/').to_owned())
        .filter(|p| !p.is_empty())
        .or_else(|| {
            node.error("the prefix \"/\" is no prefix at all");
            None
        })
}

fn replacement(node: &Node<'_>) -> Option<Rewrite> {
    let o = node.object()?;
    let example = "\"replace_prefix\": {\"from\": \"/a\", \"to\": \"/b\"}";
    let from = o.require("from", example).and_then(|n| prefix(&n));
    let to = o.require("to", example).and_then(|n| plain_path(&n));
    o.finish();
    Some(Rewrite::ReplacePrefix(
        from?,
        to?.trim_end_matches('/').to_owned(),
    ))
}

fn redirect(node: &Node<'_>) -> Option<Action> {
    let o = node.object()?;
    let to = o.require("to", "\"to\": \"https://{host}{path}{query}\"");
    let status = o.get("status").map_or(Some(308), |n| redirect_status(&n));
    o.finish();
    let to = to?;
    let location = to.string()?;
    if let Err((what, hint)) = check_template(&location) {
        to.error_hint(what, hint);
        return None;
    }
    Some(Action::Redirect {
        status: status?,
        location,
    })
}

fn redirect_status(node: &Node<'_>) -> Option<u16> {
    let status = node.integer(300..=399)?;
    if ![301, 302, 303, 307, 308].contains(&status) {
        node.error(format!("{status} is not one of 301, 302, 303, 307, 308"));
    }
    u16::try_from(status).ok()
}

/// A Location template: it names its host or begins with one slash, and holds nothing that could end a field's line.
fn check_template(text: &str) -> Result<(), (String, Option<&'static str>)> {
    const PARTS: [&str; 4] = ["scheme", "host", "path", "query"];
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err((format!("{c:?} cannot stand in a Location"), None));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let part = rest[at..].strip_prefix('{').and_then(|r| r.split_once('}'));
        let Some((part, tail)) = part else {
            return Err(("a brace without its other half".into(), None));
        };
        if !PARTS.contains(&part) {
            let what =
                format!("\"{{{part}}}\" is not one of {{scheme}}, {{host}}, {{path}}, {{query}}");
            return Err((what, nearest(part, PARTS)));
        }
        rest = tail;
    }
    let begins = |start: &str| text.starts_with(start);
    let absolute = begins("http://") || begins("https://") || begins("{scheme}://");
    // `/{path}` and `//x` would let a request's path name the host that the client is sent to.
    let local = begins("/") && !begins("//") && !begins("/{");
    if absolute || local {
        return Ok(());
    }
    let what =
        format!("\"{text}\" must begin with http://, https://, {{scheme}}:// or a path of its own");
    Err((what, None))
}

fn respond(node: &Node<'_>) -> Option<Action> {
    let o = node.object()?;
    let status = o.get("status").map_or(Some(200), |n| n.integer(200..=599));
    let body_node = o.get("body");
    let body = body_node.as_ref().map_or(Some(String::new()), Node::string);
    o.finish();
    let (status, body) = (status?, body?);
    if let (204 | 304, false, Some(node)) = (status, body.is_empty(), &body_node) {
        node.error(format!("a response with status {status} has no body"));
    }
    let status = u16::try_from(status).ok()?;
    Some(Action::Respond { status, body })
}
