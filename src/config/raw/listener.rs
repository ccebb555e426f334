//! The mirror of a listener.

use schemars::JsonSchema;
use serde::Serialize;

use super::leaf::{
    Backslashes, Bind, CountOrOff, DurationOrOff, DurationText, EncodedSlashes, Off,
    PathParameters, Protocol, Size, SizeOrOff,
};
use super::tls::ServerTls;

/// What is bound, and what holds for its clients.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// The address: ":8080" is all interfaces, IPv4 and IPv6. Port 0 is any free port.
    pub bind: Bind,
    /// What is served: "http", "tcp" (connections, byte for byte) or "udp" (datagrams, in sessions). By default "http".
    pub protocol: Option<Protocol>,
    /// Peers, as addresses or networks, whose X-Forwarded fields are believed and appended to. By default none.
    pub trusted_proxies: Option<Vec<String>>,
    /// Every connection begins with a PROXY protocol header, of version 1 or 2. By default none.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long clients may take.
    pub timeouts: Option<ListenerTimeouts>,
    /// What clients may send.
    pub limits: Option<Limits>,
    /// Serve it over TLS. By default none, which is in the clear.
    pub tls: Option<ServerTls>,
    /// HTTP/2, over TLS and in the clear. By default true.
    pub http2: Option<Http2OrSwitch>,
    /// What becomes of paths that servers read in different ways.
    pub path: Option<PathRules>,
    /// What clients may say that are not in trusted_proxies.
    pub untrusted_fields: Option<UntrustedFields>,
}

/// What becomes of paths that servers read in different ways. Rules for paths look at the path that is forwarded and at the one
/// that the most lenient server makes of it.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PathRules {
    /// Forward one slash in the place of several. By default false.
    pub merge_slashes: Option<bool>,
    /// `%2F`: "keep" it, "reject" the request with 400, or "decode" it to a slash. By default "keep".
    pub encoded_slashes: Option<EncodedSlashes>,
    /// A backslash, encoded or not: "keep" it encoded, "reject" the request with 400, or make a "slash" of it. By default "keep".
    pub backslashes: Option<Backslashes>,
    /// What a semicolon begins in a path, up to the next slash: "keep" it, "reject" the request with 400, or "strip" it off. By
    /// default "keep".
    pub parameters: Option<PathParameters>,
}

/// What clients may say that are not in trusted_proxies. Fields by which proxies speak of a client, such as X-Forwarded-Port,
/// True-Client-IP or X-Original-URL, are dropped from what they send. A name stands for all its spellings, with underscores as
/// well; with a star at its end for all names that begin so.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UntrustedFields {
    /// Names of fields to drop as well. By default none.
    pub drop: Option<Vec<String>>,
    /// Names of such fields that pass all the same. By default none.
    pub keep: Option<Vec<String>>,
}

/// HTTP/2: on, off, or what differs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Http2OrSwitch {
    /// On or off.
    Switch(bool),
    /// Off.
    Off(Off),
    /// On, with these settings.
    Http2(Http2),
}

/// HTTP/2 towards clients.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Http2 {
    /// Also without TLS, for clients that know it beforehand. By default true.
    pub cleartext: Option<bool>,
    /// Streams at once on a connection. By default 100.
    #[schemars(range(min = 1, max = 100_000))]
    pub streams: Option<u32>,
    /// Bytes that a client may send on a stream before they are taken, at least 16 KiB. An upload moves as much in each
    /// round trip. By default "512KiB".
    pub stream_window: Option<Size>,
    /// The same for all streams of a connection together. By default "4MiB".
    pub connection_window: Option<Size>,
}

/// Who may connect, with a PROXY protocol header. The address in it is the client's from there on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Addresses or networks; connections from elsewhere are closed.
    #[schemars(length(min = 1))]
    pub trusted: Vec<String>,
}

/// How long clients may take.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// From a request head's first byte, or the connection's start, to its end. By default "10s".
    pub header: Option<DurationText>,
    /// Between two requests of a connection. By default "75s".
    pub idle: Option<DurationOrOff>,
    /// Between two pieces of a request body, or of a response that the client reads. By default "60s".
    pub body: Option<DurationOrOff>,
    /// The window of the min_rate, in time that the client alone is waited for. For what a client reads it is as long as "body",
    /// if that is longer. By default "20s".
    pub rate_window: Option<DurationText>,
    /// After so long, give or take a tenth, a connection of HTTP ends in order behind its next answer. By default "off".
    pub connection_age: Option<DurationOrOff>,
    /// After so long without a byte TCP asks whether the client is still there, and gives it up after as long again without an
    /// answer; 1s to 9h. By default "60s".
    pub keepalive: Option<DurationOrOff>,
    /// Between two bytes, whichever way, of a TCP connection that is passed on byte for byte. By default "10m".
    pub tunnel: Option<DurationOrOff>,
    /// Between two datagrams, whichever way, of a UDP session. By default "30s".
    pub session: Option<DurationText>,
}

/// What clients may send.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request head, 8 KiB to 16 MiB; more is answered 431. By default "32KiB".
    pub head: Option<Size>,
    /// Fields of a request head; more are answered 431. By default 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub fields: Option<u64>,
    /// Bytes of a request target, at most 65,534; more is answered 414. By default "16KiB".
    pub uri: Option<Size>,
    /// Bytes of a request body; more is answered 413. By default "off", which is unlimited.
    pub body: Option<SizeOrOff>,
    /// Bytes a second that a client must move over any window of timeouts.rate_window, with a request body, and with a
    /// response that it reads. By default "50B".
    pub min_rate: Option<SizeOrOff>,
    /// Client connections at once, over all cores. By default 10,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<u64>,
    /// The same for each client address, an IPv6 address by its /64; more are closed at once. Those of trusted_proxies are
    /// not counted. By default "off", which is unlimited.
    pub connections_per_address: Option<CountOrOff>,
    /// Requests over a connection, which ends in order behind the last one's answer. By default "off", which is unlimited.
    pub requests_per_connection: Option<CountOrOff>,
    /// UDP sessions at once, over all cores; beyond it the idlest gives way. By default 10,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub sessions: Option<u64>,
}
