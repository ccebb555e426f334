//! Worlds of L4: listeners of connections and of datagrams, with everything short enough that queues fill, sessions give way
//! and expire, and connections are ended for their silence.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use weirkeeper::config;
use weirkeeper::rng::Rng;

use super::one;
use crate::model::l4::{AskerModel, CallerModel, PeerModel, Traffic};
use crate::plan::Plan;
use crate::scenario::{FaultKind, Network, Scenario, Span, fault};

const WARMUP: Span = Span::millis(300);
const MEASURE: Span = Span::millis(3000);

/// What the parts of a world must agree on.
struct Shape {
    /// The protocol of each listener, each with an upstream of its own.
    listeners: Vec<&'static str>,
    /// Backends of each upstream.
    backends: Vec<u64>,
    /// Nothing is short and nothing goes wrong.
    calm: bool,
}

/// The world of `seed`.
///
/// # Panics
/// If what is drawn is no good config: a defect of this file.
pub fn plan(seed: u64) -> Plan {
    let root = Rng::new(seed);
    let mut rng = root.stream("l4 shape", 0);
    let listeners = one(
        &mut rng,
        &[
            vec!["tcp"],
            vec!["udp"],
            vec!["tcp", "udp"],
            vec!["tcp", "tcp"],
            vec!["udp", "tcp", "udp"],
        ],
    );
    let shape = Shape {
        backends: listeners.iter().map(|_| 1 + rng.below(4)).collect(),
        listeners,
        calm: rng.below(6) == 0,
    };
    let text = config_text(&mut root.stream("l4 config", 0), &shape);
    let config = config::load_str("l4", &text, &|_| None)
        .unwrap_or_else(|errors| panic!("seed {seed} draws a bad config: {errors}\n{text}"));
    let config = Arc::new(config);
    let backends = shape.backends.iter().sum();
    let names: Vec<String> = (0..backends).map(|i| format!("b{i}")).collect();
    let faults = match shape.calm || rng.below(4) == 0 {
        true => 0,
        false => 2 + rng.below(6),
    };
    let mut faults = fault::swarm(seed, &names, faults, MEASURE.0);
    // Bytes mean nothing at L4.
    faults.retain(|f| f.kind != FaultKind::Malformed);
    let scenario = Scenario {
        cores: Some(one(&mut rng, &[1, 2, 3])),
        network: Network {
            jitter: Span::millis(1 + rng.below(3)),
            chopped: one(&mut rng, &[0.0, 0.1, 0.4]),
        },
        warmup: WARMUP,
        measure: MEASURE,
        faults,
        ..Scenario::default()
    };
    let mut plan = Plan::new(seed, Arc::clone(&config), &scenario)
        .unwrap_or_else(|errors| panic!("seed {seed} draws a bad scenario: {errors:?}"));
    // As it was drawn: these worlds speak the PROXY protocol.
    plan.config = config;
    let traffic = traffic(&mut root.stream("l4 traffic", 0), &shape);
    plan.traffic = Some(Arc::new(traffic));
    super::ejection::add(seed, &mut plan, true);
    super::generations::add(seed, &mut plan);
    plan
}

fn config_text(rng: &mut Rng, shape: &Shape) -> String {
    let (mut listeners, mut upstreams) = (Map::new(), Map::new());
    let mut routes = Vec::new();
    let mut first = 0;
    for (i, protocol) in shape.listeners.iter().enumerate() {
        let name = format!("{protocol}-{i}");
        let mut listener = json!({
            "bind": format!(":{}", 9000 + i),
            "protocol": protocol,
            "timeouts": {
                "tunnel": if shape.calm { "10m" } else { one(rng, &["10m", "10m", "500ms", "1500ms"]) },
                "session": if shape.calm { "10s" } else { one(rng, &["300ms", "1s", "3s"]) },
                "header": "2s",
            },
            "limits": {
                "sessions": if shape.calm { 1000 } else { one(rng, &[3, 7, 20, 1000]) },
                "connections": if shape.calm { 1000 } else { one(rng, &[1000, 1000, 12]) },
            },
        });
        let proxied = *protocol == "tcp" && rng.below(3) == 0;
        if proxied {
            listener["proxy_protocol"] = json!({ "trusted": ["0.0.0.0/0"] });
        }
        listeners.insert(name.clone(), listener);
        routes.push(json!({ "name": name, "listeners": [name], "upstream": name }));
        let backends = first..first + shape.backends[i];
        first = backends.end;
        upstreams.insert(name, upstream(rng, shape.calm, protocol, backends));
    }
    let config = json!({ "listeners": listeners, "routes": routes, "upstreams": upstreams });
    config.to_string()
}

