//! Datagrams of one simulated host.
//!
//! Turmoil's socket has no poll of its own, and one address is bound once: core loops that bind the same one share it here, and
//! each client's datagrams come to one of them. Turmoil drops what is sent to nobody; here an associated socket hears of it, if
//! the fabric was told that nobody is there. Absent: loss, and order that is not kept.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::io::ReadBuf;
use turmoil::net::UdpSocket;
use weirkeeper::env::Datagram;

use super::count::Counted;
use super::{Fabric, lock};

/// The largest datagram, and more.
const LARGEST: usize = 64 * 1024;

/// How long it takes until a sender hears that nobody is there.
const UNREACHABLE: Duration = Duration::from_millis(2);

/// A datagram socket of one simulated host; one of several handles, where several core loops bind one address.
pub struct SimDatagram {
    hub: Arc<Hub>,
    handle: usize,
    addr: SocketAddr,
    /// Whom it hears, if not everybody.
    peer: Option<SocketAddr>,
    fabric: Arc<Fabric>,
    _counted: Option<Counted>,
}

/// What the handles of one socket share.
pub(super) struct Hub {
    socket: Arc<UdpSocket>,
    state: Mutex<State>,
    ears: Arc<Ears>,
}

#[derive(Default)]
struct State {
    waiting: Option<Waiting>,
    /// What has come for each handle that is still held.
    queues: BTreeMap<usize, VecDeque<(Vec<u8>, SocketAddr)>>,
    next: usize,
    /// The last datagram found nobody.
    unreachable: bool,
}

/// Waits for a datagram, and holds the socket's receiving side meanwhile.
type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Who waits, by handle: all of them are woken, since any of them may take what has come for all.
#[derive(Default)]
struct Ears(Mutex<BTreeMap<usize, Waker>>);

impl Wake for Ears {
    fn wake(self: Arc<Self>) {
        let all = std::mem::take(&mut *lock(&self.0));
        all.into_values().for_each(Waker::wake);
    }
}

impl std::fmt::Debug for SimDatagram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimDatagram({})", self.addr)
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    /// Binds a port.
    pub(super) fn bind(port: u16) -> io::Result<Arc<Self>> {
        // As with listeners: turmoil binds the unspecified address of its own family only.
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let bind = pin!(UdpSocket::bind(any));
        let Poll::Ready(socket) = bind.poll(&mut Context::from_waker(Waker::noop())) else {
            unreachable!("turmoil binds without waiting");
        };
        Ok(Arc::new(Hub {
            socket: Arc::new(socket?),
            state: Mutex::default(),
            ears: Arc::default(),
        }))
    }

    /// A further handle.
    pub(super) fn handle(
        self: &Arc<Self>,
        fabric: &Arc<Fabric>,
        addr: IpAddr,
        peer: Option<SocketAddr>,
    ) -> io::Result<SimDatagram> {
        let mut state = lock(&self.state);
        let handle = state.next;
        state.next += 1;
        state.queues.insert(handle, VecDeque::new());
        Ok(SimDatagram {
            hub: Arc::clone(self),
            handle,
            addr: SocketAddr::new(addr, self.socket.local_addr()?.port()),
            peer,
            fabric: Arc::clone(fabric),
            _counted: peer.map(|peer| Counted::new(fabric, peer)),
        })
    }

    /// Takes what has come and gives it to whose client it is from.
    fn take(&self, state: &mut State, peer: Option<SocketAddr>) -> io::Result<()> {
        let mut scratch = vec![0; LARGEST];
        let (n, from) = self.socket.try_recv_from(&mut scratch)?;
        // A stranger's: a connected socket does not hear it.
        if peer.is_some_and(|peer| peer != from) {
            return Ok(());
        }
        scratch.truncate(n);
        let at = usize::from(from.port()) % state.queues.len().max(1);
        if let Some((handle, queue)) = state.queues.iter_mut().nth(at) {
            queue.push_back((scratch, from));
            if let Some(waker) = lock(&self.ears.0).remove(handle) {
                waker.wake();
            }
        }
        Ok(())
    }
}

impl Datagram for SimDatagram {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let mut state = lock(&self.hub.state);
        loop {
            if std::mem::take(&mut state.unreachable) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
            }
            let queue = state.queues.get_mut(&self.handle);
            if let Some((bytes, from)) = queue.and_then(VecDeque::pop_front) {
                let fits = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes[..fits]);
                return Poll::Ready(Ok(from));
            }
            if let Some(future) = &mut state.waiting {
                lock(&self.hub.ears.0).insert(self.handle, cx.waker().clone());
                let waker = Waker::from(Arc::clone(&self.hub.ears));
                match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(ready) => ready?,
                }
                state.waiting = None;
            }
            match self.hub.take(&mut state, self.peer) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let socket = Arc::clone(&self.hub.socket);
                    state.waiting = Some(Box::pin(async move { socket.readable().await }));
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
        if std::mem::take(&mut lock(&self.hub.state).unreachable) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        if let Some(peer) = self.peer
            && self.fabric.is_nobody(peer)
        {
            let hub = Arc::downgrade(&self.hub);
            tokio::spawn(async move {
                tokio::time::sleep(UNREACHABLE).await;
                if let Some(hub) = hub.upgrade() {
                    lock(&hub.state).unreachable = true;
                    Arc::clone(&hub.ears).wake();
                }
            });
            return Poll::Ready(Ok(()));
        }
        let sent = self
            .hub
            .socket
            .try_send_to(datagram, self.peer.unwrap_or(to));
        Poll::Ready(sent.map(|_| ()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

impl Drop for SimDatagram {
    fn drop(&mut self) {
        lock(&self.hub.state).queues.remove(&self.handle);
    }
}
