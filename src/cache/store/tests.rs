//! Tests of the store: against naive models, its bound, its reckoning, its purges, its hit ratio.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::shard::Shard;
use super::*;
use crate::cache::life::Life;
use crate::cache::stored::{Head, Stored, Varies};
use crate::rng::Rng;

/// A response that is told from others by the number in its life.
fn response(number: u32, body: usize) -> Entry {
    let life = Life {
        lifetime: number,
        ..Life::default()
    };
    let body = Body::Whole(Bytes::from(vec![b'a'; body]));
    Entry::Response(Arc::new(Stored::new(200, Head::default(), body, life)))
}

fn tagged(field: &'static str, tags: &'static str) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert(field, HeaderValue::from_static(tags));
    let body = Body::Whole(Bytes::new());
    let stored = Stored::new(200, Head::of(&headers), body, Life::default());
    Entry::Response(Arc::new(stored))
}

fn number(entry: &Entry) -> u32 {
    match entry {
        Entry::Response(stored) => stored.life.lifetime,
        Entry::Varies(_) => panic!("no variants were put here"),
    }
}

fn key_of(n: u16) -> Vec<u8> {
    format!("http://a.example/{n}\n").into_bytes()
}

#[derive(Clone, Debug)]
enum Op {
    Put(u16, usize),
    Get(u16),
    Peek(u16),
    Remove(u16),
    Purge(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..40_u16;
    prop_oneof![
        4 => (key.clone(), 0..2000_usize).prop_map(|(k, size)| Op::Put(k, size)),
        4 => key.clone().prop_map(Op::Get),
        1 => key.clone().prop_map(Op::Peek),
        1 => key.clone().prop_map(Op::Remove),
        1 => key.prop_map(Op::Purge),
    ]
}

proptest! {
    /// What is found is what was put last, and never more than the bound is held; without evictions nothing is ever lost.
    #[test]
    fn it_holds_what_was_put_last(ops in prop::collection::vec(op(), 1..200), limit in 500..40_000_u64) {
        let store = Store::new(limit, 7);
        let mut model: BTreeMap<u16, u32> = BTreeMap::new();
        for (at, op) in ops.into_iter().enumerate() {
            let at = u32::try_from(at).expect("few operations");
            match op {
                Op::Put(k, size) => {
                    let entry = response(at, size);
                    let fits = super::size(&key_of(k), &entry) <= limit;
                    prop_assert_eq!(store.put(&key_of(k), entry), fits);
                    match fits {
                        true => {
                            model.insert(k, at);
                            prop_assert_eq!(store.peek(&key_of(k)).map(|e| number(&e)), Some(at));
                        }
                        false => {
                            model.remove(&k);
                        }
                    }
                }
                Op::Get(k) | Op::Peek(k) => {
                    let found = if matches!(op, Op::Get(_)) { store.get(&key_of(k)) } else { store.peek(&key_of(k)) };
                    if let Some(entry) = &found {
                        prop_assert_eq!(Some(&number(entry)), model.get(&k));
                    } else if store.stats().evictions == 0 {
                        prop_assert_eq!(model.get(&k), None);
                    }
                }
                Op::Remove(k) => {
                    let had = store.remove(&key_of(k));
                    prop_assert!(!had || model.contains_key(&k));
                    model.remove(&k);
                }
                Op::Purge(k) => {
                    let url = format!("http://a.example/{k}");
                    let count = store.purge(&Purge { what: Selection::Url(url), soft: false });
                    prop_assert!(count <= usize::from(model.contains_key(&k)));
                    model.remove(&k);
                    prop_assert!(store.peek(&key_of(k)).is_none());
                }
            }
            store.check_invariants();
        }
    }

    /// One part gives way in the order of SIEVE as the paper writes it down.
    #[test]
    fn a_part_gives_way_as_sieve_does(ops in prop::collection::vec((0..3_u8, 0..20_u16), 1..300)) {
        let hasher = FixedState::with_seed(1);
        let mut shard = Shard::new(hasher.clone());
        let mut model = Sieve::default();
        for (what, k) in ops {
            let key = key_of(k);
            let hash = hasher.hash_one(&*key);
            match what {
                0 => {
                    shard.put(hash, &key, response(0, 0));
                    model.put(k);
                }
                1 => {
                    let found = shard.get(hash, &key, true).is_some();
                    prop_assert_eq!(found, model.get(k));
                }
                _ => {
                    let before: Vec<u16> = model.list.iter().map(|(k, _)| *k).collect();
                    prop_assert_eq!(shard.evict(None).is_some(), !before.is_empty());
                    if let Some(victim) = model.evict() {
                        let key = key_of(victim);
                        prop_assert!(shard.get(hasher.hash_one(&*key), &key, false).is_none());
                    }
                }
            }
            prop_assert_eq!(shard.len(), model.list.len());
        }
    }
}

/// SIEVE over a plain list, oldest first.
#[derive(Default)]
struct Sieve {
    list: Vec<(u16, bool)>,
    hand: Option<u16>,
}

impl Sieve {
    fn put(&mut self, key: u16) {
        if !self.list.iter().any(|(k, _)| *k == key) {
            self.list.push((key, false));
        }
    }

