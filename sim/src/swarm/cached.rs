//! Worlds with cached routes: a site of pages with all that can be said of caching, its visitors, one proxy or two replicas,
//! memory alone or a Redis behind it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use weirkeeper::config;
use weirkeeper::rng::Rng;

use super::{MEASURE, WARMUP, backend_name, one, unruly};
use crate::model::content::{Page, Site, Terms, Validator};
use crate::plan::Plan;
use crate::scenario::fault;
use crate::scenario::{BackendModel, ClientModel, Dist, Network, Scenario, Span};

/// The world of `seed`.
///
/// # Panics
/// If what is drawn is no good config: a defect of this file.
pub fn plan(seed: u64) -> Plan {
    let root = Rng::new(seed);
    let mut rng = root.stream("cached shape", 0);
    // In some worlds backends do nothing wrong, so that whatever fails is the cache's doing, or Redis's.
    let sound = rng.below(3) == 0;
    let redis = rng.below(2) == 0;
    let replicas = if redis { one(&mut rng, &[1, 2, 2]) } else { 1 };
    let backends = one(&mut rng, &[1, 2, 3]);
    let text = config_text(&mut rng, backends, redis, sound);
    let config = config::load_str("cached", &text, &|_| None)
        .unwrap_or_else(|errors| panic!("seed {seed} draws a bad config: {errors}\n{text}"));
    let names: Vec<String> = (0..backends).map(backend_name).collect();
    let count = if sound { 0 } else { rng.below(6) };
    let mut scenario = Scenario {
        cores: Some(one(&mut rng, &[1, 2])),
        network: Network {
            jitter: Span::millis(1 + rng.below(3)),
            chopped: one(&mut rng, &[0.0, 0.05, 0.2]),
        },
        warmup: WARMUP,
        measure: MEASURE,
        clients: vec![ClientModel {
            rate: Some(80.0 + rng.unit() * 120.0),
            patience: match sound {
                true => None,
                false => one(
                    &mut rng,
                    &[
                        None,
                        Some(Dist::Exponential(Span::millis(300))),
                        Some(Dist::Uniform(Span::millis(1), Span::millis(2000))),
                    ],
                ),
            },
            keep_alive: rng.below(4) > 0,
            ..ClientModel::default()
        }],
        faults: fault::swarm(seed, &names, count, MEASURE.0),
        ..Scenario::default()
    };
    let service = Span::millis(one(&mut rng, &[3, 20, 60, 150]));
    for name in names {
        let model = BackendModel {
            service_time: one(
                &mut rng,
                &[
                    Dist::Fixed(service),
                    Dist::Exponential(service),
                    Dist::LogNormal(service, 0.8),
                ],
            ),
            fail_rate: if sound {
                0.0
            } else {
                one(&mut rng, &[0.0, 0.05, 0.3])
            },
            fail_status: one(&mut rng, &[500, 503]),
            abort_stops_work: rng.below(2) == 0,
            close_rate: if sound {
                0.0
            } else {
                one(&mut rng, &[0.0, 0.1])
            },
            idle: Span::millis(60_000),
            ..BackendModel::default()
        };
        scenario.backends.insert(name, model);
    }
    let mut plan = Plan::new(seed, Arc::new(config), &scenario)
        .unwrap_or_else(|errors| panic!("seed {seed} draws a bad scenario: {errors:?}"));
    plan.site = Some(Arc::new(site(&mut root.stream("cached site", 0), sound)));
    plan.replicas = replicas;
    unruly::add(seed, &mut plan, sound);
    super::ejection::add(seed, &mut plan, sound);
    super::generations::add(seed, &mut plan);
    if redis && rng.below(3) > 0 {
        let faults = fault::swarm_redis(seed, 1 + rng.below(6), MEASURE.0);
        plan.faults.extend(faults);
    }
    let mut clock = root.stream("cached clock", 0);
    if clock.below(3) == 0 {
        let faults = fault::swarm_clock(seed, 1 + clock.below(4), MEASURE.0);
        plan.faults.extend(faults);
    }
    plan
}

