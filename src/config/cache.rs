//! `cache`, at the top of a file and in a route, and `caching` with its kin in the flat form.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::address;
use super::error::nearest;
use super::headers::header_name;
use super::lint;
use super::model::{Action, Cache};
use super::plan::PlannedRoute;
use super::reader::{Node, Object};
use crate::cache::rules::{QueryKey, Rules};

/// Memory where the file says nothing.
pub(crate) const MEMORY: u64 = 128 << 20;

/// How long a response that says nothing about it lives in the flat form, as in the first user's proxy.
const FLAT_TTL: Duration = Duration::from_secs(1800);

/// What the top of a file says.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub(crate) model: Cache,
    pub(crate) rules: Rules,
    /// The section is there.
    pub(crate) given: bool,
}

/// Reads the section at the top of a file.
pub(crate) fn read_top(file: &Object<'_>, flat: bool) -> Defaults {
    let mut defaults = Defaults {
        model: Cache { memory: MEMORY },
        rules: Rules {
            default_ttl: flat.then_some(FLAT_TTL),
            ..Rules::default()
        },
        given: false,
    };
    let Some(o) = file.get("cache").and_then(|n| n.object()) else {
        return defaults;
    };
    defaults.given = true;
    if let Some(memory) = o.get("memory").and_then(|n| n.size(1 << 20..=1 << 40)) {
        defaults.model.memory = memory;
    }
    rules(&o, &mut defaults.rules);
    lint::shadowed(&o, &defaults.rules);
    let most = defaults.model.memory / 4;
    if o.has("max_object") {
        if defaults.rules.max_object > most
            && let Some(node) = o.get("max_object")
        {
            node.error("an object may take a quarter of the cache's memory at most");
        }
    } else {
        defaults.rules.max_object = defaults.rules.max_object.min(most);
    }
    o.finish();
    defaults
}

/// Reads a route's own section: `true`, `false`, or what differs from the top of the file.
pub(crate) fn read_route(
    node: &Node<'_>,
    defaults: &Defaults,
    forwards: bool,
) -> Option<Arc<Rules>> {
    if node.is_off() {
        return None;
    }
    if !forwards {
        node.error("only a route with an \"upstream\" has responses to cache");
        return None;
    }
    if node.is_true() {
        return Some(Arc::new(defaults.rules.clone()));
    }
    if !node.is_object() {
        node.error("expected true, false, or an object such as {\"default_ttl\": \"5m\"}");
        return None;
    }
    let o = node.object()?;
    let mut own = defaults.rules.clone();
    rules(&o, &mut own);
    lint::shadowed(&o, &own);
    if own.max_object > defaults.model.memory / 4
        && let Some(node) = o.get("max_object")
    {
        node.error("an object may take a quarter of the cache's memory at most");
    }
    o.finish();
    Some(Arc::new(own))
}

/// Reads what the flat form says of caching. `Some` when responses are cached; the word is true when in Redis as well.
pub(crate) fn read_flat(file: &Object<'_>, defaults: &Defaults) -> (Option<Arc<Rules>>, bool) {
    let words = [
        ("none", (false, false)),
        ("baseline", (true, false)),
        ("in-memory", (true, false)),
        ("redis", (true, true)),
    ];
    let said = file.get("caching").and_then(|n| n.word(&words));
    let (cached, redis) = said.unwrap_or_default();
    let mut rules = defaults.rules.clone();
    for item in file
        .get("cache-ignore")
        .and_then(|n| n.items())
        .unwrap_or_default()
    {
        let Some(text) = item.string() else {
            continue;
        };
        if text.starts_with('/') {
            rules.bypass_paths.push(path(&item, text));
        } else if let Some(method) = known_method(&text) {
            rules.bypass_methods.push(method);
        } else {
            let what = format!(
                "\"{text}\" is neither a method such as \"POST\" nor a path that begins with /"
            );
            item.error_hint(what, nearest_method(&text));
        }
    }
    (cached.then(|| Arc::new(rules)), redis)
}

const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// A method by its name, in whatever case.
fn known_method(text: &str) -> Option<Method> {
    METHODS
        .into_iter()
        .find(|m| m.as_str().eq_ignore_ascii_case(text))
}

fn nearest_method(text: &str) -> Option<&'static str> {
    nearest(text, METHODS.iter().map(Method::as_str))
}

/// The beginning of a path, which is compared with paths in normal form.
fn path(item: &Node<'_>, text: String) -> String {
    if let Err(what) = address::check_path(&text) {
        item.error(what);
    }
    text
}

