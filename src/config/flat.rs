//! The flat form: one listener, one upstream, `servers` with a capacity each.

use std::sync::Arc;

use super::acme;
use super::address::{self, Schemes};
use super::cache;
use super::model::{Listener, Protocol, Redis, Upstream};
use super::plan::Body;
use super::reader::{Entry, Node, Object};
use super::redis::{self, SERIALIZERS};
use super::route::default_route;
use super::settings::Defaults;
use super::strategy;
use super::tls;
use super::upstream::{AddFault, Group, NO_UDP_CHECKS, warn_if_below_capacity};
use crate::engine::Strategy;

/// The keys that only the flat form knows.
pub(crate) const ONLY_FLAT: [&str; 11] = [
    "port",
    "level",
    "strategy",
    "hash_by",
    "hash_load_factor",
    "caching",
    "proto",
    "serializer",
    "servers",
    "maxWorkers",
    "cache-ignore",
];

/// The one listener and the one upstream are both called this.
const NAME: &str = "web";

/// Reads the flat keys of the file.
pub(crate) fn read(file: &Object<'_>, defaults: &Defaults, caching: &cache::Defaults) -> Body {
    for key in ["listeners", "routes", "upstreams"] {
        file.refuse(
            key,
            &format!(
                "\"{key}\" belongs to the full form and cannot stand beside \"port\" and \"servers\"; \
                 `weir check --expand` prints this file in full form"
            ),
        );
    }
    let port = file
        .require("port", "\"port\": \"8080\"")
        .and_then(|n| port(&n));
    let protocol = level_and_proto(file);
    let (strategy, hash_by) = strategy::read(file);
    let (rules, in_redis) = cache::read_flat(file, caching);
    serializer(file, in_redis);
    let rules = rules.filter(|_| protocol == Protocol::Http);
    if let (true, Some(node)) = (protocol != Protocol::Http, file.get("caching"))
        && node.is_string()
        && node.string().as_deref() != Some("none")
    {
        node.warn("level L4 sees no responses, so it ignores \"caching\"");
    }
    let servers = file.require("servers", "\"servers\": {\"http://localhost:8081\": 3}");
    let mut group = servers
        .as_ref()
        .map(|n| self::servers(n, strategy, protocol))
        .unwrap_or_default();
    group.tls = servers.and_then(|n| group.tls(None, &n));
    let tls = file.get("tls");
    if let (Protocol::Udp, Some(node)) = (protocol, file.get("health").filter(|n| !n.is_off())) {
        node.error(NO_UDP_CHECKS);
    }
    if let (Protocol::Udp, Some(node)) = (protocol, &tls) {
        node.error("there is no TLS over udp here");
    }
    let http2 = defaults.http2.filter(|_| protocol == Protocol::Http);
    let settings = tls
        .as_ref()
        .and_then(|n| tls::read(n, protocol, http2.is_some()));
    let max_workers = file.get("maxWorkers");
    let max_in_flight = max_workers
        .as_ref()
        .and_then(|n| n.count_or_off())
        .flatten();
    let mut upstream: Upstream =
        group.into_upstream(NAME, strategy, max_in_flight, defaults, &mut 0);
    upstream.hash_by = hash_by;
    if let Some(node) = max_workers {
        warn_if_below_capacity(&node, &upstream.spec);
    }
    let (path, untrusted_fields) = match protocol {
        Protocol::Http => (defaults.path, defaults.untrusted_fields.clone()),
        Protocol::Tcp | Protocol::Udp => Default::default(),
    };
    let listeners = vec![Listener {
        name: NAME.into(),
        bind: address::all_interfaces(port.unwrap_or(0)),
        protocol,
        routes: Arc::default(),
        trusted_proxies: defaults.trusted_proxies.clone(),
        proxy_protocol: None,
        timeouts: defaults.client,
        limits: defaults.limits,
        tls: settings.map(Arc::new),
        http2,
        path,
        untrusted_fields,
    }];
    acme::lint(tls.into_iter().map(|node| (NAME, node)), &listeners);
    Body {
        listeners,
        upstreams: vec![upstream],
        routes: vec![default_route(vec![0], rules, protocol)],
    }
}

