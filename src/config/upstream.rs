//! `upstreams` of the full form, and what the flat form shares with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::address::{self, Schemes};
use super::backend_tls;
use super::listener::check_name;
use super::model::{Backend, BackendProtocol, Protocol, Upstream, UpstreamTls};
use super::reader::{Node, Object};
use super::settings::Defaults;
use super::strategy;
use crate::engine::{BackendId, BackendSpec, MAX_BACKENDS, Strategy, UpstreamSpec};
use crate::message::affinity::{HashBy, stable_hash};
use crate::message::proxy_protocol::Version;

/// What is spoken with backends, by its name.
pub(crate) const PROTOCOLS: [(&str, BackendProtocol); 3] = [
    ("http1", BackendProtocol::Http1),
    ("http2", BackendProtocol::Http2),
    ("auto", BackendProtocol::Auto),
];

/// The name of `protocol` in a config.
pub fn protocol_name(protocol: BackendProtocol) -> &'static str {
    let known = PROTOCOLS.iter().find(|(_, p)| *p == protocol);
    known.map_or("unknown", |(name, _)| name)
}

/// Why an upstream of UDP has no health checks.
pub(crate) const NO_UDP_CHECKS: &str =
    "backends of UDP are not checked yet: what they answer nobody knows";

/// The versions of the PROXY protocol by their names.
pub(crate) const VERSIONS: [(&str, Version); 2] = [("v1", Version::V1), ("v2", Version::V2)];

/// An upstream and the key that names it.
pub(crate) struct Named<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) upstream: Upstream,
}

impl Named<'_> {
    /// Its name, and what its backends are spoken to in.
    pub(crate) fn spoken(&self) -> (&str, Protocol) {
        (self.upstream.name.as_str(), self.upstream.protocol())
    }
}

/// Every upstream of the file that could be read. Backend ids count through all of them.
pub(crate) fn read_all<'a>(file: &Object<'a>, defaults: &Defaults) -> Vec<Named<'a>> {
    let Some(node) = file.get("upstreams") else {
        if !file.has("routes") {
            let example = "\"upstreams\": {\"web\": {\"backends\": [\"http://127.0.0.1:8081\"]}}";
            file.node
                .error(format!("\"upstreams\" is missing, for example {example}"));
        }
        return Vec::new();
    };
    let mut next_id = 0;
    let mut upstreams = Vec::new();
    for entry in node.entries().unwrap_or_default() {
        check_name(&entry);
        let Some(object) = entry.node.object() else {
            continue;
        };
        let upstream = read(entry.key, &object, defaults, &mut next_id);
        object.finish();
        upstreams.push(Named {
            node: entry.node,
            upstream,
        });
    }
    upstreams
}

fn read(name: &str, o: &Object<'_>, defaults: &Defaults, next_id: &mut u32) -> Upstream {
    o.refuse("http2", "HTTP/2 to backends is \"protocol\": \"http2\"");
    let (strategy, hash_by) = strategy::read(o);
    let version = o.get("proxy_protocol").and_then(|n| n.word(&VERSIONS));
    let max_in_flight = o
        .get("max_in_flight")
        .and_then(|n| n.count_or_off())
        .flatten();
    let max_tunnels = o.get("max_tunnels").and_then(|n| n.count_or_off());
    let d = defaults.for_upstream(o);
    let mut group = Group::default();
    let place = o.require("backends", "\"backends\": [\"http://127.0.0.1:8081\"]");
    if let Some(node) = &place {
        let items = node.items();
        if items.as_ref().is_some_and(Vec::is_empty) {
            node.error("there is no backend, for example \"http://127.0.0.1:8081\"");
        }
        for item in items.unwrap_or_default() {
            backend(&item, &mut group);
        }
    }
    group.tls = group.tls(o.get("tls").as_ref(), place.as_ref().unwrap_or(&o.node));
    if let Some(node) = o.get("protocol") {
        group.protocol(&node, version.is_some());
    }
    let mut upstream = group.into_upstream(name, strategy, max_in_flight, &d, next_id);
    upstream.hash_by = hash_by;
    upstream.proxy_protocol = version;
    let cases = [("received", false), ("title", true)];
    let title_case = o.get("field_case").and_then(|n| n.word(&cases));
    upstream.title_case = title_case.unwrap_or(false);
    let protocol = upstream.protocol();
    if let (Protocol::Tcp | Protocol::Udp, Some(node)) = (protocol, o.get("hash_by"))
        && upstream.hash_by != HashBy::Address
    {
        node.error("at L4 nothing is known of a client but its \"address\"");
    }
    if let (Protocol::Udp, Some(node)) = (protocol, o.get("proxy_protocol")) {
        node.error("the PROXY protocol is for TCP, and these backends' is \"udp\"");
    }
    health(o, protocol);
    ejection(o, protocol);
    upstream.max_tunnels = max_tunnels.unwrap_or(upstream.max_tunnels);
    if protocol != Protocol::Http {
        // Nothing is a body there.
        upstream.buffer_request = 0;
    }
    if let Some(node) = o.get("max_in_flight") {
        warn_if_below_capacity(&node, &upstream.spec);
    }
    upstream
}