fn rules(o: &Object<'_>, r: &mut Rules) {
    let ttl = |key: &'static str| o.get(key).and_then(|n| seconds(&n));
    if let Some(found) = ttl("default_ttl") {
        r.default_ttl = Some(found);
    }
    if let Some(found) = ttl("ttl") {
        r.ttl = Some(found);
    }
    if let Some(found) = o.get("heuristic").and_then(|n| n.boolean()) {
        r.heuristic = found;
    }
    if let Some(found) = ttl("stale_while_revalidate") {
        r.stale_while_revalidate = found;
    }
    if let Some(found) = ttl("stale_if_error") {
        r.stale_if_error = found;
    }
    if let Some(found) = o.get("max_object").and_then(|n| n.size(0..=1 << 32)) {
        r.max_object = found;
    }
    if let Some(found) = o.get("query").and_then(|n| query(&n)) {
        r.query = found;
    }
    if let Some(node) = o.get("key_headers") {
        r.key_headers = names(&node);
    }
    if let Some(node) = o.get("bypass") {
        bypass(&node, r);
    }
    if let Some(found) = o.get("early_refresh").and_then(|n| n.float(0.0..=10.0)) {
        r.early_refresh = found;
    }
    if let Some(found) = ttl("uncacheable_for") {
        r.uncacheable_for = found;
    }
    if let Some(found) = o.get("status").and_then(|n| n.boolean()) {
        r.cache_status = found;
    }
}

/// A lifetime: caches count whole seconds.
fn seconds(node: &Node<'_>) -> Option<Duration> {
    let found = node.duration_or_zero()?;
    if found.subsec_nanos() > 0 {
        node.error("lifetimes in a cache are whole seconds");
        return None;
    }
    Some(found)
}

fn query(node: &Node<'_>) -> Option<QueryKey> {
    if !node.is_object() {
        return node.word(&[("all", 0), ("none", 1)]).map(|w| {
            if w == 0 {
                QueryKey::All
            } else {
                QueryKey::None
            }
        });
    }
    let o = node.object()?;
    let without = o.require("without", "\"query\": {\"without\": [\"utm_source\"]}");
    let items = without.and_then(|n| n.items());
    o.finish();
    Some(QueryKey::Without(
        items?.iter().filter_map(Node::string).collect(),
    ))
}

fn names(node: &Node<'_>) -> Vec<HeaderName> {
    let read = |item: &Node<'_>| match header_name(&item.string()?) {
        Ok(name) => Some(name),
        Err(what) => {
            item.error(what);
            None
        }
    };
    node.items()
        .unwrap_or_default()
        .iter()
        .filter_map(read)
        .collect()
}

fn bypass(node: &Node<'_>, r: &mut Rules) {
    let Some(o) = node.object() else {
        return;
    };
    let texts = |key: &'static str| {
        let items = o.get(key).and_then(|n| n.items());
        items.unwrap_or_default()
    };
    r.bypass_methods.clear();
    for item in texts("methods") {
        let Some(text) = item.string() else { continue };
        match known_method(&text) {
            Some(method) => r.bypass_methods.push(method),
            None => item.error_hint(format!("\"{text}\" is not a method"), nearest_method(&text)),
        }
    }
    r.bypass_paths.clear();
    for item in texts("paths") {
        let Some(text) = item.string() else { continue };
        if !text.starts_with('/') {
            item.error_hint(
                format!("the path \"{text}\" does not begin with /"),
                Some(&format!("/{text}")),
            );
            continue;
        }
        r.bypass_paths.push(path(&item, text));
    }
    if let Some(node) = o.get("headers") {
        r.bypass_headers = names(&node);
    }
    r.bypass_cookies = texts("cookies").iter().filter_map(Node::string).collect();
    o.finish();
}

/// Keeps the entries of routes apart where one URL may lead to several of them: by a field, by the method, or by the listener. A
/// response of one is then never an answer of the other.
pub(crate) fn partition(routes: &mut [PlannedRoute], listeners: usize) {
    for planned in routes {
        let route = &mut planned.route;
        let m = &route.matches;
        let divided =
            !m.headers.is_empty() || !m.methods.is_empty() || planned.listeners.len() < listeners;
        if let Some(rules) = &mut route.cache
            && divided
            && matches!(route.action, Action::Forward { .. })
        {
            Arc::make_mut(rules).partition.clone_from(&route.name);
        }
    }
}
