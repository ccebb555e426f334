//! `weir load`: many requests at once, and what came of them.
//!
//! Without `--rate` the loop is closed: each of C connections sends its next request when it has the answer to the last.
//! With `--rate` it is open: request k is meant to begin at k/R, and its latency counts from there even if every connection
//! was busy then. Otherwise a stalled server would be measured by the few requests that it let through (coordinated omission).

mod client;
mod report;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use self::client::{Client, Template};
use self::report::{Report, Tally};
use super::args::{LoadArgs, Url};
use super::signals::Signals;
use super::{FAILURE, FINE, raise_descriptor_limit, runtime};
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env, Net, Task};
use crate::time::Tick;

/// What to do, with nothing left open.
#[derive(Debug)]
struct Plan {
    url: Url,
    concurrency: u16,
    rate: Option<f64>,
    /// `u64::MAX` for no limit but time.
    requests: u64,
    duration: Option<Duration>,
    template: Template,
    json: bool,
}

impl From<LoadArgs> for Plan {
    fn from(args: LoadArgs) -> Self {
        let unlimited = args.duration.map_or(1000, |_| u64::MAX);
        Plan {
            template: Template::new(
                &args.url,
                args.method,
                args.body_bytes,
                !args.no_keep_alive,
                args.timeout,
            ),
            requests: args.requests.unwrap_or(unlimited),
            concurrency: args.concurrency,
            rate: args.rate,
            duration: args.duration,
            url: args.url,
            json: args.json,
        }
    }
}

/// What the connections share while they run.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    addrs: Vec<SocketAddr>,
    pace: Pace,
    tally: Mutex<Tally>,
}

/// Exit code 1 when any request had no whole response, or when it was interrupted.
pub(super) fn run(args: LoadArgs) -> io::Result<u8> {
    raise_descriptor_limit();
    runtime()?.block_on(async {
        let env = TokioEnv::new()?;
        let mut signals = Signals::catch()?;
        let plan = Plan::from(args);
        let url = &plan.url;
        let addrs = env.net().resolve(&url.host, url.port).await;
        let addrs = addrs.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot resolve {}: {error}", url.host),
            )
        })?;
        let shared = Arc::new(Shared {
            pace: Pace::new(&plan, env.clock().now()),
            addrs,
            tally: Mutex::new(Tally::default()),
            plan,
        });
        let progress = progress(&env, &shared);
        let mut workers = Vec::new();
        for _ in 0..u64::from(shared.plan.concurrency).min(shared.plan.requests) {
            workers.push(env.spawn("load", worker(env.clone(), Arc::clone(&shared))));
        }
        let all = async {
            for worker in workers {
                worker.join().await;
            }
        };
        let interrupted = tokio::select! {
            biased;
            () = all => false,
            _ = signals.stop() => true,
        };
        if let Some((bar, task)) = progress {
            task.abort();
            bar.finish_and_clear();
        }
        let report = shared.report(env.clock().now());
        if shared.plan.json {
            println!("{}", report.json(interrupted));
        } else {
            println!("{report}");
        }
        if interrupted {
            eprintln!("interrupted: what was still under way is not counted");
        }
        Ok(if interrupted || report.failed() {
            FAILURE
        } else {
            FINE
        })
    })
}

/// One connection: requests one after the other.
async fn worker(env: TokioEnv, shared: Arc<Shared>) {
    let clock = *env.clock();
    let mut client = Client::new(env, &shared.plan.template, &shared.addrs);
    while let Some(begin) = shared.pace.next(&clock).await {
        let result = client.request().await;
        let latency = clock.now().since(begin);
        shared.tally().count(latency, result);
    }
}

impl Shared {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        // A count that a panic left half done is still the best there is.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, now: Tick) -> Report {
        Report {
            url: format!("http://{}{}", self.plan.url.authority, self.plan.url.target),
            concurrency: self.plan.concurrency,
            rate: self.plan.rate,
            elapsed: now.since(self.pace.begin),
            tally: std::mem::take(&mut *self.tally()),
        }
    }
}

/// When each request begins.
#[derive(Debug)]
struct Pace {
    begin: Tick,
    end: Option<Tick>,
    requests: u64,
    rate: Option<f64>,
    taken: AtomicU64,
    over: AtomicBool,
}

/// A sleep may end this late by the timer's own grain, which is not the server's doing.
const GRAIN: Duration = Duration::from_millis(2);

impl Pace {
    fn new(plan: &Plan, begin: Tick) -> Self {
        Pace {
            begin,
            end: plan.duration.map(|d| begin + d),
            requests: plan.requests,
            rate: plan.rate,
            taken: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Waits for the next request's turn. Returns the time that its latency counts from; `None` when there is no more.
    async fn next(&self, clock: &impl Clock) -> Option<Tick> {
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let index = self.taken.fetch_add(1, Ordering::Relaxed);
        let now = clock.now();
        let intended = self.intended(index, now);
        if index >= self.requests || self.end.is_some_and(|end| intended >= end) {
            self.over.store(true, Ordering::Relaxed);
            return None;
        }
        if intended <= now {
            return Some(intended);
        }
        clock.sleep_until(intended).await;
        let awake = clock.now();
        Some(if awake.since(intended) <= GRAIN {
            awake
        } else {
            intended
        })
    }

    fn intended(&self, index: u64, now: Tick) -> Tick {
        match self.rate {
            Some(rate) => self.begin + Duration::from_secs_f64(index as f64 / rate),
            None => now,
        }
    }
}

/// A bar on standard error, if that is a terminal, and the task that moves it.
fn progress(env: &TokioEnv, shared: &Arc<Shared>) -> Option<(ProgressBar, Task)> {
    if shared.plan.json || !io::stderr().is_terminal() {
        return None;
    }
    let (length, template) = match (shared.plan.requests, shared.plan.duration) {
        (u64::MAX, Some(duration)) => (
            duration.as_millis() as u64,
            "{elapsed} [{wide_bar:.cyan/blue}] {percent}% {msg}",
        ),
        (requests, _) => (
            requests,
            "{elapsed} [{wide_bar:.cyan/blue}] {pos}/{len} {msg}",
        ),
    };
    // Ours are well-formed. If one was not, the library's own would do.
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.progress_chars("=> ");
    let bar = ProgressBar::new(length).with_style(style);
    let (moved, shared, clock) = (bar.clone(), Arc::clone(shared), *env.clock());
    let task = env.spawn("progress", async move {
        loop {
            clock
                .sleep_until(clock.now() + Duration::from_millis(100))
                .await;
            let elapsed = clock.now().since(shared.pace.begin);
            let (answered, failed) = shared.tally().totals();
            let rate = answered as f64 / elapsed.as_secs_f64();
            moved.set_message(match failed {
                0 => format!("{rate:.0}/s"),
                _ => format!("{rate:.0}/s, {failed} failed"),
            });
            moved.set_position(match shared.plan.requests {
                u64::MAX => elapsed.as_millis() as u64,
                _ => answered + failed,
            });
        }
    });
    Some((bar, task))
}

#[cfg(test)]
mod tests;
