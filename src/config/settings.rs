//! The settings that a file may give once for all listeners and upstreams and again for one of them: timeouts, limits, retries,
//! the queue, back-offs. Their defaults are here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::address;
use super::model::{BackendTimeouts, Cidr, ClientTimeouts, Http2, Limits, NEVER};
use super::reader::{Node, Object};
use crate::engine::retry::RetrySpec;
use crate::engine::{BackOffSpec, Phase, QueueSpec};
use crate::h1::HeadLimits;

/// Keys that a later version will know; to ignore them would be a lie.
pub(crate) const NOT_BUILT: [&str; 1] = ["health"];

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
    pub(crate) phase: Phase,
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) http2: Option<Http2>,
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
            client: ClientTimeouts {
                header: secs(10),
                idle: secs(75),
                body: secs(60),
                rate_window: secs(20),
                connection_age: NEVER,
                tunnel: secs(600),
                session: secs(30),
            },
            backend: BackendTimeouts {
                connect: secs(2),
                first_byte: secs(60),
                body_gap: secs(60),
                request: None,
                idle: secs(4),
            },
            limits: Limits {
                head_bytes: 32 << 10,
                head_fields: 100,
                uri_bytes: 16 << 10,
                body_bytes: None,
                min_rate: 50,
                connections: 10_000,
                connections_per_address: None,
                requests_per_connection: None,
                sessions: 10_000,
            },
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
            phase: Phase::Random,
            trusted_proxies: Vec::new(),
            http2: Some(Http2::default()),
        }
    }

    /// The built-in defaults, changed by what stands at the top of the file.
    pub(crate) fn read(file: &Object<'_>, flat: bool) -> Self {
        let mut d = Self::built_in(flat);
        if let Some(timeouts) = file.get("timeouts").and_then(|n| n.object()) {
            client_timeouts(&timeouts, &mut d.client);
            backend_timeouts(&timeouts, "backend_idle", &mut d.backend);
            timeouts.finish();
        }
        if let Some(limits) = file.get("limits").and_then(|n| n.object()) {
            read_limits(&limits, &mut d.limits);
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
            client_timeouts(&timeouts, &mut d.client);
            timeouts.finish();
        }
        if let Some(limits) = listener.get("limits").and_then(|n| n.object()) {
            read_limits(&limits, &mut d.limits);
            limits.finish();
        }
        listener_settings(listener, &mut d);
        d
    }

    /// These, changed by what stands in an upstream.
    pub(crate) fn for_upstream(&self, upstream: &Object<'_>) -> Self {
        let mut d = self.clone();
        if let Some(timeouts) = upstream.get("timeouts").and_then(|n| n.object()) {
            backend_timeouts(&timeouts, "idle", &mut d.backend);
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

/// Puts what was read, if it could be read, in the place of the default.
fn put<T>(slot: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *slot = value;
    }
}

fn client_timeouts(o: &Object<'_>, t: &mut ClientTimeouts) {
    put(&mut t.header, o.get("header").and_then(|n| n.duration()));
    put(
        &mut t.idle,
        o.get("idle").and_then(|n| n.duration_or_never()),
    );
    put(
        &mut t.body,
        o.get("body").and_then(|n| n.duration_or_never()),
    );
    let window = o.get("rate_window");
    put(&mut t.rate_window, window.and_then(|n| n.duration()));
    let age = o.get("connection_age");
    put(
        &mut t.connection_age,
        age.and_then(|n| n.duration_or_never()),
    );
    put(
        &mut t.tunnel,
        o.get("tunnel").and_then(|n| n.duration_or_never()),
    );
    put(&mut t.session, o.get("session").and_then(|n| n.duration()));
}

fn backend_timeouts(o: &Object<'_>, idle: &'static str, t: &mut BackendTimeouts) {
    put(&mut t.connect, o.get("connect").and_then(|n| n.duration()));
    put(
        &mut t.first_byte,
        o.get("first_byte").and_then(|n| n.duration_or_never()),
    );
    put(
        &mut t.body_gap,
        o.get("body_gap").and_then(|n| n.duration_or_never()),
    );
    let request = o.get("request").and_then(|n| n.duration_or_never());
    put(&mut t.request, request.map(|d| (d < NEVER).then_some(d)));
    put(&mut t.idle, o.get(idle).and_then(|n| n.duration_or_zero()));
}

fn listener_settings(o: &Object<'_>, d: &mut Defaults) {
    if let Some(items) = o.get("trusted_proxies").and_then(|n| n.items()) {
        d.trusted_proxies = items.iter().filter_map(network).collect();
    }
    if let Some(node) = o.get("http2") {
        d.http2 = http2(&node, d.http2);
    }
}

/// On, off, or what differs from `before`.
fn http2(node: &Node<'_>, before: Option<Http2>) -> Option<Http2> {
    if node.is_off() {
        return None;
    }
    let mut h = before.unwrap_or_default();
    if node.is_true() {
        return Some(h);
    }
    if !node.is_object() {
        node.error("expected true, false, or an object such as {\"cleartext\": false}");
        return Some(h);
    }
    let o = node.object()?;
    // RFC 9113 section 6.9.1 has windows end here.
    let window = |n: Node<'_>| n.size(16 << 10..=(1 << 31) - 1);
    let window = |n| window(n).and_then(|b| u32::try_from(b).ok());
    put(
        &mut h.cleartext,
        o.get("cleartext").and_then(|n| n.boolean()),
    );
    let streams = o.get("streams").and_then(|n| n.integer(1..=100_000));
    put(&mut h.streams, streams.and_then(|n| u32::try_from(n).ok()));
    put(
        &mut h.stream_window,
        o.get("stream_window").and_then(window),
    );
    put(
        &mut h.connection_window,
        o.get("connection_window").and_then(window),
    );
    o.finish();
    Some(h)
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

fn size(node: Node<'_>, low: u64, high: u64) -> Option<usize> {
    node.size(low..=high).and_then(|b| usize::try_from(b).ok())
}

fn count(node: Node<'_>, high: u64) -> Option<usize> {
    node.integer(1..=high).and_then(|n| usize::try_from(n).ok())
}

/// The bounds on a response's head, under these two keys.
fn response_limits(o: &Object<'_>, keys: [&'static str; 2], l: &mut HeadLimits) {
    let [head, fields] = keys;
    let head = o.get(head).and_then(|n| size(n, 8 << 10, 16 << 20));
    put(&mut l.bytes, head);
    let fields = o.get(fields).and_then(|n| count(n, 10_000));
    put(&mut l.fields, fields);
}

fn read_limits(o: &Object<'_>, l: &mut Limits) {
    // The HTTP library's read buffer cannot be smaller than 8 KiB, nor a target longer than 65,534 bytes.
    put(
        &mut l.head_bytes,
        o.get("head").and_then(|n| size(n, 8 << 10, 16 << 20)),
    );
    put(
        &mut l.head_fields,
        o.get("fields").and_then(|n| count(n, 10_000)),
    );
    put(
        &mut l.uri_bytes,
        o.get("uri").and_then(|n| size(n, 1, 65_534)),
    );
    put(
        &mut l.connections,
        o.get("connections").and_then(|n| count(n, 1_000_000)),
    );
    let each = o.get("connections_per_address");
    put(
        &mut l.connections_per_address,
        each.and_then(|n| n.count_or_off()),
    );
    let requests = o.get("requests_per_connection");
    put(
        &mut l.requests_per_connection,
        requests.and_then(|n| n.count_or_off()),
    );
    put(
        &mut l.sessions,
        o.get("sessions").and_then(|n| count(n, 1_000_000)),
    );
    let body = |n: Node<'_>| {
        if n.is_off() {
            Some(None)
        } else {
            n.size(0..=u64::MAX).map(Some)
        }
    };
    put(&mut l.body_bytes, o.get("body").and_then(body));
    let rate = o.get("min_rate").and_then(body);
    put(&mut l.min_rate, rate.map(Option::unwrap_or_default));
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
        let attempts = retry.get("attempts").and_then(|n| n.integer(0..=10));
        put(
            &mut d.retry.attempts,
            attempts.and_then(|n| u8::try_from(n).ok()),
        );
        put(
            &mut d.retry.budget_ratio,
            retry.get("budget_ratio").and_then(|n| n.float(0.0..=1.0)),
        );
        let per_second = retry
            .get("budget_per_second")
            .and_then(|n| n.float(0.0..=1e6));
        put(&mut d.retry.budget_per_second, per_second);
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