    fn get(&mut self, key: u16) -> bool {
        let entry = self.list.iter_mut().find(|(k, _)| *k == key);
        entry.map(|(_, visited)| *visited = true).is_some()
    }

    fn evict(&mut self) -> Option<u16> {
        if self.list.is_empty() {
            return None;
        }
        let hand = self.hand;
        let place = |list: &[(u16, bool)]| list.iter().position(|(k, _)| Some(*k) == hand);
        let mut at = place(&self.list).unwrap_or(0);
        while self.list[at].1 {
            self.list[at].1 = false;
            at = (at + 1) % self.list.len();
        }
        let (victim, _) = self.list.remove(at);
        self.hand = self.list.get(at).map(|(k, _)| *k);
        Some(victim)
    }
}

#[test]
fn a_large_newcomer_takes_from_all_parts() {
    let entry = response(0, 100);
    let one = super::size(&key_of(10_000), &entry);
    let store = Store::new(one * 1600, 3);
    for k in 0..1600 {
        store.put(&key_of(10_000 + k), response(0, 100));
    }
    let before: Vec<usize> = store.shards.iter().map(|s| lock(s).len()).collect();
    assert!(store.put(
        b"http://b.example/large\n",
        response(1, usize::try_from(one).expect("small") * 160)
    ));
    let lost = store
        .shards
        .iter()
        .zip(&before)
        .map(|(s, before)| before.saturating_sub(lock(s).len()));
    assert!(lost.clone().sum::<usize>() >= 160);
    assert!(lost.max() <= Some(20), "one part paid for all");
    store.check_invariants();
}

#[test]
fn what_was_asked_for_outlives_what_was_not() {
    let one = super::size(&key_of(10_000), &response(0, 100));
    let store = Store::new(one * 200, 5);
    for k in 0..5000 {
        store.put(&key_of(10_000 + k), response(0, 100));
        for hot in 0..20 {
            if store.get(&key_of(20_000 + hot)).is_none() {
                store.put(&key_of(20_000 + hot), response(0, 100));
            }
        }
    }
    let kept = (0..20)
        .filter(|hot| store.peek(&key_of(20_000 + hot)).is_some())
        .count();
    assert_eq!(kept, 20);
}

/// The reckoned size is no less than what the types take; the bench `cache` looks at what the process really takes.
#[test]
fn the_overhead_covers_what_an_entry_takes_beside_its_bytes() {
    // A place in the table with the slack of one that doubles, and the two counters of an Arc.
    let table = (size_of::<u32>() + 1) * 2;
    let stored = size_of::<Stored>() + 16;
    assert!((Shard::SLOT + table + stored) as u64 <= OVERHEAD);
    assert_eq!((Shard::SLOT, stored), (48, 104));
}

#[test]
fn what_is_larger_than_the_store_is_refused_and_takes_the_old_one_along() {
    let store = Store::new(1000, 1);
    assert!(store.put(&key_of(1), response(1, 100)));
    assert!(!store.put(&key_of(1), response(2, 5000)));
    assert!(store.peek(&key_of(1)).is_none());
    assert_eq!(store.stats().bytes, 0);
}

#[test]
fn purges_select_by_url_prefix_and_tag() {
    let names = vec![HeaderName::from_static("accept")];
    let fill = || {
        let store = Store::new(1 << 20, 1);
        store.put(
            b"http://a.example/x\n",
            tagged("surrogate-key", "red  green"),
        );
        store.put(
            b"http://a.example/x\n\nfr",
            tagged("cache-tag", "green , blue"),
        );
        store.put(b"http://a.example/x/y\n", tagged("surrogate-key", "redder"));
        store.put(b"http://a.example/xx?q=1\n", response(0, 10));
        let varies = Varies {
            names: names.clone(),
            generation: 1,
        };
        store.put(b"http://b.example/x\n", Entry::Varies(Arc::new(varies)));
        store
    };
    let purge = |what| {
        let store = fill();
        let count = store.purge(&Purge { what, soft: false });
        store.check_invariants();
        (count, store.stats().entries)
    };
    assert_eq!(purge(Selection::Url("http://a.example/x".into())), (2, 3));
    assert_eq!(purge(Selection::Url("http://a.example/".into())), (0, 5));
    assert_eq!(
        purge(Selection::Prefix("http://a.example/x".into())),
        (4, 1)
    );
    assert_eq!(
        purge(Selection::Prefix("http://a.example/x/".into())),
        (1, 4)
    );
    assert_eq!(purge(Selection::Tag("green".into())), (2, 3));
    assert_eq!(purge(Selection::Tag("red".into())), (1, 4));
    // What responses vary by is no response, so it is not counted.
    assert_eq!(purge(Selection::All), (4, 0));

    let store = fill();
    let soft = Purge {
        what: Selection::Tag("blue".into()),
        soft: true,
    };
    assert_eq!(store.purge(&soft), 1);
    assert_eq!(store.stats().entries, 5);
    let soft: Vec<bool> = [&b"http://a.example/x\n"[..], b"http://a.example/x\n\nfr"]
        .iter()
        .map(|key| match store.peek(key) {
            Some(Entry::Response(stored)) => stored.is_soft(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(soft, [false, true]);
}

#[test]
fn threads_keep_the_bound_together() {
    let one = super::size(&key_of(10_000), &response(0, 100));
    let store = Store::new(one * 100, 5);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                let mut rng = Rng::new(thread);
                for _ in 0..20_000 {
                    let key = key_of(10_000 + u16::try_from(rng.below(400)).expect("below 400"));
                    match rng.below(10) {
                        0 => drop(store.remove(&key)),
                        1..5 => drop(store.put(&key, response(0, 100))),
                        _ => drop(store.get(&key)),
                    }
                }
            });
        }
    });
    store.check_invariants();
}

