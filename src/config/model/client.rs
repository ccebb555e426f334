//! What holds for the clients of a listener: times, bounds, HTTP/2, and networks that are theirs.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

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
            stream_window: 64 << 10,
            connection_window: 1 << 20,
        }
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
    /// Between two bytes, whichever way, of a connection that is passed on byte for byte.
    pub tunnel: Duration,
    /// Between two datagrams, whichever way, of a UDP session.
    pub session: Duration,
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
