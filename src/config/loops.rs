//! Warnings of backends that are listeners of this same file, by which a request or a connection comes back to where it was.

use std::net::IpAddr;

use super::model::{Action, Backend, Listener, Protocol};
use super::plan::Body;
use super::reader::{Node, Object};

/// Warns of every backend by which an upstream leads to itself. A listener that leads elsewhere may well be a backend.
pub(crate) fn lint(file: &Object<'_>, body: &Body, flat: bool) {
    for (number, upstream) in body.upstreams.iter().enumerate() {
        for backend in &upstream.backends {
            let is_backend = |l: &&Listener| is_at(backend, l);
            let Some(listener) = body.listeners.iter().find(is_backend) else {
                continue;
            };
            if !leads_to(body, listener, number) {
                continue;
            }
            let what = match listener.protocol {
                Protocol::Http => "requests that come back by it are answered 508",
                Protocol::Tcp => "connections that come back by it are closed",
                Protocol::Udp => "datagrams that come back by it are dropped",
            };
            if let Some(node) = node_of(file, &upstream.name, flat) {
                node.warn(format_args!(
                    "the backend \"{}\" is this proxy's own listener \"{}\", which leads here again; {what}",
                    backend.name, listener.name
                ));
            }
        }
    }
}

/// Where the file has the upstream.
fn node_of<'a>(file: &Object<'a>, name: &str, flat: bool) -> Option<Node<'a>> {
    if flat {
        return file.get("servers");
    }
    let entries = file.get("upstreams")?.entries()?;
    let entry = entries.into_iter().find(|entry| entry.key == name);
    entry.map(|entry| entry.node)
}

/// Does what comes to this listener reach the upstream, perhaps by other listeners of the file?
fn leads_to(body: &Body, listener: &Listener, upstream: usize) -> bool {
    let mut met = vec![false; body.listeners.len()];
    let index = |l: &Listener| body.listeners.iter().position(|other| other.name == l.name);
    let mut ahead: Vec<usize> = index(listener).into_iter().collect();
    while let Some(at) = ahead.pop() {
        if std::mem::replace(&mut met[at], true) {
            continue;
        }
        let routes = body.routes.iter().filter(|r| r.listeners.contains(&at));
        for planned in routes {
            let Action::Forward { upstream: next, .. } = planned.route.action else {
                continue;
            };
            if next == upstream {
                return true;
            }
            let backends = body.upstreams[next].backends.iter();
            let own = |backend| body.listeners.iter().position(|l| is_at(backend, l));
            ahead.extend(backends.filter_map(own));
        }
    }
    false
}

/// Is a backend what this listener binds, as far as its address tells?
fn is_at(backend: &Backend, listener: &Listener) -> bool {
    let is_udp = |protocol| protocol == Protocol::Udp;
    let bind = listener.bind;
    if backend.port != bind.port() || is_udp(backend.scheme.protocol()) != is_udp(listener.protocol)
    {
        return false;
    }
    let any = bind.ip().is_unspecified();
    let host = backend.host.trim_end_matches('.');
    if host == "localhost" || host.ends_with(".localhost") {
        return any || bind.ip().is_loopback();
    }
    let Ok(ip) = host.parse::<IpAddr>() else {
        return false;
    };
    let ip = ip.to_canonical();
    let spoken = bind.is_ipv6() || ip.is_ipv4();
    // To connect to no address in particular is to connect to this machine.
    let here = ip.is_loopback() || ip.is_unspecified();
    spoken
        && (ip == bind.ip().to_canonical()
            || here && any
            || ip.is_unspecified() && bind.ip().is_loopback())
}
