//! The cache's second tier: a Redis that replicas share, and that may be slow, wrong or away at any time without a request
//! failing for it. One [`Tier`] a core, and what they share of it in [`Shared`].
//!
//! What is asked of the server: AUTH, SELECT, PING; GET, MGET, PTTL, SET with NX and PX, DEL; EVAL of the two scripts below;
//! XADD with MAXLEN, XREAD with COUNT and BLOCK, XRANGE and XREVRANGE with COUNT. Of sentinels: SENTINEL
//! get-master-addr-by-name, and of the master they name: ROLE. A cluster's client also asks for CLUSTER SLOTS and CLIENT
//! SETINFO.
//!
//! How old a record is is told by how long the server will still keep it: of all clocks that is the one that replicas share.
//!
//! Under a key lie its record (`:e`) and its lease (`:l`). A lease lasts for two seconds and is prolonged while its fetch
//! runs, so that one whose holder died is soon free. Purges go through one stream, in whose order records and purges meet
//! (see [`bans`](crate::cache::bans)).
//!
//! Absent: the form of a record (cache/codec), which purge applies to which record (cache/bans), what a look is good for
//! (caching).

mod ask;
mod breaker;
mod connect;
mod follow;
mod keep;
mod lease;
mod log;
mod queue;
mod stats;
mod stream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::{Cmd, Value, cmd};
use bytes::Bytes;
use tokio::sync::Notify;

pub use self::lease::{Lease, Token, Waited};

use self::ask::{State, Unanswered};
use self::lease::Held;
use self::queue::{Op, Queue};
use self::stats::Counts;
use crate::cache::bans::{Bans, Seen, Verdict};
use crate::cache::codec::{self, Corrupt, Kept};
use crate::cache::life::Life;
use crate::cache::purge::Purge;
use crate::cache::stored::Entry;
use crate::config::model;
use crate::env::{Clock, Env, Task};
use crate::rng::Rng;
use crate::telemetry::RedisStatus;
use crate::time::Tick;

/// KEYS\[1\] is deleted if it is ARGV\[1\]: whoever holds a lease gives it back, and nobody else's.
pub const COMPARE_AND_DELETE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

/// KEYS\[1\] becomes ARGV\[2\] for ARGV\[3\] milliseconds if it is ARGV\[1\]: a lease is prolonged, or turned into a pass.
pub const COMPARE_AND_SET: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then \
     redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end return 0";

/// How often it is looked whether everything was sent, at the end.
const LOOK: Duration = Duration::from_millis(5);

/// What all cores of a process share of the second tier.
pub struct Shared {
    /// Tells our purges in the stream from those of others. Replicas must not have the same.
    origin: u64,
    bans: Mutex<Bans>,
    counts: Counts,
    /// The log of purges was read to its end since its reader connected. Without it no record can be trusted.
    following: AtomicBool,
    /// Cores without a connection, of those that had tried.
    away: AtomicUsize,
    /// Wakes the core that publishes.
    publish: Notify,
}

impl Shared {
    pub fn new<E: Env>(env: &E) -> Arc<Self> {
        Arc::new(Shared {
            origin: env.rng("redis-origin", 0).next_u64(),
            bans: Mutex::default(),
            counts: Counts::default(),
            following: AtomicBool::new(false),
            away: AtomicUsize::new(0),
            publish: Notify::new(),
        })
    }

