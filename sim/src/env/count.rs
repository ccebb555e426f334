//! Connections and associated sockets, counted by the address that they lead to.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Fabric, lock};

/// Connections that were dialled to one address, from the dial to the drop; or sockets that are associated with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Now.
    pub now: u32,
    /// The most at once.
    pub peak: u32,
    /// All of them.
    pub total: u64,
}

/// Counts one connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted {
    fabric: Arc<Fabric>,
    addr: SocketAddr,
    /// It was taken off already.
    forgotten: bool,
}

impl Counted {
    pub(super) fn new(fabric: &Arc<Fabric>, addr: SocketAddr) -> Self {
        let mut open = lock(&fabric.open);
        let entry = open.entry(addr).or_default();
        entry.now += 1;
        entry.total += 1;
        entry.peak = entry.peak.max(entry.now);
        drop(open);
        Counted {
            fabric: Arc::clone(fabric),
            addr,
            forgotten: false,
        }
    }

    /// It was taken off already.
    pub(super) fn forget(mut self) {
        self.forgotten = true;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.forgotten {
            self.fabric.uncount(self.addr);
        }
    }
}
