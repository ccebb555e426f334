//! Leases: among all replicas one fetches, and the others wait for what it stores.
//!
//! A lease lasts for two seconds and is prolonged while its fetch runs, so that one whose holder died is soon free.

use std::time::Duration;

use ::redis::{Value, cmd};

use super::queue::{Op, PASS};
use super::{Tier, kept, lock, millis};
use crate::cache::bans::Seen;
use crate::cache::stored::Entry;
use crate::env::{Clock, Env};
use crate::time::Tick;

/// How long a lease lasts unless it is prolonged.
pub const LEASE: Duration = Duration::from_secs(2);

/// Rests between two looks while another fetches.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LATER_LOOKS: Duration = Duration::from_millis(25);

/// A lease of ours.
pub struct Held {
    pub token: String,
    /// No fetch keeps others waiting for longer.
    pub until: Tick,
}

/// The right to fetch, for all replicas.
#[derive(Debug)]
pub struct Token {
    name: String,
    token: String,
}

/// May this replica fetch?
pub enum Lease {
    /// It may, and the others wait. What lies there by now may have been stored while it was asking.
    Ours(Token, Option<(Entry, Seen)>),
    /// Another does so already.
    Theirs,
    /// Nobody can tell.
    Away,
}

/// What waiting for another replica came to.
pub enum Waited {
    /// It stored this.
    Found(Entry, Seen),
    /// It stopped fetching; somebody else may.
    Gone,
    /// Nothing will come, or nobody can tell.
    Over,
}

impl<E: Env> Tier<E> {
    /// Asks for the right to fetch `key`, for at most `limit`, and does so within `patience`.
    pub async fn lease(&self, key: &[u8], limit: Duration, patience: Duration) -> Lease {
        // Without the log nobody's result could be used.
        if patience.is_zero() || !self.shared.is_following() {
            return Lease::Away;
        }
        let name = self.lease_name(key);
        let token = {
            let mut rng = lock(&self.rng);
            format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
        };
        let mut set = cmd("SET");
        let millis = millis(limit.min(LEASE));
        set.arg(&name).arg(&token).arg("NX").arg("PX").arg(millis);
        // The lease may become ours without our learning of it, if this future is dropped or the answer is late. It is given
        // back then.
        let mut asking = Asking {
            tier: self,
            token: Some(Token { name, token }),
        };
        // Whoever held the lease before may have stored the entry after we had looked, so it is asked for once more.
        let entry = self.entry_name(key);
        let mut get = cmd("GET");
        get.arg(&entry);
        let asked = self.env.clock().now();
        let questions = [set, self.time_left(&entry), get];
        let Ok([leased, left, found]) = self.ask_all(questions, patience).await else {
            return Lease::Away;
        };
        match leased {
            Value::Okay => match asking.token.take() {
                Some(token) => {
                    let held = Held {
                        token: token.token.clone(),
                        until: self.env.clock().now() + limit,
                    };
                    lock(&self.leases).insert(token.name.clone(), held);
                    let found = match found {
                        Value::BulkString(bytes) => {
                            self.read(&entry, key, bytes, kept(&left, asked))
                        }
                        _ => None,
                    };
                    Lease::Ours(token, found)
                }
                None => Lease::Away,
            },
            Value::Nil => {
                asking.token = None;
                Lease::Theirs
            }
            _ => Lease::Away,
        }
    }

    /// Waits until an entry lies under `key`, or whoever holds the lease of `leased` gives it back, or it is `until`.
    pub async fn wait(&self, key: &[u8], leased: &[u8], until: Tick) -> Waited {
        let name = self.entry_name(key);
        let mut get = cmd("MGET");
        get.arg(&name).arg(self.lease_name(leased));
        let clock = self.env.clock();
        let mut rest = FIRST_LOOK;
        loop {
            let now = clock.now();
            if now >= until {
                return Waited::Over;
            }
            clock.sleep_until((now + rest).min(until)).await;
            rest = (rest * 2).min(LATER_LOOKS);
            if !self.shared.is_following() {
                return Waited::Over;
            }
            let asked = clock.now();
            let questions = [self.time_left(&name), get.clone()];
            let answers = self.ask_all(questions, self.model.timeout).await;
            let Ok([left, Value::Array(found)]) = answers else {
                return Waited::Over;
            };
            let [entry, lease] = <[Value; 2]>::try_from(found).unwrap_or_default();
            if let Value::BulkString(bytes) = entry
                && let Some((entry, seen)) = self.read(&name, key, bytes, kept(&left, asked))
            {
                return Waited::Found(entry, seen);
            }
            match lease {
                Value::BulkString(token) if token == PASS.as_bytes() => return Waited::Over,
                Value::BulkString(_) => {}
                _ => return Waited::Gone,
            }
        }
    }

    /// Gives a lease back; with `pass` those who wait learn that nothing will be stored. Entries that were put before reach
    /// Redis first.
    pub fn release(&self, token: Token, pass: bool) {
        let Token { name, token } = token;
        lock(&self.leases).remove(&name);
        if self.is_up() {
            let op = if pass {
                Op::Pass { name, token }
            } else {
                Op::Release { name, token }
            };
            self.enqueue(op);
        }
    }
}

/// A lease that is being asked for. If nobody learns the answer it is given back.
struct Asking<'a, E: Env> {
    tier: &'a Tier<E>,
    token: Option<Token>,
}

impl<E: Env> Drop for Asking<'_, E> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.tier.release(token, false);
        }
    }
}