/// What ejections can be at L4.
fn ejection(o: &Object<'_>, protocol: Protocol) {
    let Some(node) = o.get("ejection").filter(|node| node.is_object()) else {
        return;
    };
    let section = node.object().filter(|_| protocol != Protocol::Http);
    for key in ["latency_factor", "status"] {
        if section.as_ref().is_some_and(|o| o.has(key)) {
            node.error(format!(
                "at {} there are no answers: leave \"{key}\" out",
                protocol.name()
            ));
        }
    }
}

/// What health checks can be at L4.
fn health(o: &Object<'_>, protocol: Protocol) {
    let own = o.get("health").filter(|node| !node.is_off());
    match (protocol, own) {
        (Protocol::Udp, Some(node)) => {
            node.error(NO_UDP_CHECKS);
        }
        (Protocol::Tcp, Some(node)) => {
            let keys = ["path", "host", "status"];
            let section = node.object();
            let asked = keys
                .iter()
                .find(|key| section.as_ref().is_some_and(|o| o.has(key)));
            if let Some(key) = asked {
                node.error(format!(
                    "at tcp a connection is all that is checked: leave \"{key}\" out"
                ));
            }
        }
        _ => {}
    }
}

fn backend(node: &Node<'_>, group: &mut Group) {
    if node.is_string() {
        group.add(node, node, None, 1, None);
        return;
    }
    if !node.is_object() {
        node.error("expected a URL such as \"http://127.0.0.1:8081\", or an object with \"url\"");
        return;
    }
    let Some(o) = node.object() else {
        return;
    };
    let url = o.require("url", "\"url\": \"http://127.0.0.1:8081\"");
    let name = o.get("name");
    let weight = o.get("weight").and_then(|n| n.integer(1..=65_535));
    let weight = weight.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    let max_in_flight = o
        .get("max_in_flight")
        .and_then(|n| n.count_or_off())
        .flatten();
    if let Some(url) = url {
        group.add(
            &url,
            name.as_ref().unwrap_or(&url),
            name.as_ref(),
            weight,
            max_in_flight,
        );
    }
    o.finish();
}

/// The backends of an upstream while they are read.
#[derive(Default)]
pub(crate) struct Group {
    schemes: Schemes,
    backends: Vec<Backend>,
    specs: Vec<(u32, Option<u32>)>,
    /// Which backend has a URL, and which names are taken.
    urls: BTreeMap<String, usize>,
    names: BTreeSet<String>,
    /// There were more than there may be, which is said once.
    is_over: bool,
    protocol: Option<BackendProtocol>,
    /// How the backends are met over TLS.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
}

impl Group {
    /// No backend yet.
    pub(crate) fn new(schemes: Schemes) -> Self {
        Group {
            schemes,
            ..Group::default()
        }
    }

    /// Adds the backend whose URL is the string `url`; `blame` is where an error of its name belongs.
    fn add(
        &mut self,
        url: &Node<'_>,
        blame: &Node<'_>,
        name: Option<&Node<'_>>,
        weight: u32,
        max_in_flight: Option<u32>,
    ) {
        let Some(text) = url.string() else {
            return;
        };
        let explicit = match name {
            Some(node) => match node.string() {
                Some(name) => Some(name),
                None => return,
            },
            None => None,
        };
        if let Err(fault) = self.add_text(&text, explicit, weight, max_in_flight) {
            match fault {
                AddFault::Url((what, hint)) => url.error_hint(what, hint.as_deref()),
                AddFault::Name(what) => blame.error(what),
            }
        }
    }

