//! One session: its place in the upstream, its socket to a backend, and its replies on their way to its client.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::sync::Notify;

use super::{DATAGRAM, Port, cause};
use crate::engine::retry::Progress;
use crate::engine::sessions::SessionId;
use crate::engine::{Meta, Outcome};
use crate::env::{Clock, Datagram, Env};
use crate::l4::itself::is_itself;
use crate::message::affinity::address_key;
use crate::message::cause::Cause;
use crate::site::client::Client;
use crate::telemetry::Session;
use crate::upstream::Upstream;
use crate::upstream::failure::Failure;
use crate::upstream::gate::Lease;
use crate::upstream::pool::{Association, Backend, Permit};
use crate::upstream::tries::{Tries, Work, try_backends};
use crate::wire::DatagramOf;
use crate::wire::errand::Errand;

/// Replies that one session passes on before others have their turn.
const TURN: usize = 32;

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing came from either side for too long.
    Idle,
    /// The table was full, and it was the idlest.
    Evicted,
    /// All that it asked was answered, and another waited for its place.
    Yielded,
    /// Its socket failed, as when nobody listens at the backend.
    Failed(io::ErrorKind),
}

/// A session as the listener's task sees it.
pub struct Flow<E: Env> {
    id: OnceLock<SessionId>,
    /// Where it goes.
    upstream: Arc<Upstream<E>>,
    /// Set once, when the backend is chosen.
    backend: OnceLock<Chosen<E>>,
    /// Datagrams that came before that; `None` once they are sent.
    early: Mutex<Option<Vec<Bytes>>>,
    over: Mutex<Option<Over>>,
    ended: Notify,
    /// Bytes that went to the backend.
    received: AtomicU64,
}

/// A session's backend.
struct Chosen<E: Env> {
    number: usize,
    socket: DatagramOf<E>,
    addr: SocketAddr,
}

impl<E: Env> Flow<E> {
    /// A session that begins with this datagram.
    pub fn new(first: Bytes, upstream: Arc<Upstream<E>>) -> Self {
        Flow {
            id: OnceLock::new(),
            upstream,
            backend: OnceLock::new(),
            early: Mutex::new(Some(vec![first])),
            over: Mutex::new(None),
            ended: Notify::new(),
            received: AtomicU64::new(0),
        }
    }

    /// Says which session it is; once.
    pub fn is(&self, id: SessionId) {
        let _ = self.id.set(id);
    }

    /// Which session it is.
    pub fn id(&self) -> SessionId {
        let id = self.id.get();
        *id.expect(
            "the one core that knows of a session says its number right after it has opened it",
        )
    }

    /// Ends it, unless it has ended before.
    pub fn end(&self, over: Over) {
        lock(&self.over).get_or_insert(over);
        self.ended.notify_one();
    }

    /// Passes a datagram of the client on, or keeps it until there is a backend; false when it is dropped.
    ///
    /// # Errors
    /// The socket's, as when nobody listens at the backend; the datagram was not sent then.
    pub fn pass(&self, port: &Port<E>, cx: &mut Context<'_>, datagram: &[u8]) -> io::Result<bool> {
        let mut early = lock(&self.early);
        if let Some(early) = &mut *early {
            let fits = port.reserve(datagram.len());
            if fits {
                early.push(Bytes::copy_from_slice(datagram));
            }
            return Ok(fits);
        }
        drop(early);
        match self.send(cx, datagram) {
            Poll::Ready(Ok(())) => {
                self.passed(port, datagram.len());
                Ok(true)
            }
            // Of its own size, a datagram that is too large for the way to the backend.
            Poll::Ready(Err(e)) if !is_gone(&e) => Ok(false),
            Poll::Ready(Err(e)) => Err(e),
            Poll::Pending => Ok(false),
        }
    }

    fn send(&self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        let Some(to) = self.backend.get() else {
            return Poll::Pending;
        };
        to.socket.poll_send(cx, datagram, to.addr)
    }

    fn passed(&self, port: &Port<E>, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(backend) = self.backend.get() {
            let target = (self.upstream.number(), backend.number);
            let core = port.core.env.core();
            let telemetry = port.core.telemetry();
            telemetry.passed(core, port.listener, target, bytes as u64, 0);
        }
    }

