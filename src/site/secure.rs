//! TLS of listeners: each one's certificates as they are now, and what a connection is known by after its handshake. Absent: the
//! handshake itself (handshake).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use rustls::{ServerConfig, ServerConnection};

use crate::env::{Clock, Env};
use crate::telemetry::CertificateStatus;
use crate::tls::server::{self, Settings};
use crate::tls::{Fault, Identity};

/// TLS of one listener. What is swapped in serves the handshakes that begin after it.
pub struct Secure {
    current: Mutex<Arc<Current>>,
    time: Arc<dyn TimeProvider>,
    tickets: Arc<dyn ProducesTickets>,
}

/// What handshakes use.
pub(super) struct Current {
    settings: Settings,
    pub(super) config: Arc<ServerConfig>,
    /// Of the files that the settings were read from; `None` for those that came with the config.
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

    /// By other settings. Sessions that were begun with these can be resumed.
    ///
    /// # Errors
    /// The settings contradict themselves.
    pub fn follow(&self, settings: &Settings) -> io::Result<Self> {
        let (time, tickets) = (Arc::clone(&self.time), Arc::clone(&self.tickets));
        let config = settings.build(Arc::clone(&time), Arc::clone(&tickets));
        let current = Current {
            settings: settings.clone(),
            config: config.map_err(io::Error::other)?,
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
        // The digest is taken before the files are read, so a change in between is seen the next time.
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

    /// What a handshake that begins now uses to its end.
    pub(super) fn current(&self) -> Arc<Current> {
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
    /// After the handshake of `session`, which used `current`.
    pub(super) fn new(current: Arc<Current>, session: &ServerConnection) -> Self {
        let served = session.server_name().map(str::to_ascii_lowercase);
        Secured {
            served: served.map(|name| current.settings.choose(&name)),
            http2: session.alpn_protocol() == Some(b"h2"),
            current,
        }
    }

    /// May a request for `host` come over this connection? Not where another certificate is kept for it: then the client's
    /// assumption that this is the right server was wrong (RFC 9110 section 15.5.20).
    pub fn is_for(&self, host: &str) -> bool {
        self.served
            .is_none_or(|served| served == self.current.settings.choose(host))
    }
}
