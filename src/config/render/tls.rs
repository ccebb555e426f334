//! `tls`, as a file has it.

use std::path::Path;

use crate::config::interpolate::escape;
use crate::config::raw;
use crate::tls::Identity;
use crate::tls::server::{MinVersion, Settings};

/// Towards clients.
pub(super) fn server(settings: &Settings, directory: &Path) -> raw::ServerTls {
    let certificate = |identity: &Identity| raw::Certificate {
        certificate: file(&identity.certificate, directory),
        key: file(&identity.key, directory),
    };
    let client_auth = settings.client_auth.as_ref().map(|auth| raw::ClientAuth {
        ca: file(&auth.ca, directory),
        mode: Some(
            if auth.required {
                "required"
            } else {
                "optional"
            }
            .into(),
        ),
    });
    let min_version = match settings.min_version {
        MinVersion::Tls12 => "1.2",
        MinVersion::Tls13 => "1.3",
    };
    raw::ServerTls {
        certificates: Some(settings.identities.iter().map(certificate).collect()),
        client_auth,
        min_version: Some(min_version.into()),
        ..raw::ServerTls::default()
    }
}

/// A path as it is written in a file of `directory`.
pub(super) fn file(path: &Path, directory: &Path) -> String {
    let path = path.strip_prefix(directory).unwrap_or(path);
    escape(&path.display().to_string())
}
