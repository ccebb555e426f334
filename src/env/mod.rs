//! The seam between the proxy and the world: network, clock, entropy and spawning as one bundle, [`Env`].
//!
//! The shell is generic over one `E: Env` and is monomorphised for it: [`tokio`] here, turmoil in the simulator. Nothing
//! outside this room opens a socket, reads a clock, draws entropy or spawns a task.

pub mod tokio;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use pin_project_lite::pin_project;

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rng::Rng;
use rustix::io::Errno;

use crate::time::Tick;

/// Everything that the proxy asks of the world. Cloning is cheap: every core and every task holds one.
pub trait Env: Clone + Send + Sync + Unpin + 'static {
    /// Sockets and names.
    type Net: Net;
    /// Monotonic and wall time, and sleeping.
    type Clock: Clock;

    /// Sockets and names.
    fn net(&self) -> &Self::Net;
    /// Monotonic and wall time, and sleeping.
    fn clock(&self) -> &Self::Clock;
    /// A generator for the consumer called `name`: seeded by entropy in production, by the seed in simulation.
    fn rng(&self, name: &str, index: u64) -> Rng;
    /// The only way to start a task. It runs on the caller's core until it ends or is aborted; a panic in it is caught and
    /// recorded.
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, future: F)
    -> Task;
    /// The core this runs on: 0 .. workers. In simulation, the core loop that the clone of this environment was made for.
    fn core(&self) -> usize;
}

/// A spawned task. Dropping the handle lets the task run on; [`Task::abort`] ends it at its next await.
#[derive(Debug)]
pub struct Task(pub ::tokio::task::JoinHandle<()>);

impl Task {
    /// Ends the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Waits until the task has ended, by itself or aborted.
    pub async fn join(self) {
        // The task's panic was recorded where it was caught; an abort is what the caller asked for.
        let _ = self.0.await;
    }
}

/// Name resolution, dialling and listening.
pub trait Net: Send + Sync + 'static {
    /// A connected byte stream.
    type Stream: Stream;
    /// A bound listener.
    type Listener: Listener<Stream = Self::Stream>;
    /// A datagram socket.
    type Datagram: Datagram;
    /// How many descriptors may be open at once; `None` where nothing counts them.
    fn descriptors(&self) -> Option<usize> {
        None
    }

    /// Are these the machine's own sockets, so that a library that opens sockets by itself reaches the same peers?
    const REAL: bool = false;

    /// The addresses of `host` (a name or an IP literal) with `port`, in the order to try them.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
    /// Opens a connection. The caller bounds the time. An error that is a [`shortage`] passes by itself: where this machine has
    /// no address that reaches `addr`, it is another.
    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Takes a stream over from another core, so that this core's runtime drives it from now on.
    fn adopt(&self, stream: Self::Stream) -> io::Result<Self::Stream>;
    /// Binds `addr`; several cores may bind the same one and share its connections. Port 0 picks a free port.
    fn listen(&self, addr: SocketAddr) -> io::Result<Self::Listener>;
    /// Binds `addr` for datagrams; several cores may bind the same one, and each client's come to one of them. Port 0 picks a
    /// free port.
    fn datagram(&self, addr: SocketAddr) -> io::Result<Self::Datagram>;
    /// A datagram socket on a free port that hears `peer` alone, and hears when nobody is there.
    fn associate(&self, peer: SocketAddr) -> io::Result<Self::Datagram>;
}

/// What this process or this machine has too few of to open another socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Open files.
    Descriptors,
    /// Local ports that are free for the peer.
    Ports,
}

/// The shortage that `error` speaks of, if it is one.
pub fn shortage(error: &io::Error) -> Option<Shortage> {
    let number = error.raw_os_error();
    let is_any = |of: &[Errno]| of.iter().any(|e| number == Some(e.raw_os_error()));
    if is_any(&[Errno::MFILE, Errno::NFILE]) {
        return Some(Shortage::Descriptors);
    }
    let ports = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse];
    ports.contains(&error.kind()).then_some(Shortage::Ports)
}

/// A datagram socket, such as UDP.
pub trait Datagram: Send + Sync + 'static {
    /// The next datagram, put behind what `buf` holds, and who sent it. What does not fit is cut, so bring 64 KiB.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>>;
    /// Sends one datagram, whole or not at all. An associated socket sends to its peer, whatever `to` is.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>>;
    /// The bound address, with the real port.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A bound listener.
pub trait Listener: Send + Sync + 'static {
    /// What it accepts.
    type Stream: Stream;
    /// The next connection and its peer. Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
    /// The bound address, with the real port.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Whoever is accepted from here on is asked whether it is still there once it has been silent for so long, and given up
    /// after as long again. Nothing to do where no peer vanishes without a word.
    fn set_keepalive(&self, silence: Duration) -> io::Result<()> {
        let _ = silence;
        Ok(())
    }
}

/// A connected byte stream, such as TCP.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    /// The other side's address.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    /// This side's address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Ready once a read would not wait (data, end of stream or an error), without reading.
    fn poll_readable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Makes the drop that follows reset the connection (RST) instead of closing it in order.
    fn set_abort(&self);
    /// As [`Listener::set_keepalive`], for this one.
    fn set_keepalive(&self, silence: Duration) -> io::Result<()> {
        let _ = silence;
        Ok(())
    }
}

/// Monotonic and wall time.
pub trait Clock: Send + Sync + 'static {
    /// Time since the environment's origin.
    fn now(&self) -> Tick;
    /// The date, for HTTP date fields, the ages of stored responses, and logs.
    fn wall(&self) -> SystemTime;
    /// A sleep that [`Clock::sleep_until`] returns.
    type Sleep: Future<Output = ()> + Send + Sync + 'static;
    /// Completes at `deadline`, or at once if that has passed.
    fn sleep_until(&self, deadline: Tick) -> Self::Sleep;

    /// Runs `future` for at most `limit`; `None` when it did not complete in time.
    fn timeout<F: Future + Send>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> + Send
    where
        Self: Sized,
        F::Output: Send,
    {
        Limited {
            future,
            sleep: self.sleep_until(self.now() + limit),
        }
    }
}

pin_project! {
    /// A future with a limit: `None` when that comes first.
    struct Limited<F, S> {
        #[pin]
        future: F,
        #[pin]
        sleep: S,
    }
}

impl<F: Future, S: Future<Output = ()>> Future for Limited<F, S> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        if let Poll::Ready(out) = this.future.poll(cx) {
            return Poll::Ready(Some(out));
        }
        this.sleep.poll(cx).map(|()| None)
    }
}
