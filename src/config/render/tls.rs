//! `tls`, as a file has it.

use std::path::Path;

use crate::config::interpolate::escape;
use crate::config::raw;
use crate::tls::Identity;
use crate::tls::acme::Acme;
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
    let own = &settings.identities[..settings.own];
    raw::ServerTls {
        certificates: (!own.is_empty()).then(|| own.iter().map(certificate).collect()),
        acme: settings
            .acme
            .as_ref()
            .map(|acme| self::acme(acme, directory)),
        client_auth,
        min_version: Some(min_version.into()),
        session_tickets: Some(settings.session_tickets),
        ..raw::ServerTls::default()
    }
}

/// What is to be had from an authority.
fn acme(acme: &Acme, directory: &Path) -> raw::Acme {
    let authority = &acme.authority;
    raw::Acme {
        domains: acme.domains.iter().map(|d| escape(d)).collect(),
        agree_to_terms: true.into(),
        storage: file(&authority.storage, directory),
        directory: Some(escape(&authority.directory).into()),
        email: authority.email.as_deref().map(escape),
        challenge: Some(acme.challenge.name().into()),
        ca: authority.ca.as_ref().map(|ca| file(&ca.file, directory)),
        external_account_binding: authority.binding.as_ref().map(|binding| {
            raw::ExternalAccountBinding {
                key_id: escape(&binding.key_id),
                mac_key_file: file(&binding.mac_key_file, directory),
            }
        }),
    }
}

/// A path as it is written in a file of `directory`.
pub(super) fn file(path: &Path, directory: &Path) -> String {
    let path = path.strip_prefix(directory).unwrap_or(path);
    escape(&path.display().to_string())
}