    fn bans(&self) -> MutexGuard<'_, Bans> {
        lock(&self.bans)
    }

    fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// The counters, and how it is.
    pub fn status(&self) -> RedisStatus {
        let cores_away = self.away.load(Ordering::Relaxed) as u64;
        RedisStatus {
            up: cores_away == 0 && self.is_following(),
            cores_away,
            bans: self.bans().len() as u64,
            ..self.counts.read()
        }
    }

    /// Has every replica forget what `purge` selects, and rules out every record in Redis that it selects. This replica's own
    /// looks obey it from here on. The caller purges memory afterwards and not before, or a record that is being read from Redis
    /// could get into memory between the two.
    pub fn purge(&self, purge: &Purge) -> Published {
        self.bans().begin(purge);
        self.publish.notify_one();
        if self.away.load(Ordering::Relaxed) == 0 && self.is_following() {
            Published::Sent
        } else {
            Published::Queued
        }
    }

    /// Has a purge ruled out what was read meanwhile? The caller asks after it has put the record into memory, where a later
    /// purge will find it.
    pub fn judge(&self, key: &[u8], entry: &Entry, seen: Seen) -> Verdict {
        self.bans().judge(key, entry, seen)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What purges of other replicas are handed to.
pub type Heard = Arc<dyn Fn(&Purge) + Send + Sync>;

/// One core's way to Redis.
pub struct Tier<E: Env> {
    env: E,
    model: Arc<model::Redis>,
    shared: Arc<Shared>,
    heard: Heard,
    state: Mutex<State>,
    queue: Mutex<Queue>,
    /// Something is to be sent, or the connection is gone.
    wake: Notify,
    leases: Mutex<BTreeMap<String, Held>>,
    rng: Mutex<Rng>,
    tasks: Mutex<Vec<Task>>,
}

/// What a look brought.
pub enum Look {
    /// A record of use, and the last purge that its writer knew.
    Found(Entry, Seen),
    /// Nothing of use.
    Nothing,
    /// Redis did not answer, so nothing more is asked of it for this request.
    Away,
}

/// How far a purge came at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is on its way to all replicas.
    Sent,
    /// It waits for Redis to be back.
    Queued,
}

impl<E: Env> Tier<E> {
    /// Begins to reach for Redis. Purges of other replicas, and those that were missed, are `heard`.
    pub fn start(
        env: &E,
        model: &Arc<model::Redis>,
        shared: &Arc<Shared>,
        heard: Heard,
    ) -> Arc<Self> {
        let tier = Arc::new(Tier {
            env: env.clone(),
            model: Arc::clone(model),
            shared: Arc::clone(shared),
            heard,
            state: Mutex::new(State::new()),
            queue: Mutex::default(),
            wake: Notify::new(),
            leases: Mutex::default(),
            rng: Mutex::new(env.rng("redis", env.core() as u64)),
            tasks: Mutex::default(),
        });
        let mut tasks = vec![env.spawn("redis-keeper", keep::run(Arc::clone(&tier)))];
        if env.core() == 0 {
            tasks.push(env.spawn("redis-follower", follow::run(Arc::clone(&tier))));
            tasks.push(env.spawn("redis-publisher", keep::publish(Arc::clone(&tier))));
        }
        lock(&tier.tasks).extend(tasks);
        tier
    }

    /// Waits for purges that are on their way, while Redis is there and for as long as a connection may take.
    pub async fn flush(&self) {
        let clock = self.env.clock();
        let until = clock.now() + connect::patience(&self.model);
        while self.is_up() && clock.now() < until && !self.shared.bans().pending(1).is_empty() {
            clock.sleep_until(clock.now() + LOOK).await;
        }
    }

    /// Closes the connections. What has not been sent is lost: records and leases, which others do without.
    pub fn stop(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
        lock(&self.state).link = None;
    }

    /// What a look and a lease may add to a request's time together.
    pub fn timeout(&self) -> Duration {
        self.model.timeout
    }

    /// The last purge that was carried out here: to be taken when a fetch begins.
    pub fn seen(&self) -> Seen {
        self.shared.bans().seen()
    }

    /// What all cores share of it.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What lies under `key`, within `patience`.
    pub async fn get(&self, key: &[u8], patience: Duration) -> Look {
        // Purges may have been missed, and what they ruled out may lie there still.
        if !self.shared.is_following() {
            return Look::Away;
        }
        let name = self.entry_name(key);
        let mut get = cmd("GET");
        get.arg(&name);
        let asked = self.env.clock().now();
        // The time first: if another record takes its place in between, it seems older than it is, and not younger. Each is asked
        // for alone, since an answer that is too large ends the connection for all that is asked with it.
        let Ok(left) = self.ask(&self.time_left(&name), patience).await else {
            return Look::Away;
        };
        let patience = patience.saturating_sub(self.env.clock().now().since(asked));
        match self.ask(&get, patience).await {
            Ok(Value::BulkString(bytes)) => {
                match self.read(&name, key, bytes, kept(&left, asked)) {
                    Some((entry, seen)) => Look::Found(entry, seen),
                    None => Look::Nothing,
                }
            }
            Ok(Value::Nil) => {
                self.shared.counts.misses.add(1);
                Look::Nothing
            }
            Ok(_) => {
                self.discard(&name);
                Look::Nothing
            }
            Err(Unanswered::Unfit) => {
                self.discard(&name);
                Look::Away
            }
            Err(Unanswered::Away) => Look::Away,
        }
    }

