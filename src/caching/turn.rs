//! Whose turn it is to fetch, where replicas share a Redis: one has the lease, and the others wait for what it stores.
//!
//! Absent: the lease itself (tier), and what is fetched (filler).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::order::Order;
use super::tier::{self, Lease, Leased, Waited};
use super::{Desk, is_whole};
use crate::cache::bans::Seen;
use crate::cache::key;
use crate::cache::policy::{self, Reuse};
use crate::cache::stored::{Entry, Stored};
use crate::env::{Clock, Env};
use crate::time::Tick;

/// What came of asking.
pub enum Turn<E: Env> {
    /// To fetch, with the lease unless nobody could give one.
    Ours(Option<Leased<E>>),
    /// Another replica has fetched it.
    Came(Arc<Stored>),
}

/// What waiting came to.
enum Waiting {
    Came(Arc<Stored>),
    Gone,
    Over,
}

/// How often the lease is asked for, by one who waits while it goes from hand to hand and nothing is stored.
const ROUNDS: u32 = 4;

/// Asks for the right to fetch, and waits while another has it, for no longer than a fetch may take.
pub async fn ask<E: Env>(desk: &Desk<E>, order: &Order<E>, request: &HeaderMap) -> Turn<E> {
    let limit = order.upstream.model.timeouts.first_byte;
    let clock = desk.core.env.clock();
    let until = clock.now() + limit;
    let mut patience = order.patience;
    for _ in 0..ROUNDS {
        let asked = clock.now();
        match tier::lease(desk, &order.place.key, limit, patience).await {
            Lease::Ours(leased, None) => return Turn::Ours(Some(leased)),
            Lease::Ours(leased, Some(found)) => {
                let left = patience.saturating_sub(clock.now().since(asked));
                return match look(desk, order, request, found, left).await {
                    Some(stored) => Turn::Came(stored),
                    None => Turn::Ours(Some(leased)),
                };
            }
            Lease::Away => return Turn::Ours(None),
            Lease::Theirs => {}
        }
        match wait(desk, order, request, until).await {
            Waiting::Came(stored) => return Turn::Came(stored),
            // Whoever was fetching has died or failed: one of those who waited goes on.
            Waiting::Gone => patience = tier::patience(desk),
            Waiting::Over => return Turn::Ours(None),
        }
    }
    Turn::Ours(None)
}

/// What was stored while the lease was being asked for, if it is good for this request.
async fn look<E: Env>(
    desk: &Desk<E>,
    order: &Order<E>,
    request: &HeaderMap,
    (mut entry, mut seen): (Entry, Seen),
    patience: Duration,
) -> Option<Arc<Stored>> {
    let mut key = order.place.key.clone();
    if !tier::adopt(desk, &key, &entry, seen) {
        return None;
    }
    if let Entry::Varies(varies) = &entry
        && key == order.place.primary
    {
        key::variant(&mut key, varies, request);
        (entry, seen) = tier::get(desk, &key, patience).await?;
        if !tier::adopt(desk, &key, &entry, seen) {
            return None;
        }
    }
    match entry {
        Entry::Response(stored) => is_usable(desk, order, &stored).then_some(stored),
        Entry::Varies(_) => None,
    }
}

/// Can it be served as it is? Parts of a response are nothing for those who want all of it.
fn is_usable<E: Env>(desk: &Desk<E>, order: &Order<E>, stored: &Stored) -> bool {
    let now = desk.core.now();
    let reuse = policy::reuse(&stored.life, stored.is_soft(), &order.wants, now);
    is_whole(stored) && matches!(reuse, Reuse::Fresh { .. })
}

/// Waits for what another replica fetches, first under this key, then under that of the variant that it leads to.
async fn wait<E: Env>(
    desk: &Desk<E>,
    order: &Order<E>,
    request: &HeaderMap,
    until: Tick,
) -> Waiting {
    let leased = &order.place.key;
    let mut key = leased.clone();
    loop {
        let (entry, seen) = match tier::wait(desk, &key, leased, until).await {
            Waited::Found(entry, seen) => (entry, seen),
            Waited::Gone => return Waiting::Gone,
            Waited::Over => return Waiting::Over,
        };
        if !tier::adopt(desk, &key, &entry, seen) {
            return Waiting::Over;
        }
        match entry {
            Entry::Varies(varies) if key == order.place.primary => {
                key::variant(&mut key, &varies, request);
            }
            Entry::Varies(_) => return Waiting::Over,
            Entry::Response(stored) if is_usable(desk, order, &stored) => {
                return Waiting::Came(stored);
            }
            Entry::Response(_) => return Waiting::Over,
        }
    }
}
