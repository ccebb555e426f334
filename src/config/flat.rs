//! The flat form: one listener, one upstream, `servers` with a capacity each.

use std::sync::Arc;

use super::address;
use super::cache;
use super::compile::{Body, default_route};
use super::model::{Listener, Redis, Upstream};
use super::reader::{Entry, Node, Object};
use super::redis::{self, SERIALIZERS};
use super::settings::Defaults;
use super::upstream::{AddFault, Group, STRATEGIES, warn_if_below_capacity};
use crate::engine::Strategy;

/// The keys that only the flat form knows.
pub(crate) const ONLY_FLAT: [&str; 9] = [
    "port",
    "level",
    "strategy",
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
    level_and_proto(file);
    let strategy = file
        .get("strategy")
        .and_then(|n| n.word(&STRATEGIES))
        .unwrap_or(Strategy::RoundRobin);
    let (rules, in_redis) = cache::read_flat(file, caching);
    serializer(file, in_redis);
    let servers = file.require("servers", "\"servers\": {\"http://localhost:8081\": 3}");
    let mut group = servers
        .as_ref()
        .map(|n| self::servers(n, strategy))
        .unwrap_or_default();
    group.tls = servers.and_then(|n| group.tls(None, &n));
    let max_workers = file.get("maxWorkers");
    let max_in_flight = max_workers
        .as_ref()
        .and_then(|n| n.count_or_off())
        .flatten();
    let upstream: Upstream = group.into_upstream(NAME, strategy, max_in_flight, defaults, &mut 0);
    if let Some(node) = max_workers {
        warn_if_below_capacity(&node, &upstream.spec);
    }
    Body {
        listeners: vec![Listener {
            name: NAME.into(),
            bind: address::all_interfaces(port.unwrap_or(0)),
            routes: Arc::default(),
            trusted_proxies: defaults.trusted_proxies.clone(),
            timeouts: defaults.client,
            limits: defaults.limits,
        }],
        upstreams: vec![upstream],
        routes: vec![default_route(vec![0], rules)],
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

fn level_and_proto(file: &Object<'_>) {
    let level = file.get("level");
    let l4 = level
        .as_ref()
        .and_then(|n| n.word(&[("L7", false), ("L4", true)]))
        .unwrap_or(false);
    if let (true, Some(node)) = (l4, &level) {
        node.error("level L4 is not built yet");
    }
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
    let wanted = file
        .get("caching")
        .is_some_and(|n| n.is_string() && n.string().as_deref() == Some("redis"));
    let mut redis = redis::read(file, wanted, env)?;
    if !wanted {
        if let Some(node) = file.get("redis") {
            node.warn("a Redis has no effect without \"caching\": \"redis\"");
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

fn servers(node: &Node<'_>, strategy: Strategy) -> Group {
    let mut group = Group::default();
    let entries = node.entries();
    if entries.as_ref().is_some_and(Vec::is_empty) {
        node.error("there is no server, for example \"http://localhost:8081\": 3");
    }
    // Under both weighted round robins the number is the share as well: the first user's file has no other place for one.
    let weighted = matches!(
        strategy,
        Strategy::WeightedRoundRobin | Strategy::SmoothWeightedRoundRobin
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
