//! Certificates that an authority issues by ACME (RFC 8555): what a listener asks for, and where what came of it is kept.
//! Absent: talking to the authority (acme) and answering its challenges (`challenges`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;

use super::identity::Identity;
use super::pem::Fault;

/// What one listener asks for.
#[derive(Clone, Debug)]
pub struct Acme {
    /// Whom it asks.
    pub authority: Arc<Authority>,
    /// The names, in lower case and without wildcards; each gets a certificate of its own.
    pub domains: Vec<String>,
    /// How the authority is shown that a name is ours.
    pub challenge: Challenge,
}

/// An authority, and our account there.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The URL of its directory (RFC 8555 section 7.1.1): https, without a query.
    pub directory: String,
    /// Where it may write to.
    pub email: Option<String>,
    /// Whom its own certificate has to come from; `None` is whom the system trusts.
    pub ca: Option<Ca>,
    /// The folder for its certificates, its account and those of other authorities.
    pub storage: PathBuf,
    /// An account that exists elsewhere, to bind ours to (section 7.3.4).
    pub binding: Option<Binding>,
}

/// Authorities out of a file.
#[derive(Clone, Debug)]
pub struct Ca {
    /// Where they were read.
    pub file: PathBuf,
    /// They.
    pub roots: Arc<RootCertStore>,
}

/// An account with the authority that ACME knows nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// As the authority calls its key.
    pub key_id: String,
    /// A file with the key itself, in base64url. It is read when an account is made.
    pub mac_key_file: PathBuf,
}

/// How an authority is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// It fetches a token over plain HTTP from port 80 (RFC 8555 section 8.3).
    Http01,
    /// It shakes hands at port 443 (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    /// As RFCs and configs have it.
    pub fn name(self) -> &'static str {
        match self {
            Challenge::Http01 => "http-01",
            Challenge::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// The port that the authority comes to.
    pub fn port(self) -> u16 {
        match self {
            Challenge::Http01 => 80,
            Challenge::TlsAlpn01 => 443,
        }
    }
}

impl Authority {
    /// Its name for people: the directory's host, and its port if it is an unusual one.
    pub fn name(&self) -> &str {
        let rest = self.directory.split("://").nth(1).unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }

    /// The folder of what has to do with it alone.
    pub fn folder(&self) -> PathBuf {
        let rest = self.directory.split("://").nth(1).unwrap_or_default();
        let mut name = String::with_capacity(rest.len());
        for byte in rest.bytes() {
            match byte {
                b'.' | b'-' | b'_' => name.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
                // Two directories never share a folder.
                _ => write!(name, "%{byte:02X}").expect("a String takes everything"),
            }
        }
        self.storage.join(name)
    }

    /// The file of the account: its URL and its key, as JSON.
    pub fn account(&self) -> PathBuf {
        self.folder().join("account.json")
    }

    /// The file of a name's certificate: its key, then the chain. One file, so that they change together.
    pub fn certificate(&self, domain: &str) -> PathBuf {
        self.folder().join(format!("{domain}.pem"))
    }

    /// What is stored for a name; `None` if there is nothing.
    ///
    /// # Errors
    /// There is something, and it is no certificate for this name with its key.
    pub fn load(&self, domain: &str) -> Result<Option<Identity>, Fault> {
        let file = self.certificate(domain);
        match std::fs::symlink_metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            _ => check(&file, domain).map(Some),
        }
    }
}

/// Reads a file that holds a certificate for `domain` and its key.
///
/// # Errors
/// It does not.
pub fn check(file: &Path, domain: &str) -> Result<Identity, Fault> {
    let identity = Identity::load(file, file)?;
    if identity.covers(domain) {
        return Ok(identity);
    }
    let names = identity.names.join(", ");
    Err(Fault::new(
        file,
        format!("holds a certificate for {names} and not for {domain}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(directory: &str) -> Authority {
        Authority {
            directory: directory.into(),
            email: None,
            ca: None,
            storage: "/s".into(),
            binding: None,
        }
    }

    #[test]
    fn directories_have_folders_of_their_own() {
        let plain = authority("https://acme.example/directory");
        assert_eq!(
            plain.certificate("a.example"),
            Path::new("/s/acme.example%2Fdirectory/a.example.pem")
        );
        assert_eq!(plain.name(), "acme.example");
        for other in ["acme.example-directory", "acme.example/%2F", "../../etc"] {
            let folder = authority(&format!("https://{other}")).folder();
            assert_ne!(folder, plain.folder());
            assert_eq!(folder.parent(), Some(Path::new("/s")), "{other}");
        }
        assert_eq!(authority("https://[::1]:14000/dir").name(), "[::1]:14000");
    }
}
