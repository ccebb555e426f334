//! What holds for the clients of a listener: times, bounds, HTTP/2, and networks that are theirs. Each section stands here with
//! its defaults, how its keys are read, and how they are written back.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::raw;
use crate::config::reader::{Node, Object};
use crate::config::section::{self, count, put, shown_count, shown_duration, shown_size, size};
use crate::config::units::{NEVER, format_size};

/// HTTP/2 towards clients (RFC 9113).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Also without TLS, for clients that know it beforehand (section 3.3).
    pub cleartext: bool,
    /// Streams at once on a connection.
    pub streams: u32,
    /// Bytes that a client may send on a stream before they are taken.
    pub stream_window: u32,
    /// The same for all streams of a connection together.
    pub connection_window: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Http2 {
            cleartext: true,
            streams: 100,
            stream_window: 512 << 10,
            connection_window: 4 << 20,
        }
    }
}

impl Http2 {
    /// On, off, or what differs from `before`.
    pub(crate) fn read(node: &Node<'_>, before: Option<Http2>) -> Option<Http2> {
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

    /// The section that says the same.
    pub(crate) fn render(http2: Option<Http2>) -> raw::Http2OrSwitch {
        let Some(h) = http2 else {
            return raw::Http2OrSwitch::Switch(false);
        };
        raw::Http2OrSwitch::Http2(raw::Http2 {
            cleartext: Some(h.cleartext),
            streams: Some(h.streams),
            stream_window: shown_size(h.stream_window as usize),
            connection_window: shown_size(h.connection_window as usize),
        })
    }
}

/// Client-side timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From a head's first byte (or the connection's start) to its end.
    pub header: Duration,
    /// Between requests on a kept-alive connection.
    pub idle: Duration,
    /// Between two pieces of a request body, or of a response that the client reads.
    pub body: Duration,
    /// The window of the minimum rate.
    pub rate_window: Duration,
    /// After so long, give or take a tenth, a connection of HTTP ends behind its next answer.
    pub connection_age: Duration,
    /// Without a byte for so long, TCP asks whether the client is still there; `None` is never.
    pub keepalive: Option<Duration>,
    /// Between two bytes, whichever way, of a connection that is passed on byte for byte.
    pub tunnel: Duration,
    /// Between two datagrams, whichever way, of a UDP session.
    pub session: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        let secs = Duration::from_secs;
        ClientTimeouts {
            header: secs(10),
            idle: secs(75),
            body: secs(60),
            rate_window: secs(20),
            connection_age: NEVER,
            keepalive: Some(secs(60)),
            tunnel: secs(600),
            session: secs(30),
        }
    }
}

impl ClientTimeouts {
    /// Takes over what stands in the section.
    pub(crate) fn read(&mut self, o: &Object<'_>) {
        put(&mut self.header, o.get("header").and_then(|n| n.duration()));
        put(
            &mut self.idle,
            o.get("idle").and_then(|n| n.duration_or_never()),
        );
        put(
            &mut self.body,
            o.get("body").and_then(|n| n.duration_or_never()),
        );
        let window = o.get("rate_window");
        put(&mut self.rate_window, window.and_then(|n| n.duration()));
        let age = o.get("connection_age");
        put(
            &mut self.connection_age,
            age.and_then(|n| n.duration_or_never()),
        );
        put(
            &mut self.keepalive,
            o.get("keepalive").and_then(section::keepalive),
        );
        put(
            &mut self.tunnel,
            o.get("tunnel").and_then(|n| n.duration_or_never()),
        );
        put(
            &mut self.session,
            o.get("session").and_then(|n| n.duration()),
        );
    }

    /// The section that says the same.
    pub(crate) fn render(&self) -> raw::ListenerTimeouts {
        raw::ListenerTimeouts {
            header: shown_duration(self.header),
            idle: shown_duration(self.idle),
            body: shown_duration(self.body),
            rate_window: shown_duration(self.rate_window),
            connection_age: shown_duration(self.connection_age),
            keepalive: shown_duration(self.keepalive.unwrap_or(NEVER)),
            tunnel: shown_duration(self.tunnel),
            session: shown_duration(self.session),
        }
    }
}

