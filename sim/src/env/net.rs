//! Sockets and names of one simulated host.
//!
//! Two of turmoil's habits are made good here: it refuses a second bind of one address (core loops share a listener
//! instead), and a dial that is given up leaves the far side connected to nobody (the dial is finished and closed instead).

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use turmoil::net::{TcpListener, TcpStream};
use weirkeeper::env::{Datagram, Listener, Net};

use super::count::Counted;
use super::datagram::{Hub, SimDatagram};
use super::stream::{Link, SimStream};
use super::{Fabric, lock};

/// Sockets and names of one simulated host.
#[derive(Debug)]
pub struct SimNet {
    fabric: Arc<Fabric>,
    /// The shared listeners of this host by port.
    listeners: Mutex<BTreeMap<u16, Weak<Shared>>>,
    /// The shared datagram sockets of this host by port.
    datagrams: Mutex<BTreeMap<u16, Weak<Hub>>>,
}

#[derive(Debug)]
struct Shared {
    fabric: Arc<Fabric>,
    addr: SocketAddr,
    inner: Inner,
}

/// Turmoil's listener has no Debug of its own.
struct Inner(TcpListener);

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TcpListener")
    }
}

impl SimNet {
    pub(super) fn new(fabric: &Arc<Fabric>) -> Self {
        SimNet {
            fabric: Arc::clone(fabric),
            listeners: Mutex::default(),
            datagrams: Mutex::default(),
        }
    }
}

impl Net for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;
    type Datagram = SimDatagram;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.fabric
            .names
            .get(&(host.to_ascii_lowercase(), port))
            .cloned()
            .ok_or_else(|| {
                let what = format!("{host}:{port} is not in the simulated world");
                io::Error::new(io::ErrorKind::NotFound, what)
            })
    }

    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<SimStream>> + Send {
        Dial {
            counted: Some(Counted::new(&self.fabric, addr)),
            inner: Some(Box::pin(dial(Arc::clone(&self.fabric), addr))),
        }
    }

    fn adopt(&self, stream: SimStream) -> io::Result<SimStream> {
        Ok(stream)
    }

    fn listen(&self, addr: SocketAddr) -> io::Result<SimListener> {
        let mut listeners = lock(&self.listeners);
        if let Some(shared) = listeners.get(&addr.port()).and_then(Weak::upgrade) {
            return Ok(SimListener(shared));
        }
        // Turmoil binds the unspecified address of its own family only; a simulated host has just one address.
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port());
        let bind = pin!(TcpListener::bind(any));
        let Poll::Ready(inner) = bind.poll(&mut Context::from_waker(Waker::noop())) else {
            unreachable!("turmoil binds without waiting");
        };
        let inner = inner?;
        let shared = Arc::new(Shared {
            fabric: Arc::clone(&self.fabric),
            addr: SocketAddr::new(addr.ip(), inner.local_addr()?.port()),
            inner: Inner(inner),
        });
        listeners.insert(shared.addr.port(), Arc::downgrade(&shared));
        Ok(SimListener(shared))
    }

    fn datagram(&self, addr: SocketAddr) -> io::Result<SimDatagram> {
        let mut sockets = lock(&self.datagrams);
        if let Some(hub) = sockets.get(&addr.port()).and_then(Weak::upgrade) {
            return hub.handle(&self.fabric, addr.ip(), None);
        }
        let hub = Hub::bind(addr.port())?;
        let datagram = hub.handle(&self.fabric, addr.ip(), None)?;
        sockets.insert(datagram.local_addr()?.port(), Arc::downgrade(&hub));
        Ok(datagram)
    }

    fn associate(&self, peer: SocketAddr) -> io::Result<SimDatagram> {
        Hub::bind(0)?.handle(&self.fabric, peer.ip(), Some(peer))
    }
}

/// One of several handles of a listener. Whoever waits longest gets the next connection; the port is free once all are gone.
#[derive(Debug)]
pub struct SimListener(Arc<Shared>);

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        let (inner, peer) = self.0.inner.0.accept().await?;
        // Accepting comes before the dialler learns of it: the link begins here.
        let link = Arc::new(Link::default());
        lock(&self.0.fabric.links).insert((peer, inner.local_addr()?), Arc::clone(&link));
        Ok((SimStream::new(&self.0.fabric, inner, link, None), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.addr)
    }
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<SimStream>> + Send + Sync>>;

/// A dial under way. Dropped before its end it goes on by itself and closes what it gets, as an operating system would.
struct Dial {
    counted: Option<Counted>,
    inner: Option<Dialling>,
}

impl Future for Dial {
    type Output = io::Result<SimStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.inner.as_mut().expect("polled after completion");
        let Poll::Ready(result) = inner.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.inner = None;
        let counted = self.counted.take();
        Poll::Ready(result.map(|mut stream| {
            stream.count(counted);
            stream
        }))
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take()
            && turmoil::in_simulation()
            && let Ok(handle) = tokio::runtime::Handle::try_current()
        {
            // An error means that nobody answered: there is nothing to close.
            handle.spawn(async move { drop(inner.await) });
        }
    }
}

async fn dial(fabric: Arc<Fabric>, addr: SocketAddr) -> io::Result<SimStream> {
    let inner = TcpStream::connect(addr).await?;
    let link = lock(&fabric.links)
        .remove(&(inner.local_addr()?, addr))
        .ok_or_else(|| io::Error::other("the accepting side recorded no link"))?;
    Ok(SimStream::new(&fabric, inner, link, Some(addr)))
}
