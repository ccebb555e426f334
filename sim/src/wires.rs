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
    /// Bodies, by request and direction.
    pub flows: BTreeMap<(u64, Way), Flow>,
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
    /// What its sender let go.
    pub sent: u64,
    /// What its reader took.
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

    /// A sender of HTTP/2 lets `len` bytes of a body go. Nothing is made of it unless the reader counts as well.
    pub fn sent(&mut self, id: u64, way: Way, len: usize) {
        let flow = self.flows.entry((id, way)).or_default();
        flow.sent += len as u64;
        flow.most = flow.most.max(flow.sent.saturating_sub(flow.read));
    }

    /// A reader of HTTP/2 has taken `len` bytes of it.
    pub fn read(&mut self, id: u64, way: Way, len: usize) {
        self.flows.entry((id, way)).or_default().read += len as u64;
    }
}
