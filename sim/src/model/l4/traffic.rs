//! Who is in a world of L4, and how they behave, as data.

use std::time::Duration;

/// What an L4 world has besides its config.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Clients of connections.
    pub callers: Vec<CallerModel>,
    /// Clients of datagrams.
    pub askers: Vec<AskerModel>,
    /// Backends, as the plan has them.
    pub backends: Vec<PeerModel>,
    /// Nothing is short and nothing goes wrong: whatever was sent arrives.
    pub calm: bool,
}

/// Clients that open connections at random.
#[derive(Clone, Debug)]
pub struct CallerModel {
    /// The listener, by its place in the config.
    pub listener: usize,
    /// Connections a second.
    pub rate: f64,
    /// Bytes that one sends, each as likely.
    pub sizes: Vec<u64>,
    /// The longest pause between two pieces.
    pub pause: Duration,
    /// Share of those that leave before they have heard anything, and when, on average.
    pub leaves: (f64, Duration),
    /// Share of those that break off in the middle.
    pub aborts: f64,
    /// Share of those that read slowly.
    pub slow: f64,
    /// Share of those that leave without a word.
    pub mute: f64,
    /// Share of those that send no PROXY protocol header where one is due.
    pub barred: f64,
}

/// Clients that send datagrams, each for a while and from a port of its own.
#[derive(Clone, Debug)]
pub struct AskerModel {
    /// The listener, by its place in the config.
    pub listener: usize,
    /// New ones a second.
    pub rate: f64,
    /// Datagrams that one sends, at most.
    pub count: u64,
    /// The longest pause between two of them.
    pub pause: Duration,
    /// Share of those that send many and want no reply.
    pub floods: f64,
    /// The longest that a reply is asked to take.
    pub late: Duration,
}

/// How a backend behaves.
#[derive(Clone, Copy, Debug)]
pub struct PeerModel {
    /// Share of connections that it ends early, with what the client still sends unread.
    pub early: f64,
    /// Share of connections that it resets in the middle.
    pub resets: f64,
    /// Share of connections in which it speaks first.
    pub greets: f64,
    /// Share of connections of which it takes all in before it says a word.
    pub sinks: f64,
    /// What an answer takes.
    pub work: Duration,
}
