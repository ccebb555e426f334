//! `acme` within `tls`: whom to ask for which certificates. Nothing is asked here; the storage is only looked at, so that one
//! which cannot be written to is an error of the config.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{IpAddr, ServerName};

use super::certificates::authorities;
use super::model::{Listener, Protocol};
use super::reader::{Node, Object};
use crate::tls::acme::{Acme, Authority, Binding, Ca, Challenge};

/// Let's Encrypt's, for certificates that browsers believe.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Names of one listener; an account may order a few hundred certificates within some hours.
const DOMAINS: usize = 1000;

/// Reads the section.
pub(crate) fn read(node: &Node<'_>) -> Option<Acme> {
    let o = node.object()?;
    let domains = o.require("domains", "\"domains\": [\"example.org\"]");
    let domains = domains.and_then(|n| self::domains(&n));
    terms(&o);
    let storage = o.require("storage", "\"storage\": \"/var/lib/weir/acme\"");
    let storage = storage.and_then(|n| self::storage(&n));
    let directory = match o.get("directory") {
        Some(node) => directory(&node),
        None => Some(DIRECTORY.into()),
    };
    let email = o.get("email").and_then(|n| email(&n));
    let words = [Challenge::TlsAlpn01, Challenge::Http01].map(|c| (c.name(), c));
    let challenge = o.get("challenge").and_then(|n| n.word(&words));
    let ca = o.get("ca").and_then(|n| {
        let file = n.file()?.1;
        let roots = Arc::new(authorities(&n, &file)?);
        Some(Ca { file, roots })
    });
    let binding = o.get("external_account_binding").and_then(|n| binding(&n));
    o.finish();
    Some(Acme {
        domains: domains?,
        authority: Arc::new(Authority {
            directory: directory?,
            email,
            ca,
            storage: storage?,
            binding,
        }),
        challenge: challenge.unwrap_or(Challenge::TlsAlpn01),
    })
}

/// Nobody agrees to terms by leaving something out.
fn terms(o: &Object<'_>) {
    let why = "the authority issues nothing to who has not agreed to its terms of service: read them, then write \
               \"agree_to_terms\": true";
    match o.get("agree_to_terms") {
        Some(node) if node.is_true() => {}
        Some(node) => node.error(why),
        None => o.node.error(why),
    }
}

fn domains(node: &Node<'_>) -> Option<Vec<String>> {
    let items = node.items()?;
    if items.is_empty() || items.len() > DOMAINS {
        node.error(format!("expected 1 to {DOMAINS} names"));
        return None;
    }
    let mut found: Vec<String> = Vec::new();
    for item in &items {
        let Some(domain) = domain(item) else { continue };
        if found.contains(&domain) {
            item.error(format!("{domain} stands here twice"));
        }
        found.push(domain);
    }
    (found.len() == items.len()).then_some(found)
}

/// A name in lower case that one of the challenges can be met for.
fn domain(node: &Node<'_>) -> Option<String> {
    let text = node.string()?.to_ascii_lowercase();
    let what = match ServerName::try_from(text.as_str()) {
        _ if text.contains('*') => format!(
            "\"{text}\" is a wildcard, which authorities issue by the challenge dns-01 alone, and that is not built; list the \
             names one by one"
        ),
        Ok(ServerName::DnsName(_)) if !text.ends_with('.') => return Some(text),
        Ok(ServerName::IpAddress(_)) => {
            format!("\"{text}\" is an address; certificates are for names here")
        }
        _ if !text.is_ascii() => {
            format!("\"{text}\" is not ASCII; write the name as DNS has it, with xn--")
        }
        _ => format!("\"{text}\" is not a host name"),
    };
    node.error(what);
    None
}

/// A folder that is there and may be written to, or that can be made.
fn storage(node: &Node<'_>) -> Option<PathBuf> {
    let folder = node.file()?.1;
    if let Err(what) = writable(&folder) {
        node.error(what);
        return None;
    }
    Some(folder)
}

