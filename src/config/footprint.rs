//! What a config can use at most: memory and descriptors, by what uses them. An estimate from above, from the bounds that the
//! config itself sets; where it sets none, the cause is named.

use super::model::{Action, Config, Listener, Protocol, Route, Upstream};
use super::units::format_size;
use crate::engine::descriptors::Demand;

/// What a config can use at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes over all bounded items.
    pub memory: u64,
    /// Descriptors over all bounded items.
    pub descriptors: u64,
    /// What they are made of.
    pub items: Vec<Item>,
    /// What has no bound, each with its cause; empty when everything is bounded.
    pub unlimited: Vec<String>,
}

/// One use of memory and descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is: `listener web: 10000 connections`.
    pub what: String,
    /// Bytes at most.
    pub memory: u64,
    /// Descriptors at most.
    pub descriptors: u64,
}

/// The program, its runtimes' stacks and tables, before any connection.
const BASE_MEMORY: u64 = 16 << 20;
const WORKER_MEMORY: u64 = 4 << 20;
/// Standard streams, the admin thread, the access log; and for each runtime its selector, waker and signal pipe.
const BASE_DESCRIPTORS: u64 = 16;
const WORKER_DESCRIPTORS: u64 = 4;
/// A busy client connection besides its head: buffers of the HTTP library and one piece of a body each way.
const CLIENT_MEMORY: u64 = 16 << 10;
/// A TCP connection with both its sides: what one of them has not taken yet, each way.
const TUNNEL_MEMORY: u64 = 36 << 10;
/// A UDP session: its task, its entry, datagrams that wait for its backend.
const SESSION_MEMORY: u64 = 4 << 10;
/// A backend connection: read buffer, head, one piece of a body.
const BACKEND_MEMORY: u64 = 48 << 10;
/// An upgraded connection's part beside the client's: what one side has sent and the other has not taken.
const UPGRADED_MEMORY: u64 = 32 << 10;
/// A waiting request's entry in the queue; the request itself stays with its connection.
const WAITER_MEMORY: u64 = 512;

/// Bytes of datagrams that wait for a backend, for each listener on each core.
pub const WAITING_DATAGRAMS: u64 = 4 << 20;

/// The share of the cache's memory that bodies on their way in may take besides.
pub const FILLING_SHARE: u64 = 4;

/// Descriptors that are kept back beside [`BASE_DESCRIPTORS`]: visitors of the admin port, names that are resolved, files that
/// are read anew, connections that are being accepted.
const SPARE_DESCRIPTORS: u64 = 32;

/// What `config` needs descriptors for with so many workers.
pub fn demand(config: &Config, workers: usize) -> Demand {
    let workers = workers.max(1) as u64;
    let (udp, streams): (Vec<_>, Vec<_>) = config
        .listeners
        .iter()
        .partition(|l| l.protocol == Protocol::Udp);
    let sockets = workers * config.listeners.len() as u64;
    let fixed = BASE_DESCRIPTORS + SPARE_DESCRIPTORS + workers * WORKER_DESCRIPTORS + sockets;
    let sessions: usize = udp.iter().map(|l| l.limits.sessions).sum();
    let bounded = config.upstreams.iter().map(|u| {
        let each = u.spec.backends.iter().map(|b| b.max_in_flight);
        let all = each.sum::<Option<u32>>()?;
        // Those of tunnels are not counted there.
        let tunnels = match u.protocol() {
            Protocol::Http => u.max_tunnels?,
            _ => 0,
        };
        Some(all as usize + tunnels as usize)
    });
    Demand {
        fixed: usize::try_from(fixed).unwrap_or(usize::MAX),
        clients: streams.iter().map(|l| l.limits.connections).sum(),
        backends: bounded.sum::<Option<usize>>().map(|n| n + sessions),
    }
}