    /// Adds a backend. Its name is `host:port` unless it is given, or taken by a backend with another prefix.
    pub(crate) fn add_text(
        &mut self,
        text: &str,
        name: Option<String>,
        weight: u32,
        max_in_flight: Option<u32>,
    ) -> Result<(), AddFault> {
        if self.backends.len() == MAX_BACKENDS {
            let what = format!("an upstream has at most {MAX_BACKENDS} backends");
            return match std::mem::replace(&mut self.is_over, true) {
                true => Ok(()),
                false => Err(AddFault::Url((what, None))),
            };
        }
        let mut backend = address::parse_url(text, self.schemes).map_err(AddFault::Url)?;
        let url = backend.url();
        if let Some(same) = self.urls.get(&url).map(|place| &self.backends[*place]) {
            let what = format!(
                "\"{text}\" is the same backend as \"{}\" before it",
                same.name
            );
            return Err(AddFault::Url((what, None)));
        }
        if let Some(first) = self.backends.first()
            && first.scheme.protocol() != backend.scheme.protocol()
        {
            let what = format!(
                "\"{text}\" is {}, and \"{}\" before it is {}; an upstream has one protocol",
                backend.scheme.protocol().name(),
                first.name,
                first.scheme.protocol().name()
            );
            return Err(AddFault::Url((what, None)));
        }
        let taken = |name: &str| self.names.contains(name);
        if let Some(name) = name {
            let letter = |c: char| c.is_ascii_alphanumeric() || "-_.:[]/".contains(c);
            if name.is_empty() || name.len() > 128 || !name.chars().all(letter) {
                let what = format!("the name {name:?} must be 1 to 128 letters, digits or -_.:[]/");
                return Err(AddFault::Name(what));
            }
            backend.name = name;
        } else if taken(&backend.name) {
            backend.name.push_str(&backend.path_prefix);
        }
        if taken(&backend.name) {
            return Err(AddFault::Name(format!(
                "a backend before it is named \"{}\" as well",
                backend.name
            )));
        }
        self.urls.insert(url, self.backends.len());
        self.names.insert(backend.name.clone());
        self.backends.push(backend);
        self.specs.push((weight, max_in_flight));
        Ok(())
    }

    /// How the backends so far are met over TLS, by the section at `node`; they stand at `place`.
    pub(crate) fn tls(
        &self,
        node: Option<&Node<'_>>,
        place: &Node<'_>,
    ) -> Option<Arc<UpstreamTls>> {
        backend_tls::read(node, &self.backends, place)
    }

    /// What is spoken with the backends so far.
    fn protocol(&mut self, node: &Node<'_>, is_proxied: bool) {
        self.protocol = node.word(&PROTOCOLS);
        if is_proxied && self.protocol.is_some_and(|p| p != BackendProtocol::Http1) {
            node.error("a connection that begins with a PROXY protocol header serves one request: say \"http1\"");
        }
        if let Some(backend) = self
            .backends
            .iter()
            .find(|b| b.scheme.protocol() != Protocol::Http)
        {
            node.error(format!(
                "\"protocol\" is a choice among those of HTTP, and {} is none",
                backend.url()
            ));
            return;
        }
        let in_the_clear = self.backends.iter().find(|b| !b.is_tls());
        if let (Some(BackendProtocol::Auto), Some(backend)) = (self.protocol, in_the_clear) {
            node.error(format!(
                "\"auto\" asks over TLS which protocol it is, and {} has none; say \"http1\" or \"http2\"",
                backend.url()
            ));
        }
    }

    /// The finished upstream.
    pub(crate) fn into_upstream(
        self,
        name: &str,
        strategy: Strategy,
        max_in_flight: Option<u32>,
        d: &Defaults,
        next_id: &mut u32,
    ) -> Upstream {
        let spec = |(backend, (weight, max_in_flight)): (&Backend, (u32, Option<u32>))| {
            let id = BackendId(*next_id);
            *next_id += 1;
            BackendSpec {
                key: stable_hash(backend.name.as_bytes()),
                id,
                weight,
                max_in_flight,
            }
        };
        let first = self.backends.first();
        let is_udp = first.is_some_and(|b| b.scheme.protocol() == Protocol::Udp);
        let health = d.health.clone().filter(|_| !is_udp);
        Upstream {
            name: name.to_owned(),
            spec: UpstreamSpec {
                strategy,
                max_in_flight,
                queue: d.queue,
                backends: self.backends.iter().zip(self.specs).map(spec).collect(),
                back_off: d.back_off,
                outlier: d.ejection.as_ref().map(|ejection| ejection.spec),
                phase: d.phase,
            },
            backends: self.backends,
            timeouts: d.backend,
            retry: d.retry,
            hash_by: HashBy::default(),
            proxy_protocol: None,
            protocol: self.protocol.unwrap_or(BackendProtocol::Http1),
            limits: d.response,
            via: d.via,
            title_case: false,
            buffer_request: d.buffer_request,
            max_tunnels: Some(Defaults::TUNNELS),
            tls: self.tls,
            health,
            ejection: d.ejection.clone(),
        }
    }
}

/// Why a backend cannot be added.
pub(crate) enum AddFault {
    Url(address::Fault),
    Name(String),
}

/// A bound on all requests below what the backends take together leaves some of them idle for ever.
pub(crate) fn warn_if_below_capacity(node: &Node<'_>, spec: &UpstreamSpec) {
    let sum: Option<u32> = spec.backends.iter().map(|b| b.max_in_flight).sum();
    if let (Some(max), Some(sum)) = (spec.max_in_flight, sum)
        && max < sum
    {
        node.warn(format_args!(
            "{max} requests in flight at most, though the backends take {sum} together"
        ));
    }
}