    /// Sends what came before there was a backend, in its order.
    async fn send_early(&self, port: &Port<E>) -> io::Result<()> {
        let mut sent = 0;
        loop {
            let next = {
                let mut early = lock(&self.early);
                let next = early.as_ref().and_then(|all| all.get(sent).cloned());
                if next.is_none() {
                    // Whatever comes from now on goes out at once, and behind these.
                    let all = early.take().unwrap_or_default();
                    all.iter().for_each(|d| port.release(d.len()));
                }
                next
            };
            let Some(datagram) = next else { return Ok(()) };
            sent += 1;
            match std::future::poll_fn(|cx| self.send(cx, &datagram)).await {
                Ok(()) => self.passed(port, datagram.len()),
                Err(e) if !is_gone(&e) => port.dropped(1),
                Err(e) => return Err(e),
            }
        }
    }

    fn over(&self) -> Option<Over> {
        *lock(&self.over)
    }
}

/// Is it the backend that is gone, and not one datagram that cannot be sent?
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one session until it is over.
pub async fn run<E: Env>(
    port: Arc<Port<E>>,
    client: Arc<Client<E>>,
    address: SocketAddr,
    flow: Arc<Flow<E>>,
) {
    let mut running = Running {
        record: Session {
            protocol: "udp",
            listener: port.listener,
            upstream: Some(flow.upstream.number()),
            backend: None,
            client: client.origin.peer,
            bytes_sent: 0,
            bytes_received: 0,
            started: port.now(),
            ended: port.now(),
            queue_wait: Duration::ZERO,
            attempts: 0,
            // What stands if the session is dropped before its end.
            cause: Some(Cause::ShuttingDown),
            wall: port.core.env.clock().wall(),
        },
        tries: Tries::default(),
        replied: false,
        permit: None,
        port,
        client: address,
        flow,
    };
    let flow = Arc::clone(&running.flow);
    let connected = tokio::select! {
        biased;
        () = flow.ended.notified() => Err(flow.over().and_then(cause)),
        // On the heap, or its frame would stay with the session for its whole life.
        connected = Box::pin(running.connect(&client.errand)) => connected.map_err(Some),
    };
    let lease = match connected {
        Ok(lease) => lease,
        Err(cause) => {
            running.record.cause = cause;
            return;
        }
    };
    let over = tokio::select! {
        biased;
        () = flow.ended.notified() => flow.over().unwrap_or(Over::Idle),
        error = running.relay() => Over::Failed(error.kind()),
    };
    running.record.cause = cause(over);
    let outcome = match over {
        Over::Idle | Over::Yielded => Outcome::Success,
        Over::Evicted => Outcome::Cancelled,
        Over::Failed(_) if running.replied => Outcome::Broken,
        Over::Failed(_) => Outcome::Refused,
    };
    // Given back first, so that they stay within the backend's bound.
    running.permit = None;
    lease.finish(outcome);
}

/// What a session's task holds.
struct Running<E: Env> {
    port: Arc<Port<E>>,
    client: SocketAddr,
    flow: Arc<Flow<E>>,
    record: Session,
    tries: Tries,
    replied: bool,
    permit: Option<Permit<E>>,
}

/// A session that has no backend yet.
struct Opening<'a, E: Env> {
    port: &'a Port<E>,
    upstream: &'a Upstream<E>,
    /// It is counted among those who wait.
    waiting: Option<Counted<'a>>,
}

