//! The environment that serves: tokio's sockets and timers on one current-thread runtime a core.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is where the real world is"
)]

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use pin_project_lite::pin_project;
use rustix::io::Errno;
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{Clock, Datagram, Env, Listener, Net, Stream, Task};
use crate::rng::Rng;
use crate::time::Tick;

/// How often Linux asks in vain before a connection is given up, unless it was told otherwise. To say it for each connection
/// would be a call more.
const PROBES: u32 = 9;

/// The environment of one core. Clones for other cores come from [`TokioEnv::for_core`].
#[derive(Clone, Debug)]
pub struct TokioEnv {
    core: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    net: TokioNet,
    clock: TokioClock,
    seed: u64,
}

impl TokioEnv {
    /// An environment whose time begins now and whose generators are seeded by the operating system.
    ///
    /// # Errors
    /// When the operating system has no entropy to give.
    pub fn new() -> io::Result<Self> {
        let seed = getrandom::u64().map_err(io::Error::other)?;
        let clock = TokioClock {
            origin: Instant::now(),
        };
        Ok(TokioEnv {
            core: 0,
            shared: Arc::new(Shared {
                net: TokioNet,
                clock,
                seed,
            }),
        })
    }

    /// The same world seen from core `core`.
    pub fn for_core(&self, core: usize) -> Self {
        TokioEnv {
            core,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Env for TokioEnv {
    type Net = TokioNet;
    type Clock = TokioClock;

    fn net(&self) -> &TokioNet {
        &self.shared.net
    }

    fn clock(&self) -> &TokioClock {
        &self.shared.clock
    }

    fn rng(&self, name: &str, index: u64) -> Rng {
        Rng::new(self.shared.seed).stream(name, index)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        future: F,
    ) -> Task {
        Task(tokio::spawn(Named { name, future }))
    }

    fn core(&self) -> usize {
        self.core
    }
}

pin_project! {
    /// A task. Tokio would keep its panic in its handle, where nobody looks: it is reported by name.
    struct Named<F> {
        name: &'static str,
        #[pin]
        future: F,
    }
}

impl<F: Future<Output = ()>> Future for Named<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                tracing::error!(task = this.name, "a task panicked");
                Poll::Ready(())
            }
        }
    }
}

/// Sockets of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct TokioNet;

impl Net for TokioNet {
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Datagram = TokioDatagram;
    const REAL: bool = true;

    fn descriptors(&self) -> Option<usize> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.and_then(|n| usize::try_from(n).ok())
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        match TcpStream::connect(addr).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                Ok(stream)
            }
            // The system says the same where it has no port left and where it has no address of that kind. Only the former
            // passes.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && !has_source(addr) => {
                Err(io::ErrorKind::NetworkUnreachable.into())
            }
            Err(error) => Err(error),
        }
    }

    fn adopt(&self, stream: TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(stream.into_std()?)
    }

    fn listen(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        listen(addr, true)
    }

    fn datagram(&self, addr: SocketAddr) -> io::Result<TokioDatagram> {
        datagram(addr, true)
    }

    fn associate(&self, peer: SocketAddr) -> io::Result<TokioDatagram> {
        let socket = std::net::UdpSocket::bind(any(peer))?;
        socket.connect(peer)?;
        socket.set_nonblocking(true)?;
        Ok(TokioDatagram {
            socket: UdpSocket::from_std(socket)?,
            associated: true,
        })
    }
}

impl TokioNet {
    /// Binds `addr` for this listener alone: an error when anybody listens there already, be it another `weir`, whose
    /// shared port a second one would otherwise join in silence.
    ///
    /// # Errors
    /// As the operating system says; `AddrInUse` when the address is taken.
    pub fn listen_alone(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        listen(addr, false)
    }

    /// The same for datagrams.
    ///
    /// # Errors
    /// As the operating system says; `AddrInUse` when the address is taken.
    pub fn datagram_alone(&self, addr: SocketAddr) -> io::Result<TokioDatagram> {
        datagram(addr, false)
    }
}

/// Has this machine an address to reach `peer` from? A datagram socket that is connected sends nothing and finds out.
fn has_source(peer: SocketAddr) -> bool {
    let socket = std::net::UdpSocket::bind(any(peer));
    socket.is_ok_and(|socket| socket.connect(peer).is_ok())
}

