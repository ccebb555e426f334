//! The PROXY protocol (haproxy.org, proxy-protocol.txt), versions 1 and 2: the header before a connection's own bytes that names
//! the client whom a balancer speaks for. Absent: whose word is believed (the config), and sockets.
//!
//! Strict, for two who read one header differently can be led apart: one space between the parts of a line, ports in plain
//! decimal, no byte behind the addresses that is not a whole TLV. It says how many bytes certainly belong to the header, so that
//! a reader never takes one that is another's.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What every header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What every header of version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";

/// Bytes of the longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;

/// Bytes behind the first 16 of version 2 that are taken: the longest addresses, and TLVs of which we use none.
const LONGEST_REST: usize = 4096;

/// Which form of header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client's.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// How far the bytes so far lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many more bytes, one or more, belong to the header for certain.
    More(usize),
    /// It is whole. `None`: the sender speaks for itself (LOCAL, UNKNOWN), or for a client without an address.
    Done(Option<Addresses>),
}

/// The bytes are no header of either version, or one that is not for a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads what has come of a header. `bytes` are never more than the header: ask for as many as [`Progress::More`] says.
///
/// # Errors
/// No more bytes can make a header of these.
pub fn read(bytes: &[u8]) -> Result<Progress, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    let (is_binary, is_line) = (begins(SIGNATURE), begins(WORD));
    match SIGNATURE.len().checked_sub(bytes.len()) {
        // The shortest line is longer than the signature, so that many bytes are the header's in any case.
        Some(missing @ 1..) if is_binary || (is_line && !bytes.contains(&b'\n')) => {
            Ok(Progress::More(missing))
        }
        Some(1..) => Err(Malformed),
        _ if is_binary => binary(bytes),
        _ if is_line => line(bytes),
        _ => Err(Malformed),
    }
}

/// Version 1, of which the first twelve bytes have come. More is taken by as many bytes as the line's end still needs.
fn line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(first) = bytes.iter().position(|b| *b == b'\n') else {
        let least = if bytes.ends_with(b"\r") { 1 } else { 2 };
        if bytes.len() + least > LONGEST_LINE {
            return Err(Malformed);
        }
        return Ok(Progress::More(least));
    };
    let text = bytes.strip_suffix(b"\r\n").ok_or(Malformed)?;
    if first + 1 != bytes.len() || text.contains(&b'\r') {
        return Err(Malformed);
    }
    let text = std::str::from_utf8(&text[WORD.len()..]).map_err(|_| Malformed)?;
    let mut parts = text.split(' ');
    let addresses = match parts.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => return Ok(Progress::Done(None)),
        Some("TCP4") => ends::<Ipv4Addr>(&mut parts)?,
        Some("TCP6") => ends::<Ipv6Addr>(&mut parts)?,
        _ => return Err(Malformed),
    };
    match parts.next() {
        None => Ok(Progress::Done(Some(addresses))),
        Some(_) => Err(Malformed),
    }
}

