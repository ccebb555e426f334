//! UDP at L4: datagrams as they are, in sessions by the client's address.
//!
//! One task a listener and core receives from all clients; one task a session receives from its backend, over a socket of its
//! own, so that a reply can only be its client's. A session is what is in flight. UDP promises nothing, so whatever cannot be
//! passed on at once is dropped and counted. Absent: who is a session and for how long (engine::sessions).

mod session;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::ReadBuf;

use self::session::{Flow, Over};
use crate::config::WAITING_DATAGRAMS;
use crate::engine::sessions::{Passage, Sessions, SessionsSpec, share};
use crate::env::{Clock, Datagram, Env};
use crate::message::cause::Cause;
use crate::site::client::enter;
use crate::site::generations::Generations;
use crate::time::Tick;
use crate::upstream::Upstream;
use crate::wire::DatagramOf;
use crate::wire::core::Core;
use crate::wire::watch::SWEEP;

/// The largest datagram, and more.
pub const DATAGRAM: usize = 64 * 1024;

/// Datagrams that pass to a backend before its first reply.
const UNANSWERED: u32 = 8;

/// How long a session may be silent while the proxy drains.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// One listener on one core.
pub struct Port<E: Env> {
    pub core: Arc<Core<E>>,
    generations: Arc<Generations<E>>,
    pub listener: usize,
    pub socket: DatagramOf<E>,
    sessions: Mutex<Sessions<SocketAddr, Arc<Flow<E>>>>,
    /// Bytes of datagrams that wait for their session's backend.
    waiting: AtomicU64,
}

/// Serves one listener on one core until the proxy drains and the last session has ended.
///
/// `cores` is the number of cores that share the listener's bound of sessions.
pub async fn serve<E: Env>(
    generations: Arc<Generations<E>>,
    core: Arc<Core<E>>,
    cores: usize,
    listener: usize,
    socket: DatagramOf<E>,
) {
    let site = generations.latest();
    let model = &site.config.listeners[listener];
    let spec = SessionsSpec {
        capacity: share(model.limits.sessions, cores, core.env.core()),
        idle: model.timeouts.session,
        unanswered: UNANSWERED,
    };
    let port = Arc::new(Port {
        listener,
        socket,
        sessions: Mutex::new(Sessions::new(spec)),
        waiting: AtomicU64::new(0),
        core: Arc::clone(&core),
        generations,
    });
    let clock = core.env.clock();
    let mut buffer = vec![0; DATAGRAM];
    let mut draining = false;
    let mut drained = pin!(core.drain.begun());
    let mut round = pin!(clock.sleep_until(clock.now() + SWEEP));
    loop {
        tokio::select! {
            biased;
            () = &mut drained, if !draining => {
                draining = true;
                port.table().shorten(DRAIN_IDLE);
            }
            () = &mut round => {
                round.set(clock.sleep_until(clock.now() + SWEEP));
                if port.expire() && draining {
                    return;
                }
                // Those who wait may have come by another core, which has nobody that could give way.
                let waiting = port.upstream().map_or(0, |u| u.sessions_waiting.load(Ordering::Relaxed));
                for _ in 0..waiting {
                    if !port.make_way() {
                        break;
                    }
                }
            }
            error = std::future::poll_fn(|cx| port.receive(cx, &mut buffer, draining)) => {
                tracing::warn!(listener = %model.name, %error, "receiving failed");
                clock.sleep_until(clock.now() + SWEEP).await;
            }
        }
    }
}

impl<E: Env> Port<E> {
    /// The sessions of this listener and core.
    pub fn table(&self) -> MutexGuard<'_, Sessions<SocketAddr, Arc<Flow<E>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a session goes that begins now.
    fn upstream(&self) -> Option<Arc<Upstream<E>>> {
        let site = self.generations.latest();
        let upstream = site.config.listeners[self.listener].leads_to(None)?;
        Some(Arc::clone(&site.upstreams[upstream]))
    }

    /// Now.
    pub fn now(&self) -> Tick {
        self.core.env.clock().now()
    }

