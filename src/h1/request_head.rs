//! The head of a request (RFC 9112, sections 3 and 5), judged as strictly as a proxy must: what another reader could take for
//! two requests, or for another one, is refused. Absent: what the target names, which `message::target` reads, and the rules
//! on Host, which stand there as well.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{Method, Version};

use super::framing::RequestFraming;
use super::line::Form;
use super::section::{Lines, Scan};
use super::{HeadLimits, RequestError, framing};
use crate::message::class::{TOKEN, is_token};
use crate::message::head::Fields;
use crate::message::known::Known;
use crate::message::search::first_blank_or_control;

/// How large a request's head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// The head as a whole, and each trailer section.
    pub head: HeadLimits,
    /// Bytes of the target.
    pub uri_bytes: usize,
}

/// Longer than any method that is registered. A longer one is known to no server (RFC 9112, section 3: answer 501).
const MAX_METHOD: usize = 32;

/// What a request line may have beside its target: a method, two blanks, a version and the line's end, with room to spare.
const BESIDE_TARGET: usize = 64;

impl RequestLimits {
    /// Bytes of a request line: one that is longer has a target that is too long.
    fn line_bytes(self) -> usize {
        self.uri_bytes.saturating_add(BESIDE_TARGET)
    }
}

/// A request's head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Any token of at most 32 bytes.
    pub method: Method,
    /// The target as it came, in whichever form: no blanks, no controls, but perhaps bytes beyond ASCII.
    pub target: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields in their order, hop-by-hop ones included.
    pub headers: Fields,
    /// What follows the head.
    pub framing: RequestFraming,
    /// The client lets the connection live on (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends the body (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
}

/// Takes a request's head off the buffer, which begins with it; `None` if it is not whole yet.
pub(super) fn parse(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: RequestLimits,
) -> Result<Option<RequestHead>, RequestError> {
    begins_like_a_request(buf)?;
    if !scan.ready(buf, [limits.line_bytes(), limits.head.bytes]) {
        return Ok(None);
    }
    let known = &buf[..buf.len().min(limits.head.bytes)];
    let mut lines = Lines::new();
    let whole = match RequestLine::read(known, limits)? {
        Some(line) if lines.find(known, line.end, limits.head.fields, Form::Request)? => Some(line),
        _ => None,
    };
    let Some(line) = whole else {
        return match buf.len() >= limits.head.bytes {
            true => Err(RequestError::HeadTooLarge),
            false => Ok(None),
        };
    };
    let method = Method::from_bytes(&buf[..line.method]).map_err(|_| RequestError::BadLine)?;
    let (section, headers) = lines.take(buf);
    let framing = framing::of_request(&headers, line.version)?;
    let waits = framing.has_body() && line.version == Version::HTTP_11;
    Ok(Some(RequestHead {
        keep_alive: framing::keeps_alive(&headers, line.version),
        expects_continue: waits && expects_continue(&headers),
        target: section.slice(line.target),
        method,
        version: line.version,
        headers,
        framing,
    }))
}

/// Refuses at once what cannot become a request line: there is no use in waiting for the rest of it.
fn begins_like_a_request(buf: &[u8]) -> Result<(), RequestError> {
    /// The type of a TLS record that holds a handshake (RFC 8446, section 5.1).
    const HANDSHAKE: u8 = 0x16;
    match buf.first() {
        Some(&HANDSHAKE) => Err(RequestError::Tls),
        Some(byte) if !is_token(*byte) => Err(RequestError::BadLine),
        _ => Ok(()),
    }
}

/// What a request line says, and where it ends.
struct RequestLine {
    /// The method's length.
    method: usize,
    target: Range<usize>,
    version: Version,
    end: usize,
}

impl RequestLine {
    /// Reads the line that `buf` begins with, `None` if its end has not come. A line of more than its limit is judged by as
    /// many bytes alone, so that the verdict does not depend on how they arrive.
    fn read(buf: &[u8], limits: RequestLimits) -> Result<Option<RequestLine>, RequestError> {
        let buf = &buf[..buf.len().min(limits.line_bytes())];
        let method = match buf.iter().position(|byte| !TOKEN[usize::from(*byte)]) {
            Some(length) if length > MAX_METHOD => return Err(RequestError::MethodTooLong),
            Some(length) if length > 0 && buf[length] == b' ' => length,
            Some(_) => return Err(RequestError::BadLine),
            None if buf.len() > MAX_METHOD => return Err(RequestError::MethodTooLong),
            None => return Ok(None),
        };
        let from = method + 1;
        let target = match first_blank_or_control(&buf[from..]) {
            Some(length) if length > limits.uri_bytes => return Err(RequestError::UriTooLong),
            Some(length) => from..from + length,
            None if buf.len() == limits.line_bytes() => return Err(RequestError::UriTooLong),
            None => return Ok(None),
        };
        match buf[target.end] {
            _ if target.is_empty() => return Err(RequestError::BadLine),
            b' ' => {}
            // A line that ends here is one of HTTP/0.9.
            b'\r' | b'\n' => return Err(RequestError::BadLine),
            _ => return Err(RequestError::BadTarget),
        }
        let at = target.end + 1;
        let Some(version) = version(&buf[at..])? else {
            return Ok(None);
        };
        let Some(version) = version else {
            let preface = &buf[..method] == b"PRI" && buf[target] == *b"*";
            return Err(match preface && buf[at..].starts_with(b"HTTP/2.0") {
                true => RequestError::Http2Preface,
                false => RequestError::UnknownVersion,
            });
        };
        let end = match buf[at + 8..] {
            [b'\r', b'\n', ..] => at + 10,
            [b'\n', ..] => at + 9,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(RequestError::BadLine),
        };
        Ok(Some(RequestLine {
            method,
            target,
            version,
            end,
        }))
    }
}

/// The version that `buf` begins with: `None` if it is not whole yet, `Some(None)` if it is one that is not spoken here.
fn version(buf: &[u8]) -> Result<Option<Option<Version>>, RequestError> {
    const NAME: &[u8] = b"HTTP/";
    let known = buf.len().min(NAME.len());
    if buf[..known] != NAME[..known] {
        return Err(RequestError::BadLine);
    }
    match buf.get(NAME.len()..NAME.len() + 3) {
        None => Ok(None),
        Some(b"1.1") => Ok(Some(Some(Version::HTTP_11))),
        Some(b"1.0") => Ok(Some(Some(Version::HTTP_10))),
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => Ok(Some(None)),
        Some(_) => Err(RequestError::BadLine),
    }
}

fn expects_continue(headers: &Fields) -> bool {
    let mut expectations = headers.get_all(Known::Expect);
    expectations.any(|value| value.eq_ignore_ascii_case(b"100-continue"))
}
