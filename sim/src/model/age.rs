//! How old a backend's connections are when requests begin on them.

use weirkeeper::env::{Clock, Env};

use super::backend::Backend;
use crate::env::lock;

impl Backend {
    /// A request has come over the connection of this number.
    pub(super) fn note_age(&self, key: u64) {
        let now = self.env.clock().now();
        let since = lock(&self.state).connections.get(&key).map(|c| c.since);
        if let Some(since) = since {
            let mut book = self.ledger.book();
            let oldest = book.oldest.entry(self.load.index).or_default();
            *oldest = now.since(since).max(*oldest);
        }
    }
}
