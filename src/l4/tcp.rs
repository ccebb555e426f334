//! A TCP connection at L4: admitted, dialled, joined to its backend, and let go when both directions have ended.
//!
//! A connection is what is in flight: it holds its place in the upstream from the dial to its end. Another backend is tried
//! only when a dial fails, since nothing has been sent then. Absent: the copying itself (relay).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::engine::retry::Progress as RetryProgress;
use crate::engine::{Meta, Outcome};
use crate::env::{Clock, Env, Stream};
use crate::l4::itself::is_itself;
use crate::message::affinity::address_key;
use crate::message::cause::Cause;
use crate::message::client_hello::{self, ClientHello, Malformed, Progress, UNRECOGNIZED_NAME};
use crate::site::client::Client;
use crate::site::handshake;
use crate::telemetry::Session;
use crate::time::Tick;
use crate::upstream::Upstream;
use crate::upstream::failure::Failure;
use crate::upstream::gate::Lease;
use crate::upstream::pool::{Backend, Link};
use crate::upstream::tries::{Tries, Work, try_backends};
use crate::wire::relay::{End, Relay, Side, linger};
use crate::wire::watch::Phase;
use crate::wire::{SocketOf, StreamOf};

/// What is read of a client while it waits for a place: enough for a greeting, and to notice that it leaves.
const EARLY: usize = 4096;

/// What is read in search of a hello's end: the longest one, in reasonable records.
const HELLO: usize = 20 * 1024;

/// Serves one client connection until it ends.
pub async fn run<E: Env>(client: Arc<Client<E>>, socket: SocketOf<E>) {
    let Some(mut stream) = handshake::begin(&client, socket).await else {
        return;
    };
    let mut early = Early::default();
    let started = client.core().now();
    let routed = if client.model().asks_for_hello() {
        Box::pin(route(&client, &mut stream, &mut early)).await
    } else {
        client.model().leads_to(None).ok_or(Cause::NoRoute)
    };
    let index = match routed {
        Ok(index) => index,
        Err(cause) => {
            client.refused(cause);
            stream.set_abort();
            return;
        }
    };
    let upstream = Arc::clone(&client.site.upstreams[index]);
    let mut record = Record::new(&client, upstream.number(), started);
    // On the heap, or its frame would stay with the connection for its whole life.
    let connecting = Box::pin(connect(
        &client,
        &upstream,
        &mut stream,
        &mut early,
        &mut record.tries,
    ));
    let (lease, mut link) = match connecting.await {
        Ok(connected) => connected,
        Err(cause) => {
            record.cause = Some(cause);
            // An orderly close would look like an answer that is empty.
            stream.set_abort();
            return;
        }
    };
    let end = join(&client, &mut stream, &mut link.stream, early, &mut record).await;
    let (cause, outcome) = settle(end, &stream, &link.stream, record.sent == 0);
    record.cause = cause;
    if end == Some(End::Refused(Side::Near)) {
        Box::pin(linger(&client.core().env, &mut link.stream)).await;
    }
    // Closed before its place is free, so that open connections stay within the backend's bound.
    drop(link);
    lease.finish(outcome);
    if end == Some(End::Refused(Side::Far)) {
        Box::pin(linger(&client.core().env, &mut stream)).await;
    }
}

/// Which upstream the client's hello leads to. A client that is silent for as long as a head may take waits to be spoken to,
/// and is led like one whose first bytes are not TLS.
async fn route<E: Env>(
    client: &Client<E>,
    stream: &mut StreamOf<E>,
    early: &mut Early,
) -> Result<usize, Cause> {
    let hello = if let Some(session) = stream.session() {
        let server_name = session.server_name().map(str::to_ascii_lowercase);
        Some(ClientHello {
            server_name,
            protocols: Vec::new(),
        })
    } else {
        let clock = client.core().env.clock();
        let reading = std::future::poll_fn(|cx| early.poll_hello(cx, stream));
        let limit = client.model().timeouts.header;
        match clock.timeout(limit, reading).await {
            Some(read) => read?,
            None if early.bytes.is_empty() => None,
            None => return Err(Cause::ClientTimeout),
        }
    };
    let led = client.model().leads_to(hello.as_ref());
    if led.is_none() && hello.is_some() && !stream.is_tls() {
        // Whether it is still there to hear of it makes no difference here.
        stream.write_all(&UNRECOGNIZED_NAME).await.ok();
        stream.shutdown().await.ok();
        linger(&client.core().env, stream).await;
    }
    led.ok_or(Cause::NoRoute)
}

