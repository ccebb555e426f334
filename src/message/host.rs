//! The authority of a request: host and port, as Host and the absolute form carry them (RFC 9110, section 7.2).
//! Absent: names' meaning. Labels are not checked, since what is no name simply matches no route.

use super::class::letters_digits_and;

/// A valid authority's host.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// The host's length within the authority, without a final dot.
    pub(super) len: usize,
    /// The host in lower case, if it was not.
    pub(super) lower: Option<String>,
}

/// Checks `host [":" port]`; `None` if it is not one. User information is refused (RFC 9110, section 4.2.4).
pub(super) fn normalise(authority: &[u8]) -> Option<Host> {
    let (host, port) = split(authority)?;
    if !port.is_empty() && !is_port(port) {
        return None;
    }
    let host = match host {
        [b'[', address @ .., b']'] => is_ipv6(address).then_some(host)?,
        _ => is_reg_name(host).then(|| host.strip_suffix(b".").unwrap_or(host))?,
    };
    if host.is_empty() {
        return None;
    }
    let lower = host
        .iter()
        .any(u8::is_ascii_uppercase)
        .then(|| String::from_utf8_lossy(host).to_ascii_lowercase());
    Some(Host {
        len: host.len(),
        lower,
    })
}

/// Parts host and port; the colons within brackets belong to the address.
fn split(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match authority.first() {
        Some(b'[') => authority.iter().position(|b| *b == b']')? + 1,
        _ => authority
            .iter()
            .position(|b| *b == b':')
            .unwrap_or(authority.len()),
    };
    match authority.split_at(end) {
        (host, []) => Some((host, b"")),
        // An empty port is the scheme's default (RFC 3986, section 3.2.3).
        (host, [b':', port @ ..]) => Some((host, port)),
        _ => None,
    }
}

/// A decimal number of 16 bits.
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port
            .iter()
            .try_fold(0u32, |sum, digit| {
                digit
                    .is_ascii_digit()
                    .then(|| sum * 10 + u32::from(digit - b'0'))
            })
            .is_some_and(|port| port <= 65_535)
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Unreserved characters, sub-delimiters and whole percent-encodings (RFC 3986, section 3.2.2).
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some(odd) = rest.iter().position(|byte| !REG_NAME[usize::from(*byte)]) {
        rest = match &rest[odd..] {
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                tail
            }
            _ => return false,
        };
    }
    true
}

/// Bytes that a registered name may hold as they are.
const REG_NAME: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,;=");
