//! The PROXY protocol as a balancer in front speaks it, and as a backend hears it: versions 1 and 2, over IPv4.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::io::{AsyncRead, AsyncReadExt};
use weirkeeper::message::proxy_protocol::Version;
use weirkeeper::rng::Rng;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A header that a balancer sends, and whom it names.
pub(super) fn draw(rng: &mut Rng) -> (Vec<u8>, Option<SocketAddr>) {
    let octet = |rng: &mut Rng, n: u64| u8::try_from(1 + rng.below(n)).unwrap_or(1);
    let host = Ipv4Addr::new(10, 9, octet(rng, 2), octet(rng, 8));
    let port = 1024 + u16::try_from(rng.below(60_000)).unwrap_or(0);
    let source = SocketAddrV4::new(host, port);
    let to = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 443);
    match rng.below(8) {
        0 => (b"PROXY UNKNOWN\r\n".to_vec(), None),
        1 => (binary(0x20, 0, &[]), None),
        2..5 => {
            let (a, b) = (source.ip(), to.ip());
            let text = format!("PROXY TCP4 {a} {b} {port} {}\r\n", to.port());
            (text.into_bytes(), Some(source.into()))
        }
        _ => {
            let mut rest = [source.ip().octets(), to.ip().octets()].concat();
            rest.extend(port.to_be_bytes());
            rest.extend(to.port().to_be_bytes());
            if rng.chance(0.3) {
                // A NOOP of three bytes.
                rest.extend([4, 0, 3, 1, 2, 3]);
            }
            (binary(0x21, 0x11, &rest), Some(source.into()))
        }
    }
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend([command, family]);
    out.extend(u16::try_from(rest.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(rest);
    out
}

/// What came where a header was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A header, which may name somebody.
    Named(Option<SocketAddr>),
    /// Nothing at all, or only some of a header before the connection broke off.
    Nothing,
    /// Something else.
    Wrong,
}

/// Reads a header of `version` and not one byte more.
pub(super) async fn read<R: AsyncRead + Unpin>(from: &mut R, version: Version) -> Came {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        match from.read(&mut byte).await {
            Ok(1) => bytes.push(byte[0]),
            _ => return Came::Nothing,
        }
        let came = match version {
            Version::V1 => text(&bytes),
            Version::V2 => parse(&bytes),
        };
        if let Some(came) = came {
            return came;
        }
    }
}

/// `None` while more has to come.
fn text(bytes: &[u8]) -> Option<Came> {
    let line = b"PROXY ";
    if bytes.iter().zip(line).any(|(a, b)| a != b) || bytes.len() > 107 {
        return Some(Came::Wrong);
    }
    let line = bytes.strip_suffix(b"\r\n")?;
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    Some(match words[..] {
        ["PROXY", "UNKNOWN", ..] => Came::Named(None),
        ["PROXY", "TCP4", source, _, port, _] => match format!("{source}:{port}").parse() {
            Ok(source) => Came::Named(Some(source)),
            Err(_) => Came::Wrong,
        },
        _ => Came::Wrong,
    })
}

fn parse(bytes: &[u8]) -> Option<Came> {
    if bytes.iter().zip(&SIGNATURE).any(|(a, b)| a != b) {
        return Some(Came::Wrong);
    }
    let (&[command, family], length) = (
        bytes.get(12..14)?.first_chunk::<2>()?,
        bytes.get(14..16)?.first_chunk::<2>()?,
    );
    let rest = bytes.get(16..16 + usize::from(u16::from_be_bytes(*length)))?;
    Some(match (command, family) {
        (0x20, _) | (0x21, 0) => Came::Named(None),
        (0x21, 0x11) if rest.len() >= 12 => {
            let host = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
            let port = u16::from_be_bytes([rest[8], rest[9]]);
            Came::Named(Some((host, port).into()))
        }
        _ => Came::Wrong,
    })
}