impl<E: Env> Work<E> for Opening<'_, E> {
    type Done = (Lease<E>, Association<E>, usize);

    fn set_waiting(&mut self, waiting: bool) {
        if !waiting {
            self.waiting = None;
        }
    }

    /// Where there is no place, a session that needs its own no more gives way. It is ended by whoever ends the task.
    fn is_unwanted(&mut self, _: &mut Context<'_>) -> bool {
        if self.waiting.is_none() {
            self.waiting = Some(Counted::new(&self.upstream.sessions_waiting));
            self.port.make_way();
        }
        false
    }

    async fn attempt(
        &mut self,
        lease: Lease<E>,
        backend: &Arc<Backend<E>>,
    ) -> Result<Self::Done, Failure> {
        match backend.associate(&self.port.core.env).await {
            Ok(association) if self.comes_back(&association) => {
                drop(association);
                lease.finish(Outcome::Cancelled);
                let (cause, progress) = (Cause::Loop, Progress::NeverSent);
                Err(Failure::new(cause, progress, Outcome::Cancelled))
            }
            Ok(association) => Ok((lease, association, backend.number)),
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

impl<E: Env> Opening<'_, E> {
    /// Does the socket lead to the very listener that the session came by?
    fn comes_back(&self, to: &Association<E>) -> bool {
        let bound = self.port.socket.local_addr();
        let is_itself =
            bound.is_ok_and(|bound| is_itself(bound, to.socket.local_addr(), Ok(to.addr)));
        if is_itself {
            self.upstream.tell_of_loop();
        }
        is_itself
    }
}

impl<E: Env> Running<E> {
    /// Waits for a place and opens a socket to its backend.
    async fn connect(&mut self, errand: &Errand<E>) -> Result<Lease<E>, Cause> {
        let upstream = Arc::clone(&self.flow.upstream);
        let mut meta = Meta::first(self.record.started);
        // The same for every session of a client, whatever its port.
        meta.client = address_key(self.record.client);
        let mut opening = Opening {
            port: &self.port,
            upstream: &upstream,
            waiting: None,
        };
        let opening = try_backends(errand, &upstream, meta, &mut opening, &mut self.tries);
        let (lease, association, number) = opening.await?;
        self.permit = Some(association.permit);
        // It is set here alone, and once.
        let _ = self.flow.backend.set(Chosen {
            number,
            socket: association.socket,
            addr: association.addr,
        });
        Ok(lease)
    }

    /// Passes replies on until the socket fails.
    async fn relay(&mut self) -> io::Error {
        if let Err(error) = self.flow.send_early(&self.port).await {
            return error;
        }
        std::future::poll_fn(|cx| self.poll_replies(cx)).await
    }

    fn poll_replies(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let flow = Arc::clone(&self.flow);
        let Some(backend) = flow.backend.get() else {
            return Poll::Pending;
        };
        let mut scratch = [const { MaybeUninit::uninit() }; DATAGRAM];
        for _ in 0..TURN {
            let mut read = ReadBuf::uninit(&mut scratch);
            match backend.socket.poll_recv(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => self.reply(cx, backend.number, read.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn reply(&mut self, cx: &mut Context<'_>, backend: usize, datagram: &[u8]) {
        let port = &self.port;
        if !port
            .table()
            .replies(port.now(), &self.client, self.flow.id())
        {
            return port.dropped(1);
        }
        self.replied = true;
        match port.socket.poll_send(cx, datagram, self.client) {
            Poll::Ready(Ok(())) => {
                self.record.bytes_sent += datagram.len() as u64;
                port.core.telemetry().passed(
                    port.core.env.core(),
                    port.listener,
                    (self.flow.upstream.number(), backend),
                    0,
                    datagram.len() as u64,
                );
            }
            _ => port.dropped(1),
        }
        if self.flow.upstream.sessions_waiting.load(Ordering::Relaxed) > 0 {
            port.make_way();
        }
    }
}

/// One more in a number for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(number: &'a AtomicUsize) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Counted(number)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<E: Env> Drop for Running<E> {
    fn drop(&mut self) {
        let port = &self.port;
        port.table().close(&self.client, self.flow.id());
        let early = lock(&self.flow.early).take().unwrap_or_default();
        early.iter().for_each(|d| port.release(d.len()));
        if self.flow.backend.get().is_none() {
            port.dropped(early.len() as u64);
        }
        self.record.bytes_received = self.flow.received.load(Ordering::Relaxed);
        self.record.backend = self.tries.backend;
        self.record.queue_wait = self.tries.queue_wait;
        self.record.attempts = self.tries.attempts;
        self.record.ended = port.now();
        self.record.wall = port.core.env.clock().wall();
        let core = port.core.env.core();
        port.core.telemetry().record_session(core, &self.record);
    }
}
