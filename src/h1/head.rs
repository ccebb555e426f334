//! The head of a response (RFC 9112, sections 4 and 5), and the trailer section, which has the same lines. Values are
//! slices of the bytes that were read. Absent: what the fields mean for the body, which `framing` decides.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

use super::{DecodeError, framing};
use crate::message::fields::forbidden_in_trailers;

/// How large a head, and how large a trailer section, may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, the status line and the blank line counted.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// How a response's body is delimited (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is no body, whatever the fields say.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Everything until the connection ends.
    Close,
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 100 to 599; 101 only where a switch was asked for.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields in their order, hop-by-hop ones included. Content-Length is there once, or not at all where the
    /// status forbids it.
    pub headers: HeaderMap,
    /// A 1xx head other than 101: another one follows.
    pub interim: bool,
    /// What follows the head.
    pub framing: ResponseFraming,
    /// The backend lets the connection live on, and the framing permits it.
    pub keep_alive: bool,
    /// What `Keep-Alive: timeout` promises.
    pub keep_alive_timeout: Option<Duration>,
}

/// How far an unfinished section has been looked at, so that a slow backend's bytes are not parsed again and again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Bytes that hold no blank line.
    seen: usize,
    /// Bytes there were when it was last parsed.
    tried: usize,
}

impl Scan {
    /// Is a parse worth its while? At first, when the blank line is there, and whenever the bytes have doubled: so
    /// the work stays linear and a malformed line is found before the section is whole.
    fn ready(&mut self, buf: &[u8]) -> bool {
        let ready =
            !buf.is_empty() && (buf.len() >= 2 * self.tried || has_blank_line(buf, self.seen));
        self.seen = buf.len();
        if ready {
            self.tried = buf.len();
        }
        ready
    }
}

/// Is there an empty line that ends at or after `seen`? A bare LF counts, for the parser to refuse it.
fn has_blank_line(buf: &[u8], seen: usize) -> bool {
    let tail = &buf[seen.saturating_sub(3).min(buf.len())..];
    tail.iter().enumerate().any(|(at, byte)| {
        *byte == b'\n' && matches!(tail[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..])
    })
}

/// Takes a response head off the buffer, `None` if it is not whole yet.
pub(super) fn parse(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: HeadLimits,
    is_head: bool,
    is_connect: bool,
) -> Result<Option<ResponseHead>, DecodeError> {
    begins_like_http(buf)?;
    if !scan.ready(buf) {
        return match buf.len() >= limits.bytes {
            true => Err(DecodeError::HeadTooLarge),
            false => Ok(None),
        };
    }
    let Some((line, headers)) = section(buf, limits)? else {
        return Ok(None);
    };
    let status = match StatusCode::from_u16(line.code) {
        Ok(status) if line.code <= 599 => status,
        _ => return Err(DecodeError::BadHead),
    };
    let mut head = ResponseHead {
        status,
        version: line.version,
        headers,
        interim: status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS,
        framing: ResponseFraming::None,
        keep_alive: false,
        keep_alive_timeout: None,
    };
    let certain = framing::decide(&mut head, is_head, is_connect)?;
    head.keep_alive = certain && framing::keeps_alive(&head);
    head.keep_alive_timeout = framing::keep_alive_timeout(&head);
    Ok(Some(head))
}

/// Refuses at once what cannot become an HTTP/1 status line: there is no use in waiting for the rest of it.
fn begins_like_http(buf: &[u8]) -> Result<(), DecodeError> {
    const START: &[u8] = b"HTTP/1.";
    let known = buf.len().min(START.len());
    match buf.get(START.len()) {
        _ if buf[..known] != START[..known] => Err(DecodeError::NotHttp),
        None | Some(b'0' | b'1') => Ok(()),
        Some(_) => Err(DecodeError::NotHttp),
    }
}

/// Where a field's name and value lie in the section.
#[derive(Clone, Copy, Default)]
struct Span {
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
}

/// So many fields, which is more than most heads have, are parsed without an allocation to hold them.
const INLINE: usize = 32;

/// What a status line says, and where its fields lie in `spans`.
struct Parsed {
    version: Version,
    code: u16,
    length: usize,
    fields: usize,
}

/// Parses a status line and its fields up to the blank line, `None` if that has not come.
fn parse_section<'b>(
    buf: &'b [u8],
    room: &mut [MaybeUninit<httparse::Header<'b>>],
    spans: &mut [Span],
) -> Result<Option<Parsed>, DecodeError> {
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, buf, room) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::Version) => return Err(DecodeError::NotHttp),
        Err(httparse::Error::TooManyHeaders) => return Err(DecodeError::HeadTooLarge),
        Err(_) => return Err(DecodeError::BadHead),
    };
    let line = buf.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    if !buf[..line].ends_with(b"\r") || !buf[..length].ends_with(b"\r\n") {
        return Err(DecodeError::BadHead);
    }
    for (span, field) in spans.iter_mut().zip(response.headers.iter()) {
        *span = Span::of(buf, field).ok_or(DecodeError::BadHead)?;
    }
    Ok(Some(Parsed {
        version: match response.version {
            Some(0) => Version::HTTP_10,
            _ => Version::HTTP_11,
        },
        code: response.code.ok_or(DecodeError::BadHead)?,
        length,
        fields: response.headers.len(),
    }))
}

