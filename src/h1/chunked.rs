//! The chunked coding, read byte by byte in its lines and slice by slice in its data (RFC 9112, section 7.1).
//! Extensions are bounded and ignored; every line must end in CRLF exactly.

use bytes::{Buf, BytesMut};
use http::HeaderMap;

use super::decode::Piece;
use super::section::{self, Broken, HeadLimits, Scan};
use crate::message::fields::forbidden_in_trailers;

/// Why a body is not in the chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadCoding {
    /// A chunk's size, its extension or the end of its data.
    Chunk,
    /// The trailer section.
    Trailers,
    /// The trailer section has more bytes or fields than the limits allow.
    TrailersTooLarge,
}

/// Hexadecimal digits of a chunk's size: as many as 64 bits hold.
const MAX_DIGITS: u8 = 16;
/// Bytes of extensions (and padding) on one chunk's line.
const MAX_EXTENSION: u16 = 256;

/// Where in the coding we are.
#[derive(Debug)]
pub(super) enum Chunked {
    /// In the digits of a size.
    Size { value: u64, digits: u8 },
    /// In blanks behind the size, where only an extension or the line's end may follow.
    Padding { value: u64, used: u16 },
    /// In an extension.
    Extension { value: u64, used: u16 },
    /// The line of a size must now end.
    SizeLf { value: u64 },
    /// In the data, with this many bytes to come.
    Data(u64),
    /// The data must now be followed by CR.
    DataCr,
    /// And by LF.
    DataLf,
    /// In the trailer section, its blank line not yet seen.
    Trailers(Scan),
}

impl Default for Chunked {
    fn default() -> Self {
        Chunked::Size {
            value: 0,
            digits: 0,
        }
    }
}

impl Chunked {
    /// Takes the next piece off the buffer.
    pub(super) fn step(
        &mut self,
        buf: &mut BytesMut,
        limits: HeadLimits,
    ) -> Result<Piece, BadCoding> {
        self.line(buf)?;
        match self {
            Chunked::Data(left) => {
                let piece = Piece::of(buf, left);
                if *left == 0 {
                    *self = Chunked::DataCr;
                }
                Ok(piece)
            }
            Chunked::Trailers(scan) => Ok(match trailers(buf, scan, limits)? {
                Some(trailers) => Piece::End((!trailers.is_empty()).then_some(trailers)),
                None => Piece::NeedMore,
            }),
            _ => Ok(Piece::NeedMore),
        }
    }

    /// Consumes framing bytes up to the data, the trailers or the end of the buffer.
    fn line(&mut self, buf: &mut BytesMut) -> Result<(), BadCoding> {
        let mut used = 0;
        for &byte in buf.iter() {
            if matches!(self, Chunked::Data(_) | Chunked::Trailers(_)) {
                break;
            }
            self.byte(byte)?;
            used += 1;
        }
        buf.advance(used);
        Ok(())
    }

    /// Consumes one byte outside data and trailers.
    fn byte(&mut self, byte: u8) -> Result<(), BadCoding> {
        *self = match (&*self, byte) {
            (&Chunked::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_DIGITS {
                    return Err(BadCoding::Chunk);
                }
                let digit = (byte as char)
                    .to_digit(16)
                    .expect("it is a hexadecimal digit");
                Chunked::Size {
                    value: value << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (&Chunked::Size { digits: 0, .. }, _) => return Err(BadCoding::Chunk),
            (&Chunked::Size { value, .. }, b' ' | b'\t') => Chunked::Padding { value, used: 1 },
            (&Chunked::Size { value, .. }, b';') => Chunked::Extension { value, used: 1 },
            (&Chunked::Padding { value, used }, b' ' | b'\t') if used < MAX_EXTENSION => {
                Chunked::Padding {
                    value,
                    used: used + 1,
                }
            }
            (&Chunked::Padding { value, used }, b';') if used < MAX_EXTENSION => {
                Chunked::Extension {
                    value,
                    used: used + 1,
                }
            }
            (
                &(Chunked::Size { value, .. }
                | Chunked::Padding { value, .. }
                | Chunked::Extension { value, .. }),
                b'\r',
            ) => Chunked::SizeLf { value },
            (&Chunked::Extension { value, used }, b'\t' | b' '..=b'~' | 0x80..)
                if used < MAX_EXTENSION =>
            {
                Chunked::Extension {
                    value,
                    used: used + 1,
                }
            }
            (Chunked::SizeLf { value: 0 }, b'\n') => Chunked::Trailers(Scan::default()),
            (&Chunked::SizeLf { value }, b'\n') => Chunked::Data(value),
            (Chunked::DataCr, b'\r') => Chunked::DataLf,
            (Chunked::DataLf, b'\n') => Chunked::default(),
            _ => return Err(BadCoding::Chunk),
        };
        Ok(())
    }
}

/// Takes a trailer section with its blank line off the buffer, without the fields that may not stand there.
fn trailers(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: HeadLimits,
) -> Result<Option<HeaderMap>, BadCoding> {
    // Most bodies have no trailers.
    if buf.starts_with(b"\r\n") {
        buf.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let all = section::take(buf, scan, limits).map_err(|broken| match broken {
        Broken::Malformed => BadCoding::Trailers,
        Broken::TooLarge => BadCoding::TrailersTooLarge,
    })?;
    let Some(all) = all else { return Ok(None) };
    let mut kept = HeaderMap::new();
    for (name, value) in &all {
        if !forbidden_in_trailers(name) {
            kept.append(name, value.clone());
        }
    }
    Ok(Some(kept))
}
