//! The cache as it is run: two proxies, two backends and a Redis, each in a container of its own on a network of their own, and a
//! client outside. Absent: whatever one process can show. Without a Docker engine these tests say so and are skipped, unless
//! WEIR_REQUIRE_DOCKER is 1.

#![allow(
    clippy::disallowed_methods,
    reason = "tests on real sockets stand outside the seam: they are the world that it looks at"
)]

mod image;
mod scene;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use self::scene::Scene;
use crate::support::client::{Client, cache_status, get, post};
use crate::support::{SetOnDrop, eventually};

#[test]
fn what_one_proxy_has_fetched_is_a_hit_at_the_other() {
    let Some(scene) = Scene::set("what_one_proxy_has_fetched_is_a_hit_at_the_other") else {
        return;
    };
    let [a, b] = scene.ports();
    // A proxy that has found no time for Redis asks a backend, so that one URL more may be needed.
    let mut urls = 0;
    eventually("the other serves it from Redis", || {
        urls += 1;
        let target = format!("/shared/{urls}");
        let before = scene.keys();
        let first = Client::connect(a)
            .ask(get(&target))
            .expect("it is answered");
        assert_eq!(first.status, 200);
        eventually("it lies in Redis", || scene.keys() > before);
        let second = Client::connect(b)
            .ask(get(&target))
            .expect("it is answered");
        let from_redis =
            cache_status(&second).contains("hit") && cache_status(&second).contains("redis");
        assert!(
            !from_redis || second.text() == first.text(),
            "it is another response"
        );
        from_redis
    });
    assert!(scene.keys() > 0);
    assert_eq!(scene.lasting_keys(), 0, "what lies in Redis ends by itself");
    // Its own memory has it from then on, whatever becomes of Redis.
    scene.kill_redis();
    let target = format!("/shared/{urls}");
    let third = Client::connect(b)
        .ask(get(&target))
        .expect("it is answered");
    assert!(
        cache_status(&third).starts_with("weir; hit"),
        "{}",
        cache_status(&third)
    );
}

#[test]
fn what_one_proxy_invalidates_or_purges_is_gone_at_the_other() {
    let name = "what_one_proxy_invalidates_or_purges_is_gone_at_the_other";
    let Some(scene) = Scene::set(name) else {
        return;
    };
    let [a, b] = scene.ports();
    let ask = |port: u16, target: &str| {
        let answer = Client::connect(port).ask(get(target));
        answer.expect("it is answered")
    };
    let gone = |target: &str, forget: &dyn Fn()| {
        eventually("both have it in memory", || {
            let both = [ask(a, target), ask(b, target)];
            both.iter()
                .all(|r| cache_status(r).starts_with("weir; hit"))
        });
        let old = [ask(a, target).text(), ask(b, target).text()];
        forget();
        assert!(
            !old.contains(&ask(a, target).text()),
            "{target}: here at once"
        );
        eventually("there soon", || !old.contains(&ask(b, target).text()));
    };
    for target in ["/changed/1", "/changed/2?a=b"] {
        gone(target, &|| {
            let changed = Client::connect(a).ask(post(target, "new"));
            assert_eq!(changed.map(|r| r.status), Ok(200));
        });
    }
    gone("/purged/1", &|| {
        scene.purge("url=http://test.example/purged/1")
    });
    gone("/purged/2", &|| {
        scene.purge("prefix=http://test.example/purged/")
    });
    gone("/purged/3", &|| scene.purge("all"));
}

#[test]
fn redis_dies_and_comes_back_and_no_request_fails() {
    const CLIENTS: usize = 16;
    let Some(scene) = Scene::set("redis_dies_and_comes_back_and_no_request_fails") else {
        return;
    };
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let more = |count: usize| {
        let before = served.load(Ordering::SeqCst);
        eventually("requests are served", || {
            served.load(Ordering::SeqCst) >= before + count
        });
    };
    std::thread::scope(|scope| {
        let ending = SetOnDrop(&over);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (over, served, scene) = (&over, &served, &scene);
                scope.spawn(move || load(scene.ports()[client % 2], client, over, served))
            })
            .collect();
        for _ in 0..2 {
            more(500);
            scene.kill_redis();
            more(500);
            scene.start_redis();
        }
        more(500);
        drop(ending);
        for client in clients {
            let failed = client.join().expect("a client does not panic");
            assert_eq!(failed, Vec::<String>::new());
        }
    });
    // And Redis is of use again.
    let [a, b] = scene.ports();
    let mut urls = 0;
    eventually("they share again", || {
        urls += 1;
        let target = format!("/again/{urls}");
        let before = scene.keys();
        let first = Client::connect(a)
            .ask(get(&target))
            .expect("it is answered");
        if scene.keys() == before {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let second = Client::connect(b)
            .ask(get(&target))
            .expect("it is answered");
        cache_status(&second).contains("redis") && second.text() == first.text()
    });
}

/// Asks one proxy for this and that until it is over; returns what went wrong.
fn load(port: u16, client: usize, over: &AtomicBool, served: &AtomicUsize) -> Vec<String> {
    let mut failed = Vec::new();
    let mut connection = Client::connect(port);
    let mut number = client;
    while !over.load(Ordering::SeqCst) {
        number += 7;
        match connection.ask(get(&format!("/load/{}", number % 500))) {
            Ok(response) if response.status == 200 => {}
            Ok(response) => failed.push(format!("{response:?}")),
            Err(error) => {
                failed.push(format!("{error:?}"));
                connection = Client::connect(port);
            }
        }
        served.fetch_add(1, Ordering::SeqCst);
    }
    failed
}
