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

/// The one cryptography there is: aws-lc's, with the suites that rustls holds to be good.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
