//! Redis killed, frozen, slow, away from the start: no request fails, and what is broken is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fake::{Answer, Fake, bytes};
use super::server::Redis;
use super::{FRESH, counting, joined, status, steadily, weir, works};
use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::weir::Weir;
use crate::support::{eventually, free_port};

/// Keeps both proxies busy with what is known and what is new, while `trouble` happens.
#[track_caller]
fn under_load(weirs: [&Weir; 2], trouble: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u64)
            .map(|i| {
                let (port, stop) = (weirs[i as usize % 2].port, &stop);
                let target = move |n: u64| match n % 2 {
                    0 => format!("/known-{}", n % 20),
                    _ => format!("/new-{i}-{n}"),
                };
                scope.spawn(move || steadily(port, target, stop))
            })
            .collect();
        {
            // Also when what follows fails, or the threads would go on for ever.
            let _stop = Stop(&stop);
            trouble();
        }
        threads
            .into_iter()
            .map(|t| t.join().expect("no request fails"))
            .sum::<u64>()
    });
    assert!(served > 0);
}

/// Tells the load to end.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn lines(weir: &Weir, what: &str) -> usize {
    weir.stderr().iter().filter(|l| l.contains(what)).count()
}

#[test]
fn killed_under_load_and_started_again_it_is_not_noticed() {
    let name = "killed_under_load_and_started_again_it_is_not_noticed";
    let Some(mut redis) = Redis::start(name) else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    under_load([&one, &other], || {
        for round in 1..=2 {
            redis.kill();
            eventually("the proxies know", || {
                [&one, &other]
                    .iter()
                    .all(|w| lines(w, "Redis is away") == round)
            });
            redis.run();
            works(&one, &redis);
            works(&other, &redis);
            // Once for each outage.
            for weir in [&one, &other] {
                assert_eq!(lines(weir, "Redis is away"), round);
            }
        }
    });
}

#[test]
fn frozen_under_load_it_is_not_noticed() {
    let Some(redis) = Redis::start("frozen_under_load_it_is_not_noticed") else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    under_load([&one, &other], || {
        redis.signal("STOP");
        eventually("the proxies know", || {
            [&one, &other]
                .iter()
                .all(|w| lines(w, "Redis is away") == 1)
        });
        redis.signal("CONT");
        works(&one, &redis);
        works(&other, &redis);
    });
}

#[test]
fn away_at_the_start_is_a_warning() {
    let port = free_port();
    let backend = counting(FRESH);
    let one = weir(
        &backend,
        &format!(r#""url": "redis://:hush-hush@127.0.0.1:{port}""#),
    );
    eventually("it is said", || lines(&one, "Redis is away") == 1);
    for _ in 0..2 {
        assert_eq!(one.once(get("/a")).status, 200);
    }
    assert_eq!(backend.log().count("GET /a "), 1);
    assert_eq!(lines(&one, "Redis is away"), 1);
    assert_eq!(lines(&one, "hush-hush"), 0);
}

/// A server that answers greetings always, and everything else until it is told to be silent.
fn silenced(backend: &Backend, greets: bool) -> (Fake, Weir, Arc<AtomicBool>) {
    let silent = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&silent);
    let fake = Fake::start(move |command| {
        let is_greeting = greets && command[0] == "PING";
        (told.load(Ordering::SeqCst) && !is_greeting).then_some(Answer::Silence)
    });
    let weir = weir(
        backend,
        &format!(r#""url": "redis://127.0.0.1:{}""#, fake.port),
    );
    let mut n = 0;
    eventually("it is asked", || {
        n += 1;
        weir.once(get(&format!("/warm-{n}")));
        fake.count("GET") > 0 && fake.count("SET") > 0
    });
    (fake, weir, silent)
}

#[test]
fn what_does_not_answer_is_asked_three_times_and_then_left_alone() {
    let backend = counting(FRESH);
    let (fake, weir, silent) = silenced(&backend, false);
    silent.store(true, Ordering::SeqCst);
    let leases = || {
        let commands = fake.commands();
        let is_lease = |c: &&Vec<String>| c.iter().any(|word| word == "NX");
        commands.iter().filter(is_lease).count()
    };
    let before = (fake.count("PTTL"), leases());
    for n in 0..50 {
        assert_eq!(weir.once(get(&format!("/{n}"))).status, 200);
    }
    let asked = fake.count("PTTL") - before.0;
    assert!((1..=3).contains(&asked), "{asked} looks");
    // After a look without an answer nothing more is asked for that request.
    assert_eq!(leases(), before.1);
    eventually("it is said", || lines(&weir, "Redis is away") == 1);
    silent.store(false, Ordering::SeqCst);
    let before = fake.count("GET");
    let mut n = 0;
    eventually("it is asked again", || {
        n += 1;
        assert_eq!(weir.once(get(&format!("/again-{n}"))).status, 200);
        fake.count("GET") > before
    });
}

#[test]
fn one_that_greets_and_says_no_more_is_asked_ever_more_seldom() {
    let backend = counting(FRESH);
    let (fake, weir, silent) = silenced(&backend, true);
    silent.store(true, Ordering::SeqCst);
    let before = fake.count("GET");
    let mut n = 0;
    eventually("the proxy has connected several times", || {
        n += 1;
        assert_eq!(weir.once(get(&format!("/{n}"))).status, 200);
        lines(&weir, "Redis is away") >= 3
    });
    let asked = fake.count("GET") - before;
    // The log of purges is silent as well, so that nothing is looked up once its reader has noticed.
    assert!(asked <= 3 * 4, "{asked} looks in {n} requests");
}

#[test]
fn a_server_that_refuses_everything_is_not_noticed() {
    let backend = counting(FRESH);
    let fake = Fake::start(|command| match command[0].as_str() {
        "PING" | "XREAD" | "XRANGE" | "XREVRANGE" => None,
        _ => Some(bytes("-NOPERM this user has no permissions\r\n")),
    });
    let weir = weir(
        &backend,
        &format!(r#""url": "redis://127.0.0.1:{}""#, fake.port),
    );
    eventually("it is asked", || {
        let response = weir.once(get("/a"));
        assert!(!status(&response).contains("redis"));
        weir.once(format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            fake.count("PTTL")
        ))
        .status
            == 200
            && fake.count("PTTL") >= 3
    });
    eventually("it is said", || lines(&weir, "no permissions") == 1);
}
