//! Among all proxies one fetches, and the others wait for it: for no longer than it lives, and never for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::server::{Redis, Said};
use super::{FRESH, joined, status, weir, works};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::Weir;

/// Closed until the test opens it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().expect("nothing panics at the gate") = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut open = self.0.0.lock().expect("nothing panics at the gate");
        while !*open {
            open = self.0.1.wait(open).expect("nothing panics at the gate");
        }
    }
}

/// Answers at once, but for the first request to `/slow`, which waits at the gate.
fn gated(fields: &'static str) -> (Backend, Gate) {
    let gate = Gate::default();
    let (ours, slow) = (gate.clone(), AtomicUsize::new(0));
    let backend = Backend::answering(move |request| {
        let mut n = 0;
        if request.start.contains(" /slow") {
            n = slow.fetch_add(1, Ordering::SeqCst);
            if n == 0 {
                ours.wait();
            }
        }
        reply(200, fields, &format!("{n}"))
    });
    (backend, gate)
}

/// Sends a request for `/slow` and leaves it there.
fn asking(weir: &Weir) -> Client {
    let mut client = Client::connect(weir.port);
    client.send(get("/slow"));
    client
}

#[track_caller]
fn text(mut client: Client) -> String {
    let response = client.response("GET").expect("every request is answered");
    assert_eq!(response.status, 200);
    response.text()
}

#[track_caller]
fn leased(redis: &Redis, backend: &Backend) {
    eventually("the backend was asked", || {
        backend.log().count("GET /slow ") == 1
    });
    eventually("somebody has the lease", || {
        redis.ask(&["KEYS", "*:l"]) != Said::List(Vec::new())
    });
}

#[test]
fn a_hundred_cold_requests_through_two_proxies_are_one_fetch() {
    let name = "a_hundred_cold_requests_through_two_proxies_are_one_fetch";
    let Some(redis) = Redis::start(name) else {
        return;
    };
    let (backend, gate) = gated(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let first = asking(&one);
    leased(&redis, &backend);
    let rest: Vec<Client> = (0..99)
        .map(|n| asking(if n % 2 == 0 { &other } else { &one }))
        .collect();
    // A lease is given for two seconds, and prolonged.
    let lease = redis.ask(&["KEYS", "*:l"]).list()[0].text();
    let left = redis.ask(&["PTTL", &lease]).number();
    assert!((1..=2000).contains(&left), "{left}");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    gate.open();
    for client in rest.into_iter().chain([first]) {
        assert_eq!(text(client), "0");
    }
    assert_eq!(backend.log().count("GET /slow "), 1);
    let response = other.once(get("/slow"));
    assert!(status(&response).contains("; hit"), "{response:?}");
    eventually("the lease is given back", || {
        redis.ask(&["KEYS", "*:l"]) == Said::List(Vec::new())
    });
}

#[test]
fn variants_that_others_wait_for_are_found_under_their_own_key() {
    let name = "variants_that_others_wait_for_are_found_under_their_own_key";
    let Some(redis) = Redis::start(name) else {
        return;
    };
    let (backend, gate) = gated("Cache-Control: max-age=60\r\nVary: X-A\r\n");
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let first = asking(&one);
    leased(&redis, &backend);
    let second = asking(&other);
    gate.open();
    assert_eq!([text(first), text(second)], ["0", "0"]);
    assert_eq!(backend.log().count("GET /slow "), 1);
}

#[test]
fn one_that_is_killed_while_it_fetches_hands_over() {
    let Some(redis) = Redis::start("one_that_is_killed_while_it_fetches_hands_over") else {
        return;
    };
    let (backend, gate) = gated(FRESH);
    let (mut one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let _first = asking(&one);
    leased(&redis, &backend);
    let second = asking(&other);
    one.signal("KILL");
    one.wait();
    assert_eq!(text(second), "1");
    gate.open();
}

#[test]
fn what_may_not_be_shared_is_waited_for_by_nobody() {
    let Some(redis) = Redis::start("what_may_not_be_shared_is_waited_for_by_nobody") else {
        return;
    };
    let (backend, gate) = gated("Cache-Control: no-store\r\n");
    let warm = gated(FRESH).0;
    let (one, other) = (joined(&warm, &redis), joined(&warm, &redis));
    drop((one, other));
    let url = format!(r#""url": "redis://127.0.0.1:{}""#, redis.port);
    let (one, other) = (weir(&backend, &url), weir(&backend, &url));
    eventually("both follow the log", || redis.followers() >= 2);
    let first = asking(&one);
    eventually("the backend was asked", || backend.log().running == 1);
    let second = asking(&other);
    gate.open();
    let mut texts = [text(first), text(second)];
    texts.sort();
    assert_eq!(texts, ["0", "1"]);
}

#[test]
fn what_is_too_large_for_redis_is_fetched_by_each() {
    let Some(redis) = Redis::start("what_is_too_large_for_redis_is_fetched_by_each") else {
        return;
    };
    let backend = Backend::answering(|_| reply(200, FRESH, &"x".repeat(5000)));
    let redis_members = format!(
        r#""url": "redis://127.0.0.1:{}", "max_value": "1KiB""#,
        redis.port
    );
    let (one, other) = (
        weir(&backend, &redis_members),
        weir(&backend, &redis_members),
    );
    eventually("both follow the log", || redis.followers() == 2);
    for weir in [&one, &other, &one, &other] {
        assert_eq!(weir.once(get("/a")).text().len(), 5000);
    }
    assert_eq!(backend.log().count("GET /a "), 2);
    assert!(redis.records().is_empty());
}

#[test]
fn whoever_waits_goes_on_when_redis_is_killed() {
    let Some(mut redis) = Redis::start("whoever_waits_goes_on_when_redis_is_killed") else {
        return;
    };
    let (backend, gate) = gated(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let first = asking(&one);
    leased(&redis, &backend);
    let second = asking(&other);
    redis.kill();
    // The first is still at the gate.
    assert_eq!(text(second), "1");
    gate.open();
    assert_eq!(text(first), "0");
    redis.run();
    works(&one, &redis);
}