fn port(node: &Node<'_>) -> Option<u16> {
    if node.is_number() {
        return u16::try_from(node.integer(0..=65_535)?).ok();
    }
    match address::parse_port(&node.string()?) {
        Ok(port) => Some(port),
        Err((what, _)) => {
            node.error(what);
            None
        }
    }
}

fn level_and_proto(file: &Object<'_>) -> Protocol {
    let l4 = file
        .get("level")
        .and_then(|n| n.word(&[("L7", false), ("L4", true)]))
        .unwrap_or(false);
    let proto = file.get("proto");
    let udp = proto
        .as_ref()
        .and_then(|n| n.word(&[("tcp", false), ("udp", true)]))
        .unwrap_or(false);
    if let (true, false, Some(node)) = (udp, l4, &proto) {
        node.error(
            "level L7 is HTTP, which has no form over \"udp\" here; set \"tcp\", or level L4",
        );
    }
    match (l4, udp) {
        (false, _) => Protocol::Http,
        (true, false) => Protocol::Tcp,
        (true, true) => Protocol::Udp,
    }
}

/// The first user's word for the form of stored responses; it belongs to the Redis tier.
fn serializer(file: &Object<'_>, in_redis: bool) {
    let Some(node) = file.get("serializer") else {
        return;
    };
    let Some(name) = node.string() else {
        return;
    };
    if !SERIALIZERS.iter().any(|(word, _)| *word == name) {
        node.warn(format_args!(
            "the serializer \"{name}\" is not known here, so stored responses are binary"
        ));
    } else if name != "none" && !in_redis {
        node.warn(format_args!(
            "the serializer \"{name}\" has no effect without \"caching\": \"redis\""
        ));
    }
}

/// The Redis of a flat file: there is one if `caching` asks for it.
pub(crate) fn redis(file: &Object<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<Redis> {
    let says = |key, word| {
        file.get(key)
            .is_some_and(|n| n.is_string() && n.string().as_deref() == Some(word))
    };
    let l4 = says("level", "L4");
    let wanted = says("caching", "redis") && !l4;
    let mut redis = redis::read(file, wanted, env)?;
    if !wanted {
        if let Some(node) = file.get("redis") {
            node.warn(if l4 {
                "a Redis has no effect at level L4"
            } else {
                "a Redis has no effect without \"caching\": \"redis\""
            });
        }
        return None;
    }
    let said = file.get("serializer").and_then(|n| n.string());
    let known = SERIALIZERS
        .iter()
        .find(|(word, _)| Some(*word) == said.as_deref());
    if let Some((_, form)) = known {
        redis.serializer = *form;
    }
    Some(redis)
}

fn servers(node: &Node<'_>, strategy: Strategy, protocol: Protocol) -> Group {
    let mut group = Group::new(match protocol {
        Protocol::Http => Schemes::Http,
        l4 => Schemes::Dropped(l4),
    });
    let entries = node.entries();
    if entries.as_ref().is_some_and(Vec::is_empty) {
        node.error("there is no server, for example \"http://localhost:8081\": 3");
    }
    // Under the strategies that go by weight the number is the share as well: the first user's file has no other place for one.
    let weighted = matches!(
        strategy,
        Strategy::WeightedRoundRobin | Strategy::SmoothWeightedRoundRobin | Strategy::Hash { .. }
    );
    for entry in entries.unwrap_or_default() {
        server(&entry, weighted, &mut group);
    }
    group
}

fn server(entry: &Entry<'_>, weighted: bool, group: &mut Group) {
    let most = if weighted { 65_535 } else { 1_000_000 };
    let number = entry
        .node
        .integer(1..=most)
        .and_then(|n| u32::try_from(n).ok());
    let weight = if weighted { number.unwrap_or(1) } else { 1 };
    // A bad number has given its error; the URL is checked all the same.
    match group.add_text(entry.key, None, weight, number) {
        Ok(()) => {}
        Err(AddFault::Url((what, hint))) => entry.key_error(what, hint.as_deref()),
        Err(AddFault::Name(what)) => entry.key_error(what, None),
    }
}
