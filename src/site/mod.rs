//! The config at work: its upstreams, certificates and challenges, and the client whom they serve. Absent: what is done for the
//! client, which the protocols know, and the cache, which outlives a config.

pub mod client;
pub mod handshake;
pub mod respond;
pub mod secure;

use std::io;
use std::sync::Arc;

use crate::config::model::{self, Config};
use crate::env::Env;
use crate::site::secure::Secure;
use crate::tls::Challenges;
use crate::upstream::Upstream;

/// One config at work, shared by all cores.
pub struct Site<E: Env> {
    /// The config.
    pub config: Arc<Config>,
    /// In config order.
    pub upstreams: Vec<Arc<Upstream<E>>>,
    /// One for each listener: its certificates, if it has any.
    pub secure: Vec<Option<Secure>>,
    /// Where authorities find their answers; `None` when no certificate is to be had by ACME.
    pub challenges: Option<Arc<Challenges>>,
}

impl<E: Env> Site<E> {
    /// Puts `config` to work.
    ///
    /// # Errors
    /// TLS that cannot be set up, by its listener's name.
    pub fn new(env: &E, config: &Arc<Config>) -> io::Result<Self> {
        let upstreams = config.upstreams.iter().enumerate();
        let secure: io::Result<Vec<_>> = config.listeners.iter().map(|l| secured(env, l)).collect();
        let acme = |l: &model::Listener| l.tls.as_ref().is_some_and(|tls| tls.acme.is_some());
        let acme = config.listeners.iter().any(acme);
        Ok(Site {
            upstreams: upstreams.map(|(i, u)| Upstream::new(env, i, u)).collect(),
            secure: secure?,
            challenges: acme.then(Arc::default),
            config: Arc::clone(config),
        })
    }
}

fn secured<E: Env>(env: &E, listener: &model::Listener) -> io::Result<Option<Secure>> {
    let settings = listener.tls.as_ref();
    let secure = settings.map(|settings| Secure::new(env, settings));
    secure.transpose().map_err(|e| {
        let text = format!("listener \"{}\": {e}", listener.name);
        io::Error::new(e.kind(), text)
    })
}
