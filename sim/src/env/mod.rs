//! The environment that rehearses: the proxy's seam, laid over turmoil's simulated hosts.
//!
//! One [`Fabric`] is what all hosts of a simulated world share: names, connections, panics, the seed. A [`SimEnv`] is one
//! host's view of it, and one core loop's. Absent: what the hosts do (that is the world's), and any real socket or clock.

mod clock;
mod count;
mod datagram;
mod net;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use weirkeeper::env::{Env, Task};
use weirkeeper::rng::Rng;

pub use self::clock::{EPOCH, SimClock};
pub use self::count::Open;
pub use self::datagram::SimDatagram;
pub use self::net::{SimListener, SimNet};
pub use self::stream::{Link, SimStream};

/// One host's environment, as one of its core loops sees it.
#[derive(Clone, Debug)]
pub struct SimEnv {
    core: usize,
    host: Arc<Host>,
}

#[derive(Debug)]
struct Host {
    name: &'static str,
    fabric: Arc<Fabric>,
    net: SimNet,
    clock: SimClock,
}

impl SimEnv {
    /// The environment of the host called `name`, core 0. The name also keys its random substreams.
    pub fn new(fabric: &Arc<Fabric>, name: &'static str) -> Self {
        let clock = SimClock::new();
        SimEnv {
            core: 0,
            host: Arc::new(Host {
                name,
                fabric: Arc::clone(fabric),
                net: SimNet::new(fabric),
                clock,
            }),
        }
    }

    /// The same host seen from core loop `core`.
    pub fn for_core(&self, core: usize) -> Self {
        SimEnv {
            core,
            host: Arc::clone(&self.host),
        }
    }

    /// What all hosts share.
    pub fn fabric(&self) -> &Arc<Fabric> {
        &self.host.fabric
    }
}

impl Env for SimEnv {
    type Net = SimNet;
    type Clock = SimClock;

    fn net(&self) -> &SimNet {
        &self.host.net
    }

    fn clock(&self) -> &SimClock {
        &self.host.clock
    }

    fn rng(&self, name: &str, index: u64) -> Rng {
        Rng::new(self.host.fabric.seed)
            .stream(self.host.name, 0)
            .stream(name, index)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        future: F,
    ) -> Task {
        let fabric = Arc::clone(&self.host.fabric);
        Task(tokio::spawn(caught(name, fabric, future)))
    }

    fn core(&self) -> usize {
        self.core
    }
}

/// What all hosts of one simulated world share.
#[derive(Debug)]
pub struct Fabric {
    seed: u64,
    /// Probability that a connection's reads and writes are split and shortened.
    chop: f64,
    /// Names, as the config writes them, to where the world put them.
    names: BTreeMap<(String, u16), Vec<SocketAddr>>,
    links: Mutex<BTreeMap<(SocketAddr, SocketAddr), Arc<Link>>>,
    open: Mutex<BTreeMap<SocketAddr, Open>>,
    /// Where nobody receives datagrams.
    nobody: Mutex<BTreeSet<SocketAddr>>,
    panics: Mutex<Vec<String>>,
}

impl Fabric {
    /// A fabric in which `names` resolve and nothing else does. `chop` is the share of connections whose reads and writes
    /// come in pieces.
    pub fn new(
        seed: u64,
        chop: f64,
        names: BTreeMap<(String, u16), Vec<SocketAddr>>,
    ) -> Arc<Fabric> {
        Arc::new(Fabric {
            seed,
            chop,
            names,
            links: Mutex::default(),
            open: Mutex::default(),
            nobody: Mutex::default(),
            panics: Mutex::default(),
        })
    }

    /// The seed that everything in this world derives from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Connections to `addr`, counted where they are dialled.
    pub fn open_to(&self, addr: SocketAddr) -> Open {
        lock(&self.open).get(&addr).copied().unwrap_or_default()
    }

    /// One less of them.
    fn uncount(&self, addr: SocketAddr) {
        if let Some(entry) = lock(&self.open).get_mut(&addr) {
            entry.now -= 1;
        }
    }

    /// From now on somebody receives datagrams at `addr`, or nobody does, and who sends them there hears of it.
    pub fn receives(&self, addr: SocketAddr, somebody: bool) {
        let mut nobody = lock(&self.nobody);
        match somebody {
            true => nobody.remove(&addr),
            false => nobody.insert(addr),
        };
    }

    fn is_nobody(&self, addr: SocketAddr) -> bool {
        lock(&self.nobody).contains(&addr)
    }

    /// Panics that tasks ended with, in order, and takes them out.
    pub fn take_panics(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.panics))
    }
}

/// Locks, whether or not a panic happened under the lock: the panic itself is what gets reported.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a task and records its panic, since turmoil would lose it.
async fn caught<F: Future<Output = ()>>(name: &'static str, fabric: Arc<Fabric>, future: F) {
    let mut future = pin!(future);
    let mut step = |cx: &mut Context<'_>| -> Poll<()> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => {
                let what = payload
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| payload.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "without a message".into());
                lock(&fabric.panics).push(format!("task {name} panicked: {what}"));
                Poll::Ready(())
            }
        }
    };
    std::future::poll_fn(&mut step).await;
}
