//! The cache's second tier against a real `redis-server` on loopback, and against servers that lie: what two proxies share, and
//! that nothing which happens to Redis is seen by a client. Where there is no `redis-server` these tests are skipped aloud.

#![allow(
    clippy::disallowed_methods,
    reason = "tests on real sockets stand outside the seam: they are the world that it looks at"
)]

mod fake;
mod lease;
mod lying;
mod places;
mod server;
mod sharing;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, Response, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};
use server::Redis;

/// Answers with a body of its own each time: the target and how many requests came before.
fn counting(fields: &'static str) -> Backend {
    let count = Arc::new(AtomicU64::new(0));
    Backend::answering(move |request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let target = request.start.split(' ').nth(1).unwrap_or_default();
        reply(200, fields, &format!("{target} {n}"))
    })
}

const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// A proxy whose cache has this second tier, as the members of `redis`.
#[track_caller]
fn weir(backend: &Backend, redis: &str) -> Weir {
    weir_of(1, backend, redis)
}

#[track_caller]
fn weir_of(workers: usize, backend: &Backend, redis: &str) -> Weir {
    let top =
        format!(r#""workers": {workers}, "cache": {{"early_refresh": 0}}, "redis": {{{redis}}}"#);
    let extra = Extra {
        top: &top,
        ..Extra::default()
    };
    Weir::start(&config(&[backend.port], extra))
}

/// The same with a plain server, ready to be asked.
#[track_caller]
fn joined(backend: &Backend, redis: &Redis) -> Weir {
    joined_of(1, backend, redis)
}

#[track_caller]
fn joined_of(workers: usize, backend: &Backend, redis: &Redis) -> Weir {
    let before = redis.followers();
    let url = format!(r#""url": "redis://127.0.0.1:{}""#, redis.port);
    let weir = weir_of(workers, backend, &url);
    eventually("the proxy follows the log of purges", || {
        redis.followers() > before
    });
    works(&weir, redis);
    weir
}

/// Waits until what this proxy fetches lies in Redis.
#[track_caller]
fn works(weir: &Weir, redis: &Redis) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    eventually("what is fetched is written to Redis", || {
        let n = COUNT.fetch_add(1, Ordering::SeqCst);
        let target = format!("/warm-{n}");
        weir.once(get(&target));
        (0..20).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            redis.holds(&target)
        })
    });
}

/// Under which name the record of this target lies: a hash (FNV-1a of 128 bits) that no version may change.
fn record(target: &str) -> String {
    let key = format!("http://test.example{target}\n");
    let hash = key
        .bytes()
        .fold(0x6c62272e07bb014262b821756295c58d_u128, |h, b| {
            (h ^ u128::from(b)).wrapping_mul(0x1000000000000000000013b)
        });
    format!("weir:{{{hash:032x}}}:e")
}

fn status(response: &Response) -> &str {
    response.get("cache-status").unwrap_or_default()
}

/// Asks for `target`, and waits until the answer lies in Redis.
#[track_caller]
fn stored(weir: &Weir, redis: &Redis, target: &str) -> Response {
    let response = weir.once(get(target));
    eventually("the response lies in Redis", || redis.holds(target));
    response
}

/// One after the other on one connection; every one must be answered with 200.
fn steadily(
    port: u16,
    target: impl Fn(u64) -> String,
    stop: &std::sync::atomic::AtomicBool,
) -> u64 {
    let mut client = Client::connect(port);
    let mut n = 0;
    while !stop.load(Ordering::SeqCst) {
        let answer = client
            .ask(get(&target(n)))
            .expect("every request is answered");
        assert_eq!(answer.status, 200);
        n += 1;
    }
    n
}
