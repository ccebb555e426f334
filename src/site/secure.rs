//! TLS towards clients: each listener's certificates as they are now, the handshake, and what a connection is known by after it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::server::{Accepted, Acceptor, ProducesTickets};
use rustls::time_provider::TimeProvider;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{StartHandshake, TlsStream};

use crate::env::{Clock, Env};
use crate::message::cause::Cause;
use crate::site::client::Client;
use crate::site::respond;
use crate::telemetry::CertificateStatus;
use crate::tls::server::{self, Settings};
use crate::tls::{Fault, Identity};
use crate::upstream::origin::ClientCert;
use crate::wire::stream::Wire;
use crate::wire::{SocketOf, StreamOf};

/// What one read of a hello may bring: most are smaller.
const HELLO: usize = 4096;

/// The first byte of a handshake's records (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// TLS of one listener. What is swapped in serves the handshakes that begin after it.
pub struct Secure {
    current: Mutex<Arc<Current>>,
    time: Arc<dyn TimeProvider>,
    tickets: Arc<dyn ProducesTickets>,
}

/// What handshakes use.
struct Current {
    settings: Settings,
    config: Arc<ServerConfig>,
    /// Of the files that these were read from; `None` where another read them.
    digest: Option<u64>,
}

impl Secure {
    /// With the certificates that the config was compiled with.
    ///
    /// # Errors
    /// The settings contradict themselves, or there is no entropy.
    pub fn new<E: Env>(env: &E, settings: &Settings) -> io::Result<Self> {
        let time: Arc<dyn TimeProvider> = Arc::new(Time(env.clone()));
        let tickets = server::tickets().map_err(io::Error::other)?;
        let config = settings
            .build(Arc::clone(&time), Arc::clone(&tickets))
            .map_err(io::Error::other)?;
        let current = Current {
            settings: settings.clone(),
            config,
            digest: None,
        };
        Ok(Secure {
            current: Mutex::new(Arc::new(current)),
            time,
            tickets,
        })
    }

    /// Reads the files anew if one has changed. Connections that stand are not touched; true when a certificate has changed.
    ///
    /// # Errors
    /// A file that cannot be used: what was there before serves on.
    pub fn reload(&self) -> Result<bool, Fault> {
        let before = self.current();
        // Taken first: what changes while the files are read is seen the next time.
        let digest = Some(before.settings.digest());
        if digest == before.digest {
            return Ok(false);
        }
        let settings = before.settings.reload()?;
        let same = |(a, b): (&Identity, &Identity)| a.certified.cert == b.certified.cert;
        let (old, new) = (&before.settings.identities, &settings.identities);
        let changed = old.len() != new.len() || !old.iter().zip(new.iter()).all(same);
        let config = settings
            .build(Arc::clone(&self.time), Arc::clone(&self.tickets))
            .map_err(|what| Fault {
                path: settings
                    .client_auth
                    .as_ref()
                    .map_or_else(Default::default, |auth| auth.ca.clone()),
                what,
            })?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Current {
            settings,
            config,
            digest,
        });
        Ok(changed)
    }

    /// What is served on the listener called `listener`.
    pub fn certificates(&self, listener: &str) -> Vec<CertificateStatus> {
        let current = self.current();
        let status = |identity: &Identity| CertificateStatus {
            listener: listener.to_owned(),
            name: identity.names.first().cloned().unwrap_or_default(),
            expires: identity.expires.into(),
        };
        current.settings.identities.iter().map(status).collect()
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The time that certificates are held against: the environment's.
struct Time<E>(E);

impl<E> std::fmt::Debug for Time<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl<E: Env> TimeProvider for Time<E> {
    fn current_time(&self) -> Option<UnixTime> {
        let wall = self.0.clock().wall();
        let since = wall.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// What is known of a client's connection after its handshake.
pub struct Secured {
    current: Arc<Current>,
    /// The place of the identity that it was served, if it asked for a name.
    served: Option<usize>,
    /// HTTP/2 was agreed on.
    pub http2: bool,
}

impl Secured {
    /// May a request for `host` come over this connection? Not where another certificate is kept for it: then the client's
    /// assumption that this is the right server was wrong (RFC 9110 section 15.5.20).
    pub fn is_for(&self, host: &str) -> bool {
        self.served
            .is_none_or(|served| served == self.current.settings.choose(host))
    }
}

/// A connection as its listener has it: in the clear, or over TLS once hands were shaken. `None` when it has been dealt with.
pub async fn begin<E: Env>(client: &Client<E>, socket: SocketOf<E>) -> Option<StreamOf<E>> {
    match &client.site.secure[client.listener] {
        None => Some(Wire::Plain(socket)),
        Some(secure) => accept(client, secure, socket).await,
    }
}

/// The handshake, within the time that a head may take.
async fn accept<E: Env>(
    client: &Client<E>,
    secure: &Secure,
    socket: SocketOf<E>,
) -> Option<StreamOf<E>> {
    let clock = client.core().env.clock();
    let limit = client.model().timeouts.header;
    // On the heap: a connection that has shaken hands holds nothing of it.
    let accepted = clock.timeout(limit, Box::pin(shake(client, secure, socket)));
    let failed = match accepted.await {
        Some(Ok(stream)) => return stream,
        Some(Err(error)) => error,
        None => io::ErrorKind::TimedOut.into(),
    };
    tracing::debug!(error = %failed, peer = %client.origin.peer, "a TLS handshake failed");
    client.refused(Cause::ClientTls);
    None
}

/// `None` after a handshake that was an authority's challenge: then all has been said.
async fn shake<E: Env>(
    client: &Client<E>,
    secure: &Secure,
    mut socket: SocketOf<E>,
) -> io::Result<Option<StreamOf<E>>> {
    let accepted = match hello(&mut socket).await? {
        Some(accepted) => accepted,
        None => {
            // A browser that was sent to the wrong scheme reads this.
            let answer = respond::raw(Cause::NotTls, &client.core().date());
            socket.write_all(&answer).await?;
            socket.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not TLS"));
        }
    };
    let challenges = client.site.challenges.as_ref();
    if let Some(config) = challenges.and_then(|c| c.handshake(&accepted.client_hello())) {
        let start = StartHandshake::from_parts(accepted, socket);
        start.into_stream(config).await?.shutdown().await?;
        return Ok(None);
    }
    let current = secure.current();
    let start = StartHandshake::from_parts(accepted, socket);
    let stream = start.into_stream(Arc::clone(&current.config)).await?;
    let (_, session) = stream.get_ref();
    let served = session.server_name().map(|n| n.to_ascii_lowercase());
    let certs = session.peer_certificates();
    let secured = Secured {
        served: served.map(|name| current.settings.choose(&name)),
        http2: session.alpn_protocol() == Some(b"h2"),
        current,
    };
    let shown = certs.and_then(|c| c.first()).and_then(ClientCert::of);
    // A connection shakes hands once.
    let _ = client.origin.tls.set(shown);
    let _ = client.secured.set(Arc::new(secured));
    Ok(Some(Wire::Tls(Box::new(TlsStream::Server(stream)))))
}

/// Reads up to the end of a client's hello; `None` when what comes is no TLS at all.
async fn hello<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) -> io::Result<Option<Accepted>> {
    let mut acceptor = Acceptor::default();
    let mut room = vec![0; HELLO];
    let mut first = true;
    loop {
        let read = socket.read(&mut room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if std::mem::take(&mut first) && room[0] != HANDSHAKE {
            return Ok(None);
        }
        let mut bytes = &room[..read];
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Some(accepted)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut words = Vec::new();
                alert.write_all(&mut words)?;
                socket.write_all(&words).await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}
