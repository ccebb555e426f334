//! Determinism itself: one seed gives one hash, in this process and in a new one; another seed gives another.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::config;
use weirkeeper::env::{Clock, Env, Net};
use weirkeeper_sim::env::{Fabric, SimEnv};
use weirkeeper_sim::seeds::{Options, Source, rehearse};
use weirkeeper_sim::trace::TraceHash;

use crate::small;

/// Two backends, a proxy with two core loops, and clients that ask at random times; the hash of what they saw and when.
fn small_world(seed: u64) -> String {
    let jitter = Duration::from_millis(3);
    let mut sim = weirkeeper_sim::turmoil_builder(seed, jitter, Duration::from_secs(10)).build();
    let (backends, front) = (sim.lookup("backends"), sim.lookup("proxy"));
    let names: Vec<(String, u16)> = vec![("a.test".into(), 80), ("b.test".into(), 80)];
    let table = [
        (names[0].clone(), vec![(backends, 1001).into()]),
        (names[1].clone(), vec![(backends, 1002).into()]),
    ];
    let fabric = Fabric::new(seed, 0.5, table.into());
    let any = |port: u16| ([0, 0, 0, 0], port).into();

    let env = SimEnv::new(&fabric, "backends");
    sim.host("backends", move || {
        let env = env.clone();
        async move {
            for port in [1001, 1002] {
                let listener = env.net().listen(any(port))?;
                let inner = env.clone();
                env.spawn("backend", async move {
                    small::shouter(inner, listener).await.expect("accepting");
                });
            }
            std::future::pending().await
        }
    });
    let env = SimEnv::new(&fabric, "proxy");
    sim.host("proxy", move || {
        let (env, names) = (env.clone(), Arc::new(names.clone()));
        async move {
            let turn = Arc::default();
            for core in 0..2 {
                let env = env.for_core(core);
                let listener = env.net().listen(any(8080))?;
                let serving =
                    small::proxy(env.clone(), listener, Arc::clone(&names), Arc::clone(&turn));
                env.spawn("core", async move {
                    serving.await.expect("accepting");
                });
            }
            std::future::pending().await
        }
    });
    let trace = Arc::new(Mutex::new(TraceHash::default()));
    for client in 0..3 {
        let env = SimEnv::new(&fabric, "clients");
        let trace = Arc::clone(&trace);
        sim.client(format!("client-{client}"), async move {
            let mut rng = env.rng("client", client);
            for number in 0..20 {
                let pause = Duration::from_millis(rng.below(20));
                env.clock().sleep_until(env.clock().now() + pause).await;
                let text = "weir ".repeat(1 + usize::try_from(rng.below(200))?);
                let answer = small::ask(&env, (front, 8080).into(), &text).await?;
                assert_eq!(answer, text.to_uppercase());
                let numbers = [client, number, answer.len() as u64];
                let mut trace = trace.lock().expect("one thread");
                trace.event(env.clock().now(), "answer", &numbers);
            }
            Ok(())
        });
    }
    sim.run().expect("every client ends in time");
    assert_eq!(fabric.take_panics(), Vec::<String>::new());
    let trace = trace.lock().expect("one thread");
    assert_eq!(trace.events(), 60);
    trace.hex()
}

/// Not a test of its own: the new process that the next test starts.
#[test]
#[ignore = "run by another test, in a new process"]
fn print_the_small_hash() {
    println!("hash={}", small_world(7));
}

#[test]
fn one_seed_gives_one_hash_of_the_small_proxy() {
    let hash = small_world(7);
    assert_eq!(small_world(7), hash);
    assert_eq!(in_a_new_process("meta::print_the_small_hash"), hash);
    assert_ne!(small_world(8), hash);
}

/// The hash of the real proxy under a drawn world with faults, and under the config of the first example.
fn real_world(seed: u64) -> String {
    let options = |source| Options {
        source,
        seed,
        seeds: 1,
        only_faults: None,
        first: false,
        threads: 1,
    };
    let drawn = rehearse(&options(Source::Swarm)).expect("the swarm plans itself");
    // Some of these have a Redis and two replicas.
    let several = Options {
        seeds: 6,
        ..options(Source::Cached)
    };
    let cached = rehearse(&several).expect("the swarm plans itself");
    // Some of these speak TLS on either side.
    let wires = Options {
        seeds: 6,
        ..options(Source::Http2)
    };
    let wires = rehearse(&wires).expect("the swarm plans itself");
    let example = rehearse(&options(example(SEED_CONFIG))).expect("it has no scenario");
    let l4 = Options {
        seeds: 6,
        ..options(Source::L4)
    };
    let l4 = rehearse(&l4).expect("the swarm plans itself");
    let hashes = [drawn, cached, wires, l4, example].map(|report| report.trace_hash);
    hashes.join("-")
}

const SEED_CONFIG: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/configs/seed.json"
));

fn example(text: &str) -> Source {
    let config = config::load_str("seed.json", text, &|_| None).expect("a good config");
    Source::Scenario {
        config: Arc::new(config),
        config_file: "seed.json".into(),
        scenario: Box::default(),
        scenario_file: None,
        chaos: true,
    }
}

/// Not a test of its own: the new process that the next test starts.
#[test]
#[ignore = "run by another test, in a new process"]
fn print_the_real_hash() {
    println!("hash={}", real_world(7));
}

#[test]
fn one_seed_gives_one_hash_of_the_real_proxy() {
    let hash = real_world(7);
    assert_eq!(real_world(7), hash);
    assert_eq!(in_a_new_process("meta::print_the_real_hash"), hash);
    assert_ne!(real_world(8), hash);
}

#[test]
fn another_weight_gives_another_hash() {
    let hash = |text: &str| {
        let options = Options {
            source: example(text),
            seed: 7,
            seeds: 1,
            only_faults: None,
            first: false,
            threads: 1,
        };
        rehearse(&options).expect("it has no scenario").trace_hash
    };
    let changed = SEED_CONFIG.replace("\"weight\": 2", "\"weight\": 3");
    assert_ne!(changed, SEED_CONFIG);
    assert_ne!(hash(&changed), hash(SEED_CONFIG));
    assert_eq!(hash(SEED_CONFIG), hash(SEED_CONFIG));
}

/// Runs one ignored test of this binary in a new process, and what it printed after `hash=`.
fn in_a_new_process(test: &str) -> String {
    let binary = std::env::current_exe().expect("this binary");
    let output = Command::new(binary)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .expect("this binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let hash = text.split("hash=").nth(1).and_then(|h| h.lines().next());
    hash.unwrap_or_else(|| panic!("no hash in: {text}"))
        .to_string()
}
