//! Under which name a response is stored (RFC 9111 section 2).
//!
//! A key is its URL in normal form, a line feed, the rules' partition, and for each key header a line feed and its values.
//! A variant's key continues with a line feed, the generation in hexadecimal, and for each selecting field a line feed and its
//! normalised values. No part can hold a line feed, and a field that is absent is told from one that is empty.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, header};

use super::rules::{QueryKey, Rules};
use super::stored::Varies;
use crate::message::fields;

/// Stands for a field that is not there. No field's value can hold it.
const ABSENT: u8 = 0;

/// Appends the key of a request. `authority` comes from [`authority`], `path` is normalised, `query` as it was sent.
pub fn primary(
    out: &mut Vec<u8>,
    rules: &Rules,
    scheme: &str,
    authority: &str,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) {
    for piece in [scheme, "://", authority, path] {
        out.extend_from_slice(piece.as_bytes());
    }
    match (&rules.query, query) {
        (_, None) | (QueryKey::None, _) => {}
        (QueryKey::All, Some(query)) => {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        (QueryKey::Without(names), Some(query)) => without(out, names, query),
    }
    out.push(b'\n');
    out.extend_from_slice(rules.partition.as_bytes());
    for name in &rules.key_headers {
        out.push(b'\n');
        values(out, headers, name, fields::list_items);
    }
}

/// Host and port, without a port that the scheme implies. `host` is in lower case.
pub fn authority(host: &str, port: Option<u16>, scheme: &str) -> String {
    match port {
        Some(port) if port != if scheme == "https" { 443 } else { 80 } => format!("{host}:{port}"),
        _ => host.to_owned(),
    }
}

/// The URL at a key's beginning.
pub fn url(key: &[u8]) -> &[u8] {
    key.split(|b| *b == b'\n').next().unwrap_or_default()
}

/// Appends to a primary key what makes it the variant's that these fields select.
pub fn variant(out: &mut Vec<u8>, varies: &Varies, headers: &HeaderMap) {
    let mut generation = String::with_capacity(17);
    // A string takes all that is written to it.
    let _ = write!(generation, "\n{:x}", varies.generation);
    out.extend_from_slice(generation.as_bytes());
    for name in &varies.names {
        out.push(b'\n');
        if *name == header::ACCEPT_ENCODING {
            codings(out, headers);
        } else {
            values(out, headers, name, fields::list_items);
        }
    }
}

/// A field's lines as one list, without the spaces around its commas (RFC 9111 section 4.1 allows as much).
fn values<'a, I: Iterator<Item = &'a [u8]>>(
    out: &mut Vec<u8>,
    headers: &'a HeaderMap,
    name: &HeaderName,
    items: impl Fn(&'a [u8]) -> I,
) {
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        out.push(ABSENT);
        return;
    }
    let mut first = true;
    for item in lines.flat_map(|line| items(line.as_bytes())) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
}

/// Accept-Encoding as what it comes to: the codings that are taken, in one order, with their weights only where these differ. The
/// many spellings of browsers become a few.
fn codings(out: &mut Vec<u8>, headers: &HeaderMap) {
    let lines = headers.get_all(header::ACCEPT_ENCODING);
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut any = false;
    for item in lines.iter().flat_map(|l| fields::list_items(l.as_bytes())) {
        any = true;
        let mut parts = item.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.next().map_or(&b"1"[..], |p| weight(p));
        found.push((name, weight.to_vec()));
    }
    if !any {
        // An empty list takes identity alone, none at all takes anything.
        out.extend_from_slice(if headers.contains_key(header::ACCEPT_ENCODING) {
            b""
        } else {
            &[ABSENT]
        });
        return;
    }
    found.sort_unstable();
    found.dedup();
    let plain = found.iter().all(|(_, weight)| weight == b"1");
    for (i, (name, weight)) in found.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        if !plain {
            out.push(b';');
            out.extend_from_slice(weight);
        }
    }
}

/// The weight in `q=0.50`, in its shortest form; what is no weight stays as it is.
fn weight(parameter: &[u8]) -> &[u8] {
    let Some(value) = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))
    else {
        return parameter;
    };
    if !value.contains(&b'.') {
        return value;
    }
    let mut value = value;
    while let Some(shorter) = value.strip_suffix(b"0") {
        value = shorter;
    }
    value.strip_suffix(b".").unwrap_or(value)
}

/// The query without the parameters with these names; the others keep their order and spelling.
fn without(out: &mut Vec<u8>, names: &[String], query: &str) {
    let mut first = true;
    for parameter in query.split('&') {
        let name = parameter.split('=').next().unwrap_or_default();
        if names.iter().any(|n| is_named(name, n)) {
            continue;
        }
        out.push(if std::mem::take(&mut first) {
            b'?'
        } else {
            b'&'
        });
        out.extend_from_slice(parameter.as_bytes());
    }
}

/// Is `encoded` this name, once its percent-encodings are read?
fn is_named(encoded: &str, name: &str) -> bool {
    if !encoded.contains('%') {
        return encoded == name;
    }
    let mut bytes = encoded.bytes();
    let decoded: Vec<u8> = std::iter::from_fn(|| {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let digit = |b: Option<u8>| (b? as char).to_digit(16);
        let mut ahead = bytes.clone();
        match (digit(ahead.next()), digit(ahead.next())) {
            (Some(high), Some(low)) => {
                bytes = ahead;
                u8::try_from(high * 16 + low).ok()
            }
            _ => Some(byte),
        }
    })
    .collect();
    decoded == name.as_bytes()
}