/// The most that `config` can use on a machine of `cores` cores.
pub fn footprint(config: &Config, cores: usize) -> Footprint {
    let workers = config.workers.unwrap_or(cores).max(1) as u64;
    let mut items = vec![Item {
        what: format!("the process with {workers} workers"),
        memory: BASE_MEMORY + workers * WORKER_MEMORY,
        descriptors: BASE_DESCRIPTORS + workers * WORKER_DESCRIPTORS,
    }];
    items.extend(config.listeners.iter().map(|l| listener(l, workers)));
    let clients = config
        .listeners
        .iter()
        .map(|l| match l.protocol {
            Protocol::Udp => l.limits.sessions as u64,
            _ => l.limits.connections as u64,
        })
        .sum();
    if config.is_cached() {
        items.push(cache(config.cache.memory));
    }
    let mut unlimited = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        backends(upstream, &mut items, &mut unlimited);
        tunnels(config, index, &mut items, &mut unlimited);
        queue(upstream, clients, &mut items);
    }
    Footprint {
        memory: items.iter().map(|i| i.memory).sum(),
        descriptors: items.iter().map(|i| i.descriptors).sum(),
        items,
        unlimited,
    }
}

fn listener(l: &Listener, workers: u64) -> Item {
    if l.protocol == Protocol::Udp {
        let sessions = l.limits.sessions as u64;
        return Item {
            what: format!("listener {}: {sessions} sessions", l.name),
            memory: sessions * SESSION_MEMORY + workers * (WAITING_DATAGRAMS + (64 << 10)),
            // Each session has a socket to its backend.
            descriptors: sessions + workers,
        };
    }
    let connections = l.limits.connections as u64;
    let each = match l.protocol {
        Protocol::Http => CLIENT_MEMORY + l.limits.head_bytes as u64,
        _ => TUNNEL_MEMORY,
    };
    Item {
        what: format!("listener {}: {connections} connections", l.name),
        memory: connections * each,
        // Every worker has a socket of its own on the same address.
        descriptors: connections + workers,
    }
}

/// Bodies on their way in are held beside what is stored.
fn cache(memory: u64) -> Item {
    Item {
        what: format!(
            "the cache: {} and what is being stored",
            format_size(memory)
        ),
        memory: memory + memory / FILLING_SHARE,
        descriptors: 0,
    }
}

/// Open connections to a backend, busy and idle, never exceed its max_in_flight; without one, nothing in the config bounds them.
fn backends(upstream: &Upstream, items: &mut Vec<Item>, unlimited: &mut Vec<String>) {
    let mut connections = 0;
    for (backend, spec) in upstream.backends.iter().zip(&upstream.spec.backends) {
        match spec.max_in_flight {
            Some(max) => connections += u64::from(max),
            None => unlimited.push(format!(
                "connections to {} of upstream {}, since it has no max_in_flight",
                backend.name, upstream.name
            )),
        }
    }
    if connections > 0 {
        items.push(Item {
            what: format!(
                "upstream {}: {connections} backend connections",
                upstream.name
            ),
            memory: connections * BACKEND_MEMORY,
            descriptors: connections,
        });
    }
}

/// A tunnel's connection to its backend counts in no max_in_flight. Each has a client's connection, or a stream of one.
fn tunnels(config: &Config, index: usize, items: &mut Vec<Item>, unlimited: &mut Vec<String>) {
    let leads_here = |r: &&std::sync::Arc<Route>| matches!(r.action, Action::Forward { upstream, .. } if upstream == index);
    let opens = |l: &&Listener| {
        let mut routes = l.routes.iter().filter(leads_here);
        routes.any(|r| !r.upgrades.is_empty())
    };
    let each = |l: &Listener| l.http2.map_or(1, |h| u64::from(h.streams));
    let clients: u64 = config
        .listeners
        .iter()
        .filter(|l| l.protocol == Protocol::Http && opens(l))
        .map(|l| l.limits.connections as u64 * each(l))
        .sum();
    let upstream = &config.upstreams[index];
    match upstream.max_tunnels.map(|max| u64::from(max).min(clients)) {
        Some(0) => {}
        Some(most) => items.push(Item {
            what: format!("upstream {}: {most} upgraded connections", upstream.name),
            memory: most * UPGRADED_MEMORY,
            descriptors: most,
        }),
        None if clients == 0 => {}
        None => unlimited.push(format!(
            "upgraded connections to upstream {}, since its max_tunnels is off",
            upstream.name
        )),
    }
}

/// No more requests can wait than there are client connections, whatever the queue would hold.
fn queue(upstream: &Upstream, clients: u64, items: &mut Vec<Item>) {
    let waiting = (upstream.spec.queue.capacity as u64).min(clients);
    items.push(Item {
        what: format!("upstream {}: {waiting} waiting requests", upstream.name),
        memory: waiting * WAITER_MEMORY,
        descriptors: 0,
    });
}
