//! Challenges of ACME authorities that wait for their answer: tokens over HTTP (RFC 8555 section 8.3) and handshakes with a
//! certificate that only an authority asks for (RFC 8737). Who talks to the authority publishes them here, and who serves looks
//! here. While nothing waits, a look costs one relaxed load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// Where a token is fetched, up to the token.
pub const HTTP_PATH: &str = "/.well-known/acme-challenge/";

/// What is spoken by ALPN in a handshake that is a challenge (RFC 8737 section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// What waits for its answer.
#[derive(Debug, Default)]
pub struct Challenges {
    /// How many wait, of both kinds.
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Key authorizations by their tokens.
    tokens: BTreeMap<String, String>,
    /// What to shake hands with, by the name that is asked for.
    handshakes: BTreeMap<String, Arc<ServerConfig>>,
}

impl Challenges {
    /// The key authorization to answer a request for `path` with; `None` when that is no token that waits.
    pub fn answer(&self, path: &str) -> Option<String> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let token = path.strip_prefix(HTTP_PATH)?;
        self.lock().tokens.get(token).cloned()
    }

    /// What to shake hands with, if `hello` comes from an authority: it offers one protocol and names a domain that waits.
    pub fn handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ALPN) || offered.next().is_some() {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.lock().handshakes.get(&name).cloned()
    }

    /// Answers requests for `token` with `authorization` until the guard is dropped.
    pub fn publish_token(self: &Arc<Self>, token: &str, authorization: &str) -> Published {
        let mut waiting = self.lock();
        let (token, authorization) = (token.to_owned(), authorization.to_owned());
        waiting.tokens.insert(token.clone(), authorization);
        self.count(&waiting);
        Published(Arc::clone(self), Key::Token(token))
    }

    /// Shakes hands for `domain`, in lower case, with a certificate that holds `digest`, the SHA-256 of the key authorization,
    /// until the guard is dropped.
    ///
    /// # Errors
    /// The domain or the digest cannot stand in a certificate.
    pub fn publish_handshake(
        self: &Arc<Self>,
        domain: &str,
        digest: &[u8],
    ) -> Result<Published, String> {
        let config = challenge_config(domain, digest)?;
        let mut waiting = self.lock();
        waiting.handshakes.insert(domain.to_owned(), config);
        self.count(&waiting);
        Ok(Published(Arc::clone(self), Key::Handshake(domain.into())))
    }

    fn count(&self, waiting: &Waiting) {
        let count = waiting.tokens.len() + waiting.handshakes.len();
        self.count.store(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A challenge that is answered as long as this lives.
#[must_use]
#[derive(Debug)]
pub struct Published(Arc<Challenges>, Key);

#[derive(Debug)]
enum Key {
    Token(String),
    Handshake(String),
}

impl Drop for Published {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        match &self.1 {
            Key::Token(token) => waiting.tokens.remove(token).map(drop),
            Key::Handshake(domain) => waiting.handshakes.remove(domain).map(drop),
        };
        self.0.count(&waiting);
    }
}

/// One certificate, self-signed, for `domain` alone, with the digest in an extension of its own (RFC 8737 section 3).
fn challenge_config(domain: &str, digest: &[u8]) -> Result<Arc<ServerConfig>, String> {
    if digest.len() != 32 {
        return Err(format!("{} bytes are no SHA-256 digest", digest.len()));
    }
    let text = |e: rcgen::Error| e.to_string();
    let mut params = CertificateParams::new(vec![domain.to_owned()]).map_err(text)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(text)?;
    let cert = params.self_signed(&key).map_err(text)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = super::provider();
    let loaded = provider.key_provider.load_private_key(key);
    let loaded = loaded.map_err(|e| e.to_string())?;
    // Not checked: the extension is critical, and unknown to whoever would check it here.
    let certified = CertifiedKey::new(vec![cert.der().clone()], loaded);
    // No certificate of the authority's is asked for, whatever the listener asks of its clients.
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_answered_until_it_is_taken_back() {
        let challenges = Arc::new(Challenges::default());
        assert_eq!(challenges.answer("/.well-known/acme-challenge/a"), None);
        let first = challenges.publish_token("a", "a.thumb");
        let second = challenges.publish_token("b", "b.thumb");
        let answer = |path: &str| challenges.answer(path);
        assert_eq!(
            answer("/.well-known/acme-challenge/a").as_deref(),
            Some("a.thumb")
        );
        for path in [
            "/a",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/a/",
            "/",
        ] {
            assert_eq!(answer(path), None, "{path}");
        }
        drop(first);
        assert_eq!(answer("/.well-known/acme-challenge/a"), None);
        assert!(answer("/.well-known/acme-challenge/b").is_some());
        drop(second);
        assert_eq!(challenges.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_cannot_stand_in_a_certificate_is_refused() {
        let challenges = Arc::new(Challenges::default());
        assert!(challenges.publish_handshake("a.example", &[7; 32]).is_ok());
        assert!(challenges.publish_handshake("a.example", &[7; 31]).is_err());
        assert!(challenges.publish_handshake("ä.example", &[7; 32]).is_err());
        assert_eq!(challenges.count.load(Ordering::Relaxed), 0);
    }
}
