//! What the proxy tells about itself: counters and histograms for `/metrics`, and the access log.
//!
//! Recording costs a handful of relaxed additions on counters that only the recording core writes; they are summed at scrape.
//! No lock, no allocation, no clock. Absent: diagnostics for people (`tracing`), and the state of upstreams and of the cache,
//! which [`status`] only renders.

pub mod access;
mod books;
mod cells;
mod line;
mod render;
pub mod status;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Version};

pub use self::books::Enrolled;
use self::books::{Book, Books};
use self::cells::{Block, Flow};
pub use self::status::{
    AcmeStatus, BackendStatus, CachingStatus, CertificateStatus, CheckStatus, RedisStatus,
    UpstreamStatus,
};
use crate::cache::status::CacheResult;
use crate::engine::ShedReason;
use crate::message::cause::Cause;
use crate::time::Tick;

/// The names that numbers stand for. Numbers are positions in these lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Names of listeners, in config order.
    pub listeners: Vec<String>,
    /// Names of upstreams with those of their backends, in config order.
    pub upstreams: Vec<(String, Vec<String>)>,
}

/// One finished request: what its metrics and its line in the access log are made of.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// Index of the listener.
    pub listener: usize,
    /// Name of the route, if one matched.
    pub route: Option<&'a str>,
    /// Number of the upstream, if the route forwards.
    pub upstream: Option<usize>,
    /// Number within the upstream of the backend of the last attempt.
    pub backend: Option<usize>,
    /// The client, after trusted proxies have been taken into account.
    pub client: IpAddr,
    /// The request's method.
    pub method: &'a Method,
    /// The target as the client wrote it.
    pub target: &'a str,
    /// The version that the client speaks.
    pub version: Version,
    /// The request's host; empty if it had none.
    pub host: &'a str,
    /// The User-Agent field, unchecked bytes.
    pub user_agent: Option<&'a [u8]>,
    /// The Referer field, unchecked bytes.
    pub referer: Option<&'a [u8]>,
    /// The status that was sent; 0 when none was.
    pub status: u16,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// When its head had been read.
    pub started: Tick,
    /// When its response had ended, or it was given up.
    pub ended: Tick,
    /// How long it waited for a place, over all attempts.
    pub queue_wait: Duration,
    /// Attempts on backends.
    pub attempts: u8,
    /// Why it was not answered in full by a backend, if it was not.
    pub cause: Option<Cause>,
    /// What the cache did, where the route has one.
    pub cache: Option<CacheResult>,
    /// It became a tunnel: its length says nothing of latency, and the bytes are those that passed.
    pub tunnel: bool,
    /// Its X-Request-Id.
    pub request_id: &'a str,
    /// The date when it ended, for the access log.
    pub wall: SystemTime,
}

/// One finished TCP connection or UDP session: what its metrics and its line in the access log are made of.
#[derive(Clone, Debug)]
pub struct Session {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Index of the listener.
    pub listener: usize,
    /// Number of the upstream, if the listener leads to one.
    pub upstream: Option<usize>,
    /// Number within the upstream of the backend of the last attempt.
    pub backend: Option<usize>,
    /// The client.
    pub client: IpAddr,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// When it began.
    pub started: Tick,
    /// When it had ended on both sides.
    pub ended: Tick,
    /// How long it waited for a place, over all attempts.
    pub queue_wait: Duration,
    /// Attempts on backends.
    pub attempts: u8,
    /// Why it did not end in order, if it did not.
    pub cause: Option<Cause>,
    /// The date when it ended, for the access log.
    pub wall: SystemTime,
}

/// Counters of every core, and the access log. Shared in an `Arc`.
#[derive(Debug)]
pub struct Telemetry {
    books: Arc<Books>,
    log: Option<access::Writer>,
}

impl Telemetry {
    /// Counters at zero for `cores` cores (at least one), and the access log if there is one. The names of `layout` are numbered
    /// in their order.
    pub fn new(layout: Layout, cores: usize, log: Option<access::Writer>) -> Self {
        Telemetry {
            books: Arc::new(Books::new(layout, cores.max(1))),
            log,
        }
    }

    /// The numbers of these upstreams and their backends, by which they are counted: those that their names have, or new ones.
    pub fn enroll(&self, upstreams: &[(String, Vec<String>)]) -> Vec<Enrolled> {
        self.books.enroll(upstreams)
    }

    /// Counts one finished request and writes its line into the access log, without ever waiting for the log.
    pub fn record(&self, core: usize, x: &Exchange<'_>) {
        let book = self.books.current();
        let (block, cells) = (book.block(core), &book.cells);
        let target = cells.target(x.upstream, x.backend);
        block.add(cells.request(x.listener, target, x.status));
        if x.tunnel {
            block.add(cells.flow(x.listener, target, Flow::Ended));
        } else {
            block.observe(cells.duration(target), x.ended.since(x.started));
        }
        if let Some(upstream) = x.upstream {
            block.observe(cells.queue_wait(upstream), x.queue_wait);
        }
        if let Some(cause) = x.cause {
            caused(&book, block, x.listener, x.upstream, cause);
        }
        if let Some(result) = x.cache {
            block.add(cells.cached(x.listener, result));
        }
        if let Some(log) = &self.log {
            log.write(&book.layout, x);
        }
    }