/// Finds a backend that takes the connection.
async fn connect<E: Env>(
    client: &Client<E>,
    upstream: &Arc<Upstream<E>>,
    stream: &mut StreamOf<E>,
    early: &mut Early,
    tries: &mut Tries,
) -> Result<(Lease<E>, Box<Link<E>>), Cause> {
    let mut meta = Meta::first(client.core().now());
    // The same for every connection of a client, whatever its port.
    meta.client = address_key(client.origin.peer);
    let proxied = upstream.model.proxy_protocol;
    let mut connecting = Connecting {
        client,
        upstream,
        stream,
        early,
        first: proxied.map(|version| client.origin.header(version)),
    };
    try_backends(&client.errand, upstream, meta, &mut connecting, tries).await
}

/// A client's connection that has no backend yet.
struct Connecting<'a, E: Env> {
    client: &'a Client<E>,
    upstream: &'a Upstream<E>,
    stream: &'a mut StreamOf<E>,
    early: &'a mut Early,
    /// What its connection to a backend begins with.
    first: Option<Bytes>,
}

impl<E: Env> Work<E> for Connecting<'_, E> {
    type Done = (Lease<E>, Box<Link<E>>);

    fn set_waiting(&mut self, _: bool) {}

    fn is_unwanted(&mut self, cx: &mut Context<'_>) -> bool {
        self.early.is_gone(cx, self.stream)
    }

    async fn attempt(
        &mut self,
        lease: Lease<E>,
        backend: &Arc<Backend<E>>,
    ) -> Result<(Lease<E>, Box<Link<E>>), Failure> {
        let first = self.first.as_deref().unwrap_or_default();
        match backend.dial(&self.client.core().env, first).await {
            Ok(link) if self.comes_back(&link.stream) => {
                drop(link);
                lease.finish(Outcome::Cancelled);
                let (cause, progress) = (Cause::Loop, RetryProgress::NeverSent);
                Err(Failure::new(cause, progress, Outcome::Cancelled))
            }
            Ok(mut link) => {
                // The relay has no use for the buffer that a request's head is written to.
                link.write = BytesMut::new();
                Ok((lease, link))
            }
            Err(undialled) => {
                lease.finish(undialled.outcome);
                Err(undialled.into())
            }
        }
    }

    /// Nothing has been sent.
    fn may_retry(&self, _: &Failure) -> bool {
        true
    }
}

impl<E: Env> Connecting<'_, E> {
    /// Has the dial reached the very listener that the client came by?
    fn comes_back(&self, stream: &StreamOf<E>) -> bool {
        let bound = self.client.model().bind;
        let is_itself = is_itself(bound, stream.local_addr(), stream.peer_addr());
        if is_itself {
            self.upstream.tell_of_loop();
        }
        is_itself
    }
}

/// What was read of a client before it had a backend.
#[derive(Default)]
struct Early {
    bytes: Vec<u8>,
    ended: bool,
}

impl Early {
    /// Reads what the client sends while it waits. True when it has left: it broke off, or ended without a word.
    fn is_gone<S: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> bool {
        while !self.ended && self.bytes.len() < EARLY {
            let mut piece = [0; 512];
            let mut read = ReadBuf::new(&mut piece);
            match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => return true,
                Poll::Ready(Ok(())) if read.filled().is_empty() => self.ended = true,
                Poll::Ready(Ok(())) => self.bytes.extend_from_slice(read.filled()),
            }
        }
        self.ended && self.bytes.is_empty()
    }

    /// Reads until it is certain what the client's hello says; `None` when it is certain that there is none to be read.
    fn poll_hello<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<Option<ClientHello>, Cause>> {
        loop {
            match client_hello::read(&self.bytes) {
                Ok(Progress::Done(hello)) => return Poll::Ready(Ok(Some(hello))),
                Err(Malformed) => return Poll::Ready(Ok(None)),
                Ok(Progress::More) if self.ended && self.bytes.is_empty() => {
                    return Poll::Ready(Err(Cause::ClientGone));
                }
                Ok(Progress::More) if self.ended || self.bytes.len() >= HELLO => {
                    return Poll::Ready(Ok(None));
                }
                Ok(Progress::More) => {}
            }
            let mut piece = [0; 2048];
            let mut read = ReadBuf::new(&mut piece);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)) {
                Err(_) => return Poll::Ready(Err(Cause::ClientGone)),
                Ok(()) => {
                    self.ended = read.filled().is_empty();
                    self.bytes.extend_from_slice(read.filled());
                }
            }
        }
    }
}

