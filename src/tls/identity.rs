//! Who a side of a connection says it is: a chain of certificates and the key of the first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::pem::{self, Fault};

/// A chain of certificates and the key of the first, known to belong together.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where the chain was read.
    pub certificate: PathBuf,
    /// Where the key was read.
    pub key: PathBuf,
    /// Both, as rustls takes them.
    pub certified: Arc<CertifiedKey>,
    /// The names that the certificate is for, in lower case; some begin with `*.`.
    pub names: Vec<String>,
    /// The first second of its validity.
    pub begins: SystemTime,
    /// The last one.
    pub expires: SystemTime,
}

impl Identity {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that cannot be used, or a key that is another certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Fault> {
        let chain = pem::certificates(certificate)?;
        let private = pem::key(key)?;
        let leaf = chain[0].clone();
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|e| {
            Fault::new(
                certificate,
                format!("its first certificate cannot be read: {e}"),
            )
        })?;
        let names = names(&parsed);
        let date = |time: ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let begins = date(parsed.validity().not_before);
        let expires = date(parsed.validity().not_after);
        let certified = CertifiedKey::from_der(chain, private, &super::provider());
        let certified = certified.map_err(|e| match e {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Fault::new(
                key,
                format!(
                    "is not the key of the certificate in {}",
                    certificate.display()
                ),
            ),
            other => Fault::new(key, format!("cannot be used: {other}")),
        })?;
        Ok(Identity {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            certified: Arc::new(certified),
            names,
            begins,
            expires,
        })
    }

    /// Is the certificate for `host`, a name in lower case? A wildcard stands for one label (RFC 6125 section 6.4.3).
    pub fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => name == host,
        })
    }
}

/// The names of a certificate, in lower case. The common name counts only where there is no list, as old tools made them.
fn names(cert: &X509Certificate<'_>) -> Vec<String> {
    let listed: Vec<String> = match cert.subject_alternative_name() {
        Ok(Some(list)) => list
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    if !listed.is_empty() {
        return listed;
    }
    let common = cert.subject().iter_common_name();
    common
        .filter_map(|name| name.as_str().ok())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// The subject of a certificate, for people and log lines: `CN=alice, O=Example`.
pub fn subject(cert: &[u8]) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    Some(cert.subject().to_string())
}