/// Takes a status line and its fields off the buffer, the values as slices of the frozen bytes.
fn section(
    buf: &mut BytesMut,
    limits: HeadLimits,
) -> Result<Option<(Parsed, HeaderMap)>, DecodeError> {
    let few = limits.fields.min(INLINE);
    let mut spans = [Span::default(); INLINE];
    let mut room = [const { MaybeUninit::uninit() }; INLINE];
    match parse_section(buf, &mut room[..few], &mut spans[..few]) {
        Err(DecodeError::HeadTooLarge) if few < limits.fields => {
            let mut spans = vec![Span::default(); limits.fields];
            let mut room = vec![MaybeUninit::uninit(); limits.fields];
            let parsed = parse_section(buf, &mut room, &mut spans)?;
            split(buf, limits, parsed, &spans)
        }
        parsed => split(buf, limits, parsed?, &spans),
    }
}

fn split(
    buf: &mut BytesMut,
    limits: HeadLimits,
    parsed: Option<Parsed>,
    spans: &[Span],
) -> Result<Option<(Parsed, HeaderMap)>, DecodeError> {
    match parsed {
        None if buf.len() >= limits.bytes => Err(DecodeError::HeadTooLarge),
        None => Ok(None),
        Some(parsed) if parsed.length > limits.bytes => Err(DecodeError::HeadTooLarge),
        Some(parsed) => {
            let frozen = buf.split_to(parsed.length).freeze();
            let headers = collect(&frozen, &spans[..parsed.fields])?;
            Ok(Some((parsed, headers)))
        }
    }
}

/// Takes a trailer section with its blank line off the buffer, without the fields that may not stand there.
pub(super) fn parse_trailers(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: HeadLimits,
) -> Result<Option<HeaderMap>, DecodeError> {
    // Most bodies have no trailers.
    if buf.starts_with(b"\r\n") {
        buf.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let too_large = buf.len() >= limits.bytes;
    if !scan.ready(buf) && !too_large {
        return Ok(None);
    }
    let mut spans = vec![Span::default(); limits.fields];
    let mut room = vec![httparse::EMPTY_HEADER; limits.fields];
    let (length, count) = match httparse::parse_headers(buf, &mut room) {
        Ok(httparse::Status::Complete((length, _))) if length > limits.bytes => {
            return Err(DecodeError::HeadTooLarge);
        }
        Ok(httparse::Status::Complete((length, fields))) => {
            if !buf[..length].ends_with(b"\r\n") {
                return Err(DecodeError::BadTrailers);
            }
            for (span, field) in spans.iter_mut().zip(fields) {
                *span = Span::of(buf, field).ok_or(DecodeError::BadTrailers)?;
            }
            (length, fields.len())
        }
        Ok(httparse::Status::Partial) if too_large => return Err(DecodeError::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(DecodeError::HeadTooLarge),
        Err(_) => return Err(DecodeError::BadTrailers),
    };
    let frozen = buf.split_to(length).freeze();
    let all = collect(&frozen, &spans[..count]).map_err(|_| DecodeError::BadTrailers)?;
    let mut kept = HeaderMap::new();
    for (name, value) in &all {
        if !forbidden_in_trailers(name) {
            kept.append(name, value.clone());
        }
    }
    Ok(Some(kept))
}

impl Span {
    /// Where `field`, which was parsed out of `buf`, lies in it; `None` if its line does not end in CRLF. The parser
    /// lets a bare LF pass, which RFC 9112, section 2.2 permits and smugglers like, but no CR without an LF.
    fn of(buf: &[u8], field: &httparse::Header<'_>) -> Option<Span> {
        let offset = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(buf.as_ptr() as usize);
        let (name, value) = (offset(field.name.as_bytes()), offset(field.value));
        let (name_end, value_end) = (name + field.name.len(), value + field.value.len());
        let mut behind = buf.get(value_end..)?.iter();
        let end = behind.find(|byte| !matches!(byte, b' ' | b'\t'))?;
        let at = |place: usize| u32::try_from(place).ok();
        (*end == b'\r').then_some(Span {
            name: at(name)?,
            name_end: at(name_end)?,
            value: at(value)?,
            value_end: at(value_end)?,
        })
    }
}

/// Turns spans into fields. Standard names cost nothing and values share the section's bytes.
fn collect(section: &Bytes, spans: &[Span]) -> Result<HeaderMap, DecodeError> {
    // The proxy adds a few fields of its own.
    let mut headers = HeaderMap::with_capacity(spans.len() + 4);
    for span in spans {
        let name = &section[span.name as usize..span.name_end as usize];
        let value = section.slice(span.value as usize..span.value_end as usize);
        let name = name_of(name).ok_or(DecodeError::BadHead)?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| DecodeError::BadHead)?;
        headers
            .try_append(name, value)
            .map_err(|_| DecodeError::HeadTooLarge)?;
    }
    Ok(headers)
}

/// A field's name. The usual ones in their usual spelling are found without lowering each letter.
fn name_of(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"Age" | b"age" => header::AGE,
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Vary" | b"vary" => header::VARY,
        b"Server" | b"server" => header::SERVER,
        b"Expires" | b"expires" => header::EXPIRES,
        b"Location" | b"location" => header::LOCATION,
        b"Connection" | b"connection" => header::CONNECTION,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Accept-Ranges" | b"accept-ranges" => header::ACCEPT_RANGES,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Content-Encoding" | b"content-encoding" => header::CONTENT_ENCODING,
        b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
        _ => return HeaderName::from_bytes(name).ok(),
    })
}
