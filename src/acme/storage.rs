//! The folder of an authority: its account and the certificates that it has issued, readable by their owner alone, and each file
//! either as it was before or as it is after a change.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::tls::acme::Authority;
use crate::tls::{Fault, Identity, acme};

/// Makes the authority's folder, unless it is there, and sees that it can be written to.
///
/// # Errors
/// It cannot; the text names the folder.
pub fn prepare(authority: &Authority) -> io::Result<()> {
    let folder = authority.folder();
    let named = |error: io::Error| {
        let text = format!(
            "the storage for certificates, {}, cannot be written to: {error}",
            folder.display()
        );
        io::Error::new(error.kind(), text)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(named)?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(named)?;
    let trial = beside(&folder.join("trial"));
    create(&trial, b"").map_err(|unwritten| named(unwritten.error))?;
    std::fs::remove_file(&trial).map_err(named)
}

/// Stores a certificate with its key, once it has been read back and found to be for `domain` and valid beyond `now`.
///
/// # Errors
/// It is not, or it cannot be written.
pub fn keep(
    authority: &Authority,
    domain: &str,
    pem: &str,
    now: SystemTime,
) -> Result<Identity, Unkept> {
    let file = authority.certificate(domain);
    let new = beside(&file);
    create(&new, pem.as_bytes())?;
    let found = match acme::check(&new, domain) {
        Ok(identity) if identity.expires <= now => Err("has ended already".into()),
        Ok(_) => Ok(()),
        Err(fault) => Err(fault.what),
    };
    if let Err(what) = found {
        // What is left is overwritten next time.
        let _ = std::fs::remove_file(&new);
        return Err(Unkept::Useless(what));
    }
    replace(&new, &file).map_err(Unkept::Unwritten)?;
    acme::check(&file, domain).map_err(|fault| Unkept::Useless(fault.what))
}

/// Stores the account.
///
/// # Errors
/// It cannot be written.
pub fn keep_account(authority: &Authority, json: &str) -> Result<(), Unwritten> {
    let file = authority.account();
    let new = beside(&file);
    create(&new, json.as_bytes())?;
    replace(&new, &file)
}

/// Why a certificate is not stored.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// It cannot be used.
    #[error("the certificate that came {0}")]
    Useless(String),
    /// The disk has no room, or the like.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {error}", file.display())]
pub struct Unwritten {
    file: PathBuf,
    error: io::Error,
}

/// Where a file is written before it takes its place. Its name is no domain's, and another process has another one.
fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{}", std::process::id()))
}

/// Writes a new file down to the disk; only its owner may read it, from its first byte on.
fn create(file: &Path, bytes: &[u8]) -> Result<(), Unwritten> {
    let write = || {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut new = options.open(file)?;
        new.write_all(bytes)?;
        new.sync_all()
    };
    write().map_err(|error| Unwritten {
        file: file.to_owned(),
        error,
    })
}

/// Puts a file into its place, and that down to the disk as well.
fn replace(new: &Path, file: &Path) -> Result<(), Unwritten> {
    let placed = std::fs::rename(new, file).and_then(|()| {
        let folder = file.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    });
    placed.map_err(|error| Unwritten {
        file: file.to_owned(),
        error,
    })
}

/// What is stored of an account; `None` if there is nothing.
///
/// # Errors
/// There is something that cannot be read.
pub fn account(authority: &Authority) -> Result<Option<String>, Fault> {
    let path = authority.account();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let what = format!("cannot be read: {error}");
            Err(Fault { path, what })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_alone_and_what_was_left_over_gives_way() {
        let folder = std::env::temp_dir().join(format!("weir-storage-{}", std::process::id()));
        let authority = Authority {
            directory: "https://acme.example/directory".into(),
            email: None,
            ca: None,
            storage: folder.clone(),
            binding: None,
        };
        prepare(&authority).expect("it can be written to");
        let mode = |path: &Path| {
            let found = std::fs::metadata(path).expect("it is there");
            found.permissions().mode() & 0o777
        };
        assert_eq!((mode(&folder), mode(&authority.folder())), (0o700, 0o700));
        // A process that died within a write has left this behind.
        std::fs::write(beside(&authority.account()), "half").expect("it can be written");
        for text in ["first", "second"] {
            keep_account(&authority, text).expect("it can be written");
            let found = account(&authority).expect("it can be read");
            assert_eq!(found.as_deref(), Some(text));
            assert_eq!(mode(&authority.account()), 0o600);
        }
        let now = SystemTime::UNIX_EPOCH;
        let useless = keep(&authority, "a.example", "no PEM", now);
        assert!(matches!(useless, Err(Unkept::Useless(_))), "{useless:?}");
        let left = std::fs::read_dir(authority.folder()).expect("it is there");
        assert_eq!(left.count(), 1);
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