fn upstream(rng: &mut Rng, calm: bool, protocol: &str, backends: std::ops::Range<u64>) -> Value {
    let bounded = !calm && rng.below(4) > 0;
    let slots: Vec<Option<u64>> = backends
        .clone()
        .map(|_| bounded.then(|| 1 + rng.below(4)))
        .collect();
    let servers = backends.zip(&slots).map(|(i, slots)| {
        json!({
            "url": format!("{protocol}://b{i}.test:80"),
            "name": format!("b{i}"),
            "weight": 1 + rng.below(5),
            "max_in_flight": slots,
        })
    });
    let servers: Vec<Value> = servers.collect();
    let total: u64 = slots.iter().flatten().sum();
    let bound = (total > 0 && rng.below(4) == 0).then(|| 1 + rng.below(total));
    let strategy = one(
        rng,
        &[
            "round-robin",
            "weighted-round-robin",
            "smooth-weighted-round-robin",
            "least-request",
            "power-of-two",
            "hash",
            "hash",
        ],
    );
    let mut upstream = json!({
        "strategy": strategy,
        "max_in_flight": bound,
        "queue": {
            "capacity": if calm { 1000 } else { one(rng, &[0, 2, 8, 64, 256]) },
            "timeout": if calm { "10s" } else { one(rng, &["30ms", "300ms", "2s", "5s"]) },
        },
        "timeouts": { "connect": one(rng, &["40ms", "300ms"]) },
        "retry": {
            "attempts": one(rng, &[0, 1, 1, 2]),
            "budget_ratio": one(rng, &[0.2, 1.0]),
            "budget_per_second": one(rng, &[3, 100]),
        },
        "back_off": { "base": one(rng, &["20ms", "200ms", "1s"]), "max": one(rng, &["1s", "2s"]) },
        "backends": servers,
    });
    if protocol == "tcp" && rng.below(3) == 0 {
        upstream["proxy_protocol"] = json!(one(rng, &["v1", "v2"]));
    }
    if strategy == "hash" {
        upstream["hash_load_factor"] = one(rng, &[json!("off"), json!(1.25), json!(2.0)]);
    }
    upstream
}

fn traffic(rng: &mut Rng, shape: &Shape) -> Traffic {
    let calm = shape.calm;
    let share = |rng: &mut Rng, shares: &[f64]| if calm { 0.0 } else { one(rng, shares) };
    let millis = |rng: &mut Rng, list: &[u64]| Duration::from_millis(one(rng, list));
    let mut traffic = Traffic {
        calm,
        ..Traffic::default()
    };
    for (listener, protocol) in shape.listeners.iter().enumerate() {
        let mut sizes = vec![16, 17, 100, 1000, 5000];
        sizes.extend([20_000, 20_000, 150_000].iter().take(one(rng, &[0, 1, 3])));
        match *protocol {
            "tcp" => traffic.callers.push(CallerModel {
                listener,
                rate: 5.0 + rng.unit() * 35.0,
                sizes,
                pause: millis(rng, &[1, 10, 60, 700]),
                leaves: (share(rng, &[0.0, 0.1, 0.4]), millis(rng, &[20, 150, 600])),
                aborts: share(rng, &[0.0, 0.1, 0.3]),
                slow: one(rng, &[0.0, 0.2]),
                mute: share(rng, &[0.0, 0.05, 0.2]),
                barred: share(rng, &[0.0, 0.1]),
            }),
            _ => traffic.askers.push(AskerModel {
                listener,
                rate: 3.0 + rng.unit() * 17.0,
                count: 1 + rng.below(16),
                pause: millis(rng, &[1, 20, 150, 600]),
                floods: one(rng, &[0.0, 0.1, 0.3]),
                late: millis(rng, &[5, 200, 1500]),
            }),
        }
        for _ in 0..shape.backends[listener] {
            traffic.backends.push(PeerModel {
                early: share(rng, &[0.0, 0.1, 0.3]),
                resets: share(rng, &[0.0, 0.1, 0.3]),
                greets: one(rng, &[0.0, 0.3]),
                sinks: one(rng, &[0.0, 0.3]),
                work: millis(rng, &[1, 5, 40, 150]),
            });
        }
    }
    traffic
}
