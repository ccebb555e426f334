//! What follows a head, decided in one certain way or refused (RFC 9112, sections 6 and 9.3). Lengths that backends repeat
//! are forgiven where they agree; clients' are not.

use std::time::Duration;

use http::{HeaderValue, StatusCode, Version};

use super::{DecodeError, RequestError};
use crate::message::fields::{self, ConnectionTokens};
use crate::message::head::Fields;
use crate::message::known::{Known, Set};

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

/// How a request's body is delimited (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// There is no body, and no field speaks of one.
    None,
    /// Exactly this many bytes, which may be none.
    Length(u64),
    /// The chunked coding.
    Chunked,
}

impl RequestFraming {
    /// Do bytes of a body follow the head? Chunks do, even where they hold no data.
    pub fn has_body(self) -> bool {
        !matches!(self, RequestFraming::None | RequestFraming::Length(0))
    }
}

/// What of a request decides what follows the response's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// It is a HEAD.
    pub(super) is_head: bool,
    /// It is a CONNECT.
    pub(super) is_connect: bool,
}

/// What follows a response's head, whose Content-Length is mended on the way. Says as well whether the connection's next bytes
/// are surely the next response's: a head that claims a body where none may be leaves that open.
pub(super) fn of_response(
    headers: &mut Fields,
    status: StatusCode,
    version: Version,
    asked: Asked,
) -> Result<(ResponseFraming, bool), DecodeError> {
    let length = content_length(headers)?;
    let chunked = is_chunked(headers)?;
    if chunked && (length.is_some() || version == Version::HTTP_10) {
        return Err(DecodeError::BadFraming);
    }
    if let Some(Length {
        bytes,
        is_plain: false,
    }) = length
    {
        headers.set(Known::ContentLength, HeaderValue::from(bytes));
    }
    let length = length.map(|length| length.bytes);
    let claims_body = chunked || length.is_some_and(|length| length > 0);
    Ok(match status {
        status if status.is_informational() || status == StatusCode::NO_CONTENT => {
            headers.remove(Known::ContentLength);
            (ResponseFraming::None, !claims_body)
        }
        status if asked.is_connect && status.is_success() => (ResponseFraming::None, false),
        // Their fields describe what a GET would have brought.
        _ if asked.is_head => (ResponseFraming::None, true),
        // Some servers chunk an empty body behind a 304; its end might come only after the next request.
        StatusCode::NOT_MODIFIED => (ResponseFraming::None, !chunked),
        StatusCode::RESET_CONTENT => {
            headers.remove(Known::ContentLength);
            (ResponseFraming::Length(0), length == Some(0))
        }
        _ if chunked => (ResponseFraming::Chunked, true),
        _ => match length {
            Some(length) => (ResponseFraming::Length(length), true),
            None => (ResponseFraming::Close, false),
        },
    })
}

/// What follows a request's head. Without a field that speaks of one there is no body.
pub(super) fn of_request(
    headers: &Fields,
    version: Version,
) -> Result<RequestFraming, RequestError> {
    const SPEAK_OF_IT: Set = Set::of(&[Known::ContentLength, Known::TransferEncoding]);
    if !headers.has_any(SPEAK_OF_IT) {
        return Ok(RequestFraming::None);
    }
    let mut lengths = headers.get_all(Known::ContentLength);
    let mut codings = headers.get_all(Known::TransferEncoding);
    match ((lengths.next(), lengths.next()), codings.next()) {
        ((None, _), None) => Ok(RequestFraming::None),
        ((Some(length), None), None) => length_of_request(length),
        ((None, _), Some(coding)) if version == Version::HTTP_11 => {
            coding_of_request(coding, codings.last())
        }
        // Both, or several lengths, even equal ones, or a coding in HTTP/1.0, which knows none.
        _ => Err(RequestError::BadFraming),
    }
}

fn length_of_request(digits: &[u8]) -> Result<RequestFraming, RequestError> {
    /// Beyond this, others count with a sign.
    const MAX: u64 = i64::MAX as u64;
    match decimal(digits) {
        Some(length) if length <= MAX => Ok(RequestFraming::Length(length)),
        None if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) => {
            Err(RequestError::BadFraming)
        }
        _ => Err(RequestError::BodyTooLarge),
    }
}

/// `chunked` alone. A body whose last coding is another one has no certain end (RFC 9112, section 6.3: answer 400); one that
/// is chunked at last, but coded in a way that is not understood before, gets a 501 (section 6.1).
fn coding_of_request(first: &[u8], last: Option<&[u8]>) -> Result<RequestFraming, RequestError> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let of_last = last.unwrap_or(first);
    let end = of_last.rsplit(|byte| *byte == b',').next();
    match last {
        None if is_chunked(first) => Ok(RequestFraming::Chunked),
        _ if end.is_some_and(|end| is_chunked(end.trim_ascii())) => {
            Err(RequestError::UnknownCoding)
        }
        _ => Err(RequestError::BadFraming),
    }
}

/// Does the sender keep the connection (RFC 9112, section 9.3)?
pub(super) fn keeps_alive(headers: &Fields, version: Version) -> bool {
    if !headers.has(Known::Connection) {
        return version == Version::HTTP_11;
    }
    let tokens = ConnectionTokens::of(headers.get_all(Known::Connection));
    !tokens.close() && (version == Version::HTTP_11 || tokens.keep_alive())
}

/// The seconds of `Keep-Alive: timeout=5, max=100`; a value that is no number promises nothing.
pub(super) fn keep_alive_timeout(headers: &Fields) -> Option<Duration> {
    const NAME: &[u8] = b"timeout=";
    if !headers.has(Known::KeepAlive) {
        return None;
    }
    headers
        .get_all(Known::KeepAlive)
        .flat_map(fields::list_items)
        .find_map(|item| {
            let (name, seconds) = item.split_at_checked(NAME.len())?;
            let seconds = name.eq_ignore_ascii_case(NAME).then_some(seconds)?;
            decimal(seconds).map(Duration::from_secs)
        })
}

/// What the Content-Length fields say.
struct Length {
    bytes: u64,
    /// Said once, without a list or leading zeros. Otherwise it is mended before it is passed on.
    is_plain: bool,
}

/// The one length that all Content-Length fields agree on, each with digits alone.
fn content_length(headers: &Fields) -> Result<Option<Length>, DecodeError> {
    let mut agreed: Option<Length> = None;
    for value in headers.get_all(Known::ContentLength) {
        for item in value.split(|byte| *byte == b',') {
            let item = item.trim_ascii();
            let bytes = decimal(item).ok_or(DecodeError::BadFraming)?;
            if agreed.as_ref().is_some_and(|first| first.bytes != bytes) {
                return Err(DecodeError::BadFraming);
            }
            agreed = Some(Length {
                bytes,
                is_plain: agreed.is_none() && (item[0] != b'0' || item.len() == 1),
            });
        }
    }
    Ok(agreed)
}

/// Is the body in the chunked coding, and in no other? Any other coding is one that nobody asked for.
fn is_chunked(headers: &Fields) -> Result<bool, DecodeError> {
    if !headers.has(Known::TransferEncoding) {
        return Ok(false);
    }
    let mut values = headers.get_all(Known::TransferEncoding);
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(DecodeError::BadFraming),
    }
}

/// Digits and nothing else, within 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}
