//! The swarm's worlds over other wires: HTTP/2 and TLS on either side of the proxy, and tunnels. Config, load and faults are
//! those of the same seed in [`swarm`](super); what is spoken is drawn beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use weirkeeper::config::model::{BackendProtocol, Config, Http2, Listener, Scheme, UpstreamTls};
use weirkeeper::rng::Rng;
use weirkeeper::tls::server::{MinVersion, Settings};

use super::one;
use crate::model::certificates;
use crate::model::speech::{Habits, Manner, Speech, Streams};
use crate::plan::Plan;
use crate::scenario::{FaultKind, RequestModel};

/// The port of the listener over TLS.
const SECURE: u16 = 8443;

/// More than a stream's window, whatever the windows are but for the widest of a client.
const LARGE: u32 = 300_000;

/// The world of `seed`.
pub fn plan(seed: u64) -> Plan {
    let mut plan = super::plan(seed);
    super::checks::clear(&mut plan);
    let root = Rng::new(seed);
    // What is unruly over HTTP/2 has words of its own: see the manners.
    plan.unruly = None;
    let mut rng = root.stream("http2 config", 0);
    let calm = plan.faults.is_empty();
    // There is more to do for each request than in the clear, so there are fewer of them.
    plan.measure /= 2;
    for fault in &mut plan.faults {
        fault.at.0 /= 2;
    }
    let config = Arc::make_mut(&mut plan.config);
    listeners(&mut rng, config);
    let manners = upstreams(&mut rng, config, calm);
    let prompt = !plan.faults.iter().any(|f| f.kind == FaultKind::Blackhole);
    for backend in &mut plan.backends {
        let upstream = backend.members[0].0;
        backend.habits = Habits::default();
        backend.manner = Some(Manner {
            prompt,
            ..manners[upstream]
        });
    }
    let mut rng = root.stream("http2 load", 0);
    plan.speech.clear();
    for (model, port) in &mut plan.clients {
        let speech = speech(&mut rng, calm);
        if speech.tls {
            *port = SECURE;
        }
        plan.speech.push(speech);
        if rng.below(2) == 0 {
            model.requests.extend(tunnels(&mut rng));
        }
        for request in &mut model.requests {
            if rng.below(4) == 0 && request.answer_bytes > 1000 {
                request.answer_bytes = LARGE;
            }
        }
        // Half of them wait for whatever comes, so that what breaks off is seen to.
        if rng.below(2) == 0 {
            model.patience = None;
        }
    }
    // Who waits for a stream has not been heard when the proxy stops.
    let roomy = |l: &Listener| l.http2.is_none_or(|http2| http2.streams >= 100);
    plan.stops_early &= plan.config.listeners.iter().all(roomy);
    // Of the config as it has become.
    super::generations::add(seed, &mut plan);
    plan
}

/// The first listener and its like over TLS.
fn listeners(rng: &mut Rng, config: &mut Config) {
    let http2 = Http2 {
        cleartext: true,
        streams: one(rng, &[2, 8, 100]),
        stream_window: one(rng, &[16 << 10, 64 << 10, 64 << 10, 256 << 10]),
        connection_window: one(rng, &[64 << 10, 1 << 20, 1 << 20]),
    };
    let mut plain = Listener {
        http2: Some(http2),
        ..config.listeners[0].clone()
    };
    // These clients count no requests.
    plain.limits.requests_per_connection = None;
    let mut bind = plain.bind;
    bind.set_port(SECURE);
    let settings = Settings {
        min_version: one(rng, &[MinVersion::Tls12, MinVersion::Tls13]),
        alpn: &["h2", "http/1.1"],
        ..Settings::new(vec![certificates::identity()], None)
    };
    let secure = Listener {
        name: "secure".into(),
        bind,
        tls: Some(Arc::new(settings)),
        ..plain.clone()
    };
    config.listeners = vec![plain, secure];
}

/// What each upstream's backends speak.
fn upstreams(rng: &mut Rng, config: &mut Config, calm: bool) -> Vec<Manner> {
    let mut manners = Vec::new();
    let seldom = |rng: &mut Rng, share: f64| match calm {
        true => 0.0,
        false => one(rng, &[0.0, 0.0, share]),
    };
    for upstream in &mut config.upstreams {
        let tls = rng.below(2) == 0;
        let http2 = rng.below(2) == 0;
        upstream.protocol = match (http2, tls, rng.below(3)) {
            (_, true, 0) => BackendProtocol::Auto,
            (true, ..) => BackendProtocol::Http2,
            (false, ..) => BackendProtocol::Http1,
        };
        upstream.max_tunnels = one(rng, &[None, Some(1), Some(2), Some(4)]);
        if tls {
            upstream.tls = Some(Arc::new(UpstreamTls {
                ca: None,
                sni: None,
                verify: true,
                identity: None,
                client: certificates::dialling(false),
            }));
            for backend in &mut upstream.backends {
                backend.scheme = Scheme::Https;
            }
        }
        manners.push(Manner {
            tls,
            http2,
            streams: one(rng, &[1, 2, 5, 100]),
            window: one(rng, &[16 << 10, 64 << 10, 256 << 10]),
            slow: one(rng, &[0.0, 0.2]),
            refuse: seldom(rng, 0.05),
            reset: seldom(rng, 0.05),
            early: one(rng, &[0.0, 0.1]),
            goaway: seldom(rng, 0.1),
            quit: seldom(rng, 0.02),
            trailers: rng.below(2) == 0,
            declines: seldom(rng, 0.1),
            prompt: true,
        });
    }
    manners
}

fn speech(rng: &mut Rng, calm: bool) -> Speech {
    let http2 = (rng.below(3) > 0).then(|| Streams {
        at_once: one(rng, &[1, 3, 8, 20]),
        eager: rng.below(3) == 0,
        window: one(rng, &[16 << 10, 64 << 10, 1 << 20]),
        slow: one(rng, &[0.0, 0.1, 0.3]),
        trailers: rng.below(2) == 0,
        abort: if calm { 0.0 } else { one(rng, &[0.0, 0.1]) },
    });
    Speech {
        // What speaks HTTP/1.1 in the clear is the swarm's own.
        tls: http2.is_none() || rng.below(2) == 0,
        http2,
        cookies: one(rng, &[0, 1, 3]),
        requests: None,
    }
}

/// Requests for tunnels, as clients of HTTP/1.1 write them.
fn tunnels(rng: &mut Rng) -> Vec<RequestModel> {
    let fields = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let headers: BTreeMap<String, String> = fields
        .iter()
        .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
        .collect();
    let sizes: [(u32, u32); 3] = [(10, 0), (20_000, 300), (0, 70_000)];
    let count = 1 + usize::try_from(rng.below(2)).unwrap_or(0);
    (0..count)
        .map(|_| {
            let (up, greeting) = one(rng, &sizes);
            RequestModel {
                weight: one(rng, &[0.3, 1.0, 2.0]),
                headers: headers.clone(),
                body_bytes: up,
                answer_bytes: greeting,
                ..RequestModel::default()
            }
        })
        .collect()
}
