//! The side that clients connect to: which certificate a name gets, who may connect, and rustls's settings for both.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::acme::Acme;
use super::identity::Identity;
use super::pem::{self, Fault};

/// What a listener offers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The config's own, then those that ACME has brought so far. The first is for names that no other has, and for clients
    /// that say none.
    pub identities: Arc<[Identity]>,
    /// How many of them are the config's own; without `acme` that is all of them, and at least one.
    pub own: usize,
    /// What is to be had by ACME.
    pub acme: Option<Acme>,
    /// Who may connect; `None` asks nobody for a certificate.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version.
    pub min_version: MinVersion,
    /// The protocols that are offered (ALPN, RFC 7301), best first. Of none, nothing is agreed on and nothing refused.
    pub alpn: &'static [&'static str],
    /// A client that comes again need not shake hands in full (RFC 8446 section 2.2, RFC 5077).
    pub session_tickets: bool,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// 1.2 and 1.3 (RFC 5246, RFC 8446).
    Tls12,
    /// 1.3 alone.
    Tls13,
}

/// Certificates of clients.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// Where the authorities were read.
    pub ca: std::path::PathBuf,
    /// Who may have issued them.
    pub roots: Arc<RootCertStore>,
    /// Without one there is no connection. Otherwise only a wrong one is refused.
    pub required: bool,
}

impl Settings {
    /// Settings with the config's `own` identities, and what is stored of those that ACME brings; with the defaults in all else.
    /// A stored one that cannot be used is passed over: whoever renews it tells of it.
    pub fn new(own: Vec<Identity>, acme: Option<Acme>) -> Self {
        let count = own.len();
        let mut identities = own;
        if let Some(acme) = &acme {
            let stored = |domain: &String| acme.authority.load(domain).ok().flatten();
            identities.extend(acme.domains.iter().filter_map(stored));
        }
        Settings {
            identities: identities.into(),
            own: count,
            acme,
            client_auth: None,
            min_version: MinVersion::Tls12,
            alpn: &[],
            session_tickets: true,
        }
    }

    /// The same with every file read anew. Of ACME's, one that is gone or cannot be used leaves the one from before in place.
    ///
    /// # Errors
    /// The first of the config's own files that cannot be used any more.
    pub fn reload(&self) -> Result<Self, Fault> {
        let (own, brought) = self.identities.split_at(self.own);
        let again = |i: &Identity| Identity::load(&i.certificate, &i.key);
        let own: Result<Vec<_>, _> = own.iter().map(again).collect();
        let mut identities = own?;
        if let Some(acme) = &self.acme {
            identities.extend(acme.domains.iter().filter_map(|domain| {
                let file = acme.authority.certificate(domain);
                let before = || brought.iter().find(|i| i.certificate == file).cloned();
                let stored = acme.authority.load(domain).ok().flatten();
                stored.or_else(before)
            }));
        }
        let mut new = self.clone();
        new.identities = identities.into();
        if let Some(auth) = &mut new.client_auth {
            auth.roots = Arc::new(pem::authorities(&auth.ca)?);
        }
        Ok(new)
    }

    /// What all the files hold, in short: the same for as long as none has changed.
    pub fn digest(&self) -> u64 {
        let own = self.identities[..self.own].iter();
        let own = own.flat_map(|i| [i.certificate.clone(), i.key.clone()]);
        let acme = self.acme.iter();
        let brought = acme.flat_map(|a| a.domains.iter().map(|d| a.authority.certificate(d)));
        let ca = self.client_auth.iter().map(|auth| auth.ca.clone());
        let mut hasher = DefaultHasher::new();
        for file in own.chain(brought).chain(ca) {
            // One that cannot be read differs from what it was.
            std::fs::read(file).ok().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The place of the identity for `host`, a name in lower case.
    pub fn choose(&self, host: &str) -> usize {
        self.identities
            .iter()
            .position(|identity| identity.covers(host))
            .unwrap_or(0)
    }

    /// These as rustls takes them. `time` is the clock that certificates of clients are held against, and `tickets` lives on
    /// from one config to the next, so that sessions outlive a reload.
    ///
    /// # Errors
    /// The authorities of `client_auth` are none.
    pub fn build(
        &self,
        time: Arc<dyn TimeProvider>,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<Arc<ServerConfig>, String> {
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            MinVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let provider = super::provider();
        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), time)
            .with_protocol_versions(versions)
            .map_err(|e| e.to_string())?;
        let builder = match &self.client_auth {
            None => builder.with_no_client_auth(),
            Some(auth) => {
                let roots = Arc::clone(&auth.roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if auth.required {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| e.to_string())?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(self.clone())));
        // All suites are good; which of them comes first is not left to what a client happens to list.
        config.ignore_client_order = true;
        // Tickets hold what a session needs; nothing is kept here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.session_tickets {
            config.ticketer = tickets;
        }
        // One for the one connection that this is. A client that opens several at once gets one on each.
        config.send_tls13_tickets = 1;
        config.alpn_protocols = self.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// Session tickets whose keys change every six hours (RFC 5077 section 5.5).
///
/// # Errors
/// There is no entropy.
pub fn tickets() -> Result<Arc<dyn ProducesTickets>, String> {
    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| e.to_string())
}

/// Chooses by the name in the client's hello (RFC 6066 section 3), and among several for one name by what the client can
/// verify.
#[derive(Debug)]
struct ByName(Settings);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identities = &self.0.identities;
        let usable = |i: &&Identity| {
            let key = &i.certified.key;
            key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = name.as_ref().and_then(|name| {
            let mut for_name = identities.iter().filter(|i| i.covers(name));
            for_name.find(usable)
        });
        if let (None, Some(acme), Some(name)) = (&named, &self.0.acme, &name)
            && acme.domains.contains(name)
        {
            tracing::debug!(%name, "no certificate has come by ACME yet");
            return None;
        }
        let chosen = named.or_else(|| identities.iter().find(usable))?;
        Some(Arc::clone(&chosen.certified))
    }
}
