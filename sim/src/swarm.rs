//! Worlds that a seed draws: config, models, load and faults. Each seed enables a random subset of what can be (swarm testing,
//! Groce et al. 2012), so that rare combinations are met and every one of them is replayed by its number.

pub mod cached;
mod checks;
mod ejection;
mod generations;
pub mod http2;
pub mod l4;
mod retries;
mod unruly;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use weirkeeper::config;
use weirkeeper::config::units::NEVER;
use weirkeeper::rng::Rng;

use crate::plan::Plan;
use crate::scenario::fault;
use crate::scenario::{BackendModel, ClientModel, Dist, Network, RequestModel, Scenario, Span};

/// Warm-up and measured time of a drawn world.
const WARMUP: Span = Span::millis(1000);
const MEASURE: Span = Span::millis(8000);

/// One of `choices`.
fn one<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[usize::try_from(rng.below(choices.len() as u64)).unwrap_or(0)].clone()
}

/// The world of `seed`.
///
/// # Panics
/// If what is drawn is no good config: a defect of this file.
pub fn plan(seed: u64) -> Plan {
    let root = Rng::new(seed);
    let shape = Shape::draw(&mut root.stream("swarm shape", 0));
    let text = config_text(&mut root.stream("swarm config", 0), &shape);
    let mut config = config::load_str("swarm", &text, &|_| None)
        .unwrap_or_else(|errors| panic!("seed {seed} draws a bad config: {errors}\n{text}"));
    let mut rng = root.stream("swarm connection age", 0);
    let ages = [
        NEVER,
        NEVER,
        Duration::from_millis(300),
        Duration::from_millis(1200),
    ];
    for upstream in &mut config.upstreams {
        upstream.timeouts.connection_age = one(&mut rng, &ages);
    }
    let names: Vec<String> = (0..shape.slots.len()).map(backend_name).collect();
    let mut rng = root.stream("swarm load", 0);
    // A few worlds without faults, where order can be judged; several faults in the others.
    let count = match rng.below(8) {
        0 => 0,
        _ => 4 + rng.below(6),
    };
    let mut scenario = Scenario {
        cores: Some(one(&mut rng, &[1, 2, 2, 3])),
        network: Network {
            jitter: Span::millis(1 + rng.below(3)),
            chopped: one(&mut rng, &[0.0, 0.05, 0.3]),
        },
        warmup: WARMUP,
        measure: MEASURE,
        clients: clients(&mut rng, &shape),
        faults: fault::swarm(seed, &names, count, MEASURE.0),
        ..Scenario::default()
    };
    let calm = count == 0;
    for (i, name) in names.into_iter().enumerate() {
        let mut rng = root.stream("swarm backend", i as u64);
        scenario
            .backends
            .insert(name, backend(&mut rng, &shape, i, calm));
    }
    let mut plan = Plan::new(seed, Arc::new(config), &scenario)
        .unwrap_or_else(|errors| panic!("seed {seed} draws a bad scenario: {errors:?}"));
    unruly::add(seed, &mut plan, false);
    let orderly = calm && plan.unruly.is_none();
    plan.stops_early = orderly && root.stream("swarm stop", 0).chance(0.7);
    checks::add(seed, &mut plan);
    ejection::add(seed, &mut plan, calm);
    retries::add(seed, &mut plan);
    generations::add(seed, &mut plan);
    plan
}

fn backend_name(i: usize) -> String {
    format!("b{i}")
}

/// What the parts of a world must agree on.
#[derive(Debug)]
struct Shape {
    /// Places of each backend; `None` is unlimited.
    slots: Vec<Option<u32>>,
    /// How the backends are divided: the first upstream has so many.
    first: usize,
    /// Requests a second.
    rate: f64,
    /// Offered work over what the backends can do.
    pressure: f64,
}

impl Shape {
    fn draw(rng: &mut Rng) -> Shape {
        let n = one(rng, &[1, 2, 2, 3, 3, 4, 5, 8]);
        let slots: Vec<Option<u32>> = (0..n)
            .map(|_| match rng.below(8) {
                0 => None,
                _ => Some(1 + u32::try_from(rng.below(5)).unwrap_or(0)),
            })
            .collect();
        Shape {
            first: if n > 1 && rng.below(5) == 0 { n / 2 } else { n },
            slots,
            rate: 60.0 + rng.unit() * 90.0,
            pressure: 0.6 + rng.unit() * 0.6,
        }
    }

    /// Places that the load is sized by.
    fn capacity(&self) -> f64 {
        self.slots.iter().map(|s| f64::from(s.unwrap_or(6))).sum()
    }

    /// The mean service time, in milliseconds, that makes the pressure.
    fn service(&self) -> f64 {
        (1000.0 * self.pressure * self.capacity() / self.rate).clamp(3.0, 400.0)
    }
}

