//! Datagrams of one simulated host.
//!
//! Turmoil's socket has no poll of its own, and one address is bound once: where several core loops bind it, the first one
//! hears everything, as one core would from a single client.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::ReadBuf;
use turmoil::net::UdpSocket;
use weirkeeper::env::Datagram;

use super::lock;

/// A datagram socket of one simulated host.
pub struct SimDatagram {
    /// `None` hears nothing and sends nothing.
    socket: Option<Arc<UdpSocket>>,
    addr: SocketAddr,
    /// Whom it hears, if not everybody.
    peer: Option<SocketAddr>,
    waiting: Mutex<Option<Waiting>>,
}

/// Waits for a datagram, and holds the socket's receiving side meanwhile.
type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl std::fmt::Debug for SimDatagram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimDatagram({})", self.addr)
    }
}

impl SimDatagram {
    /// With the socket beside it, to tell whether it still stands.
    pub(super) fn bind(
        addr: SocketAddr,
        peer: Option<SocketAddr>,
    ) -> io::Result<(Self, Weak<UdpSocket>)> {
        // As with listeners: turmoil binds the unspecified address of its own family only.
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port());
        let bind = pin!(UdpSocket::bind(any));
        let Poll::Ready(socket) = bind.poll(&mut Context::from_waker(Waker::noop())) else {
            unreachable!("turmoil binds without waiting");
        };
        let socket = Arc::new(socket?);
        let stands = Arc::downgrade(&socket);
        let datagram = SimDatagram {
            addr: SocketAddr::new(addr.ip(), socket.local_addr()?.port()),
            socket: Some(socket),
            peer,
            waiting: Mutex::new(None),
        };
        Ok((datagram, stands))
    }

    /// A further handle of an address that is bound.
    pub(super) fn deaf(addr: SocketAddr) -> Self {
        SimDatagram {
            socket: None,
            addr,
            peer: None,
            waiting: Mutex::new(None),
        }
    }
}

impl Datagram for SimDatagram {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let Some(socket) = &self.socket else {
            return Poll::Pending;
        };
        loop {
            let mut waiting = lock(&self.waiting);
            if let Some(future) = &mut *waiting {
                ready!(future.as_mut().poll(cx))?;
                *waiting = None;
            }
            match socket.try_recv_from(buf.initialize_unfilled()) {
                Ok((n, from)) if self.peer.is_none_or(|peer| peer == from) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(from));
                }
                // A stranger's: a connected socket does not hear it.
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let socket = Arc::clone(socket);
                    *waiting = Some(Box::pin(async move { socket.readable().await }));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    fn poll_send(
        &self,
        _: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        let sent = match &self.socket {
            Some(socket) => socket.try_send_to(datagram, self.peer.unwrap_or(to)),
            None => Ok(0),
        };
        Poll::Ready(sent.map(|_| ()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}
