//! The chunked coding, read byte by byte in its lines and slice by slice in its data (RFC 9112, section 7.1). Extensions are
//! bounded, checked and ignored; every line must end in CRLF exactly. Blanks are taken only within an extension, behind its
//! semicolon and around its equals sign: elsewhere the grammar calls them bad or has none, and readers differ about them.

use bytes::{Buf, BytesMut};
use http::HeaderMap;

use super::line::Broken;
use super::piece::Piece;
use super::section::{self, HeadLimits, Scan};
use crate::message::class::is_token;
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
/// Bytes of the extensions on one chunk's line.
const MAX_EXTENSION: u16 = 256;
/// Bytes of all extensions of a body. Nobody reads them, so a body that consists of them is an attack.
const MAX_EXTENSIONS: u16 = 16 * 1024 - 1;

/// A body in the coding, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    place: Place,
    /// Bytes of extensions so far.
    extensions: u16,
}

/// Where in the coding we are.
#[derive(Debug)]
enum Place {
    /// In the digits of a size.
    Size { value: u64, digits: u8 },
    /// In an extension.
    Extension {
        value: u64,
        used: u16,
        at: Extension,
    },
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

/// Where in an extension (RFC 9112, section 7.1.1).
#[derive(Clone, Copy, Debug)]
enum Extension {
    /// Behind the semicolon, perhaps behind blanks.
    Semicolon,
    Name,
    /// In blanks behind the name, where only an equals sign may follow.
    NameEnd,
    /// Behind the equals sign, perhaps behind blanks.
    Equals,
    Token,
    Quoted,
    /// Behind a backslash in quotes.
    Escaped,
    /// Behind the closing quotes.
    QuotedEnd,
}

impl Default for Place {
    fn default() -> Self {
        Place::Size {
            value: 0,
            digits: 0,
        }
    }
}

impl Extension {
    /// Moves on by one byte; `None` if it may not stand here.
    fn step(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        Some(match (self, byte) {
            (Semicolon, b' ' | b'\t') => Semicolon,
            (Semicolon | Name, _) if is_token(byte) => Name,
            (Name | NameEnd, b' ' | b'\t') => NameEnd,
            (Name | NameEnd, b'=') => Equals,
            (Name | Token | QuotedEnd, b';') => Semicolon,
            (Equals, b' ' | b'\t') => Equals,
            (Equals, b'"') => Quoted,
            (Equals | Token, _) if is_token(byte) => Token,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            _ => return None,
        })
    }

    /// May the line end here?
    fn is_whole(self) -> bool {
        matches!(
            self,
            Extension::Name | Extension::Token | Extension::QuotedEnd
        )
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
        match &mut self.place {
            Place::Data(left) => {
                let piece = Piece::of(buf, left);
                if *left == 0 {
                    self.place = Place::DataCr;
                }
                Ok(piece)
            }
            Place::Trailers(scan) => Ok(match trailers(buf, scan, limits)? {
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
            if matches!(self.place, Place::Data(_) | Place::Trailers(_)) {
                break;
            }
            self.place = self.byte(byte).ok_or(BadCoding::Chunk)?;
            used += 1;
        }
        buf.advance(used);
        Ok(())
    }

    /// Where one byte outside data and trailers leads; `None` if it may not stand here.
    fn byte(&mut self, byte: u8) -> Option<Place> {
        Some(match (&self.place, byte) {
            (&Place::Size { value, digits }, _)
                if byte.is_ascii_hexdigit() && digits < MAX_DIGITS =>
            {
                let digit = (byte as char).to_digit(16)?;
                Place::Size {
                    value: value << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (&Place::Size { digits: 0, .. }, _) => return None,
            (&Place::Size { value, .. }, b'\r') => Place::SizeLf { value },
            (&Place::Size { value, .. }, b';') => self.extend(value, 0, Extension::Semicolon)?,
            (&Place::Extension { value, at, .. }, b'\r') if at.is_whole() => {
                Place::SizeLf { value }
            }
            (&Place::Extension { value, used, at }, _) => {
                self.extend(value, used, at.step(byte)?)?
            }
            (Place::SizeLf { value: 0 }, b'\n') => Place::Trailers(Scan::default()),
            (&Place::SizeLf { value }, b'\n') => Place::Data(value),
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::default(),
            _ => return None,
        })
    }

    /// One byte more of an extension, if there may be so many.
    fn extend(&mut self, value: u64, used: u16, at: Extension) -> Option<Place> {
        self.extensions += 1;
        let fits = used < MAX_EXTENSION && self.extensions <= MAX_EXTENSIONS;
        fits.then_some(Place::Extension {
            value,
            used: used + 1,
            at,
        })
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
