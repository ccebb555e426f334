//! The second tier as the walk sees it: where there is none, nothing is found there and nothing waits.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::life::Life;
use crate::cache::stored::Entry;
use crate::env::Env;
use crate::proxy::redis::{self, Tier, Token};
use crate::proxy::server::Conn;

/// Nothing lies there for longer, whatever a response says of itself.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// May this replica fetch?
pub enum Lease<E: Env> {
    Ours(Leased<E>),
    /// Another does so already.
    Theirs,
    /// Nobody can tell.
    Away,
}

/// The right to fetch for all replicas; given back by its drop.
pub struct Leased<E: Env> {
    tier: Arc<Tier<E>>,
    key: Vec<u8>,
    token: Option<Token>,
}

impl<E: Env> Leased<E> {
    /// Gives it back; with `pass` those who wait learn that nothing will be stored.
    pub fn release(mut self, pass: bool) {
        if let Some(token) = self.token.take() {
            self.tier.release(&self.key, token, pass);
        }
    }
}

impl<E: Env> Drop for Leased<E> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.tier.release(&self.key, token, false);
        }
    }
}

/// Asks for the right to fetch `key`, for at most `limit`.
pub async fn lease<E: Env>(conn: &Conn<E>, key: &[u8], limit: Duration) -> Lease<E> {
    let Some(tier) = conn.core.tier() else {
        return Lease::Away;
    };
    match tier.lease(key, limit).await {
        redis::Lease::Ours(token) => Lease::Ours(Leased {
            tier: Arc::clone(tier),
            key: key.to_vec(),
            token: Some(token),
        }),
        redis::Lease::Theirs => Lease::Theirs,
        redis::Lease::Away => Lease::Away,
    }
}

/// Waits for what another replica fetches; `None` when it gave up or took too long.
pub async fn wait<E: Env>(conn: &Conn<E>, key: &[u8], limit: Duration) -> Option<Entry> {
    conn.core.tier()?.wait(key, limit).await
}

/// Hands an entry on, for as long as it may be of use.
pub fn put<E: Env>(conn: &Conn<E>, key: &[u8], entry: Entry, life: &Life) {
    let Some(tier) = conn.core.tier() else {
        return;
    };
    let stale = life.stale_while_revalidate.max(life.stale_if_error);
    let left = life
        .lifetime
        .saturating_sub(life.initial_age)
        .saturating_add(stale);
    if left > 0 {
        tier.put(key, entry, Duration::from_secs(left.into()).min(LONGEST));
    }
}

/// Takes an entry out.
pub fn remove<E: Env>(conn: &Conn<E>, key: &[u8]) {
    if let Some(tier) = conn.core.tier() {
        tier.remove(key);
    }
}
