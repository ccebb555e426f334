//! What goes into a world beside its plan, the subject of the rehearsal, and what comes out of it, a run.
//!
//! Absent: how the one becomes the other (world), and what is to be thought of it (checkers).

use std::future::Future;
use std::pin::Pin;

use weirkeeper::config::model::Config;
use weirkeeper::telemetry::UpstreamStatus;

use crate::env::{Open, SimEnv};
use crate::ledger::{Book, Ledger};
use crate::plan::Plan;
use crate::shares::Shares;

/// What is rehearsed: something that serves a config on a simulated host.
pub trait Subject: 'static {
    /// Serves until the world ends. An error fails the run.
    fn serve(&self, env: SimEnv, plan: &Plan, ledger: Ledger) -> Serving;

    /// What it says of its upstreams; empty if it has no such thing.
    fn status(&self) -> Vec<UpstreamStatus>;

    /// Puts another config to work, if it can.
    ///
    /// # Errors
    /// Why it does not.
    fn replace(&self, config: &Config) -> std::io::Result<()>;

    /// Asks it to finish what runs and stop.
    fn stop(&self);

    /// How many connections it cut when it stopped; `None` while it has not.
    fn stopped(&self) -> Option<usize>;
}

/// A subject at work.
pub type Serving = Pin<Box<dyn Future<Output = std::io::Result<()>>>>;

/// What a run leaves behind.
#[derive(Debug)]
pub struct Run {
    /// What was run.
    pub plan: Plan,
    /// What happened.
    pub book: Book,
    /// Connections to each backend, as they were dialled.
    pub open: Vec<Open>,
    /// The most requests that each backend had at once, orphans aside.
    pub peaks: Vec<u32>,
    /// Panics within tasks.
    pub panics: Vec<String>,
    /// What each upstream's backends earned and were given.
    pub shares: Vec<Shares>,
    /// What the subject said of its upstreams at the end.
    pub status: Vec<UpstreamStatus>,
    /// Why the world came to a stop before its end.
    pub stopped: Option<String>,
}