    /// Writes `entry`, or the note that leads to one, of this `life` behind the request's back. False when it will not be there:
    /// it is of no use any more or too large, or too much waits already.
    pub fn put(&self, key: &[u8], entry: &Entry, seen: Seen, life: &Life) -> bool {
        let now = self.env.clock().now();
        let left = life.left(now);
        if left.is_zero() {
            return false;
        }
        let counts = &self.shared.counts;
        if !self.is_up() {
            counts.dropped.add(1);
            return false;
        }
        let name = self.entry_name(key);
        let (serializer, max) = (self.model.serializer, self.model.max_value);
        let Some(record) = codec::encode(entry, key, seen, now, serializer, max) else {
            // The record that lies there is older than this one, and must not be found in its place.
            self.enqueue(Op::Delete { name });
            return false;
        };
        self.enqueue(Op::Store {
            name,
            record,
            until: now + left,
        })
    }

    /// Takes out what lies under `key`, behind the request's back.
    pub fn remove(&self, key: &[u8]) {
        let name = self.entry_name(key);
        self.enqueue(Op::Delete { name });
    }

    fn is_up(&self) -> bool {
        lock(&self.state).breaker.is_closed()
    }

    /// A record of use, if these bytes are one.
    fn read(&self, name: &str, key: &[u8], bytes: Vec<u8>, kept: Kept) -> Option<(Entry, Seen)> {
        let counts = &self.shared.counts;
        match codec::decode(&Bytes::from(bytes), key, kept, self.model.max_value) {
            Ok((entry, seen)) => match self.shared.judge(key, &entry, seen) {
                Verdict::Keep => {
                    counts.hits.add(1);
                    Some((entry, seen))
                }
                Verdict::Soft => {
                    counts.hits.add(1);
                    soften(&entry);
                    Some((entry, seen))
                }
                Verdict::Drop => {
                    counts.banned.add(1);
                    counts.misses.add(1);
                    None
                }
            },
            Err(why) => {
                tracing::debug!(record = name, %why, "a record in Redis is of no use");
                // Replicas of two versions may share a Redis while they are being replaced.
                if why == Corrupt::Version {
                    counts.corrupt.add(1);
                } else {
                    self.discard(name);
                }
                counts.misses.add(1);
                None
            }
        }
    }

    /// What lies there is nothing that we read.
    fn discard(&self, name: &str) {
        self.shared.counts.corrupt.add(1);
        let name = name.to_owned();
        self.enqueue(Op::Delete { name });
    }

    fn enqueue(&self, op: Op) -> bool {
        let taken = lock(&self.queue).push(op);
        if taken {
            self.wake.notify_one();
        } else {
            self.shared.counts.dropped.add(1);
        }
        taken
    }

    /// Asks how long a record will still be there.
    fn time_left(&self, name: &str) -> Cmd {
        let mut left = cmd("PTTL");
        left.arg(name);
        left
    }

    fn entry_name(&self, key: &[u8]) -> String {
        format!("{}{{{:032x}}}:e", self.model.prefix, hash(key))
    }

    fn lease_name(&self, key: &[u8]) -> String {
        format!("{}{{{:032x}}}:l", self.model.prefix, hash(key))
    }

    fn stream_name(&self) -> String {
        format!("{}purges", self.model.prefix)
    }

    fn unit(&self) -> f64 {
        lock(&self.rng).unit()
    }
}

/// To be validated before it is used.
pub fn soften(entry: &Entry) {
    if let Entry::Response(stored) = entry {
        stored.soft.store(true, Ordering::Relaxed);
    }
}

/// What the server says of the time that it keeps a record for. One without an end is none that we wrote.
fn kept(left: &Value, asked: Tick) -> Kept {
    let left = match left {
        Value::Int(millis) => u64::try_from(*millis).ok(),
        _ => None,
    };
    Kept {
        left: left.map_or(Duration::MAX, Duration::from_millis),
        asked,
    }
}

/// FNV-1a, 128 bits: the same in every version and on every machine. That two keys meet is no harm: records carry their key.
fn hash(key: &[u8]) -> u128 {
    key.iter()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}