/// Bounds on what a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request head (431).
    pub head_bytes: usize,
    /// Fields of a request head (431).
    pub head_fields: usize,
    /// Bytes of a request target (414).
    pub uri_bytes: usize,
    /// Bytes of a request body (413); `None` is unlimited.
    pub body_bytes: Option<u64>,
    /// Bytes a second that a client must move; 0 asks for nothing.
    pub min_rate: u64,
    /// Client connections at once on this listener, over all cores.
    pub connections: usize,
    /// The same for each client address that is no trusted proxy; `None` is unlimited.
    pub connections_per_address: Option<u32>,
    /// Requests over a connection of HTTP; `None` is unlimited.
    pub requests_per_connection: Option<u32>,
    /// UDP sessions at once on this listener, over all cores; beyond it the idlest gives way.
    pub sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 32 << 10,
            head_fields: 100,
            uri_bytes: 16 << 10,
            body_bytes: None,
            min_rate: 50,
            connections: 10_000,
            connections_per_address: None,
            requests_per_connection: None,
            sessions: 10_000,
        }
    }
}

impl Limits {
    /// Takes over what stands in the section.
    pub(crate) fn read(&mut self, o: &Object<'_>) {
        let get = |key| o.get(key);
        // The HTTP library's read buffer cannot be smaller than 8 KiB, nor a target longer than 65,534 bytes.
        put(
            &mut self.head_bytes,
            get("head").and_then(|n| size(n, 8 << 10, 16 << 20)),
        );
        put(
            &mut self.head_fields,
            get("fields").and_then(|n| count(n, 10_000)),
        );
        put(
            &mut self.uri_bytes,
            get("uri").and_then(|n| size(n, 1, 65_534)),
        );
        put(
            &mut self.connections,
            get("connections").and_then(|n| count(n, 1_000_000)),
        );
        let each = get("connections_per_address");
        put(
            &mut self.connections_per_address,
            each.and_then(|n| n.count_or_off()),
        );
        let requests = get("requests_per_connection");
        put(
            &mut self.requests_per_connection,
            requests.and_then(|n| n.count_or_off()),
        );
        put(
            &mut self.sessions,
            get("sessions").and_then(|n| count(n, 1_000_000)),
        );
        let body = |n: Node<'_>| match n.is_off() {
            true => Some(None),
            false => n.size(0..=u64::MAX).map(Some),
        };
        put(&mut self.body_bytes, get("body").and_then(body));
        let rate = get("min_rate").and_then(body);
        put(&mut self.min_rate, rate.map(Option::unwrap_or_default));
    }

    /// The section that says the same.
    pub(crate) fn render(&self) -> raw::Limits {
        let body = self.body_bytes.map_or_else(|| "off".into(), format_size);
        raw::Limits {
            head: shown_size(self.head_bytes),
            fields: Some(self.head_fields as u64),
            uri: shown_size(self.uri_bytes),
            body: Some(body.into()),
            min_rate: Some(match self.min_rate {
                0 => "off".into(),
                bytes => format_size(bytes).into(),
            }),
            connections: Some(self.connections as u64),
            connections_per_address: shown_count(self.connections_per_address),
            requests_per_connection: shown_count(self.requests_per_connection),
            sessions: Some(self.sessions as u64),
        }
    }
}

/// A network in CIDR notation; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Any address of the network.
    pub addr: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    /// `10.0.0.0/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Cidr {
    /// Is `ip` in it? An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        fn equal(a: u128, b: u128, width: u32, prefix: u8) -> bool {
            let shift = width.saturating_sub(u32::from(prefix));
            shift >= width || (a >> shift) == (b >> shift)
        }
        match (self.addr.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => equal(
                u128::from(u32::from(a)),
                u128::from(u32::from(b)),
                32,
                self.prefix,
            ),
            (IpAddr::V6(a), IpAddr::V6(b)) => equal(u128::from(a), u128::from(b), 128, self.prefix),
            _ => false,
        }
    }
}
