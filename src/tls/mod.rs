//! Certificates, keys and authorities: from PEM files to what rustls wants to know, on both sides of a connection.
//!
//! Absent: handshakes and sockets (proxy), keys of the config file (config), the clock (whoever builds a rustls config hands
//! one over).

pub mod acme;
pub mod challenges;
pub mod client;
pub mod identity;
pub mod pem;
pub mod server;

pub use challenges::Challenges;
pub use client::Client;
pub use identity::Identity;
pub use pem::Fault;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one cryptography there is: aws-lc's, with the suites that rustls holds to be good. Those with SHA-256 come first: it has
/// instructions of its own where SHA-384 has none, and a handshake is largely hashing.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // Stable, so that all else stays in its order: TLS 1.3 before 1.2.
    provider.cipher_suites.sort_by_key(|suite| {
        let sha256 = suite
            .suite()
            .as_str()
            .is_some_and(|name| name.contains("AES_128"));
        (suite.tls13().is_none(), !sha256)
    });
    Arc::new(provider)
}
