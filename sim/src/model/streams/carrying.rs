//! A backend's connection of HTTP/2 as its streams know it, and what they bring on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::env::Link;
use crate::model::speech::Manner;

/// A connection, as its streams know it.
pub(super) struct Carrying {
    pub(super) key: u64,
    pub(super) manner: Manner,
    pub(super) tls: bool,
    pub(super) link: Arc<Link>,
    /// What is to become of it.
    pub(super) fate: AtomicU8,
}

/// It goes on.
pub(super) const STAYS: u8 = 0;
/// It takes no more streams.
pub(super) const GOES: u8 = 1;
/// It says what it has processed, and ends.
pub(super) const QUITS: u8 = 2;

impl Carrying {
    /// From now on it is to become of it what `fate` says, unless that is worse already.
    pub(super) fn doom(&self, fate: u8) {
        self.fate.fetch_max(fate, Ordering::Relaxed);
    }
}
