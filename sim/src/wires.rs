//! What only wires show, beside requests and their ends: tunnels, what lies between sender and reader, heads as they arrived.
//! It belongs to the [`ledger`](crate::ledger).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::env::Link;

/// Those pages of the book.
#[derive(Debug, Default)]
pub struct Wires {
    /// By the request that asked.
    pub tunnels: BTreeMap<u64, Tunnel>,
    /// Bodies on their way.
    pub flows: BTreeMap<Body, Flow>,
    /// Heads, in the order in which backends received them.
    pub heads: Vec<Seen>,
    /// What clients have asked for that do not always send their heads to the end, by id.
    pub claims: BTreeMap<u64, Claim>,
    /// Connections of each upstream's open tunnels.
    open: BTreeMap<usize, Vec<Arc<Link>>>,
    /// The most of them at once.
    pub most: BTreeMap<usize, usize>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// A body that is counted on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Body {
    /// That of a request, by its id. Its client sends it from the beginning again after a stream that was refused, and the proxy
    /// to another backend.
    Request(u64),
    /// That of an answer, by its execution: two backends may answer one request, and its client reads one of them.
    Answer(usize),
}

/// How a sender ended its direction of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It has not.
    #[default]
    Open,
    /// In order, behind so many bytes.
    At(u64),
    /// It broke off.
    Cut,
}

/// One tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tunnel {
    /// The backend said that it is one.
    pub agreed: bool,
    /// The client was told that it is one.
    pub told: bool,
    /// How the client ended.
    pub up: Ending,
    /// How the backend ended.
    pub down: Ending,
    /// What the backend read up to an end in order.
    pub read_up: Option<u64>,
    /// What the client read up to an end in order.
    pub read_down: Option<u64>,
}

/// A request of a client that may leave before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The method.
    pub method: &'static str,
    /// The target.
    pub target: String,
    /// It is for the proxy to answer.
    pub own: bool,
    /// Its head was sent whole, and as a head.
    pub sent: bool,
}

/// A body on its way over HTTP/2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// How far its sender has let it go.
    pub sent: u64,
    /// How far anyone has read it.
    pub read: u64,
    /// The most that lay between them, where both were counted.
    pub most: u64,
}

/// A request's head, as a backend saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The request.
    pub request: u64,
    /// Over HTTP/2.
    pub http2: bool,
    /// Over TLS.
    pub tls: bool,
    /// `:scheme`; empty over HTTP/1.1.
    pub scheme: String,
    /// `:authority`, or every Host field.
    pub hosts: Vec<String>,
    /// The target.
    pub path: String,
    /// The method.
    pub method: String,
    /// Every Cookie field.
    pub cookies: Vec<String>,
    /// Fields that HTTP/2 has no place for.
    pub misplaced: Vec<String>,
    /// The request asked for a tunnel.
    pub tunnel: bool,
}

impl Wires {
    /// A tunnel to a backend of `upstream` is agreed on.
    pub fn agree(&mut self, id: u64, upstream: usize, link: &Arc<Link>) {
        self.tunnels.entry(id).or_default().agreed = true;
        let open = self.open.entry(upstream).or_default();
        open.push(Arc::clone(link));
        open.retain(|link| !link.dialler_left());
        let most = self.most.entry(upstream).or_default();
        *most = (*most).max(open.len());
    }

    /// The tunnel that a request asked for.
    pub fn tunnel(&mut self, id: u64) -> &mut Tunnel {
        self.tunnels.entry(id).or_default()
    }

    /// What is wrong with it that a backend receives a head with this id.
    pub fn dispute(&self, id: u64, method: &str, target: &str) -> Option<&'static str> {
        let claim = self.claims.get(&id)?;
        let wrongs = [
            (
                claim.target != target,
                "its client asked for something else",
            ),
            (claim.method != method, "its client used another method"),
            (claim.own, "it is for the proxy to answer"),
            (!claim.sent, "its client has not sent its head to the end"),
        ];
        wrongs.into_iter().find(|w| w.0).map(|w| w.1)
    }

    /// A sender of HTTP/2 lets a body go up to its byte `end`. Nothing is made of it unless the reader counts as well.
    pub fn sent(&mut self, body: Body, end: usize) {
        let flow = self.flows.entry(body).or_default();
        flow.sent = end as u64;
        flow.most = flow.most.max(flow.sent.saturating_sub(flow.read));
    }

    /// A reader of HTTP/2 has taken it up to its byte `end`.
    pub fn read(&mut self, body: Body, end: usize) {
        let flow = self.flows.entry(body).or_default();
        flow.read = flow.read.max(end as u64);
    }
}