/// Joins client and backend until both have ended, one breaks off, or, which is `None`, nothing passes for too long.
async fn join<E: Env>(
    client: &Client<E>,
    near: &mut StreamOf<E>,
    far: &mut StreamOf<E>,
    early: Early,
    record: &mut Record<E>,
) -> Option<End> {
    let mut relay = Relay::new(Bytes::from(early.bytes), early.ended, Bytes::new());
    let patience = client.model().timeouts.tunnel;
    client.arm_in(Phase::Tunnel, patience);
    let end = std::future::poll_fn(|cx| {
        client.errand.watch.register(cx.waker());
        let due = client.due() == Some(Phase::Tunnel);
        let poll = relay.poll(cx, near, far);
        if record.moved(relay.moved()) {
            client.arm_in(Phase::Tunnel, patience);
        } else if due && poll.is_pending() {
            return Poll::Ready(None);
        }
        poll.map(Some)
    })
    .await;
    client.disarm();
    end
}

/// What an end means for the log and for the engine, and who is to be reset for it. `silent` tells that the backend never
/// said a byte.
fn settle<S: Stream>(
    end: Option<End>,
    near: &S,
    far: &S,
    silent: bool,
) -> (Option<Cause>, Outcome) {
    match end {
        Some(End::Whole | End::Refused(_)) => (None, Outcome::Success),
        Some(End::Broken(Side::Near)) => {
            far.set_abort();
            (Some(Cause::ClientGone), Outcome::Cancelled)
        }
        Some(End::Broken(Side::Far)) => {
            near.set_abort();
            let outcome = if silent {
                Outcome::Died
            } else {
                Outcome::Broken
            };
            (Some(Cause::BackendClosed), outcome)
        }
        None => {
            near.set_abort();
            far.set_abort();
            (Some(Cause::TunnelIdle), Outcome::Cancelled)
        }
    }
}

/// What is told of the connection when it is over, whatever its end.
struct Record<E: Env> {
    client: Arc<Client<E>>,
    upstream: usize,
    tries: Tries,
    started: Tick,
    received: u64,
    sent: u64,
    cause: Option<Cause>,
}

impl<E: Env> Record<E> {
    fn new(client: &Arc<Client<E>>, upstream: usize, started: Tick) -> Self {
        Record {
            client: Arc::clone(client),
            upstream,
            tries: Tries::default(),
            started,
            received: 0,
            sent: 0,
            // What stands if the connection is dropped before its end.
            cause: Some(Cause::ShuttingDown),
        }
    }

    /// Counts what has passed since the last time; false when it is nothing.
    fn moved(&mut self, (received, sent): (u64, u64)) -> bool {
        let more = (received - self.received, sent - self.sent);
        if more == (0, 0) {
            return false;
        }
        (self.received, self.sent) = (received, sent);
        if let Some(backend) = self.tries.backend {
            let (core, listener) = (self.client.core().index(), self.client.listener);
            let target = (self.upstream, backend);
            let telemetry = self.client.core().telemetry();
            telemetry.passed(core, listener, target, more.0, more.1);
        }
        true
    }
}

impl<E: Env> Drop for Record<E> {
    fn drop(&mut self) {
        let client = &self.client;
        let session = Session {
            protocol: "tcp",
            listener: client.listener,
            upstream: Some(self.upstream),
            backend: self.tries.backend,
            client: client.origin.peer,
            bytes_sent: self.sent,
            bytes_received: self.received,
            started: self.started,
            ended: client.core().now(),
            queue_wait: self.tries.queue_wait,
            attempts: self.tries.attempts,
            cause: self.cause,
            wall: client.core().env.clock().wall(),
        };
        client
            .core()
            .telemetry()
            .record_session(client.core().index(), &session);
    }
}