    /// Counts datagrams that went nowhere.
    pub fn dropped(&self, count: u64) {
        self.core.telemetry().datagrams_dropped(
            self.core.env.core(),
            self.listener,
            self.upstream().map(|upstream| upstream.number()),
            count,
        );
    }

    /// Takes room for a datagram that waits; false where there is none.
    pub fn reserve(&self, bytes: usize) -> bool {
        let before = self.waiting.fetch_add(bytes as u64, Ordering::Relaxed);
        let fits = before + bytes as u64 <= WAITING_DATAGRAMS;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// Gives back what [`Port::reserve`] took.
    pub fn release(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Ends sessions that have been silent for too long; true when none is left.
    fn expire(&self) -> bool {
        let now = self.now();
        let mut table = self.table();
        while let Some(flow) = table.expire(now) {
            flow.end(Over::Idle);
        }
        table.is_empty()
    }

    /// Ends the session that has been answered in full for the longest, since somebody waits for its place; false if there is
    /// none.
    pub fn make_way(&self) -> bool {
        let answered = self.table().pop_answered();
        answered.inspect(|flow| flow.end(Over::Yielded)).is_some()
    }

    /// Receives for as long as something comes; ready only with an error.
    fn receive(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        draining: bool,
    ) -> Poll<io::Error> {
        loop {
            let mut read = ReadBuf::new(buffer);
            match ready!(self.socket.poll_recv(cx, &mut read)) {
                Ok(from) => self.arrived(cx, read.filled(), from, draining),
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    /// Passes a client's datagram on, to a new session where it has none.
    fn arrived(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        datagram: &[u8],
        from: SocketAddr,
        draining: bool,
    ) {
        let now = self.now();
        let flow = match self.table().arrives(now, &from) {
            Passage::Passes(flow) => Some(Arc::clone(flow)),
            Passage::Dropped => return self.dropped(1),
            Passage::Unknown => None,
        };
        if let Some(flow) = flow {
            match flow.pass(self, cx, datagram) {
                Ok(true) => return,
                Ok(false) => return self.dropped(1),
                // Nobody is there. The datagram was not sent, and may be luckier elsewhere.
                Err(error) => {
                    self.table().close(&from, flow.id());
                    flow.end(Over::Failed(error.kind()));
                }
            }
        }
        if draining {
            return self.dropped(1);
        }
        self.open(now, datagram, from);
    }

    /// Opens a session with its first datagram.
    fn open(self: &Arc<Self>, now: Tick, datagram: &[u8], from: SocketAddr) {
        if !self.reserve(datagram.len()) {
            return self.dropped(1);
        }
        // No session is refused for its address, which anybody could have written there.
        let begins = (self.generations.latest(), &self.generations);
        let entered = enter(begins, &self.core, self.listener, None, from, None);
        let led = entered.and_then(|(client, entry)| {
            let upstream = client.model().leads_to(None)?;
            let upstream = Arc::clone(&client.site.upstreams[upstream]);
            Some((client, entry, upstream))
        });
        let Some((client, entry, upstream)) = led else {
            self.release(datagram.len());
            return self.dropped(1);
        };
        let flow = Arc::new(Flow::new(Bytes::copy_from_slice(datagram), upstream));
        let (id, evicted) = self.table().open(now, from, Arc::clone(&flow));
        flow.is(id);
        if let Some(evicted) = evicted {
            evicted.end(Over::Evicted);
        }
        let port = Arc::clone(self);
        self.core.env.spawn("session", async move {
            let _entry = entry;
            session::run(port, client, from, flow).await;
        });
    }
}

/// Why a session ended that was told to.
fn cause(over: Over) -> Option<Cause> {
    match over {
        // The way that a session ends when nobody says so.
        Over::Idle | Over::Yielded => None,
        Over::Evicted => Some(Cause::SessionEvicted),
        Over::Failed(io::ErrorKind::ConnectionRefused) => Some(Cause::ConnectRefused),
        Over::Failed(_) => Some(Cause::ConnectFailed),
    }
}
