//! A modelled Redis: one host, one listener, and faults that act on it from outside. It can be killed, with or without its data,
//! stall, be slow, and lie about the records that it holds.
//!
//! Absent: persistence, replication, sentinels and clusters.

mod data;
mod resp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use weirkeeper::env::{Clock, Env, Listener, Net, Task};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use self::data::{Data, Outcome};
use self::resp::{Command, Reply};
use super::socket::Socket;
use crate::env::{Link, SimEnv, SimStream, lock};
use crate::ledger::Ledger;
use crate::scenario::{Fault, FaultKind};

/// Its host, and the port there.
pub const REDIS: &str = "redis";
/// Where it listens.
pub const PORT: u16 = 6379;

/// More than any record may be.
const HUGE: usize = 3 << 20;

/// Bytes that are written at once.
const PIECE: usize = 16 * 1024;

/// The server.
#[derive(Debug)]
pub struct Redis {
    env: SimEnv,
    ledger: Ledger,
    state: Mutex<State>,
    /// Something was added to a stream.
    added: Notify,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    data: Data,
    /// Faults that keep it from accepting.
    closed: u32,
    accepting: Option<Task>,
    connections: BTreeMap<u64, (Arc<Link>, Option<Task>)>,
    next: u64,
    stalled: Tick,
    slow: Vec<f64>,
    lies: Vec<f64>,
}

impl Redis {
    /// A server that holds nothing and does not listen yet.
    pub fn new(env: SimEnv, ledger: Ledger) -> Arc<Self> {
        let rng = env.rng("redis", 0);
        Arc::new(Redis {
            env,
            ledger,
            state: Mutex::new(State {
                rng,
                data: Data::default(),
                closed: 0,
                accepting: None,
                connections: BTreeMap::new(),
                next: 0,
                stalled: Tick::ZERO,
                slow: Vec::new(),
                lies: Vec::new(),
            }),
            added: Notify::new(),
        })
    }

    /// Listens, unless a fault keeps it from that. Runs within its host.
    pub fn open(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.closed > 0 || state.accepting.is_some() {
            return;
        }
        let at = SocketAddr::from(([0, 0, 0, 0], PORT));
        let listener = self.env.net().listen(at).expect("the port is its own");
        let this = Arc::clone(self);
        state.accepting = Some(self.env.spawn("redis accept", async move {
            while let Ok((stream, _)) = listener.accept().await {
                this.connected(stream);
            }
        }));
    }

    /// One fault from its beginning to its end.
    pub async fn strike(self: Arc<Self>, fault: Fault, origin: Duration, healed: Duration) {
        let clock = self.env.clock();
        let at = Tick::ZERO + origin + fault.at.0;
        let healed = Tick::ZERO + healed;
        if at >= healed {
            return;
        }
        let end = (at + fault.lasts.0).min(healed);
        clock.sleep_until(at).await;
        let name = fault.kind.name();
        self.ledger.book().fault(clock.now(), name, 0, true);
        match fault.kind {
            FaultKind::RedisCrash => self.close(false),
            FaultKind::RedisLoss => self.close(true),
            FaultKind::RedisStall => {
                let mut state = lock(&self.state);
                state.stalled = state.stalled.max(end);
            }
            FaultKind::RedisSlow => lock(&self.state).slow.push(fault.factor),
            FaultKind::RedisLies => lock(&self.state).lies.push(fault.factor),
            _ => {}
        }
        clock.sleep_until(end).await;
        let without = |list: &mut Vec<f64>| {
            if let Some(at) = list.iter().position(|x| *x == fault.factor) {
                list.remove(at);
            }
        };
        match fault.kind {
            FaultKind::RedisCrash | FaultKind::RedisLoss => {
                lock(&self.state).closed -= 1;
                self.open();
            }
            FaultKind::RedisSlow => without(&mut lock(&self.state).slow),
            FaultKind::RedisLies => without(&mut lock(&self.state).lies),
            _ => {}
        }
        self.ledger.book().fault(clock.now(), name, 0, false);
    }

    fn close(&self, lose: bool) {
        let mut state = lock(&self.state);
        state.closed += 1;
        if let Some(task) = state.accepting.take() {
            task.abort();
        }
        if lose {
            state.data = Data::default();
        }
        for (link, task) in std::mem::take(&mut state.connections).into_values() {
            link.reset();
            task.iter().for_each(Task::abort);
        }
    }

