//! The settings that a file may give once for all listeners and upstreams and again for one of them: timeouts, limits, retries,
//! the queue, back-offs. Their defaults are here, except for those of sections that are read into types of the model, which stand
//! there beside the keys.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::address;
use super::model::{
    self, BackendTimeouts, Cidr, ClientTimeouts, Ejection, HealthCheck, Http2, Limits,
    UntrustedFields,
};
use super::paths;
use super::reader::{Node, Object};
use super::section::{count, put, size};
use crate::engine::retry::RetrySpec;
use crate::engine::{BackOffSpec, Phase, QueueSpec};
use crate::h1::HeadLimits;
use crate::message::path::PathRules;

/// The keys of a backend's timeouts whose names depend on where they stand.
const AT_TOP: [&str; 3] = [
    "backend_idle",
    "backend_connection_age",
    "backend_keepalive",
];
const WITHIN: [&str; 3] = ["idle", "connection_age", "keepalive"];

/// What holds where a listener or an upstream says nothing.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub(crate) client: ClientTimeouts,
    pub(crate) backend: BackendTimeouts,
    pub(crate) limits: Limits,
    pub(crate) response: HeadLimits,
    pub(crate) via: bool,
    pub(crate) buffer_request: usize,
    pub(crate) retry: RetrySpec,
    pub(crate) queue: QueueSpec,
    pub(crate) back_off: BackOffSpec,
    pub(crate) health: Option<HealthCheck>,
    pub(crate) ejection: Option<Ejection>,
    pub(crate) phase: Phase,
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) http2: Option<Http2>,
    pub(crate) path: PathRules,
    pub(crate) untrusted_fields: UntrustedFields,
}

impl Defaults {
    /// What runs may take this long to finish when the process is told to stop.
    pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);
    /// Upgraded connections at once to an upstream.
    pub(crate) const TUNNELS: u32 = 10_000;
    /// Where status and metrics are served.
    pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

    /// The product's own defaults. The flat form comes from a proxy that queued more and longer.
    fn built_in(flat: bool) -> Self {
        let secs = Duration::from_secs;
        Defaults {
            client: ClientTimeouts::default(),
            backend: BackendTimeouts::default(),
            limits: Limits::default(),
            response: HeadLimits {
                bytes: 128 << 10,
                fields: 256,
            },
            via: true,
            buffer_request: 64 << 10,
            retry: RetrySpec::default(),
            queue: QueueSpec {
                capacity: if flat { 10_000 } else { 1024 },
                timeout: secs(if flat { 30 } else { 5 }),
            },
            back_off: BackOffSpec {
                base: secs(1),
                max: secs(30),
            },
            health: None,
            ejection: (!flat).then(Ejection::default),
            phase: Phase::Random,
            trusted_proxies: Vec::new(),
            http2: Some(Http2::default()),
            path: PathRules::default(),
            untrusted_fields: UntrustedFields::default(),
        }
    }

    /// The built-in defaults, changed by what stands at the top of the file.
    pub(crate) fn read(file: &Object<'_>, flat: bool) -> Self {
        let mut d = Self::built_in(flat);
        if let Some(timeouts) = file.get("timeouts").and_then(|n| n.object()) {
            d.client.read(&timeouts);
            d.backend.read(&timeouts, AT_TOP);
            timeouts.finish();
        }
        if let Some(limits) = file.get("limits").and_then(|n| n.object()) {
            d.limits.read(&limits);
            response_limits(&limits, ["backend_head", "backend_fields"], &mut d.response);
            limits.finish();
        }
        listener_settings(file, &mut d);
        upstream_settings(file, &mut d);
        d
    }

    /// These, changed by what stands in a listener.
    pub(crate) fn for_listener(&self, listener: &Object<'_>) -> Self {
        let mut d = self.clone();
        if let Some(timeouts) = listener.get("timeouts").and_then(|n| n.object()) {
            d.client.read(&timeouts);
            timeouts.finish();
        }
        if let Some(limits) = listener.get("limits").and_then(|n| n.object()) {
            d.limits.read(&limits);
            limits.finish();
        }
        listener_settings(listener, &mut d);
        d
    }

    /// These, changed by what stands in an upstream.
    pub(crate) fn for_upstream(&self, upstream: &Object<'_>) -> Self {
        let mut d = self.clone();
        if let Some(timeouts) = upstream.get("timeouts").and_then(|n| n.object()) {
            d.backend.read(&timeouts, WITHIN);
            timeouts.finish();
        }
        if let Some(limits) = upstream.get("limits").and_then(|n| n.object()) {
            response_limits(&limits, ["head", "fields"], &mut d.response);
            limits.finish();
        }
        upstream_settings(upstream, &mut d);
        d
    }
}