/// Any address and port of the kind of `peer`'s.
fn any(peer: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

/// TCP asks after `silence`, and then often enough to know after as long again.
fn keepalive(socket: &socket2::SockRef<'_>, silence: Duration) -> io::Result<()> {
    let asked = socket2::TcpKeepalive::new()
        .with_time(silence)
        .with_interval((silence / PROBES).max(Duration::from_secs(1)));
    socket.set_tcp_keepalive(&asked)
}

fn datagram(addr: SocketAddr, shared: bool) -> io::Result<TokioDatagram> {
    bound(addr, |addr| datagram_at(addr, shared))
}

fn datagram_at(addr: SocketAddr, shared: bool) -> io::Result<TokioDatagram> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(TokioDatagram {
        socket: UdpSocket::from_std(socket.into())?,
        associated: false,
    })
}

/// A UDP socket; one that is associated is connected, so that the system tells when nobody is there.
#[derive(Debug)]
pub struct TokioDatagram {
    socket: UdpSocket,
    associated: bool,
}

impl Datagram for TokioDatagram {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        self.socket.poll_recv_from(cx, buf)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        let sent = if self.associated {
            self.socket.poll_send(cx, datagram)
        } else {
            self.socket.poll_send_to(cx, datagram, to)
        };
        sent.map_ok(|_| ())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Binds `addr` by `bind`. Where all interfaces are meant and the machine has no IPv6, those of IPv4 are all that there are.
fn bound<T>(addr: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let all = addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match bind(addr) {
        Err(error) if all && lacks_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, addr.port()).into())
        }
        bound => bound,
    }
}

/// Says `error` that there are no sockets, or no addresses, of IPv6?
fn lacks_ipv6(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|none| number == Some(none.raw_os_error()))
}

fn listen(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    bound(addr, |addr| listen_at(addr, shared))
}

fn listen_at(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if addr.is_ipv6() {
        // `[::]` serves IPv4 as well, whatever the machine's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it on Linux, which saves a call a connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }

    /// Accepted sockets inherit it on Linux.
    fn set_keepalive(&self, silence: Duration) -> io::Result<()> {
        keepalive(&socket2::SockRef::from(self), silence)
    }
}

impl Stream for TcpStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::local_addr(self)
    }

    fn poll_readable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn set_abort(&self) {
        // A socket that is gone already needs no reset.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn set_keepalive(&self, silence: Duration) -> io::Result<()> {
        keepalive(&socket2::SockRef::from(self), silence)
    }
}

/// The machine's monotonic clock and its date.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: Instant,
}

impl Clock for TokioClock {
    fn now(&self) -> Tick {
        Tick::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    type Sleep = tokio::time::Sleep;

    fn sleep_until(&self, deadline: Tick) -> tokio::time::Sleep {
        // Tokio itself clamps a deadline that its clock cannot hold.
        tokio::time::sleep_until(
            self.origin
                .checked_add(Duration::from_nanos(deadline.as_nanos()))
                .unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365))
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a machine says that was booted without IPv6, and one that has no address of it.
    #[test]
    fn all_interfaces_are_those_of_ipv4_where_there_is_no_ipv6() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for none in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let number = none.raw_os_error();
            let without = |addr: SocketAddr| match addr {
                SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(number)),
                SocketAddr::V4(_) => Ok(addr),
            };
            let all = bound(at("[::]:8080"), without).expect("IPv4 is there");
            assert_eq!(all, at("0.0.0.0:8080"));
            // Who names an address of IPv6 is told that there is none.
            let named = bound(at("[::1]:8080"), without);
            assert_eq!(named.map_err(|e| e.raw_os_error()), Err(Some(number)));
        }
        // A port that is taken is taken, and another error is the caller's to tell.
        let taken = |addr: SocketAddr| match addr {
            SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
            SocketAddr::V4(_) => Ok(addr),
        };
        let error = bound(at("[::]:8080"), taken).map_err(|e| e.kind());
        assert_eq!(error, Err(io::ErrorKind::AddrInUse));
        assert_eq!(bound(at("[::]:8080"), Ok).ok(), Some(at("[::]:8080")));
    }
}