fn config_text(rng: &mut Rng, backends: usize, redis: bool, sound: bool) -> String {
    let servers: Vec<_> = (0..backends)
        .map(|i| json!({ "url": format!("http://b{i}.test:80"), "name": backend_name(i) }))
        .collect();
    // Where nothing may fail, nothing may be short either.
    let slow = |rng: &mut Rng, short: &str| match sound {
        true => "20s".to_string(),
        false => one(rng, &[short, "5s"]).to_string(),
    };
    let pages = json!({
        "name": "all",
        "match": { "host": unruly::HOST },
        "upstream": "all",
        "cache": true,
    });
    let mut routes = vec![unruly::closed(), pages];
    routes.extend(unruly::routes());
    let mut config = json!({
        "listeners": unruly::listeners(rng),
        "cache": {
            "memory": one(rng, &["1MiB", "1MiB", "16MiB"]),
            "max_object": one(rng, &["64KiB", "256KiB"]),
            "stale_while_revalidate": one(rng, &["0s", "0s", "1s"]),
            "stale_if_error": one(rng, &["0s", "0s", "2s"]),
            "early_refresh": one(rng, &[0.0, 1.0, 5.0]),
            "uncacheable_for": one(rng, &["0s", "1s", "2s"]),
        },
        "routes": routes,
        "upstreams": { "all": {
            "timeouts": {
                "connect": slow(rng, "300ms"),
                "first_byte": slow(rng, "400ms"),
                "body_gap": slow(rng, "300ms"),
                "idle": "1s",
            },
            "retry": { "attempts": one(rng, &[0, 1, 2]) },
            "back_off": { "base": "100ms", "max": "1s" },
            "backends": servers,
        } },
    });
    let default_ttl = one(rng, &[None, None, Some("1s"), Some("3s")]);
    if let Some(ttl) = default_ttl {
        config["cache"]["default_ttl"] = json!(ttl);
    }
    if redis {
        config["redis"] = json!({
            "url": "redis://redis.test:6379",
            "timeout": one(rng, &["20ms", "50ms", "100ms"]),
            "max_value": one(rng, &["16KiB", "1MiB"]),
            "serializer": one(rng, &["binary", "json", "lz4"]),
        });
    }
    config.to_string()
}

fn site(rng: &mut Rng, sound: bool) -> Site {
    let pages = one(rng, &[4, 12, 40]);
    let kinds = one(rng, &[0.2, 0.5]);
    Site {
        pages: (0..pages).map(|_| page(rng, kinds)).collect(),
        skew: one(rng, &[0.6, 1.0, 1.4]),
        users: one(rng, &[0, 3, 20]),
        whims: one(rng, &[0.0, 0.1, 0.4]),
        posts: one(rng, &[0.0, 0.01, 0.05]),
        break_rate: if sound {
            0.0
        } else {
            one(rng, &[0.0, 0.0, 0.1])
        },
    }
}

/// A page; `odd` is the share of those that are not simply public for some seconds.
fn page(rng: &mut Rng, odd: f64) -> Page {
    let seconds =
        |rng: &mut Rng, from: u32, n: u64| from + u32::try_from(rng.below(n)).unwrap_or(0);
    let mut terms = Terms {
        max_age: Some(seconds(rng, 1, 4)),
        ..Terms::default()
    };
    let mut personal = false;
    if rng.chance(0.3) {
        terms.stale_while_revalidate = Some(seconds(rng, 0, 4));
    }
    if rng.chance(0.3) {
        terms.stale_if_error = Some(seconds(rng, 0, 5));
    }
    if rng.chance(odd) {
        match rng.below(12) {
            0 => terms.no_store = true,
            1 => terms.private = true,
            2 => terms.private_field = true,
            3 => terms.no_cache = true,
            4 => terms.must_revalidate = true,
            5 => terms.s_maxage = Some(seconds(rng, 1, 4)),
            6 => terms.public = true,
            7 => terms.set_cookie = true,
            8 => terms.max_age = None,
            9 => personal = true,
            10 => {
                terms.max_age = Some(seconds(rng, 3, 3));
                terms.age = seconds(rng, 1, 3);
            }
            _ => terms.max_age = Some(0),
        }
    }
    let large = rng.chance(0.15);
    Page {
        terms,
        personal,
        by_language: rng.chance(0.25),
        by_coding: rng.chance(0.2),
        validator: one(
            rng,
            &[
                Validator::None,
                Validator::Strong,
                Validator::Strong,
                Validator::Weak,
                Validator::Date,
            ],
        ),
        period: one(rng, &[None, Some(700), Some(1900), Some(4100)]).map(Duration::from_millis),
        size: match large {
            true => one(rng, &[40_000, 100_000, 400_000]),
            false => one(rng, &[1, 100, 1000, 6000]),
        },
        pace: Duration::from_millis(if large { 1 + rng.below(12) } else { 0 }),
        missing: rng.chance(0.05),
    }
}
