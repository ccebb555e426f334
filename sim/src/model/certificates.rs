//! Certificates of the simulated world: one authority, and one certificate for every name in it.
//!
//! Keys are fixed and of Ed25519, so that every run has the same certificates and signatures of one length: what is encrypted
//! is random, its lengths are not. Absent: certificates that are wrong, which no seed is needed to find.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use weirkeeper::env::{Clock, Env};
use weirkeeper::tls::client::Trust;
use weirkeeper::tls::{Client, Identity};

use crate::env::SimEnv;

/// The proxy's name, for its clients.
pub const PROXY: &str = "weir.test";

/// Backends that have a name in the certificate: `b0.test` and so on.
const BACKENDS: usize = 8;

/// A PKCS 8 key of Ed25519 up to its 32 bytes (RFC 8410 section 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

struct Certificates {
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    names: Vec<String>,
}

fn key(fill: u8) -> (KeyPair, PrivateKeyDer<'static>) {
    let der = PrivatePkcs8KeyDer::from([PKCS8.as_slice(), &[fill; 32]].concat());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519);
    (pair.expect("32 bytes are a key"), der.into())
}

fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(|| {
        let params = |names: Vec<String>, serial: u64| {
            let mut params = CertificateParams::new(names).expect("they are names");
            params.serial_number = Some(SerialNumber::from(serial));
            params
        };
        let mut root = params(Vec::new(), 1);
        root.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let (signing, _) = key(0x5a);
        let authority = root.self_signed(&signing).expect("it signs");
        let authority = authority.der().clone();
        let mut names = vec![PROXY.to_string()];
        names.extend((0..BACKENDS).map(|i| format!("b{i}.test")));
        let (pair, key) = key(0xa5);
        let issuer = Issuer::new(root, signing);
        let leaf = params(names.clone(), 2)
            .signed_by(&pair, &issuer)
            .expect("it signs");
        Certificates {
            authority,
            chain: vec![leaf.der().clone()],
            key,
            names,
        }
    })
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let authority = certificates().authority.clone();
    roots.add(authority).expect("our own");
    roots
}

/// What the proxy shows its clients.
pub fn identity() -> Identity {
    let made = certificates();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(made.chain.clone(), made.key.clone_key(), &provider);
    Identity {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        certified: Arc::new(certified.expect("they belong together")),
        names: made.names.clone(),
        begins: SystemTime::UNIX_EPOCH,
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000),
    }
}

/// How the proxy dials backends: it believes this world's authority, or anybody where their names are not this world's own.
pub fn dialling(anyone: bool) -> Client {
    let trust = match anyone {
        true => Trust::Anyone,
        false => Trust::These(roots()),
    };
    Client::new(trust, None, None).expect("the provider has all of it")
}

/// Simulated time, as rustls asks for it.
#[derive(Debug)]
struct Time(SimEnv);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let wall = self.0.clock().wall();
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// A backend's side of TLS.
pub(super) fn server(env: &SimEnv, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let made = certificates();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(env.clone())))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(made.chain.clone(), made.key.clone_key())
        .expect("they belong together");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A client's side of TLS.
pub(super) fn client(env: &SimEnv, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(Time(env.clone())))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// The name by which clients ask for the proxy.
pub(super) fn proxy_name() -> ServerName<'static> {
    ServerName::try_from(PROXY).expect("it is a name")
}