/// Two addresses of one family and their ports.
fn ends<'a, A>(parts: &mut impl Iterator<Item = &'a str>) -> Result<Addresses, Malformed>
where
    A: FromStr + Into<IpAddr>,
{
    let mut next = || parts.next().ok_or(Malformed);
    let address = |text: &str| A::from_str(text).map(Into::into).map_err(|_| Malformed);
    let (source, destination) = (address(next()?)?, address(next()?)?);
    let (from, to) = (port(next()?)?, port(next()?)?);
    Ok(Addresses {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// Decimal, without a sign or leading zeros.
fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Malformed)
}

/// Version 2: the signature, version and command, family and transport, the length of the rest, and the rest.
fn binary(bytes: &[u8]) -> Result<Progress, Malformed> {
    let head = SIGNATURE.len() + 4;
    let (Some(&command), Some(&family)) = (bytes.get(12), bytes.get(13)) else {
        return Ok(Progress::More(head - bytes.len()));
    };
    let Some(&[high, low]) = bytes.get(14..head) else {
        return Ok(Progress::More(head - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_REST || !matches!(command, LOCAL | PROXY) {
        return Err(Malformed);
    }
    let rest = &bytes[head..];
    match length.checked_sub(rest.len()) {
        Some(0) => {}
        Some(missing) => return Ok(Progress::More(missing)),
        None => return Err(Malformed),
    }
    if command == LOCAL {
        // Whatever stands there is to be ignored.
        return Ok(Progress::Done(None));
    }
    let size = match family {
        UNSPECIFIED => 0,
        TCP4 => 12,
        TCP6 => 36,
        UNIX => 216,
        _ => return Err(Malformed),
    };
    let (ends, tlvs) = rest.split_at_checked(size).ok_or(Malformed)?;
    if !are_whole(tlvs) {
        return Err(Malformed);
    }
    Ok(Progress::Done(match family {
        TCP4 => halves::<4>(ends),
        TCP6 => halves::<16>(ends),
        _ => None,
    }))
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;

/// Two addresses of `N` bytes, then two ports.
fn halves<const N: usize>(bytes: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, bytes) = bytes.split_first_chunk::<N>()?;
    let (destination, ports) = bytes.split_first_chunk::<N>()?;
    let [a, b, c, d] = *ports else { return None };
    Some(Addresses {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes([c, d])),
    })
}

/// Do these bytes hold whole TLVs and nothing else: a type, a length of two bytes, a value each?
fn are_whole(mut tlvs: &[u8]) -> bool {
    while !tlvs.is_empty() {
        let Some((&[_, high, low], rest)) = tlvs.split_first_chunk() else {
            return false;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(rest) = rest.get(length..) else {
            return false;
        };
        tlvs = rest;
    }
    true
}

/// The header that names these two; without them, one that says that we speak for ourselves. Addresses of two families are
/// both written as IPv6.
pub fn write(version: Version, addresses: Option<Addresses>) -> Vec<u8> {
    let ends = addresses.map(|a| (a, family(a.source.ip(), a.destination.ip())));
    match version {
        Version::V1 => {
            let mut text = String::from("PROXY ");
            // Writing to a string cannot fail.
            let _ = match ends {
                None => write!(text, "UNKNOWN\r\n"),
                Some((a, ends)) => {
                    let (from, to) = (a.source.port(), a.destination.port());
                    match ends {
                        Family::V4(s, d) => write!(text, "TCP4 {s} {d} {from} {to}\r\n"),
                        Family::V6(s, d) => write!(text, "TCP6 {s} {d} {from} {to}\r\n"),
                    }
                }
            };
            text.into_bytes()
        }
        Version::V2 => {
            let mut out = SIGNATURE.to_vec();
            let Some((a, ends)) = ends else {
                out.extend_from_slice(&[LOCAL, UNSPECIFIED, 0, 0]);
                return out;
            };
            match ends {
                Family::V4(s, d) => {
                    out.extend_from_slice(&[PROXY, TCP4, 0, 12]);
                    out.extend_from_slice(&s.octets());
                    out.extend_from_slice(&d.octets());
                }
                Family::V6(s, d) => {
                    out.extend_from_slice(&[PROXY, TCP6, 0, 36]);
                    out.extend_from_slice(&s.octets());
                    out.extend_from_slice(&d.octets());
                }
            }
            out.extend_from_slice(&a.source.port().to_be_bytes());
            out.extend_from_slice(&a.destination.port().to_be_bytes());
            out
        }
    }
}

enum Family {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// One family for both: a socket for both families sees IPv4 clients as mapped addresses, which are IPv4.
fn family(source: IpAddr, destination: IpAddr) -> Family {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    match (source.to_canonical(), destination.to_canonical()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => Family::V4(s, d),
        (s, d) => Family::V6(wide(s), wide(d)),
    }
}

#[cfg(test)]
mod tests;
