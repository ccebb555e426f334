//! The tasks that keep a core's connection and write: to connect and to connect again, to send what waits, to prolong leases,
//! and on one core to publish purges.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, ServerErrorKind, cmd};

use super::connect::{self, text};
use super::lease::{Held, LEASE};
use super::queue::Op;
use super::{Tier, lock, log};
use crate::env::{Clock, Env};
use crate::time::Tick;

/// How often leases are prolonged.
const PROLONG: Duration = Duration::from_millis(500);

/// Purges that are published at once.
const PURGES: usize = 64;

/// Keeps a connection for as long as it is not aborted.
pub async fn run<E: Env>(tier: Arc<Tier<E>>) {
    let clock = tier.env.clock();
    for number in 1.. {
        while let Some(due) = due(&tier) {
            if due > clock.now() {
                clock.sleep_until(due).await;
            }
            let weak = Arc::downgrade(&tier);
            let lost = move || {
                if let Some(tier) = weak.upgrade() {
                    tier.lost(number, &"the connection was closed");
                }
            };
            match connect::connect(&tier.env, &tier.model, lost).await {
                Ok((link, driver)) => tier.connected(link, driver, number),
                Err(failure) => tier.unreachable(&failure),
            }
        }
        // Whoever waits to publish may do so now.
        tier.shared.publish.notify_one();
        work(&tier, number).await;
        let dropped = lock(&tier.queue).thin();
        tier.shared.counts.dropped.add(dropped);
    }
}

fn due<E: Env>(tier: &Tier<E>) -> Option<Tick> {
    lock(&tier.state).breaker.due()
}

/// Sends what waits, until the connection is gone.
async fn work<E: Env>(tier: &Tier<E>, number: u64) {
    let clock = tier.env.clock();
    let mut prolonged = clock.now();
    while let Some((mut link, current)) = tier.link() {
        if current != number {
            return;
        }
        let now = clock.now();
        let mut batch = lock(&tier.queue).batch();
        if now.since(prolonged) >= PROLONG {
            prolonged = now;
            batch.extend(prolonging(tier, now));
        }
        if batch.is_empty() {
            tokio::select! {
                biased;
                () = tier.wake.notified() => {}
                () = clock.sleep_until(prolonged + PROLONG) => {}
            }
            continue;
        }
        let commands = batch.iter().map(|op| op.command(now)).collect();
        let patience = connect::patience(&tier.model);
        let counts = &tier.shared.counts;
        match clock.timeout(patience, link.ask_all(commands)).await {
            Some(Ok(answers)) => {
                for (op, answer) in batch.iter().zip(answers) {
                    match answer {
                        Ok(_) if matches!(op, Op::Store { .. } | Op::Delete { .. }) => {
                            counts.writes.add(1);
                        }
                        Ok(_) => {}
                        Err(error) => refused(tier, number, op, &error),
                    }
                }
            }
            Some(Err(error)) => {
                counts.errors.add(1);
                tier.lost(number, &error);
            }
            None => {
                counts.timeouts.add(1);
                tier.lost(number, &"no answer in time");
            }
        }
    }
}

/// Counts a write that the server refused. Reading goes on all the same: a server without free memory still answers.
fn refused<E: Env>(tier: &Tier<E>, number: u64, op: &Op, error: &RedisError) {
    tier.shared.counts.errors.add(1);
    tracing::debug!(%error, "Redis refused a write");
    if is_demoted(error) {
        tier.lost(number, error);
    }
    if let Op::Store { name, .. } = op {
        // The record that lies there is older than the one that was refused, and must not be found in its place.
        tier.enqueue(Op::Delete { name: name.clone() });
    }
}

/// Does the error say that the server is no master any more?
pub fn is_demoted(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

fn prolonging<E: Env>(tier: &Tier<E>, now: Tick) -> Vec<Op> {
    let mut leases = lock(&tier.leases);
    leases.retain(|_, held| held.until > now);
    let prolong = |(name, held): (&String, &Held)| Op::Prolong {
        name: name.clone(),
        token: held.token.clone(),
        by: LEASE.min(held.until.since(now)),
    };
    leases.iter().map(prolong).collect()
}

/// Publishes purges, those of all cores, in the order in which they were made.
pub async fn publish<E: Env>(tier: Arc<Tier<E>>) {
    let stream = tier.stream_name();
    loop {
        let purges = tier.shared.bans().pending(PURGES);
        let (Some((mut link, number)), false) = (tier.link(), purges.is_empty()) else {
            tier.shared.publish.notified().await;
            continue;
        };
        let add = |purge| {
            let mut add = cmd("XADD");
            add.arg(&stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(log::LENGTH)
                .arg("*");
            add.arg("p").arg(log::write(tier.shared.origin, purge));
            add
        };
        let commands = purges.iter().map(|(_, purge)| add(purge)).collect();
        let counts = &tier.shared.counts;
        let patience = connect::patience(&tier.model);
        let clock = tier.env.clock();
        // After a failure the purges are sent again: one that arrives twice does no harm, and one that never arrives would.
        let answers = match clock.timeout(patience, link.ask_all(commands)).await {
            Some(Ok(answers)) => answers,
            Some(Err(error)) => {
                counts.errors.add(1);
                tier.lost(number, &error);
                continue;
            }
            None => {
                counts.timeouts.add(1);
                tier.lost(number, &"no answer in time");
                continue;
            }
        };
        let mut refused = None;
        for ((pending, _), answer) in purges.iter().zip(answers) {
            match answer {
                Ok(value) => match text(Some(&value)).and_then(|id| id.parse().ok()) {
                    Some(id) => {
                        tier.shared.bans().placed(*pending, id);
                        counts.purges_sent.add(1);
                    }
                    None => refused = Some(format!("an id was expected, not {value:?}")),
                },
                Err(error) => {
                    if is_demoted(&error) {
                        tier.lost(number, &error);
                    }
                    refused = Some(error.to_string());
                }
            }
        }
        if let Some(why) = refused {
            counts.errors.add(1);
            tracing::debug!(%why, "Redis refused a purge");
            // The server would refuse again at once, so the next try waits.
            clock.sleep_until(clock.now() + PROLONG).await;
        }
    }
}
