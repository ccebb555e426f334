//! What a fetch leaves behind: the entry under its key, the note of what it varies by, or the memory that it is not shared.

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderMap;

use super::InFlight;
use crate::cache::admission::Refused;
use crate::cache::key;
use crate::cache::policy::Keep;
use crate::cache::range;
use crate::cache::stored::{Entry, Head, Stored, Varies};
use crate::caching::tier;
use crate::env::Env;

impl<E: Env> InFlight<E> {
    /// A part, put together with what lies there (RFC 9111 section 3.4).
    pub(super) fn joined(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        head: Head,
        keep: &Keep,
        body: bytes::Bytes,
    ) -> Option<Stored> {
        let (first, total, bytes) = range::part(status.as_u16(), headers, body)?;
        // What lies there now: more may have come meanwhile.
        let there = self.caching().store.peek(self.under(keep));
        let old = match &there {
            Some(Entry::Response(stored)) => Some(stored),
            _ => self.order.stored.as_ref(),
        };
        let body = range::join(old.map(|s| &**s), &head, first, total, bytes)?;
        Some(Stored::new(200, head, body, keep.life))
    }

    /// Says under the primary key which fields choose, before the body is here, so that others find their own variant.
    pub(super) fn announce(&mut self, keep: &Keep) {
        if keep.vary.is_empty() || self.fill.is_tainted() {
            return;
        }
        let caching = Arc::clone(&self.order.desk.caching);
        let place = &mut self.order.place;
        let varies = match caching.store.peek(&place.primary) {
            Some(Entry::Varies(varies)) if varies.names == keep.vary => varies,
            _ => {
                let varies = Arc::new(Varies {
                    names: keep.vary.clone(),
                    generation: caching.draw(),
                });
                let entry = Entry::Varies(Arc::clone(&varies));
                caching.store.put(&place.primary, entry);
                varies
            }
        };
        // Each time, so that it lives there for as long as the latest variant.
        let entry = Entry::Varies(Arc::clone(&varies));
        tier::put(
            &self.order.desk,
            &place.primary,
            &entry,
            self.seen,
            &keep.life,
        );
        let mut variant = place.primary.clone();
        key::variant(&mut variant, &varies, &self.fill.request);
        place.store_under = variant;
    }

    /// The key of a response with these selecting fields.
    fn under(&self, keep: &Keep) -> &[u8] {
        let place = &self.order.place;
        if keep.vary.is_empty() {
            &place.primary
        } else {
            &place.store_under
        }
    }

    /// Stores, unless it was purged meanwhile, or a fetch that began later has brought something newer (RFC 9111 section 4: the
    /// most recent response is the one to use).
    pub(super) fn put(&mut self, entry: Entry, keep: &Keep) -> bool {
        if self.fill.is_tainted() {
            return false;
        }
        let under = self.under(keep);
        if let Some(Entry::Response(there)) = self.caching().store.peek(under)
            && there.life.received > keep.life.received
        {
            return false;
        }
        let stored = self.caching().store.put(under, entry.clone());
        if self.fill.is_tainted() {
            // Whoever purged before this look is answered here; whoever purges after it finds the entry.
            self.caching().store.remove(under);
            return false;
        }
        self.shared = tier::put(&self.order.desk, under, &entry, self.seen, &keep.life);
        stored
    }

    /// What lies there is outdated, unless what came cannot be stored only because of who asked: then it is no worse than before.
    pub(super) fn forget(&self, why: Refused) {
        if self.order.stored.is_some() && !why.spares_what_is_stored() {
            self.caching().store.remove(&self.order.place.store_under);
            tier::remove(&self.order.desk, &self.order.place.store_under);
        }
    }

    /// It cannot be shared; with `personal` only because of who asked.
    pub(super) fn remember(&self, personal: bool) {
        let until = self.now() + self.order.rules.uncacheable_for;
        let key = &self.order.place.key;
        self.caching().remember(key, personal, until);
    }

    pub(super) fn release(&mut self, pass: bool) {
        if let Some(leased) = self.leased.take() {
            leased.release(pass);
        }
    }
}
