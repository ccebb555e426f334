//! How far an unruly connection has come: what its two halves, the writing and the reading one, tell each other.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use weirkeeper::env::{Clock, Env};

use super::script::Script;
use crate::env::{SimEnv, lock};
use crate::ledger::Ledger;

/// How long a client waits for the word to go on.
const GOES_ON: Duration = Duration::from_millis(800);

/// A connection under way.
pub(super) struct Course {
    pub(super) env: SimEnv,
    pub(super) ledger: Ledger,
    pub(super) script: Script,
    state: Mutex<State>,
    /// Something came.
    heard: Notify,
    /// All is said.
    said: Notify,
}

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The ids of requests that were begun.
    pub(super) ids: Vec<u64>,
    /// Heads that were sent whole.
    pub(super) heads: usize,
    /// Requests that were sent whole.
    pub(super) whole: usize,
    /// Answers whose heads have come.
    pub(super) begun: usize,
    /// Answers that have come whole.
    pub(super) answered: usize,
    /// Words to go on.
    pub(super) told: usize,
    /// All is written.
    pub(super) said: bool,
    /// The proxy's end has come.
    pub(super) ended: bool,
    /// The client's end is said.
    pub(super) half_closed: bool,
    /// The proxy may close the connection for what was before, or has said that it will.
    pub(super) may_end: bool,
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The client has left.
    Left,
    /// The proxy has ended it.
    Ended,
    /// All is answered.
    Quiet,
}

impl Course {
    pub(super) fn new(env: SimEnv, ledger: Ledger, script: Script) -> Self {
        Course {
            env,
            ledger,
            script,
            state: Mutex::default(),
            heard: Notify::new(),
            said: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn reach(&self, what: &'static str) {
        self.ledger.book().reach(what);
    }

    /// The reader has got further.
    pub(super) fn hears(&self) {
        self.heard.notify_one();
    }

    /// The writer has nothing more to say.
    pub(super) fn says_no_more(&self) {
        self.state().said = true;
        self.said.notify_one();
    }

    /// Waits until the reader has got so far.
    pub(super) async fn until(&self, far: impl Fn(&State) -> bool) {
        while !far(&self.state()) {
            self.heard.notified().await;
        }
    }

    pub(super) async fn sleep(&self, time: Duration) {
        let clock = self.env.clock();
        clock.sleep_until(clock.now() + time).await;
    }

    /// The request is said to its end that the writer is at.
    pub(super) async fn all_said(&self) {
        self.state().ended = true;
        self.hears();
        while !self.state().said {
            self.said.notified().await;
        }
    }

    /// All is said and answered.
    pub(super) async fn done(&self) {
        let done = |s: &State| s.said && s.answered == s.ids.len();
        while !done(&self.state()) {
            self.said.notified().await;
        }
    }

    /// So many more heads leave whole.
    pub(super) fn claim(&self, heads: usize) {
        let mut state = self.state();
        let from = state.heads;
        state.heads += heads;
        let mut book = self.ledger.book();
        for id in &state.ids[from..from + heads] {
            if let Some(claim) = book.wires.claims.get_mut(id) {
                claim.sent = true;
            }
        }
    }

    /// Waits for the word to go on, or for an answer, though not for ever.
    pub(super) async fn until_told(&self, at: usize) {
        let before = self.state().told;
        let word = self.until(|s| s.told > before || s.begun > at || s.ended);
        let waited = self.env.clock().timeout(GOES_ON, word).await;
        let told = waited.is_some() && self.state().told > before;
        if told {
            self.reach("a client was told to go on");
        }
    }
}
