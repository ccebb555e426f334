//! Field lists and the fields that belong to one connection alone (RFC 9110, sections 5.6.1, 6.5.1 and 7.6.1).
//! Absent: what a proxy adds (it knows its config) and framing (each codec's own).

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::known::Known;

/// What the Connection fields of one message say. Costs no allocation unless they nominate fields.
#[derive(Clone, Debug, Default)]
pub struct ConnectionTokens {
    /// Sorted by name, each once.
    nominated: Vec<HeaderName>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl ConnectionTokens {
    /// Reads the values of the Connection fields. A token that is no field name nominates nothing.
    pub fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut tokens = ConnectionTokens::default();
        for value in values {
            if value.eq_ignore_ascii_case(b"keep-alive") {
                tokens.keep_alive = true;
                continue;
            }
            // Nearly always there is one option alone.
            if value.contains(&b',') {
                list_items(value).for_each(|item| tokens.add(item));
            } else {
                tokens.add(value.trim_ascii());
            }
        }
        if tokens.nominated.len() > 1 {
            tokens
                .nominated
                .sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            tokens.nominated.dedup();
        }
        tokens
    }

    fn add(&mut self, item: &[u8]) {
        if item.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else if item.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else if item.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        } else if let Ok(name) = HeaderName::from_bytes(item)
            && !is_hop_by_hop(&name)
            && !cannot_be_nominated(&name)
        {
            self.nominated.push(name);
        }
    }

    /// Must this field go because the sender nominated it? False for `is_hop_by_hop` fields, which go anyway, and for
    /// fields whose loss would mislead the receiver, whoever nominates them.
    pub fn nominates(&self, name: &[u8]) -> bool {
        let lower = || name.iter().map(u8::to_ascii_lowercase);
        !self.nominated.is_empty()
            && self
                .nominated
                .binary_search_by(|nominated| nominated.as_str().bytes().cmp(lower()))
                .is_ok()
    }

    /// Does the sender nominate no field at all?
    pub fn nominates_none(&self) -> bool {
        self.nominated.is_empty()
    }

    /// `close`: the sender ends the connection after this message.
    pub fn close(&self) -> bool {
        self.close
    }

    /// `keep-alive`: an HTTP/1.0 sender keeps the connection.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// `upgrade`: the Upgrade field is meant for this hop.
    pub fn upgrade(&self) -> bool {
        self.upgrade
    }
}

/// Puts the cookies of an HTTP/2 request, which may come one a field, into one field as HTTP/1.1 wants it (RFC 9113
/// section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(_), Some(_)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let all: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // What stood in valid fields stands in one as well.
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Does this field always end at the next hop? Trailer is not among them: it goes with the trailers that it announces.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    Known::of(name.as_str().as_bytes()).is_hop_by_hop()
}

/// Fields that a Connection field may not take away. Nominating them is how a client makes a proxy drop what names the
/// client, the message's end or its permissions on the way to a backend that trusts their absence.
fn cannot_be_nominated(name: &HeaderName) -> bool {
    const KEPT: &[HeaderName] = &[
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::CACHE_CONTROL,
        header::VARY,
        header::VIA,
    ];
    KEPT.contains(name) || is_claim(name) || matches!(name.as_str(), "cdn-loop" | "traceparent")
}

/// Removes what belongs to the sender's connection: the hop-by-hop fields and those that its Connection fields nominate.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap, tokens: ConnectionTokens) {
    for name in tokens.nominated {
        headers.remove(name);
    }
    // One look at each name finds them all; a message seldom has more than one or two.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

/// Fields that may not stand in a trailer section, since they would change what was decided from the head: framing,
/// routing, authentication, payload, caching, and the connection (RFC 9110, section 6.5.1).
pub fn forbidden_in_trailers(name: &HeaderName) -> bool {
    const FORBIDDEN: &[HeaderName] = &[
        header::CONTENT_LENGTH,
        header::TRAILER,
        header::HOST,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::AUTHORIZATION,
        header::WWW_AUTHENTICATE,
        header::COOKIE,
        header::SET_COOKIE,
        header::CACHE_CONTROL,
        header::AGE,
        header::DATE,
        header::EXPIRES,
        header::VARY,
        header::LOCATION,
        header::RETRY_AFTER,
        header::WARNING,
        header::EXPECT,
        header::MAX_FORWARDS,
        header::PRAGMA,
        header::RANGE,
        header::VIA,
    ];
    is_hop_by_hop(name)
        || FORBIDDEN.contains(name)
        || is_claim(name)
        || name.as_str() == "cdn-loop"
        || name.as_str().starts_with("if-")
}

fn is_claim(name: &HeaderName) -> bool {
    Known::of(name.as_str().as_bytes()).is_claim()
}

/// The items of a comma-separated list, without the blanks around them and without empty ones. A comma inside a quoted
/// string separates nothing (RFC 9110, sections 5.6.1 and 5.6.4).
pub fn list_items(value: &[u8]) -> ListItems<'_> {
    ListItems { rest: value }
}

/// The iterator of `list_items`.
#[derive(Clone, Debug)]
pub struct ListItems<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ListItems<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = item_end(self.rest);
            let item = self.rest[..end].trim_ascii();
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    }
}

/// Where the first comma outside quotes is, or the end.
fn item_end(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

/// Does the sender take trailers (`trailers` in the values of its TE fields, RFC 9110, section 10.1.4)?
pub fn te_trailers<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> bool {
    values.any(|value| list_items(value).any(|item| item.eq_ignore_ascii_case(b"trailers")))
}

/// Appends the value of X-Forwarded-For to `out`: what a trusted peer had sent, one line out of many, and the peer
/// itself. An untrusted peer's word is left out. An IPv4 peer on a dual-stack socket is written as IPv4.
pub fn forwarded_for<'a>(
    out: &mut BytesMut,
    existing: impl IntoIterator<Item = &'a [u8]>,
    peer: IpAddr,
    trusted: bool,
) {
    if trusted {
        for value in existing {
            let value = value.trim_ascii();
            if !value.is_empty() {
                out.put_slice(value);
                out.put_slice(b", ");
            }
        }
    }
    write!(out, "{}", peer.to_canonical()).expect("a BytesMut grows as needed");
}
