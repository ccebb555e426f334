//! The challenges as an authority meets them: HTTP-01 (RFC 8555 section 8.3) and TLS-ALPN-01 (RFC 8737).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Fetches the token.
pub(super) async fn http(
    port: u16,
    domain: &str,
    token: &str,
    expected: &str,
) -> Result<(), String> {
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n"
    );
    let fetch = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, fetch).await;
    let answer = answer.map_err(|_| "no answer in time".to_owned())?;
    let answer = answer.map_err(|e| e.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.starts_with("HTTP/1.1 200 ") {
        let status = head.lines().next().unwrap_or_default();
        return Err(format!("Invalid response from http://{domain}: {status}"));
    }
    match body.trim_end() == expected {
        true => Ok(()),
        false => Err(format!("The key authorization is {body:?}")),
    }
}

/// Shakes hands.
pub(super) async fn tls_alpn(port: u16, domain: &str, expected: &str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(domain.to_owned()).map_err(|e| e.to_string())?;
    let shake = async {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut stream = connector.connect(name, socket).await?;
        let (_, session) = stream.get_ref();
        let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
        let certs = session.peer_certificates().map(<[_]>::to_vec);
        let mut rest = Vec::new();
        // The handshake was all: now it is closed, and in order.
        stream.read_to_end(&mut rest).await?;
        Ok::<_, std::io::Error>((alpn, certs, rest))
    };
    let shaken = tokio::time::timeout(PATIENCE, shake).await;
    let shaken = shaken.map_err(|_| "no handshake in time".to_owned())?;
    let (alpn, certs, rest) = shaken.map_err(|e| e.to_string())?;
    if alpn.as_deref() != Some(b"acme-tls/1") || !rest.is_empty() {
        return Err(format!("the protocol {alpn:?}, and {rest:?} after it"));
    }
    let certs = certs.unwrap_or_default();
    let [cert] = certs.as_slice() else {
        return Err(format!("{} certificates", certs.len()));
    };
    certificate(cert, domain, expected)
}

/// One name, and the digest in a critical extension (RFC 8737 section 3).
fn certificate(cert: &[u8], domain: &str, expected: &str) -> Result<(), String> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|e| e.to_string())?;
    let names = cert.subject_alternative_name().map_err(|e| e.to_string())?;
    let names = names.map(|n| n.value.general_names.as_slice());
    if !matches!(names, Some([GeneralName::DNSName(name)]) if *name == domain) {
        return Err(format!("the names {names:?}"));
    }
    let found = cert
        .extensions()
        .iter()
        .find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    let found = found.ok_or("no acmeIdentifier")?;
    let mut wanted = vec![4, 32];
    wanted.extend(digest(&SHA256, expected.as_bytes()).as_ref());
    match found.critical && found.value == wanted {
        true => Ok(()),
        false => Err("another acmeIdentifier".into()),
    }
}

/// Self-signed certificates are what is expected here.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken".into()))
    }

    /// By the key alone: the library knows no certificate whose critical extension it does not know.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = X509Certificate::from_der(cert);
        let (_, parsed) = parsed.map_err(|e| Error::General(e.to_string()))?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
