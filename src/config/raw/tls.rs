//! `tls` towards clients.

use schemars::JsonSchema;
use serde::Serialize;

use super::leaf::{AcmeChallenge, AcmeTerms, ClientAuthMode, HttpsUrl, TlsVersion};

/// TLS towards clients: `certificate` and `key`, or `certificates`; `acme`, alone or beside them. Paths begin at the config
/// file's directory.
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
    /// Certificates that an authority issues and that are renewed by themselves (RFC 8555).
    pub acme: Option<Acme>,
    /// Ask clients for certificates. By default none, and nobody is asked.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version that is spoken. By default "1.2".
    pub min_version: Option<TlsVersion>,
    /// Give clients tickets, so that coming again costs less. By default true.
    pub session_tickets: Option<bool>,
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
    /// "required": no connection without one. "optional": only a wrong one is refused. By default "required".
    pub mode: Option<ClientAuthMode>,
}

/// Certificates from an authority that speaks ACME.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Acme {
    /// The names; each gets a certificate of its own. Wildcards need a challenge over DNS, which is not built.
    #[schemars(length(min = 1))]
    pub domains: Vec<String>,
    /// True says that you agree to the terms of service of the authority; without that it issues nothing.
    pub agree_to_terms: AcmeTerms,
    /// The folder for the account's key and for the certificates. It is made if need be.
    pub storage: String,
    /// The URL of the authority's directory. By default that of Let's Encrypt.
    pub directory: Option<HttpsUrl>,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// How it is shown that a name is yours: "tls-alpn-01" (on port 443) or "http-01" (on port 80). By default "tls-alpn-01".
    pub challenge: Option<AcmeChallenge>,
    /// A PEM file: whom the directory's own certificate has to come from. By default whom the system trusts.
    pub ca: Option<String>,
    /// An account with the authority to bind the new one to, where it wants one.
    pub external_account_binding: Option<ExternalAccountBinding>,
}

/// What an authority gives to customers, so that they make an account by ACME (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExternalAccountBinding {
    /// The key's name.
    pub key_id: String,
    /// A file with the key in base64url, as the authority gave it. It is read when the account is made.
    pub mac_key_file: String,
}
