//! Whom a request comes from, as far as backends are told. Absent: the client's connection itself.

use std::net::IpAddr;
use std::sync::OnceLock;

use base64::Engine as _;
use bytes::Bytes;
use http::HeaderValue;
use rustls::pki_types::CertificateDer;

use crate::message::proxy_protocol::{self, Addresses, Version};

/// The client at the other end of a connection.
pub struct Origin {
    /// Its address, or the one that a trusted balancer has named.
    pub peer: IpAddr,
    /// The same as text, for X-Forwarded-For.
    pub peer_text: Box<str>,
    /// It belongs to the listener's trusted proxies.
    pub trusted: bool,
    /// Both ends of its connection, where a backend is told of them.
    pub ends: Option<Addresses>,
    /// Set once hands were shaken over TLS, with the certificate that it has shown.
    pub tls: OnceLock<Option<ClientCert>>,
}

impl Origin {
    /// A client that has not shaken hands.
    pub fn new(peer: IpAddr, trusted: bool, ends: Option<Addresses>) -> Self {
        Origin {
            peer,
            peer_text: peer.to_string().into(),
            trusted,
            ends,
            tls: OnceLock::new(),
        }
    }

    /// The scheme of what comes from it.
    pub fn scheme(&self) -> &'static str {
        match self.tls.get() {
            Some(_) => "https",
            None => "http",
        }
    }

    /// The certificate that it has shown.
    pub fn certificate(&self) -> Option<&ClientCert> {
        self.tls.get()?.as_ref()
    }

    /// What a connection to a backend begins with that is to know of this client.
    pub fn header(&self, version: Version) -> Bytes {
        proxy_protocol::write(version, self.ends).into()
    }
}

/// A verified certificate of a client, as backends are told of it.
pub struct ClientCert {
    /// The whole of it, as RFC 9440 section 2 has it.
    pub field: HeaderValue,
    /// Its subject, such as `CN=alice, O=Example`.
    pub subject: Option<HeaderValue>,
}

impl ClientCert {
    /// Of a certificate that was verified.
    pub fn of(cert: &CertificateDer<'_>) -> Option<Self> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(cert);
        let field = HeaderValue::try_from(format!(":{encoded}:")).ok()?;
        let subject = crate::tls::identity::subject(cert);
        Some(ClientCert {
            field,
            // What cannot stand in a field is left out; the certificate has it.
            subject: subject.and_then(|s| HeaderValue::try_from(s).ok()),
        })
    }
}