    /// Counts one finished session, but for its bytes, and writes its line into the access log.
    pub fn record_session(&self, core: usize, x: &Session) {
        let book = self.books.current();
        let (block, cells) = (book.block(core), &book.cells);
        let target = cells.target(x.upstream, x.backend);
        block.add(cells.flow(x.listener, target, Flow::Ended));
        if let Some(upstream) = x.upstream {
            block.observe(cells.queue_wait(upstream), x.queue_wait);
        }
        if let Some(cause) = x.cause {
            caused(&book, block, x.listener, x.upstream, cause);
        }
        if let Some(log) = &self.log {
            log.write_session(&book.layout, x);
        }
    }

    /// Counts bytes that passed, as they pass: `received` from the client, `sent` to it.
    pub fn passed(
        &self,
        core: usize,
        listener: usize,
        (upstream, backend): (usize, usize),
        received: u64,
        sent: u64,
    ) {
        let book = self.books.current();
        let target = book.cells.target(Some(upstream), Some(backend));
        let cell = |flow| book.cells.flow(listener, target, flow);
        let block = book.block(core);
        block.add_many(cell(Flow::Received), received);
        block.add_many(cell(Flow::Sent), sent);
    }

    /// Counts datagrams that were dropped; `upstream` is where they would have gone.
    pub fn datagrams_dropped(
        &self,
        core: usize,
        listener: usize,
        upstream: Option<usize>,
        count: u64,
    ) {
        let book = self.books.current();
        let target = book.cells.target(upstream, None);
        let cell = book.cells.flow(listener, target, Flow::Dropped);
        book.block(core).add_many(cell, count);
    }

    /// Counts a request that never became one: its head was refused, or it did not come in time.
    pub fn refused(&self, core: usize, listener: usize, cause: Cause) {
        let book = self.books.current();
        book.block(core).add(book.cells.refused(listener, cause));
    }

    /// The same for a connection of HTTP, with a line in the access log for what came in the place of a request.
    pub fn refused_request(&self, core: usize, x: &Exchange<'_>) {
        if let Some(cause) = x.cause {
            self.refused(core, x.listener, cause);
        }
        if let Some(log) = &self.log {
            log.write(&self.books.current().layout, x);
        }
    }

    /// Counts a client connection that was accepted.
    pub fn connection_opened(&self, core: usize, listener: usize) {
        let book = self.books.current();
        book.block(core).add(book.cells.opened(listener));
    }

    /// Counts a client connection that has ended.
    pub fn connection_closed(&self, core: usize, listener: usize) {
        let book = self.books.current();
        book.block(core).add(book.cells.closed(listener));
    }

    /// Counts an attempt after the first one.
    pub fn retried(&self, core: usize, upstream: usize) {
        let book = self.books.current();
        book.block(core).add(book.cells.retried(upstream));
    }

    /// Counts a pause of accepting for want of descriptors.
    pub fn paused(&self, core: usize) {
        let book = self.books.current();
        book.block(core).add(book.cells.paused());
    }

    /// Counts a panic that was caught.
    pub fn panicked(&self, core: usize) {
        let book = self.books.current();
        book.block(core).add(book.cells.panicked());
    }

    /// Appends all counters in the OpenMetrics text format (1.0), without the final `# EOF`, which is the caller's.
    pub fn render(&self, out: &mut String) {
        let dropped = self.log.as_ref().map(access::Writer::dropped);
        let (layout, totals) = self.books.totals();
        render::render(&layout, &|cell| totals[cell], dropped, out);
    }

    /// Has the access log's file opened anew at its path, for rotation. No effect without a log.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Waits until every line so far is written, for at most `limit`; false when that was not enough.
    pub fn flush_log(&self, limit: Duration) -> bool {
        self.log.as_ref().is_none_or(|log| log.flush(limit))
    }
}

fn caused(book: &Book, block: &Block, listener: usize, upstream: Option<usize>, cause: Cause) {
    block.add(book.cells.refused(listener, cause));
    if let (Some(upstream), Some(reason)) = (upstream, shed_reason(cause)) {
        block.add(book.cells.shed(upstream, reason));
    }
}

/// The refusal that a cause stands for, if the engine was the one who refused.
fn shed_reason(cause: Cause) -> Option<ShedReason> {
    match cause {
        Cause::QueueFull => Some(ShedReason::QueueFull),
        Cause::QueueTimeout => Some(ShedReason::QueueTimeout),
        Cause::Deadline => Some(ShedReason::Deadline),
        Cause::NoBackend => Some(ShedReason::NoBackend),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
