//! The second tier as the walk sees it: where there is none, nothing is found there and nothing waits.

use std::sync::Arc;
use std::time::Duration;

use super::Desk;
use crate::cache::bans::{Seen, Verdict};
use crate::cache::life::Life;
use crate::cache::stored::Entry;
use crate::env::Env;
pub use crate::tier::Waited;
use crate::tier::{self as second, Tier, Token};
use crate::time::Tick;

/// May this replica fetch?
pub enum Lease<E: Env> {
    /// It may; and what lies there by now.
    Ours(Leased<E>, Option<(Entry, Seen)>),
    /// Another does so already.
    Theirs,
    /// Nobody can tell.
    Away,
}

/// The right to fetch for all replicas; given back by its drop.
pub struct Leased<E: Env> {
    tier: Arc<Tier<E>>,
    token: Option<Token>,
}

impl<E: Env> Leased<E> {
    /// Gives it back; with `pass` those who wait learn that nothing will be stored.
    pub fn release(mut self, pass: bool) {
        if let Some(token) = self.token.take() {
            self.tier.release(token, pass);
        }
    }
}

impl<E: Env> Drop for Leased<E> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.tier.release(token, false);
        }
    }
}

/// Asks for the right to fetch `key`, for at most `limit`; the question takes no longer than `patience`.
pub async fn lease<E: Env>(
    desk: &Desk<E>,
    key: &[u8],
    limit: Duration,
    patience: Duration,
) -> Lease<E> {
    let Some(tier) = desk.tier.as_ref() else {
        return Lease::Away;
    };
    match tier.lease(key, limit, patience).await {
        second::Lease::Ours(token, found) => {
            let leased = Leased {
                tier: Arc::clone(tier),
                token: Some(token),
            };
            Lease::Ours(leased, found)
        }
        second::Lease::Theirs => Lease::Theirs,
        second::Lease::Away => Lease::Away,
    }
}

/// What lies there under `key`.
pub async fn get<E: Env>(desk: &Desk<E>, key: &[u8], patience: Duration) -> Option<(Entry, Seen)> {
    match desk.tier.as_ref()?.get(key, patience).await {
        second::Look::Found(entry, seen) => Some((entry, seen)),
        second::Look::Nothing | second::Look::Away => None,
    }
}

/// Waits until `until` for what another replica fetches, who holds the lease of `leased`, to lie under `key`.
pub async fn wait<E: Env>(desk: &Desk<E>, key: &[u8], leased: &[u8], until: Tick) -> Waited {
    match desk.tier.as_ref() {
        Some(tier) => tier.wait(key, leased, until).await,
        None => Waited::Over,
    }
}

/// The last purge that was carried out here: to be taken when a fetch begins.
pub fn seen<E: Env>(desk: &Desk<E>) -> Seen {
    let tier = desk.tier.as_ref();
    tier.map_or_else(Seen::default, |tier| tier.seen())
}

/// What one request may spend on the second tier.
pub fn patience<E: Env>(desk: &Desk<E>) -> Duration {
    let tier = desk.tier.as_ref();
    tier.map_or(Duration::ZERO, |tier| tier.timeout())
}

/// Puts what came from there into memory. False if a purge has ruled it out meanwhile.
pub fn adopt<E: Env>(desk: &Desk<E>, key: &[u8], entry: &Entry, seen: Seen) -> bool {
    let Some(tier) = desk.tier.as_ref() else {
        return false;
    };
    let store = &desk.caching.store;
    store.put(key, entry.clone());
    // A purge that is on the list by now may have passed through memory before; one that is not will do so.
    match tier.shared().judge(key, entry, seen) {
        Verdict::Keep => true,
        Verdict::Soft => {
            second::soften(entry);
            true
        }
        Verdict::Drop => {
            store.remove(key);
            false
        }
    }
}

/// Hands an entry on, for as long as it may be of use. False when it will not be there.
pub fn put<E: Env>(desk: &Desk<E>, key: &[u8], entry: &Entry, seen: Seen, life: &Life) -> bool {
    let Some(tier) = desk.tier.as_ref() else {
        return false;
    };
    tier.put(key, entry, seen, life)
}

/// Takes an entry out.
pub fn remove<E: Env>(desk: &Desk<E>, key: &[u8]) {
    if let Some(tier) = desk.tier.as_ref() {
        tier.remove(key);
    }
}
