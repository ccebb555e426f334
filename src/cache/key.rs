//! Under which name a response is stored (RFC 9111 section 2).
//!
//! A key is its URL in normal form, a line feed, the rules' partition, and for each key header a line feed and its values.
//! A variant's key continues with a line feed, the generation in hexadecimal, and for each selecting field a line feed and its
//! normalised values. No part can hold a line feed, and a field that is absent is told from one that is empty.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::directives::is_tchar;
use super::rules::{QueryKey, Rules};
use super::stored::Varies;
use crate::message::fields;

/// Stands for a field that is not there. No field's value can hold this or the next two.
const ABSENT: u8 = 0;

/// Parts a field's lines or items.
const NEXT: u8 = 1;

/// Before a value that was not brought into a normal form.
const JUNK: u8 = 2;

/// Fields that are known to be lists, in which blanks, empty items and lines mean nothing (RFC 9110 section 5.6.1).
const LISTS: [HeaderName; 4] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
];

/// Appends the key of a request. `authority` comes from [`authority`], `path` is normalised, `query` as it was sent.
pub fn primary(
    out: &mut Vec<u8>,
    rules: &Rules,
    scheme: &str,
    authority: &str,
    (path, query): (&str, Option<&str>),
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
        values(out, headers, name);
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
            values(out, headers, name);
        }
    }
}

/// A field's values: as they are, each line by itself, since nobody knows what a blank or a comma means in them (RFC 9111
/// section 4.1). Of fields that are known to be lists, the items.
fn values(out: &mut Vec<u8>, headers: &HeaderMap, name: &HeaderName) {
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let Some(first) = lines.next() else {
        out.push(ABSENT);
        return;
    };
    if LISTS.contains(name) {
        let lines = std::iter::once(first).chain(lines);
        let mut begun = false;
        for item in lines.flat_map(fields::list_items) {
            if std::mem::replace(&mut begun, true) {
                out.push(NEXT);
            }
            out.extend_from_slice(item);
        }
        return;
    }
    out.extend_from_slice(first.trim_ascii());
    for line in lines {
        out.push(NEXT);
        out.extend_from_slice(line.trim_ascii());
    }
}

/// Accept-Encoding as what it comes to: the codings that are taken, in one order, with their weights only where these differ. The
/// many spellings of browsers become a few. What does not follow the grammar stays as it is.
fn codings(out: &mut Vec<u8>, headers: &HeaderMap) {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let items = lines.flat_map(|l| fields::list_items(l.as_bytes()));
    let Some(mut found) = items.map(coding).collect::<Option<Vec<_>>>() else {
        out.push(JUNK);
        return values(out, headers, &header::ACCEPT_ENCODING);
    };
    if found.is_empty() {
        // An empty list takes identity alone, none at all takes anything.
        return values(out, headers, &header::ACCEPT_ENCODING);
    }
    found.sort_unstable();
    found.dedup();
    let plain = found.iter().all(|(_, weight)| *weight == 1000);
    for (i, (name, weight)) in found.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        if !plain {
            out.extend_from_slice(format!(";{weight}").as_bytes());
        }
    }
}

/// A coding in lower case and its weight in thousandths; `None` if it does not follow RFC 9110 section 12.5.3.
fn coding(item: &[u8]) -> Option<(Vec<u8>, u16)> {
    let mut parts = item.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    let weight = match (parts.next(), parts.next()) {
        (None, _) => 1000,
        (Some([b'q' | b'Q', b'=', value @ ..]), None) => thousandths(value)?,
        _ => return None,
    };
    let is_token = !name.is_empty() && name.iter().all(|b| is_tchar(*b));
    is_token.then(|| (name.to_ascii_lowercase(), weight))
}

/// A weight of at most 1 with at most three decimals (RFC 9110 section 12.4.2).
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0');
    for at in 0..3 {
        let digit = decimals.get(at).unwrap_or(&b'0');
        thousandths = thousandths * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (decimals.len() <= 3 && thousandths <= 1000).then_some(thousandths)
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
