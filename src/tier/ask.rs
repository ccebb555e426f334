//! One question to Redis, and what its answer says of the connection: whether others should ask as well.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, Value};

use super::breaker::Breaker;
use super::connect::{Driver, Failure, Link};
use super::keep::is_demoted;
use super::{Tier, lock};
use crate::env::{Clock, Env};

/// A core's connection, and how it fares.
pub struct State {
    pub breaker: Breaker,
    pub link: Option<(Link, Driver)>,
    /// Which connection: what an older one still answers says nothing of this one.
    number: u64,
    /// Is this core counted among those away?
    away: bool,
}

impl State {
    /// Not connected yet.
    pub fn new() -> Self {
        State {
            breaker: Breaker::new(),
            link: None,
            number: 0,
            away: false,
        }
    }
}

/// Why there is no answer.
pub enum Unanswered {
    Away,
    /// What lies there is no string, or too large to be looked at.
    Unfit,
}

impl<E: Env> Tier<E> {
    /// Asks several things at once, within `patience`, and tells the breaker what came of it.
    pub async fn ask_all<const N: usize>(
        &self,
        cmds: [::redis::Cmd; N],
        patience: Duration,
    ) -> Result<[Value; N], Unanswered> {
        let (mut link, number) = self.link().ok_or(Unanswered::Away)?;
        let asking = async {
            let answers = link.ask_all(cmds.into()).await?;
            let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
            <[Value; N]>::try_from(answers).map_err(|_| {
                let what = "an answer to each question was expected";
                RedisError::from((ErrorKind::UnexpectedReturnType, what))
            })
        };
        self.within(patience, number, asking).await
    }

    /// Asks one thing, within `patience`, and tells the breaker what came of it.
    pub async fn ask(&self, cmd: &::redis::Cmd, patience: Duration) -> Result<Value, Unanswered> {
        let (mut link, number) = self.link().ok_or(Unanswered::Away)?;
        self.within(patience, number, link.ask(cmd)).await
    }

    async fn within<T: Send>(
        &self,
        patience: Duration,
        number: u64,
        asking: impl Future<Output = Result<T, RedisError>> + Send,
    ) -> Result<T, Unanswered> {
        let clock = self.env.clock();
        let counts = &self.shared.counts;
        match clock.timeout(patience, asking).await {
            Some(Ok(value)) => {
                self.succeeded(number);
                Ok(value)
            }
            Some(Err(error)) => {
                counts.errors.add(1);
                if error.code() == Some("WRONGTYPE") {
                    // The key holds another type, and nothing is wrong with the server.
                    return Err(Unanswered::Unfit);
                }
                let unfit = error.is_io_error() && !error.is_connection_dropped();
                self.troubled(number, &error);
                Err(if unfit {
                    Unanswered::Unfit
                } else {
                    Unanswered::Away
                })
            }
            None => {
                counts.timeouts.add(1);
                // A request that had little time left says nothing about the server.
                if patience * 2 >= self.model.timeout {
                    self.failed(number, &"no answer in time");
                }
                Err(Unanswered::Away)
            }
        }
    }

    pub fn link(&self) -> Option<(Link, u64)> {
        let state = lock(&self.state);
        let (link, _) = state.link.as_ref()?;
        Some((link.clone(), state.number))
    }

    fn succeeded(&self, number: u64) {
        let mut state = lock(&self.state);
        if state.number == number {
            state.breaker.succeeded();
        }
    }

    /// The server answered with an error, or the connection failed.
    fn troubled(&self, number: u64, error: &RedisError) {
        let of_server = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
        if is_demoted(error) || !of_server {
            self.lost(number, error);
        } else {
            self.failed(number, error);
        }
    }

    pub fn failed(&self, number: u64, why: &dyn std::fmt::Display) {
        let (now, unit) = (self.env.clock().now(), self.unit());
        let mut state = lock(&self.state);
        if state.number == number && state.breaker.failed(now, unit) {
            self.open(state, why);
        }
    }

    pub fn lost(&self, number: u64, why: &dyn std::fmt::Display) {
        let (now, unit) = (self.env.clock().now(), self.unit());
        let mut state = lock(&self.state);
        if state.number == number && state.breaker.is_closed() {
            state.breaker.lost(now, unit);
            self.open(state, why);
        }
    }

    /// The breaker is open. The connection ends, so that whoever still waits on it learns of that.
    fn open(&self, mut state: MutexGuard<'_, State>, why: &dyn std::fmt::Display) {
        let link = state.link.take();
        let first = self.count_away(&mut state, true);
        drop(state);
        drop(link);
        if first {
            tracing::warn!(redis = %self.model.servers, %why, "Redis is away: caching in memory alone");
        }
        self.wake.notify_one();
    }

    /// True for the first core that is away, and for the last that is back.
    fn count_away(&self, state: &mut State, away: bool) -> bool {
        if state.away == away {
            return false;
        }
        state.away = away;
        if away {
            self.shared.away.fetch_add(1, Ordering::AcqRel) == 0
        } else {
            self.shared.away.fetch_sub(1, Ordering::AcqRel) == 1
        }
    }

    /// No connection could be made.
    pub fn unreachable(&self, why: &Failure) {
        self.shared.counts.errors.add(1);
        let (now, unit) = (self.env.clock().now(), self.unit());
        let mut state = lock(&self.state);
        state.breaker.lost(now, unit);
        let first = self.count_away(&mut state, true);
        drop(state);
        if first {
            tracing::warn!(redis = %self.model.servers, %why, "Redis is away: caching in memory alone");
        }
    }

    pub fn connected(&self, link: Link, driver: Driver, number: u64) {
        let mut state = lock(&self.state);
        state.number = number;
        state.link = Some((link, driver));
        state.breaker.connected();
        let last = self.count_away(&mut state, false);
        drop(state);
        if last {
            tracing::warn!(redis = %self.model.servers, "Redis is back");
        }
    }
}