/// Requests for `count` things, the n-th of them 1/n^skew as often as the first.
struct Zipf {
    sums: Vec<f64>,
    rng: Rng,
}

impl Zipf {
    fn new(count: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|n| {
            sum += (n as f64).powf(-skew);
            sum
        });
        Zipf {
            sums: sums.collect(),
            rng: Rng::new(11),
        }
    }

    fn next(&mut self) -> usize {
        let total = self.sums.last().copied().unwrap_or(0.0);
        let at = self.rng.unit() * total;
        self.sums.partition_point(|sum| *sum <= at)
    }
}

/// Hits in thousands of a percent.
fn ratio(trace: &[usize], mut hit: impl FnMut(usize) -> bool) -> f64 {
    let hits = trace.iter().filter(|k| hit(**k)).count();
    hits as f64 * 100.0 / trace.len() as f64
}

fn lru(trace: &[usize], capacity: usize) -> f64 {
    let (mut last, mut order) = (BTreeMap::new(), BTreeMap::new());
    let mut at = 0_u64;
    ratio(trace, |k| {
        at += 1;
        let before = last.insert(k, at);
        if let Some(before) = before {
            order.remove(&before);
        }
        order.insert(at, k);
        if order.len() > capacity
            && let Some((_, oldest)) = order.pop_first()
        {
            last.remove(&oldest);
        }
        before.is_some()
    })
}

/// Not behind LRU, and within two points of S3-FIFO as `quick_cache` does it, on skewed traces, also with scans between.
#[test]
fn its_hit_ratio_is_that_of_its_kind() {
    let key = |k: usize| format!("http://a.example/{k:08}\n").into_bytes();
    let one = super::size(&key(0), &response(0, 100));
    for (skew, capacity, scans) in [
        (0.8, 1000, false),
        (1.0, 1000, false),
        (1.0, 5000, false),
        (0.9, 2000, true),
    ] {
        let mut zipf = Zipf::new(50_000, skew);
        let mut trace: Vec<usize> = (0..300_000).map(|_| zipf.next()).collect();
        if scans {
            for (n, start) in (0..trace.len()).step_by(20_000).enumerate() {
                trace.splice(start..start, (0..3000).map(|i| 100_000 + n * 3000 + i));
            }
        }
        let store = Store::new(one * capacity as u64, 5);
        let ours = ratio(&trace, |k| {
            let hit = store.get(&key(k)).is_some();
            if !hit {
                store.put(&key(k), response(0, 100));
            }
            hit
        });
        let lru = lru(&trace, capacity);
        let peer = quick_cache::sync::Cache::new(capacity);
        let s3 = ratio(&trace, |k| {
            let hit = peer.get(&k).is_some();
            if !hit {
                peer.insert(k, ());
            }
            hit
        });
        assert!(ours >= lru, "LRU does better: {ours} against {lru}");
        assert!(ours >= s3 - 2.0, "S3-FIFO does better: {ours} against {s3}");
    }
}
