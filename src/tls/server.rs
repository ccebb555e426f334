//! The side that clients connect to: which certificate a name gets, who may connect, and rustls's settings for both.

use std::sync::Arc;

use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::identity::Identity;
use super::pem::{self, Fault};

/// What a listener offers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Never empty. The first is for names that no other has, and for clients that say none.
    pub identities: Arc<[Identity]>,
    /// Who may connect; `None` asks nobody for a certificate.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version.
    pub min_version: MinVersion,
    /// The protocols that are offered (ALPN, RFC 7301), best first. Of none, nothing is agreed on and nothing refused.
    pub alpn: &'static [&'static str],
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
    /// The same with every file read anew.
    ///
    /// # Errors
    /// The first file that cannot be used any more.
    pub fn reload(&self) -> Result<Self, Fault> {
        let again = |i: &Identity| Identity::load(&i.certificate, &i.key);
        let identities: Result<Vec<_>, _> = self.identities.iter().map(again).collect();
        let mut new = self.clone();
        new.identities = identities?.into();
        if let Some(auth) = &mut new.client_auth {
            auth.roots = Arc::new(pem::authorities(&auth.ca)?);
        }
        Ok(new)
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
        config.ticketer = tickets;
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
        let named = name.and_then(|name| {
            let mut for_name = identities.iter().filter(|i| i.covers(&name));
            for_name.find(usable)
        });
        let chosen = named.or_else(|| identities.iter().find(usable))?;
        Some(Arc::clone(&chosen.certified))
    }
}