fn config_text(rng: &mut Rng, shape: &Shape) -> String {
    let n = shape.slots.len();
    let mut upstreams = Map::new();
    let mut add = |name: &str, range: std::ops::Range<usize>| {
        let backends: Vec<Value> = range
            .clone()
            .map(|i| {
                json!({
                    "url": format!("http://b{i}.test:80"),
                    "name": backend_name(i),
                    "weight": 1 + rng.below(5),
                    "max_in_flight": shape.slots[i],
                })
            })
            .collect();
        let total: u32 = range.filter_map(|i| shape.slots[i]).sum();
        let bound = (total > 0 && rng.below(4) == 0).then(|| 1 + rng.below(u64::from(total)));
        let strategy = one(
            rng,
            &[
                "round-robin",
                "weighted-round-robin",
                "weighted-round-robin",
                "smooth-weighted-round-robin",
                "least-request",
                "power-of-two",
            ],
        );
        let upstream = json!({
            "strategy": strategy,
            "max_in_flight": bound,
            "queue": {
                "capacity": one(rng, &[0, 4, 16, 64, 256, 256]),
                "timeout": one(rng, &["30ms", "300ms", "2s", "5s"]),
            },
            "timeouts": {
                "connect": one(rng, &["40ms", "300ms"]),
                "first_byte": one(rng, &["150ms", "1s", "5s"]),
                "body_gap": one(rng, &["300ms", "2s"]),
                "request": one(rng, &["off", "off", "800ms"]),
                "idle": one(rng, &["50ms", "1s", "4s"]),
            },
            "retry": {
                "attempts": one(rng, &[0, 1, 1, 2]),
                "budget_ratio": one(rng, &[0.0, 0.2, 1.0]),
                "budget_per_second": one(rng, &[0, 3, 100]),
            },
            "back_off": { "base": one(rng, &["20ms", "200ms", "1s"]), "max": one(rng, &["1s", "4s"]) },
            "backends": backends,
        });
        upstreams.insert(name.to_string(), upstream);
    };
    add("front", 0..shape.first);
    let mut routes = vec![unruly::closed()];
    if shape.first < n {
        add("back", shape.first..n);
        routes.push(json!({ "name": "back", "match": { "path": { "prefix": "/back" } }, "upstream": "back" }));
    }
    let all = json!({ "host": unruly::HOST });
    routes.push(json!({ "name": "front", "match": all, "upstream": "front" }));
    routes.extend(unruly::routes());
    let config = json!({
        "listeners": unruly::listeners(rng),
        "routes": routes,
        "upstreams": upstreams,
    });
    config.to_string()
}

fn clients(rng: &mut Rng, shape: &Shape) -> Vec<ClientModel> {
    let split = rng.below(3) == 0;
    let names: &[&str] = if split { &["web", "api"] } else { &["web"] };
    names
        .iter()
        .map(|name| {
            let parts = names.len() as f64;
            let closed = rng.below(4) == 0;
            let users = shape.capacity() * (1.0 + rng.unit()) / parts;
            ClientModel {
                name: (*name).to_string(),
                rate: (!closed).then_some(shape.rate / parts),
                users: closed.then_some((users as u32).max(1)),
                think: Dist::Exponential(Span::millis(rng.below(30))),
                patience: one(
                    rng,
                    &[
                        None,
                        None,
                        Some(Dist::Exponential(Span::millis(400))),
                        Some(Dist::Uniform(Span::millis(1), Span::millis(3000))),
                    ],
                ),
                keep_alive: rng.below(4) > 0,
                requests: requests(rng, shape),
                listener: None,
            }
        })
        .collect()
}

fn requests(rng: &mut Rng, shape: &Shape) -> Vec<RequestModel> {
    let mut list = vec![RequestModel {
        weight: 4.0,
        ..RequestModel::default()
    }];
    for method in ["POST", "PUT", "HEAD", "DELETE", "GET"] {
        if rng.below(2) == 0 {
            continue;
        }
        let with_body = matches!(method, "POST" | "PUT");
        list.push(RequestModel {
            method: method.into(),
            path: one(rng, &["/", "/back/office", "/a%20b?c=d"]).into(),
            body_bytes: if with_body {
                one(rng, &[0, 10, 1000, 20_000, 100_000])
            } else {
                0
            },
            chunked: with_body && rng.below(3) == 0,
            answer_bytes: one(rng, &[0, 1, 128, 5000, 70_000]),
            ..RequestModel::default()
        });
    }
    if shape.first < shape.slots.len() {
        list.push(RequestModel {
            path: "/back".into(),
            weight: 3.0,
            ..RequestModel::default()
        });
    }
    list
}

fn backend(rng: &mut Rng, shape: &Shape, i: usize, calm: bool) -> BackendModel {
    let mean = Span(Duration::from_secs_f64(shape.service() / 1e3));
    let service_time = match rng.below(4) {
        0 => Dist::Fixed(mean),
        1 => Dist::LogNormal(Span(mean.0.mul_f64(0.7)), 0.8),
        _ => Dist::Exponential(mean),
    };
    let declared = shape.slots[i];
    BackendModel {
        service_time,
        concurrency: declared
            .filter(|_| rng.below(4) == 0)
            .map(|d| (d / 2).max(1)),
        fail_rate: one(rng, &[0.0, 0.0, 0.05]),
        fail_status: one(rng, &[500, 503]),
        malformed_rate: if calm {
            0.0
        } else {
            one(rng, &[0.0, 0.0, 0.0, 0.03])
        },
        abort_stops_work: rng.below(2) == 0,
        chunked_rate: one(rng, &[0.0, 0.3]),
        close_rate: if calm {
            0.0
        } else {
            one(rng, &[0.0, 0.0, 0.1, 0.5])
        },
        idle: one(rng, &[Span::millis(100), Span::millis(5000)]),
    }
}
