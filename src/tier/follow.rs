//! The task that follows the log of purges, on a connection of its own, because it waits there.
//!
//! What it reads is purged here and noted for the records in Redis. Where it may have missed something, because the log was
//! cut or is another one, all of memory goes: a purge is a promise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::{Value, cmd};

use super::breaker::Breaker;
use super::connect::{self, Failure, Link, text};
use super::{Tier, log};
use crate::cache::bans::Seen;
use crate::cache::purge::{Purge, Selection};
use crate::env::{Clock, Env};

/// Purges that are read at once.
const PAGE: usize = 1000;

/// A purge in the log.
struct Logged {
    id: Seen,
    text: Vec<u8>,
}

/// Follows for as long as it is not aborted.
pub async fn run<E: Env>(tier: Arc<Tier<E>>) {
    let clock = tier.env.clock();
    let mut breaker = Breaker::new();
    let mut position = None;
    loop {
        if let Some(due) = breaker.due() {
            clock.sleep_until(due).await;
        }
        let Err(failure) = follow(&tier, &mut breaker, &mut position).await else {
            continue;
        };
        tier.shared.following.store(false, Ordering::Release);
        tracing::debug!(%failure, "the log of purges is not being followed");
        breaker.lost(clock.now(), tier.unit());
    }
}

async fn follow<E: Env>(
    tier: &Tier<E>,
    breaker: &mut Breaker,
    position: &mut Option<Seen>,
) -> Result<(), Failure> {
    let (mut link, _driver) = connect::connect(&tier.env, &tier.model, || {}).await?;
    let mut last = match *position {
        None => begin(tier, &mut link).await?,
        Some(last) => resume(tier, &mut link, last).await?,
    };
    *position = Some(last);
    breaker.connected();
    breaker.succeeded();
    tier.shared.following.store(true, Ordering::Release);
    loop {
        let page = read(tier, &mut link, last, Some(log::BLOCK)).await?;
        if page.len() >= PAGE {
            // A full page means that we are so far behind that the log may have been cut meanwhile.
            last = resume(tier, &mut link, last).await?;
        } else {
            last = apply(tier, page, last);
        }
        *position = Some(last);
    }
}

/// Reads the log for the first time. Memory is emptied, because what it holds by now was fetched before any purge was known.
async fn begin<E: Env>(tier: &Tier<E>, link: &mut Link) -> Result<Seen, Failure> {
    let (first, _) = ends(tier, link).await?;
    let Some(first) = first else {
        return Ok(Seen::default());
    };
    (tier.heard)(&everything());
    let (last, count) = read_on(tier, link, Seen::default()).await?;
    if count >= log::LENGTH {
        // The log was cut, so it is not known which purges stood there before.
        tier.shared.bans().raise_floor(first);
    }
    Ok(last)
}

/// Goes on behind `last`. Where that is not possible, memory is emptied and following goes on at the end of the log.
async fn resume<E: Env>(tier: &Tier<E>, link: &mut Link, last: Seen) -> Result<Seen, Failure> {
    let (first, end) = ends(tier, link).await?;
    let end = end.unwrap_or_default();
    let cut = last > Seen::default() && first.is_none_or(|first| first > last);
    if end >= last && !cut {
        let (read, count) = read_on(tier, link, last).await?;
        // Where no id is known, only the length of the log can tell whether something was cut off.
        if last > Seen::default() || count < log::LENGTH {
            return Ok(read);
        }
    }
    tracing::warn!("the log of purges in Redis was lost or cut: memory is emptied");
    (tier.heard)(&everything());
    tier.shared.bans().restart(end);
    Ok(end)
}

fn everything() -> Purge {
    Purge {
        what: Selection::All,
        soft: false,
    }
}

/// Reads and applies all that stands behind `last`; returns the last id and how many there were.
async fn read_on<E: Env>(
    tier: &Tier<E>,
    link: &mut Link,
    mut last: Seen,
) -> Result<(Seen, usize), Failure> {
    let mut count = 0;
    loop {
        let page = read(tier, link, last, None).await?;
        let full = page.len() >= PAGE;
        count += page.len();
        last = apply(tier, page, last);
        // The log is bounded, but somebody else may have written more into it, so reading ends here.
        if !full || count > log::LENGTH * 4 {
            return Ok((last, count));
        }
    }
}

fn apply<E: Env>(tier: &Tier<E>, page: Vec<Logged>, mut last: Seen) -> Seen {
    for Logged { id, text } in page {
        let (origin, purge) = log::read(&text);
        // The list has it first: whoever puts a record into memory meanwhile asks the list once more whether a purge rules it
        // out.
        tier.shared.bans().add(id, &purge);
        if origin != tier.shared.origin {
            (tier.heard)(&purge);
        }
        tier.shared.bans().saw(id);
        tier.shared.counts.purges_heard.add(1);
        last = last.max(id);
    }
    last
}

/// The first and the last id.
async fn ends<E: Env>(
    tier: &Tier<E>,
    link: &mut Link,
) -> Result<(Option<Seen>, Option<Seen>), Failure> {
    let mut found = [None, None];
    let ways = [("XRANGE", "-", "+"), ("XREVRANGE", "+", "-")];
    for (found, (command, from, to)) in found.iter_mut().zip(ways) {
        let mut range = cmd(command);
        range.arg(tier.stream_name()).arg(from).arg(to);
        range.arg("COUNT").arg(1);
        let answer = ask(tier, link, &range, Duration::ZERO).await?;
        *found = entries(answer)?.first().map(|e| e.id);
    }
    Ok((found[0], found[1]))
}

async fn read<E: Env>(
    tier: &Tier<E>,
    link: &mut Link,
    last: Seen,
    block: Option<Duration>,
) -> Result<Vec<Logged>, Failure> {
    let mut read = cmd("XREAD");
    read.arg("COUNT").arg(PAGE);
    if let Some(block) = block {
        read.arg("BLOCK").arg(super::millis(block));
    }
    read.arg("STREAMS")
        .arg(tier.stream_name())
        .arg(last.to_string());
    match ask(tier, link, &read, block.unwrap_or_default()).await? {
        Value::Nil => Ok(Vec::new()),
        // One stream: its name and its entries.
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(mut stream)) if stream.len() == 2 => {
                entries(stream.pop().unwrap_or_default())
            }
            _ => Err(strange()),
        },
        _ => Err(strange()),
    }
}

/// Asks, and waits for as long as the server may hold the question and a connection may take besides.
async fn ask<E: Env>(
    tier: &Tier<E>,
    link: &mut Link,
    cmd: &::redis::Cmd,
    held: Duration,
) -> Result<Value, Failure> {
    let patience = held + connect::patience(&tier.model);
    let answer = tier.env.clock().timeout(patience, link.ask(cmd)).await;
    Ok(answer.ok_or(Failure::Silent)??)
}

/// Ids and their one field's value, in order.
fn entries(value: Value) -> Result<Vec<Logged>, Failure> {
    let Value::Array(items) = value else {
        return Err(strange());
    };
    let entry = |item| {
        let Value::Array(parts) = item else {
            return Err(strange());
        };
        let id = text(parts.first()).and_then(|id| id.parse().ok());
        let id = id.ok_or_else(strange)?;
        let text = match parts.get(1) {
            Some(Value::Array(fields)) => match fields.get(1) {
                Some(Value::BulkString(text)) => text.clone(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Ok(Logged { id, text })
    };
    items.into_iter().map(entry).collect()
}

fn strange() -> Failure {
    let what = "the log of purges could not be read";
    Failure::Refused((::redis::ErrorKind::UnexpectedReturnType, what).into())
}
