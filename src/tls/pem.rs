//! PEM files (RFC 7468): what is in them, and what is wrong with them in words that say what to do.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The mark of the byte order in UTF-8.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, without a full stop.
    pub what: String,
}

impl Fault {
    pub(super) fn new(path: &Path, what: impl Into<String>) -> Self {
        Fault {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}

/// The certificates of a file, in their order: a server's own first, then those that lead to its authority.
///
/// # Errors
/// The file cannot be read, is no PEM, or holds no certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|e| Fault::new(path, format!("is no valid PEM: {e}")))?;
    if found.is_empty() {
        let what = match section(&text) {
            Some(label) => format!("holds no certificate but a {label}"),
            None => {
                "holds no certificate: a PEM file has \"-----BEGIN CERTIFICATE-----\" in it".into()
            }
        };
        return Err(Fault::new(path, what));
    }
    Ok(found)
}

/// The one private key of a file.
///
/// # Errors
/// The file cannot be read, is no PEM, or holds no key, or one that is encrypted.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let text = read(path)?;
    let mut keys = PrivateKeyDer::pem_slice_iter(&text);
    let what = match (keys.next(), section(&text)) {
        (Some(Ok(key)), _) => return Ok(key),
        (Some(Err(e)), _) => format!("is no valid PEM: {e}"),
        (None, Some("ENCRYPTED PRIVATE KEY")) => {
            "is encrypted; `openssl pkey -in FILE -out PLAIN` writes a key that can be read without a password".into()
        }
        (None, Some(label)) => format!("holds no private key but a {label}"),
        (None, None) => "holds no private key: a PEM file has \"-----BEGIN PRIVATE KEY-----\" in it".into(),
    };
    Err(Fault::new(path, what))
}

/// The authorities of a file, each of which is trusted.
///
/// # Errors
/// The file cannot be read, is no PEM, or holds what is no certificate.
pub fn authorities(path: &Path) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(path)? {
        roots.add(cert).map_err(|e| {
            Fault::new(
                path,
                format!("holds a certificate that cannot be read: {e}"),
            )
        })?;
    }
    Ok(roots)
}

/// The bytes of a file, without the mark of the byte order that some editors put before UTF-8.
fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut text =
        std::fs::read(path).map_err(|e| Fault::new(path, format!("cannot be read: {e}")))?;
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        let what = "is written in UTF-16: save it as UTF-8 or ASCII, as PEM files are";
        return Err(Fault::new(path, what));
    }
    if text.starts_with(UTF8_MARK) {
        text.drain(..UTF8_MARK.len());
    }
    Ok(text)
}

/// The label of the first section of a PEM text.
fn section(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    rest.split_once("-----").map(|(label, _)| label)
}
