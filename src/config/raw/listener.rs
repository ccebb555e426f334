//! The mirror of a listener.

use schemars::JsonSchema;
use serde::Serialize;

use super::leaf::{Bind, DurationOrOff, DurationText, Protocol, Size, SizeOrOff};

/// What is bound, and what holds for its clients.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// The address: ":8080" is all interfaces, IPv4 and IPv6. Port 0 is any free port.
    pub bind: Bind,
    /// What is served. By default "http"; nothing else is built yet.
    pub protocol: Option<Protocol>,
    /// Peers, as addresses or networks, whose X-Forwarded fields are believed and appended to. By default none.
    pub trusted_proxies: Option<Vec<String>>,
    /// Every connection begins with a PROXY protocol header, of version 1 or 2. By default none does.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long clients may take.
    pub timeouts: Option<ListenerTimeouts>,
    /// What clients may send.
    pub limits: Option<Limits>,
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
    /// Client connections at once, over all cores. By default 10,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<u64>,
}