fn listener_settings(o: &Object<'_>, d: &mut Defaults) {
    if let Some(items) = o.get("trusted_proxies").and_then(|n| n.items()) {
        d.trusted_proxies = items.iter().filter_map(network).collect();
    }
    if let Some(node) = o.get("http2") {
        d.http2 = Http2::read(&node, d.http2);
    }
    if let Some(section) = o.get("path").and_then(|n| n.object()) {
        paths::read(&mut d.path, &section);
        section.finish();
    }
    if let Some(section) = o.get("untrusted_fields").and_then(|n| n.object()) {
        d.untrusted_fields.read(&section);
        section.finish();
    }
}

/// A network in CIDR notation.
pub(crate) fn network(node: &Node<'_>) -> Option<Cidr> {
    match address::parse_cidr(&node.string()?) {
        Ok(cidr) => Some(cidr),
        Err((what, hint)) => {
            node.error_hint(what, hint.as_deref());
            None
        }
    }
}

/// A section that may be off; what it leaves out is as it was, or as it is by default.
fn section<T: Default>(
    node: &Node<'_>,
    before: Option<T>,
    example: &str,
    read: impl Fn(&mut T, &Object<'_>),
) -> Option<T> {
    if node.is_off() {
        return None;
    }
    if !node.is_object() {
        node.error(format!("expected an object such as {example}, or \"off\""));
        return before;
    }
    let mut section = before.unwrap_or_default();
    let o = node.object()?;
    read(&mut section, &o);
    o.finish();
    Some(section)
}

/// The bounds on a response's head, under these two keys.
fn response_limits(o: &Object<'_>, keys: [&'static str; 2], l: &mut HeadLimits) {
    let [head, fields] = keys;
    let head = o.get(head).and_then(|n| size(n, 8 << 10, 16 << 20));
    put(&mut l.bytes, head);
    let fields = o.get(fields).and_then(|n| count(n, 10_000));
    put(&mut l.fields, fields);
}

fn upstream_settings(o: &Object<'_>, d: &mut Defaults) {
    if let Some(queue) = o.get("queue").and_then(|n| n.object()) {
        let capacity = queue.get("capacity").and_then(|n| n.integer(0..=1_000_000));
        put(
            &mut d.queue.capacity,
            capacity.and_then(|n| usize::try_from(n).ok()),
        );
        put(
            &mut d.queue.timeout,
            queue.get("timeout").and_then(|n| n.duration()),
        );
        queue.finish();
    }
    if let Some(retry) = o.get("retry").and_then(|n| n.object()) {
        model::retry::read(&mut d.retry, &retry, false);
        retry.finish();
    }
    if let Some(back_off) = o.get("back_off").and_then(|n| n.object()) {
        put(
            &mut d.back_off.base,
            back_off.get("base").and_then(|n| n.duration_or_zero()),
        );
        put(
            &mut d.back_off.max,
            back_off.get("max").and_then(|n| n.duration_or_zero()),
        );
        if d.back_off.base > d.back_off.max {
            back_off
                .node
                .error("the back-off's base is longer than its max");
        }
        back_off.finish();
    }
    if let Some(node) = o.get("health") {
        let example = "{\"path\": \"/healthz\"}";
        d.health = section(&node, d.health.take(), example, HealthCheck::read);
    }
    if let Some(node) = o.get("ejection") {
        let example = "{\"consecutive\": 5}";
        d.ejection = section(&node, d.ejection.take(), example, Ejection::read);
    }
    if let Some(node) = o.get("buffer_request") {
        let off = node.is_off().then_some(0);
        put(
            &mut d.buffer_request,
            off.or_else(|| size(node, 0, 16 << 20)),
        );
    }
    if let Some(node) = o.get("via") {
        match (node.is_true(), node.is_off()) {
            (false, false) => node.error("expected true or \"off\""),
            (on, _) => d.via = on,
        }
    }
    let phase = |n: Node<'_>| n.word(&[("random", Phase::Random), ("zero", Phase::Zero)]);
    put(&mut d.phase, o.get("phase").and_then(phase));
}
