//! `tls` towards clients.

use schemars::JsonSchema;
use serde::Serialize;

use super::leaf::{ClientAuthMode, TlsVersion};

/// TLS towards clients: either `certificate` and `key`, or `certificates`. Paths begin at the config file's directory.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ServerTls {
    /// A PEM file: the server's certificate, then those that lead to its authority.
    pub certificate: Option<String>,
    /// A PEM file: its private key.
    pub key: Option<String>,
    /// Several, chosen by the name that a client asks for. The first serves every other name.
    #[schemars(length(min = 1))]
    pub certificates: Option<Vec<Certificate>>,
    /// Ask clients for certificates. By default nobody is asked.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version that is spoken: "1.2" (the default) or "1.3".
    pub min_version: Option<TlsVersion>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Certificate {
    /// A PEM file: the certificate, then those that lead to its authority.
    pub certificate: String,
    /// A PEM file: its private key.
    pub key: String,
}

/// Certificates of clients.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClientAuth {
    /// A PEM file: the authorities that may have issued them.
    pub ca: String,
    /// "required" (the default): no connection without one. "optional": only a wrong one is refused.
    pub mode: Option<ClientAuthMode>,
}
