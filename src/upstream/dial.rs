//! Reaching a backend: resolve its name, try its addresses, shake hands. Absent: what is done with the connection (connect).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::config::model::{self, BackendProtocol, Protocol};
use crate::engine::Outcome;
use crate::env::{Clock, Env, Net, Shortage, Stream, shortage};
use crate::message::cause::Cause;
use crate::time::Tick;
use crate::tls::client::{Trouble, explain, trouble};
use crate::wire::stream::Wire;
use crate::wire::{DatagramOf, SocketOf, StreamOf};

/// How long the addresses of a name are believed.
const RESOLVED_FOR: Duration = Duration::from_secs(5);

/// How long whoever found no descriptor or no port rests.
const SHORT_REST: Duration = Duration::from_millis(20);

/// Names of protocols in ALPN (RFC 7301).
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Where a backend is, and what is said before the first request.
pub struct Dialler {
    patience: Duration,
    keepalive: Option<Duration>,
    protocol: BackendProtocol,
    tls: Option<Tls>,
    resolved: Mutex<Option<(Tick, Arc<[SocketAddr]>)>>,
}

/// TLS with one backend.
struct Tls {
    config: Arc<ClientConfig>,
    /// The config lets no other pass; without one no certificate could be right.
    name: Option<ServerName<'static>>,
}

/// Why there is no connection, and whether the backend is to blame.
#[derive(Clone, Copy, Debug)]
pub struct Undialled {
    /// For the client.
    pub cause: Cause,
    /// For the engine.
    pub outcome: Outcome,
}

impl Undialled {
    /// The backend's doing.
    pub fn of(cause: Cause) -> Self {
        Undialled {
            cause,
            outcome: Outcome::Refused,
        }
    }

    /// Ours.
    fn ours(cause: Cause) -> Self {
        Undialled {
            cause,
            outcome: Outcome::Cancelled,
        }
    }

    /// Running out of descriptors, ports or memory here is no reason to pass over a healthy backend.
    pub fn by(error: &io::Error) -> Self {
        match shortage(error) {
            Some(short) => Undialled::short(short),
            None if error.kind() == io::ErrorKind::OutOfMemory => {
                Undialled::ours(Cause::ConnectFailed)
            }
            None => Undialled::of(Cause::ConnectFailed),
        }
    }

    fn short(short: Shortage) -> Self {
        Undialled::ours(match short {
            Shortage::Descriptors => Cause::NoDescriptor,
            Shortage::Ports => Cause::NoPort,
        })
    }
}

/// How a dial waits for what this machine has too few of, and what is done for it meanwhile.
pub struct Need<'a> {
    /// A number for the shortage at this moment; 0 is none.
    now: AtomicU8,
    /// Told at each try that found too little.
    told: &'a (dyn Fn(Shortage) + Sync),
}

impl<'a> Need<'a> {
    /// Nothing is lacking yet.
    pub fn new(told: &'a (dyn Fn(Shortage) + Sync)) -> Self {
        Need {
            now: AtomicU8::new(0),
            told,
        }
    }

    fn set(&self, short: Option<Shortage>) {
        let number = match short {
            None => 0,
            Some(Shortage::Descriptors) => 1,
            Some(Shortage::Ports) => 2,
        };
        self.now.store(number, Ordering::Relaxed);
        short.into_iter().for_each(self.told);
    }

    /// What a dial was waiting for whose time is over: for the backend, unless something was lacking here.
    fn late(&self) -> Undialled {
        match self.now.load(Ordering::Relaxed) {
            0 => Undialled::of(Cause::ConnectTimeout),
            1 => Undialled::short(Shortage::Descriptors),
            _ => Undialled::short(Shortage::Ports),
        }
    }

    /// Opens something, and as often again as there is too little for it: others let go of some in a moment. The caller bounds
    /// the time.
    ///
    /// # Errors
    /// What else stands in the way.
    pub async fn open<E: Env, T, F>(&self, env: &E, open: impl Fn() -> F + Send) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>> + Send,
        T: Send,
    {
        loop {
            let opened = open().await;
            let short = opened.as_ref().err().and_then(shortage);
            self.set(short);
            if short.is_none() {
                return opened;
            }
            let clock = env.clock();
            clock.sleep_until(clock.now() + SHORT_REST).await;
        }
    }
}

/// The cause of a failure that is TLS's own.
pub fn tls_cause(error: &io::Error) -> Option<Cause> {
    trouble(error).map(|trouble| match trouble {
        Trouble::Certificate => Cause::TlsCertificate,
        Trouble::Alert => Cause::TlsAlert,
        Trouble::Protocol => Cause::TlsProtocol,
    })
}

impl Dialler {
    /// For one backend of an upstream.
    pub fn new<E: Env>(env: &E, upstream: &model::Upstream, backend: &model::Backend) -> Self {
        let tls = upstream.tls.as_deref().filter(|_| backend.is_tls());
        let alpn: &[&[u8]] = match upstream.protocol {
            _ if backend.scheme.protocol() != Protocol::Http => &[],
            BackendProtocol::Http1 => &[HTTP1],
            BackendProtocol::Http2 => &[HTTP2],
            BackendProtocol::Auto => &[HTTP2, HTTP1],
        };
        let tls = tls.map(|tls| {
            let env = env.clone();
            Tls {
                config: tls.client.for_server(alpn, move || env.clock().wall()),
                name: tls.client.name_of(&backend.host),
            }
        });
        Dialler {
            patience: upstream.timeouts.connect,
            keepalive: upstream.timeouts.keepalive,
            protocol: upstream.protocol,
            tls,
            resolved: Mutex::new(None),
        }
    }

