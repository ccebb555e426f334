//! The head of a response (RFC 9112, sections 4 and 5). Absent: its field lines, which `section` finds, and what they mean
//! for the body, which `framing` decides.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderValue, StatusCode, Version};

use super::framing::{Asked, ResponseFraming};
use super::line::Form;
use super::section::{HeadLimits, Lines, Scan};
use super::{DecodeError, framing};
use crate::message::head::Fields;
use crate::message::search::first;

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 100 to 599; 101 only where a switch was asked for.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields in their order, hop-by-hop ones included. Content-Length is there once, or not at all where the
    /// status forbids it.
    pub headers: Fields,
    /// A 1xx head other than 101: another one follows.
    pub interim: bool,
    /// What follows the head.
    pub framing: ResponseFraming,
    /// The backend lets the connection live on, and the framing permits it.
    pub keep_alive: bool,
    /// What `Keep-Alive: timeout` promises.
    pub keep_alive_timeout: Option<Duration>,
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
    if !scan.ready(buf, [limits.bytes, limits.bytes]) {
        return Ok(None);
    }
    let known = &buf[..buf.len().min(limits.bytes)];
    let mut lines = Lines::new();
    let whole = match status_line(known)? {
        Some(line) if lines.find(known, line.end, limits.fields, Form::Response)? => Some(line),
        _ => None,
    };
    let Some(line) = whole else {
        return match buf.len() >= limits.bytes {
            true => Err(DecodeError::HeadTooLarge),
            false => Ok(None),
        };
    };
    let (_, mut headers) = lines.take(buf);
    let asked = Asked {
        is_head,
        is_connect,
    };
    let (framing, certain) = framing::of_response(&mut headers, line.status, line.version, asked)?;
    let keep_alive = certain && framing::keeps_alive(&headers, line.version);
    Ok(Some(ResponseHead {
        status: line.status,
        version: line.version,
        interim: line.status.is_informational() && line.status != StatusCode::SWITCHING_PROTOCOLS,
        framing,
        keep_alive,
        keep_alive_timeout: framing::keep_alive_timeout(&headers).filter(|_| keep_alive),
        headers,
    }))
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

/// What a status line says, and where it ends.
struct StatusLine {
    version: Version,
    status: StatusCode,
    end: usize,
}

/// Reads the status line that `buf`, which begins like one, begins with; `None` if its end has not come. The reason may be
/// anything that a field's value may be, or be left out with the blank before it.
fn status_line(buf: &[u8]) -> Result<Option<StatusLine>, DecodeError> {
    let Some(lf) = first(buf, b'\n') else {
        return Ok(None);
    };
    let bad = DecodeError::BadHead;
    let line = &buf[..lf];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (version, rest) = line.split_at_checked(8).ok_or(bad)?;
    let (code, reason) = match rest {
        [b' ', a, b, c] => ([*a, *b, *c], &[][..]),
        [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
        _ => return Err(bad),
    };
    HeaderValue::from_bytes(reason).map_err(|_| bad)?;
    let status = StatusCode::from_bytes(&code).map_err(|_| bad)?;
    if status.as_u16() > 599 {
        return Err(bad);
    }
    Ok(Some(StatusLine {
        version: match version[7] {
            b'0' => Version::HTTP_10,
            _ => Version::HTTP_11,
        },
        status,
        end: lf + 1,
    }))
}