fn writable(folder: &Path) -> Result<(), String> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    // The nearest that is there: what is missing below it will be made.
    let missing = |path: &Path| {
        let kind = std::fs::symlink_metadata(path).err().map(|e| e.kind());
        matches!(kind, Some(ErrorKind::NotFound | ErrorKind::NotADirectory))
    };
    let mut there = folder;
    while missing(there) {
        there = match there.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    let blame = if there == folder {
        "it".into()
    } else {
        there.display().to_string()
    };
    let place = folder.display();
    match std::fs::metadata(there) {
        Ok(found) if !found.is_dir() => {
            return Err(format!("{place} cannot be a folder: {blame} is a file"));
        }
        Ok(_) => {}
        Err(error) => return Err(format!("{place} cannot be written to: {blame}: {error}")),
    }
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, there, wanted, AtFlags::EACCESS)
        .map_err(|error| format!("{place} cannot be written to: {blame}: {error}"))
}

/// The URL of a directory: https, a host, perhaps a port and a path, and no more.
fn directory(node: &Node<'_>) -> Option<String> {
    let text = node.string()?;
    let uri: Option<http::Uri> = text.parse().ok();
    let host = uri.as_ref().and_then(|u| u.host()).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let named = ServerName::try_from(bare).is_ok_and(|name| match name {
        ServerName::IpAddress(IpAddr::V6(_)) => host.starts_with('['),
        _ => true,
    });
    let what = match uri.as_ref() {
        Some(u) if u.scheme_str() == Some("http") => {
            "a directory is reached over TLS alone (RFC 8555 section 6.1): the URL begins with https://"
        }
        Some(u) if text.len() > 200 || u.query().is_some() || text.contains(['#', '@']) => {
            "a directory's URL has a host, a path and nothing else, within 200 bytes"
        }
        Some(u) if u.scheme_str() == Some("https") && named => return Some(text),
        _ => "expected a URL such as \"https://acme-v02.api.letsencrypt.org/directory\"",
    };
    node.error(what);
    None
}

fn email(node: &Node<'_>) -> Option<String> {
    let text = node.string()?;
    let plain = |c: char| c.is_ascii_graphic() && !",;<>()?&%\"\\".contains(c);
    let parts = text.split_once('@');
    let fine = parts
        .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    if fine && text.chars().all(plain) {
        return Some(text);
    }
    node.error("expected one address such as \"admin@example.org\"");
    None
}

fn binding(node: &Node<'_>) -> Option<Binding> {
    let o = node.object()?;
    let key_id = o.require("key_id", "\"key_id\": \"kid-1\"");
    let file = o.require("mac_key_file", "\"mac_key_file\": \"eab.key\"");
    o.finish();
    let key_id = key_id?;
    let text = key_id.string()?;
    if text.is_empty() {
        key_id.error("expected the key's name, as the authority gave it");
        return None;
    }
    Some(Binding {
        key_id: text,
        mac_key_file: file?.file()?.1,
    })
}

/// What no listener's section can show by itself: that HTTP-01 finds a listener in the clear, and that sections which share an
/// account say the same of it. `sections` has the listener's name and its `tls`.
pub(crate) fn lint<'a>(
    sections: impl Iterator<Item = (&'a str, Node<'a>)>,
    listeners: &[Listener],
) {
    let clear = |l: &Listener| l.protocol == Protocol::Http && l.tls.is_none();
    let in_the_clear = listeners.iter().any(clear);
    for (name, tls) in sections {
        let place = listeners.iter().position(|l| l.name == name);
        let Some((i, acme)) = place.and_then(|i| Some((i, of(&listeners[i])?))) else {
            continue;
        };
        let section = tls.object().and_then(|o| o.get("acme"));
        let Some(node) = section else { continue };
        if acme.challenge == Challenge::Http01 && !in_the_clear {
            node.warn(
                "the authority comes over plain HTTP on port 80 for \"http-01\", and no listener here is http without TLS",
            );
        }
        let twin = listeners[..i]
            .iter()
            .find(|l| of(l).is_some_and(|other| disagree(other, acme)));
        if let Some(twin) = twin {
            node.error(format!(
                "the listener \"{}\" shares this directory and storage, hence the account, and must have the same \"email\", \
                 \"ca\" and \"external_account_binding\"",
                twin.name
            ));
        }
    }
}

fn of(listener: &Listener) -> Option<&Acme> {
    listener.tls.as_ref()?.acme.as_ref()
}

/// One account, of which two sections say different things.
fn disagree(a: &Acme, b: &Acme) -> bool {
    let (a, b) = (&a.authority, &b.authority);
    let file = |authority: &Authority| authority.ca.as_ref().map(|ca| ca.file.clone());
    a.folder() == b.folder() && (a.email != b.email || file(a) != file(b) || a.binding != b.binding)
}
