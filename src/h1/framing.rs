//! What follows a head, decided in one certain way or refused (RFC 9112, sections 6 and 9.3). Lengths that backends repeat
//! are forgiven where they agree; clients' are not.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

use super::head::{ResponseFraming, ResponseHead};
use super::request_head::RequestFraming;
use super::{DecodeError, RequestError};
use crate::message::fields::{self, ConnectionTokens};

/// Sets the head's framing and mends its Content-Length. Says whether the connection's next bytes are surely the next
/// response's: a head that claims a body where none may be leaves that open.
pub(super) fn decide(
    head: &mut ResponseHead,
    is_head: bool,
    is_connect: bool,
) -> Result<bool, DecodeError> {
    let length = content_length(&head.headers)?;
    let chunked = is_chunked(&head.headers)?;
    if chunked && (length.is_some() || head.version == Version::HTTP_10) {
        return Err(DecodeError::BadFraming);
    }
    if let Some(Length {
        bytes,
        is_plain: false,
    }) = length
    {
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    let length = length.map(|length| length.bytes);
    let claims_body = chunked || length.is_some_and(|length| length > 0);
    let (framing, certain) = match head.status {
        status if status.is_informational() || status == StatusCode::NO_CONTENT => {
            head.headers.remove(header::CONTENT_LENGTH);
            (ResponseFraming::None, !claims_body)
        }
        status if is_connect && status.is_success() => (ResponseFraming::None, false),
        // Their fields describe what a GET would have brought.
        _ if is_head => (ResponseFraming::None, true),
        // Some servers chunk an empty body behind a 304; its end might come only after the next request.
        StatusCode::NOT_MODIFIED => (ResponseFraming::None, !chunked),
        StatusCode::RESET_CONTENT => {
            head.headers.remove(header::CONTENT_LENGTH);
            (ResponseFraming::Length(0), length == Some(0))
        }
        _ if chunked => (ResponseFraming::Chunked, true),
        _ => match length {
            Some(length) => (ResponseFraming::Length(length), true),
            None => (ResponseFraming::Close, false),
        },
    };
    head.framing = framing;
    Ok(certain)
}

/// What follows a request's head. Without a field that speaks of one there is no body.
pub(super) fn of_request(
    headers: &HeaderMap,
    version: Version,
) -> Result<RequestFraming, RequestError> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match ((lengths.next(), lengths.next()), codings.next()) {
        ((None, _), None) => Ok(RequestFraming::None),
        ((Some(length), None), None) => length_of_request(length),
        ((None, _), Some(coding)) if version == Version::HTTP_11 => {
            coding_of_request(coding, codings.next_back())
        }
        // Both, or several lengths, even equal ones, or a coding in HTTP/1.0, which knows none.
        _ => Err(RequestError::BadFraming),
    }
}

fn length_of_request(value: &HeaderValue) -> Result<RequestFraming, RequestError> {
    /// Beyond this, others count with a sign.
    const MAX: u64 = i64::MAX as u64;
    let digits = value.as_bytes();
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
fn coding_of_request(
    first: &HeaderValue,
    last: Option<&HeaderValue>,
) -> Result<RequestFraming, RequestError> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let of_last = last.unwrap_or(first).as_bytes();
    let end = of_last.rsplit(|byte| *byte == b',').next();
    match last {
        None if is_chunked(first.as_bytes()) => Ok(RequestFraming::Chunked),
        _ if end.is_some_and(|end| is_chunked(end.trim_ascii())) => {
            Err(RequestError::UnknownCoding)
        }
        _ => Err(RequestError::BadFraming),
    }
}

/// Does the backend keep the connection (RFC 9112, section 9.3)?
pub(super) fn keeps_alive(head: &ResponseHead) -> bool {
    let tokens = ConnectionTokens::of(&head.headers);
    !tokens.close() && (head.version == Version::HTTP_11 || tokens.keep_alive())
}

/// The seconds of `Keep-Alive: timeout=5, max=100`; a value that is no number promises nothing.
pub(super) fn keep_alive_timeout(head: &ResponseHead) -> Option<Duration> {
    const FIELD: HeaderName = HeaderName::from_static("keep-alive");
    const NAME: &[u8] = b"timeout=";
    if !head.keep_alive {
        return None;
    }
    head.headers
        .get_all(FIELD)
        .iter()
        .flat_map(|value| fields::list_items(value.as_bytes()))
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
fn content_length(headers: &HeaderMap) -> Result<Option<Length>, DecodeError> {
    let mut agreed: Option<Length> = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for item in value.as_bytes().split(|byte| *byte == b',') {
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
fn is_chunked(headers: &HeaderMap) -> Result<bool, DecodeError> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
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
