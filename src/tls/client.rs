//! The side that dials: whom a server has to be, and who we are to it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::identity::Identity;

/// Whose certificates are believed.
#[derive(Debug)]
pub enum Trust {
    /// Those that lead to one of these authorities.
    These(RootCertStore),
    /// Anyone's: what passes is hidden from those who only listen.
    Anyone,
}

/// How servers are dialled over TLS 1.2 and 1.3.
#[derive(Clone, Debug)]
pub struct Client {
    base: ClientConfig,
    sni: Option<DnsName<'static>>,
}

impl Client {
    /// `sni` takes the place of a server's host name, in what it is asked for and in what its certificate must say.
    ///
    /// # Errors
    /// What rustls holds against the authorities or the identity.
    pub fn new(
        trust: Trust,
        identity: Option<&Identity>,
        sni: Option<DnsName<'static>>,
    ) -> Result<Self, Error> {
        let provider = super::provider();
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::These(roots) => {
                let builder =
                    WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
                builder.build().map_err(|e| Error::General(e.to_string()))?
            }
            Trust::Anyone => Arc::new(Unverified(provider.clone())),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let base = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
                Arc::clone(&identity.certified),
            ))),
        };
        Ok(Client { base, sni })
    }

    /// What one server is dialled with. Sessions are its own to resume; `alpn` is offered in this order; `now` is the date
    /// that certificates are held against.
    pub fn for_server(
        &self,
        alpn: &[&[u8]],
        now: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Arc<ClientConfig> {
        let mut config = self.base.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        // Eight is as many tickets as rustls keeps of one server.
        config.resumption = Resumption::in_memory_sessions(8);
        config.time_provider = Arc::new(Now(now));
        Arc::new(config)
    }

    /// Who the server at `host`, a name or an IP address, has to be; `None` if that is neither. An address is not sent as SNI
    /// (RFC 6066 section 3).
    pub fn name_of(&self, host: &str) -> Option<ServerName<'static>> {
        match &self.sni {
            Some(name) => Some(ServerName::DnsName(name.clone())),
            None => ServerName::try_from(host.to_owned()).ok(),
        }
    }
}

/// The authorities that this system trusts.
///
/// # Errors
/// There are none, and why, if the system said.
pub fn system_authorities() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why = found.errors.first();
    Err(match why {
        Some(error) => format!("this system's certificate authorities cannot be read: {error}"),
        None => "this system has no certificate authorities".into(),
    })
}

/// The date, from wherever the caller has it.
struct Now<F>(F);

impl<F> fmt::Debug for Now<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl<F: Fn() -> SystemTime + Send + Sync> TimeProvider for Now<F> {
    fn current_time(&self) -> Option<UnixTime> {
        let since = (self.0)().duration_since(SystemTime::UNIX_EPOCH);
        Some(UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO)))
    }
}

/// Believes whatever a certificate says, but for the key that goes with it.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What went wrong between two sides of a connection, in TLS and not below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The peer's certificate does not verify.
    Certificate,
    /// The peer gave up, and said so by an alert: often because of our certificate.
    Alert,
    /// The peer speaks no TLS, or none that we speak.
    Protocol,
}

/// Is this TLS's error, and whose?
pub fn trouble(error: &io::Error) -> Option<Trouble> {
    Some(match inner(error)? {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Trouble::Certificate,
        Error::AlertReceived(_) => Trouble::Alert,
        _ => Trouble::Protocol,
    })
}

/// The same for a person, in the words of what to look at.
pub fn explain(error: &io::Error) -> String {
    match inner(error) {
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "the authority of its certificate is not among the trusted ones".into(),
        Some(Error::InvalidCertificate(why)) => why.to_string(),
        Some(Error::AlertReceived(alert)) => {
            format!("the peer gave up with the alert {alert:?}")
        }
        Some(Error::InvalidMessage(_)) => "the peer does not speak TLS".into(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_who_it_is_dialled_as_unless_the_config_says_another_name() {
        let plain = Client::new(Trust::Anyone, None, None).expect("nothing to hold against it");
        assert_eq!(
            plain.name_of("a.example"),
            ServerName::try_from("a.example").ok()
        );
        assert!(matches!(
            plain.name_of("::1"),
            Some(ServerName::IpAddress(_))
        ));
        assert_eq!(plain.name_of("no host"), None);
        let sni = DnsName::try_from("b.example").ok();
        let named = Client::new(Trust::Anyone, None, sni).expect("nothing to hold against it");
        assert_eq!(
            named.name_of("127.0.0.1"),
            ServerName::try_from("b.example").ok()
        );
    }

    #[test]
    fn the_date_is_the_callers() {
        let client = Client::new(Trust::Anyone, None, None).expect("nothing to hold against it");
        let config = client.for_server(&[b"h2"], || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(77)
        });
        let now = config.time_provider.current_time();
        assert_eq!(now.map(|t| t.as_secs()), Some(77));
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
    }

    #[test]
    fn without_an_authority_nobody_can_be_believed() {
        assert!(Client::new(Trust::These(RootCertStore::empty()), None, None).is_err());
    }

    #[test]
    fn an_error_of_the_socket_is_none_of_tls() {
        assert_eq!(
            trouble(&io::Error::from(io::ErrorKind::ConnectionReset)),
            None
        );
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, Error::DecryptError);
        assert_eq!(trouble(&wrapped), Some(Trouble::Protocol));
    }
}
