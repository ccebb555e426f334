//! `tls` of an upstream: how its backends are met over TLS. The files are read with the config, so that what is wrong with
//! them is said at their place in it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::DnsName;

use super::certificates::authorities;
use super::model::{Backend, UpstreamTls};
use super::reader::{Node, Object};
use crate::tls::Identity;
use crate::tls::client::{Client, Trust, system_authorities};

/// Reads the section, for `backends` that stand at `place`. `None` if none of them is reached over TLS, or after an error.
pub(crate) fn read(
    node: Option<&Node<'_>>,
    backends: &[Backend],
    place: &Node<'_>,
) -> Option<Arc<UpstreamTls>> {
    let needed = backends.iter().any(Backend::is_tls);
    let o = node.and_then(Node::object);
    if node.is_some() && o.is_none() {
        return None;
    }
    let found = match &o {
        Some(o) => section(o, needed.then_some(place)),
        None if needed => bare(place),
        None => return None,
    };
    if let Some(o) = o {
        if !needed && !backends.is_empty() {
            o.node
                .warn("\"tls\" has no effect, since no backend's URL begins with https://");
        }
        o.finish();
    }
    let tls = found.filter(|_| needed)?;
    for backend in backends.iter().filter(|b| b.is_tls()) {
        if tls.client.name_of(&backend.host).is_none() {
            place.error(format!(
                "no certificate can be for \"{}\"; \"sni\" in the upstream's \"tls\" gives another name",
                backend.host
            ));
        }
    }
    Some(Arc::new(tls))
}

/// What holds where nothing is said: the system's authorities, and no certificate of ours.
fn bare(place: &Node<'_>) -> Option<UpstreamTls> {
    let roots = trusted(place)?;
    let client = client(Trust::These(roots), None, None, place)?;
    Some(UpstreamTls {
        ca: None,
        sni: None,
        verify: true,
        identity: None,
        client,
    })
}

/// `place` is where backends over TLS are, if there are any: without one the system's authorities are not asked for.
fn section(o: &Object<'_>, place: Option<&Node<'_>>) -> Option<UpstreamTls> {
    let verify = o.get("verify");
    let is_verified = verify.as_ref().and_then(Node::boolean).unwrap_or(true);
    let ca = o.get("ca").and_then(|n| Some((n.file()?, n)));
    let sni = o.get("sni").and_then(|n| name(&n));
    let (certificate, key) = (o.get("certificate"), o.get("key"));
    let identity = match (&certificate, &key) {
        (None, None) => Some(None),
        (Some(certificate), Some(key)) => identity(certificate, key).map(Some),
        (Some(node), None) => {
            node.error("\"key\" is missing, the private key of this certificate");
            None
        }
        (None, Some(node)) => {
            node.error("\"certificate\" is missing, the one that this key belongs to");
            None
        }
    };
    if let (false, Some(node)) = (is_verified, &verify) {
        node.warn(
            "the backends' certificates are not verified: whoever stands between can read and change what passes",
        );
        if let Some((_, node)) = &ca {
            node.warn("\"ca\" has no effect, since \"verify\" is false");
        }
    }
    let trust = match (&ca, is_verified) {
        (Some((file, node)), true) => Trust::These(authorities(node, &file.1)?),
        (None, true) => Trust::These(trusted(place?)?),
        (_, false) => Trust::Anyone,
    };
    let identity = identity?;
    let (files, identity) = identity.unzip();
    let client = client(
        trust,
        identity.as_ref(),
        sni.as_ref().map(|(_, name)| name.clone()),
        &o.node,
    )?;
    Some(UpstreamTls {
        ca: ca.map(|((written, _), _)| written),
        sni: sni.map(|(written, _)| written),
        verify: is_verified,
        identity: files,
        client,
    })
}

fn client(
    trust: Trust,
    identity: Option<&Identity>,
    sni: Option<DnsName<'static>>,
    blame: &Node<'_>,
) -> Option<Client> {
    Client::new(trust, identity, sni)
        .map_err(|e| blame.error(format!("TLS cannot be set up: {e}")))
        .ok()
}

fn trusted(place: &Node<'_>) -> Option<RootCertStore> {
    let found = system_authorities().map_err(|what| {
        place.error(format!(
            "{what}; \"ca\" in the upstream's \"tls\" names a file with those to trust"
        ));
    });
    found.ok()
}

/// A host name, as it is written and as TLS takes it.
fn name(node: &Node<'_>) -> Option<(String, DnsName<'static>)> {
    let text = node.string()?;
    match DnsName::try_from(text.clone()) {
        Ok(name) => Some((text, name.to_owned())),
        Err(_) => {
            node.error(format!("\"{text}\" is not a host name"));
            None
        }
    }
}

type Files = (PathBuf, PathBuf);

fn identity(certificate: &Node<'_>, key: &Node<'_>) -> Option<(Files, Identity)> {
    let (chain, key_file) = (certificate.file(), key.file());
    let (chain, key_file) = (chain?, key_file?);
    match Identity::load(&chain.1, &key_file.1) {
        Ok(identity) => Some(((chain.0, key_file.0), identity)),
        Err(fault) => {
            let blame = if fault.path == key_file.1 {
                key
            } else {
                certificate
            };
            blame.error(fault.to_string());
            None
        }
    }
}
