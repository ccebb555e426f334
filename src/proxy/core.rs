//! What one core has of the proxy: its own work, and what it shares with the others. Absent: what it does with it (server,
//! proxied).

use std::sync::Arc;

use crate::caching::Desk;
use crate::env::Env;
use crate::proxy::Proxy;
use crate::site::Site;
use crate::wire;

/// One core's part of the proxy.
pub struct Core<E: Env> {
    /// What all work on it shares.
    pub wire: Arc<wire::core::Core<E>>,
    /// What all cores share.
    pub proxy: Arc<Proxy<E>>,
    /// The cache.
    pub desk: Arc<Desk<E>>,
}

impl<E: Env> Core<E> {
    /// The generation for what begins now.
    pub fn site(&self) -> Arc<Site<E>> {
        self.proxy.generations.latest()
    }
}
