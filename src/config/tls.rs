//! `tls` of a listener, or beside the flat keys: certificates, who may connect, the oldest version. `acme` has a file of its own.

use std::sync::Arc;

use super::acme;
use super::certificates::{authorities, pair};
use super::model::Protocol;
use super::reader::{Node, Object};
use crate::tls::Identity;
use crate::tls::server::{ClientAuth, MinVersion, Settings};

/// Reads the section of a listener of `protocol`. `http2` is whether it is offered. What is wrong with a file is an error at
/// the key that names it.
pub(crate) fn read(node: &Node<'_>, protocol: Protocol, http2: bool) -> Option<Settings> {
    let o = node.object()?;
    let section = o.get("acme");
    let acme = section.as_ref().map(acme::read);
    let given = ["certificate", "key", "certificates"];
    // What is to come by ACME needs no certificate beside it.
    let identities = match section.is_some() && !given.iter().any(|key| o.has(key)) {
        true => {
            given.iter().for_each(|key| drop(o.get(key)));
            Some(Vec::new())
        }
        false => identities(&o),
    };
    let client_auth = o.get("client_auth").and_then(|n| client_auth(&n));
    let versions = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let min_version = o.get("min_version").and_then(|n| n.word(&versions));
    let tickets = o.get("session_tickets").and_then(|n| n.boolean());
    o.finish();
    let acme = match acme {
        Some(read) => Some(read?),
        None => None,
    };
    Some(Settings {
        client_auth,
        min_version: min_version.unwrap_or(MinVersion::Tls12),
        alpn: match protocol {
            Protocol::Http if http2 => &["h2", "http/1.1"],
            Protocol::Http => &["http/1.1"],
            // Whatever is spoken, it is the backend that speaks it.
            Protocol::Tcp | Protocol::Udp => &[],
        },
        session_tickets: tickets.unwrap_or(true),
        ..Settings::new(identities?, acme)
    })
}

/// One pair of files, or a list of them.
fn identities(o: &Object<'_>) -> Option<Vec<Identity>> {
    let example = "\"tls\": {\"certificate\": \"cert.pem\", \"key\": \"key.pem\"}";
    if !o.has("certificates") {
        return pair(o, example).map(|identity| vec![identity]);
    }
    for key in ["certificate", "key"] {
        o.refuse(
            key,
            &format!("\"{key}\" stands inside \"certificates\" where there are several"),
        );
    }
    let node = o.get("certificates")?;
    let items = node.items()?;
    if items.is_empty() {
        node.error(format!("there is no certificate, for example {example}"));
    }
    let read = |item: &Node<'_>| {
        let o = item.object()?;
        let identity = pair(&o, "{\"certificate\": \"cert.pem\", \"key\": \"key.pem\"}");
        o.finish();
        identity
    };
    // All of them are read, so that one run finds every error.
    let found: Vec<Option<Identity>> = items.iter().map(read).collect();
    found
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .filter(|all| !all.is_empty())
}

fn client_auth(node: &Node<'_>) -> Option<ClientAuth> {
    let o = node.object()?;
    let ca = o.require("ca", "\"client_auth\": {\"ca\": \"clients.pem\"}");
    let words = [("required", true), ("optional", false)];
    let required = o.get("mode").and_then(|n| n.word(&words)).unwrap_or(true);
    o.finish();
    let ca = ca?;
    let path = ca.file()?.1;
    let roots = authorities(&ca, &path)?;
    Some(ClientAuth {
        ca: path,
        roots: Arc::new(roots),
        required,
    })
}
