//! The request bodies that come over one connection. Streams of HTTP/2 share the connection's window: bodies that backends do not
//! take fill it, and the other streams' clients cannot send then, however much they would. They are not to blame for it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::config::model::Http2;
use crate::time::Tick;

/// How many bodies of a connection wait for the proxy, and since when they may have left no room for others.
#[derive(Debug)]
pub struct Uploads {
    /// So many that wait may hold the whole window.
    bound: usize,
    waiting: AtomicUsize,
    /// When they last were as many, in nanoseconds.
    full: AtomicU64,
}

impl Uploads {
    /// Of a connection with these windows, if it has any.
    pub fn new(http2: Option<Http2>) -> Self {
        let bound = http2.map_or(usize::MAX, |h| {
            (h.connection_window / h.stream_window) as usize
        });
        Uploads {
            bound: bound.max(1),
            waiting: AtomicUsize::new(0),
            full: AtomicU64::new(0),
        }
    }

    /// A body waits for the proxy from here on.
    pub fn enter(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// A body no longer waits for the proxy.
    pub fn leave(&self, now: Tick) {
        if self.waiting.fetch_sub(1, Ordering::Relaxed) >= self.bound {
            self.full.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// Has there been room all the time since `since`?
    pub fn had_room(&self, since: Tick) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.bound
            && Tick::from_nanos(self.full.load(Ordering::Relaxed)) <= since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_others_fill_leaves_no_room() {
        let uploads = Uploads::new(Some(Http2 {
            stream_window: 64 << 10,
            connection_window: 128 << 10,
            ..Http2::default()
        }));
        let at = Tick::from_millis;
        uploads.enter();
        assert!(uploads.had_room(at(1)));
        uploads.enter();
        assert!(!uploads.had_room(at(1)));
        uploads.leave(at(5));
        assert!(!uploads.had_room(at(4)));
        assert!(uploads.had_room(at(5)));
        // Without streams there is nobody to share with.
        let alone = Uploads::new(None);
        alone.enter();
        assert!(alone.had_room(at(1)));
    }
}
