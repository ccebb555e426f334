//! What is spoken on the wires of a world beside plain exchanges in HTTP/1.1 in the clear, as data: by clients, and by a backend.

use std::time::Duration;

/// How a group of clients speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speech {
    /// Over TLS.
    pub tls: bool,
    /// In HTTP/2, over TLS by ALPN and without it by prior knowledge.
    pub http2: Option<Streams>,
    /// A connection of HTTP/1.1 carries so many requests, if that is bounded.
    pub requests: Option<u32>,
    /// Requests carry so many cookies, each in a field of its own where that is allowed.
    pub cookies: usize,
}

/// How a client behaves on connections of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Streams {
    /// Streams that it would have at once on one connection.
    pub at_once: usize,
    /// It does not wait for the proxy to say how many it takes.
    pub eager: bool,
    /// What a stream's sender may be ahead of it.
    pub window: u32,
    /// Share of bodies that it reads late and in pieces.
    pub slow: f64,
    /// Bodies without a length end with trailers, and it takes them as well.
    pub trailers: bool,
    /// Share of requests given up that take the whole connection with them.
    pub abort: f64,
}

/// How a backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Manner {
    /// Over TLS.
    pub tls: bool,
    /// In HTTP/2: over TLS to whoever offers it, and without TLS to everybody.
    pub http2: bool,
    /// Streams that it takes at once on a connection.
    pub streams: u32,
    /// What a stream's sender may be ahead of it.
    pub window: u32,
    /// Share of bodies that it reads late and in pieces.
    pub slow: f64,
    /// Share of streams that it refuses before it has looked at them.
    pub refuse: f64,
    /// Share of streams that it resets while it works or answers.
    pub reset: f64,
    /// Share of requests with a body that it answers before it has read that.
    pub early: f64,
    /// Share of answers after which it tells the connection to go.
    pub goaway: f64,
    /// Share of answers before which it drops the connection, saying what it has processed.
    pub quit: f64,
    /// Bodies without a length end with trailers.
    pub trailers: bool,
    /// Share of requests for a tunnel that it answers as if they had not asked.
    pub declines: f64,
    /// Nothing holds messages back in this world, so a reset arrives soon.
    pub prompt: bool,
}

impl Manner {
    /// HTTP/2 with nothing odd about it.
    pub fn http2(tls: bool) -> Self {
        Manner {
            tls,
            http2: true,
            streams: 100,
            window: 64 << 10,
            ..Manner::default()
        }
    }
}

/// Clients that do over HTTP/1.1 in the clear what well-behaved ones do not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unruly {
    /// Connections a second.
    pub rate: f64,
    /// The listeners' ports, and the largest body that each takes.
    pub doors: Vec<(u16, Option<u64>)>,
    /// Targets that lead to backends; where there are pages, those are asked for instead.
    pub paths: Vec<String>,
    /// The listener with a minimum rate.
    pub paced: Option<Paced>,
}

/// A listener that has a minimum rate, and what leads to backends there.
#[derive(Clone, Debug, PartialEq)]
pub struct Paced {
    /// Its port.
    pub port: u16,
    /// A target.
    pub path: String,
    /// Bytes a second.
    pub rate: u64,
    /// How long a client may be below it with what it sends.
    pub sending: Duration,
    /// And with what it reads.
    pub taking: Duration,
    /// What is sent so slowly is held against the rate before there is a place for it.
    pub ahead: bool,
}

/// What a backend of HTTP/1.1 in the clear does beside answering whole requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Habits {
    /// Share of requests with a body that it answers before it has read that.
    pub early: f64,
    /// Share of those behind which it closes the connection instead of reading on.
    pub leaves: f64,
    /// Share of requests before whose answer it sends interim ones.
    pub interim: f64,
}