    fn connected(self: &Arc<Self>, stream: SimStream) {
        let mut state = lock(&self.state);
        let key = state.next;
        state.next += 1;
        state
            .connections
            .insert(key, (Arc::clone(stream.link()), None));
        let this = Arc::clone(self);
        let task = self.env.spawn("redis connection", async move {
            this.serve(stream).await;
            lock(&this.state).connections.remove(&key);
        });
        if let Some((_, place)) = state.connections.get_mut(&key) {
            *place = Some(task);
        }
    }

    /// Answers commands in order until the connection ends.
    async fn serve(&self, stream: SimStream) {
        let mut stream = Socket::Plain(stream);
        let mut buf = Vec::new();
        loop {
            let (used, command) = match resp::parse(&buf) {
                Ok(Some(found)) => found,
                Ok(None) => match stream.read_buf(&mut buf).await {
                    Ok(n) if n > 0 => continue,
                    _ => return,
                },
                Err(()) => {
                    let what = "what came to Redis is no command".to_string();
                    self.ledger.book().violation("redis", what);
                    return;
                }
            };
            buf.drain(..used);
            let Some(reply) = self.answer(&command, &mut stream).await else {
                return;
            };
            let mut out = Vec::new();
            reply.write(&mut out);
            for piece in out.chunks(PIECE) {
                if stream.write_all(piece).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The reply to a command, when it is time for it; `None` when nobody waits for it any more.
    async fn answer(&self, command: &Command, stream: &mut Socket) -> Option<Reply> {
        let clock = self.env.clock();
        let mut until = None;
        loop {
            let slow: f64 = lock(&self.state).slow.iter().sum();
            if slow > 0.0 && until.is_none() {
                let pause = Duration::from_secs_f64(slow / 1e3);
                clock.sleep_until(clock.now() + pause).await;
            }
            loop {
                let stalled = lock(&self.state).stalled;
                if clock.now() >= stalled {
                    break;
                }
                clock.sleep_until(stalled).await;
            }
            let added = self.added.notified();
            let outcome = lock(&self.state).data.run(clock.now(), command);
            match outcome {
                Outcome::Now(reply) => {
                    if command[0].eq_ignore_ascii_case(b"XADD") {
                        self.added.notify_waiters();
                    }
                    return Some(self.told(command, reply));
                }
                Outcome::Wait(block) => {
                    let until = *until.get_or_insert(clock.now() + block);
                    tokio::select! {
                        biased;
                        () = added => {}
                        () = clock.sleep_until(until) => return Some(Reply::NoArray),
                        () = stream.left() => return None,
                    }
                }
            }
        }
    }

    /// The reply as it is told: the truth, or not.
    fn told(&self, command: &Command, reply: Reply) -> Reply {
        let mut state = lock(&self.state);
        let share = state.lies.iter().copied().fold(0.0, f64::max);
        if share == 0.0 {
            return reply;
        }
        let mut lie = |key: &[u8], reply: Reply| match reply {
            Reply::Bulk(bytes) if key.ends_with(b":e") && state.rng.chance(share) => {
                self.ledger.book().reach("Redis lied");
                Reply::Bulk(twisted(&mut state, key, bytes))
            }
            other => other,
        };
        match (command[0].to_ascii_uppercase().as_slice(), reply) {
            (b"GET", reply) => lie(&command[1], reply),
            (b"MGET", Reply::Array(found)) => {
                let told = command[1..].iter().zip(found);
                Reply::Array(told.map(|(key, reply)| lie(key, reply)).collect())
            }
            (_, reply) => reply,
        }
    }
}

/// Not what was stored.
fn twisted(state: &mut State, key: &[u8], mut bytes: Vec<u8>) -> Vec<u8> {
    let rng = &mut state.rng;
    let below = |rng: &mut Rng, n: usize| usize::try_from(rng.below(n.max(1) as u64)).unwrap_or(0);
    match rng.below(8) {
        0 => bytes.truncate(below(rng, bytes.len())),
        1 | 2 if !bytes.is_empty() => {
            let at = below(rng, bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        // The byte behind the mark of a record is its version.
        3 if bytes.len() > 1 => bytes[1] += 1,
        4 => bytes.resize(HUGE, b'W'),
        _ => {
            let which = below(rng, 16);
            return state.data.another(key, which).unwrap_or_default().to_vec();
        }
    }
    bytes
}