    /// Bounds what comes before the first request.
    ///
    /// # Errors
    /// It took too long, perhaps for want of something here, or what `dialling` says.
    pub async fn in_time<E: Env, T: Send>(
        &self,
        env: &E,
        need: &Need<'_>,
        dialling: impl Future<Output = Result<T, Undialled>> + Send,
    ) -> Result<T, Undialled> {
        let dialled = env.clock().timeout(self.patience, dialling).await;
        dialled.unwrap_or_else(|| Err(need.late()))
    }

    /// A datagram socket to the backend's first address. The caller bounds the time.
    ///
    /// # Errors
    /// Why there is no address, or no socket.
    pub async fn associate<E: Env>(
        &self,
        env: &E,
        backend: &model::Backend,
        need: &Need<'_>,
    ) -> Result<(DatagramOf<E>, SocketAddr), Undialled> {
        let addresses = self.addresses(env, backend).await.map_err(Undialled::of)?;
        let first = addresses.first().copied();
        let addr = first.ok_or_else(|| Undialled::of(Cause::Dns))?;
        let opening = need.open(env, || std::future::ready(env.net().associate(addr)));
        let socket = opening.await.map_err(|e| Undialled::by(&e))?;
        Ok((socket, addr))
    }

    /// Is HTTP/2 spoken on this connection?
    ///
    /// # Errors
    /// It is asked for, and the backend chose something else, or nothing.
    pub fn is_http2<E: Env>(
        &self,
        stream: &StreamOf<E>,
        backend: &model::Backend,
    ) -> Result<bool, Undialled> {
        let chosen = match (self.protocol, stream) {
            (BackendProtocol::Http1, _) => return Ok(false),
            (_, Wire::Plain(_)) => return Ok(true),
            (_, Wire::Tls(stream)) => stream.get_ref().1.alpn_protocol(),
        };
        if chosen != Some(HTTP2) && self.protocol == BackendProtocol::Http2 {
            tracing::warn!(backend = %backend.name, "it chose no HTTP/2 by ALPN; \"protocol\": \"auto\" takes HTTP/1.1 as well");
            return Err(Undialled::of(Cause::TlsProtocol));
        }
        Ok(chosen == Some(HTTP2))
    }

    /// A connection to one of the backend's addresses, tried in turn. `first` goes out before anything else, a handshake
    /// included. The caller bounds the time.
    ///
    /// # Errors
    /// Why none of them could be reached.
    pub async fn dial<E: Env>(
        &self,
        env: &E,
        backend: &model::Backend,
        first: &[u8],
        need: &Need<'_>,
    ) -> Result<StreamOf<E>, Undialled> {
        let addresses = self.addresses(env, backend).await.map_err(Undialled::of)?;
        let started = env.clock().now();
        let mut last = Undialled::of(Cause::Dns);
        for (i, addr) in addresses.iter().enumerate() {
            // A silent address may not use up the time of those behind it.
            let left = self
                .patience
                .saturating_sub(env.clock().now().since(started));
            let share = left / u32::try_from(addresses.len() - i).unwrap_or(1).max(1);
            let reaching = async {
                let connecting = need.open(env, || env.net().connect(*addr)).await;
                let socket = match connecting {
                    Ok(socket) => self.begin::<E>(socket, first).await,
                    Err(error) => Err(error),
                };
                match (socket, &self.tls) {
                    (Ok(socket), None) => Ok(Wire::Plain(socket)),
                    (Ok(socket), Some(tls)) => tls.shake::<E>(socket, backend).await,
                    (Err(e), _) if e.kind() == io::ErrorKind::ConnectionRefused => {
                        Err(Undialled::of(Cause::ConnectRefused))
                    }
                    (Err(e), _) => {
                        tracing::debug!(backend = %backend.name, %addr, error = %e, "connect failed");
                        Err(Undialled::by(&e))
                    }
                }
            };
            last = match env.clock().timeout(share, reaching).await {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(undialled)) => undialled,
                None => need.late(),
            };
        }
        // The name may have moved.
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Err(last)
    }

    /// What comes before a handshake.
    async fn begin<E: Env>(
        &self,
        mut socket: SocketOf<E>,
        first: &[u8],
    ) -> io::Result<SocketOf<E>> {
        if let Some(silence) = self.keepalive {
            socket.set_keepalive(silence)?;
        }
        if !first.is_empty() {
            socket.write_all(first).await?;
        }
        Ok(socket)
    }

    async fn addresses<E: Env>(
        &self,
        env: &E,
        backend: &model::Backend,
    ) -> Result<Arc<[SocketAddr]>, Cause> {
        let now = env.clock().now();
        if let Some((until, addresses)) =
            &*self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
            && *until > now
        {
            return Ok(Arc::clone(addresses));
        }
        let found: Arc<[SocketAddr]> = match env.net().resolve(&backend.host, backend.port).await {
            Ok(found) => found.into(),
            Err(error) => {
                tracing::debug!(backend = %backend.name, %error, "the name did not resolve");
                return Err(Cause::Dns);
            }
        };
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((now + RESOLVED_FOR, Arc::clone(&found)));
        Ok(found)
    }
}

impl Tls {
    async fn shake<E: Env>(
        &self,
        socket: SocketOf<E>,
        backend: &model::Backend,
    ) -> Result<StreamOf<E>, Undialled> {
        let Some(name) = self.name.clone() else {
            return Err(Undialled::of(Cause::TlsCertificate));
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        match connector.connect(name, socket).await {
            Ok(stream) => Ok(Wire::Tls(Box::new(TlsStream::Client(stream)))),
            Err(error) => {
                let why = explain(&error);
                // Nobody but the one who runs this can mend it.
                tracing::warn!(backend = %backend.name, "TLS failed: {why}");
                let cause = tls_cause(&error).unwrap_or(Cause::TlsProtocol);
                Err(Undialled::of(cause))
            }
        }
    }
}
