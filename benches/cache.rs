//! What the cache costs: a look among a million entries, a store that evicts, the key of a request, and the memory that an entry
//! takes beside its key, head and body (printed first, as the process's resident memory has it).

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use weirkeeper::cache::key;
use weirkeeper::cache::life::Life;
use weirkeeper::cache::policy::{self, Wants};
use weirkeeper::cache::rules::Rules;
use weirkeeper::cache::store::Store;
use weirkeeper::cache::stored::{Body, Entry, Head, Stored};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

/// As in the product: it decides what an entry takes beside its bytes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTRIES: u64 = 1_000_000;
const BODY: usize = 128;

fn key_of(number: u64) -> Vec<u8> {
    format!("http://shop.example/products/{number:08}?size=large\n").into_bytes()
}

fn head() -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("server", "nginx"),
        ("date", "Wed, 25 Nov 2026 13:32:36 GMT"),
        ("content-type", "text/plain; charset=utf-8"),
        ("cache-control", "public, max-age=3600"),
        ("etag", "\"5f3c-61a2b\""),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Head::of(&headers)
}

fn response() -> Entry {
    let life = Life {
        received: Tick::from_millis(1000),
        lifetime: 3600,
        ..Life::default()
    };
    let body = Body::Whole(Bytes::from(vec![b'a'; BODY]));
    Entry::Response(Arc::new(Stored::new(200, head(), body, life)))
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux shows it");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib = line.and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok());
    kib.expect("in kB") * 1024
}

fn filled() -> Store {
    let store = Store::new(1 << 40, 7);
    let before = resident();
    for number in 0..ENTRIES {
        store.put(&key_of(number), response());
    }
    let content = key_of(0).len() + head().as_bytes().len() + BODY;
    let each = (resident() - before) / ENTRIES;
    println!(
        "memory: {each} bytes an entry, of which key, head and body are {content}: overhead {} bytes",
        each - content as u64
    );
    store
}

fn store(c: &mut Criterion) {
    let store = filled();
    let mut group = c.benchmark_group("store");
    group.throughput(Throughput::Elements(1));
    // In an order that no processor guesses.
    let mut rng = Rng::new(3);
    let keys: Vec<Vec<u8>> = (0..ENTRIES).map(|_| key_of(rng.below(ENTRIES))).collect();
    let mut at = 0;
    let mut next = || {
        at = (at + 1) % keys.len();
        &keys[at]
    };
    group.bench_function("a hit among a million", |b| {
        b.iter(|| black_box(store.get(next())).is_some());
    });
    group.bench_function("a miss among a million", |b| {
        let key = key_of(ENTRIES + 1);
        b.iter(|| black_box(store.get(black_box(&key))).is_none());
    });
    drop(store);
    let one = filled_size();
    let small = Store::new(one * 10_000, 7);
    let entry = response();
    let mut number = 0;
    group.bench_function("a put that evicts", |b| {
        b.iter(|| {
            number += 1;
            small.put(&key_of(number), entry.clone())
        });
    });
    group.finish();
}

/// What one entry counts for.
fn filled_size() -> u64 {
    let store = Store::new(1 << 20, 7);
    store.put(&key_of(0), response());
    store.stats().bytes
}

fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("rules");
    group.throughput(Throughput::Elements(1));
    let rules = Rules::default();
    let headers = HeaderMap::new();
    group.bench_function("a request's key", |b| {
        let mut out = Vec::with_capacity(128);
        b.iter(|| {
            out.clear();
            let (path, query) = (black_box("/products/00000001"), Some("size=large"));
            key::primary(
                &mut out,
                &rules,
                "http",
                "shop.example",
                (path, query),
                &headers,
            );
            out.len()
        });
    });
    let Entry::Response(stored) = response() else {
        return;
    };
    group.bench_function("is it fresh", |b| {
        b.iter(|| {
            policy::reuse(
                black_box(&stored.life),
                false,
                &Wants::default(),
                Tick::from_millis(90_000),
            )
        });
    });
    group.finish();
}

criterion_group!(benches, store, rules);
criterion_main!(benches);
