//! Responses as bytes: the status line, fields, interim heads, and how a body is framed towards a client (RFC 9112, section
//! 6.3; RFC 9110, section 8.6). Chunks and trailers are those of requests, in `encode`. Absent: Connection, Date and what
//! else the proxy says for itself.

use bytes::{BufMut, BytesMut};
use http::{StatusCode, Version};

use super::encode::{self, BodyFraming};
use crate::message::head::Fields;
use crate::message::known::Known;

/// How a response's body is delimited towards a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFraming {
    /// No body follows. A Content-Length that stands among the fields may stay where the request was HEAD or the status is
    /// 304, since it describes what a GET would have brought; a 1xx or a 204 has none.
    None,
    /// Exactly this many bytes; zero is said aloud.
    Length(u64),
    /// Chunks, ended by `last_chunk`.
    Chunked,
    /// Everything until the connection ends, as HTTP/1.0 has it.
    Close,
}

/// How the body of a response to this request is framed, if its length is known or not. The length of a body that is there
/// but may not be sent is not asked for.
pub fn reply_framing(
    is_head: bool,
    version: Version,
    status: StatusCode,
    length: Option<u64>,
) -> ReplyFraming {
    match (status, length) {
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => ReplyFraming::None,
        _ if is_head || status.is_informational() => ReplyFraming::None,
        // It never has content, and says so (RFC 9110, section 15.3.6).
        (StatusCode::RESET_CONTENT, _) => ReplyFraming::Length(0),
        (_, Some(length)) => ReplyFraming::Length(length),
        (_, None) if version == Version::HTTP_10 => ReplyFraming::Close,
        (_, None) => ReplyFraming::Chunked,
    }
}

/// Appends `HTTP/1.1 status reason`, whatever version the client spoke (RFC 9112, section 2.3).
pub fn status_line(out: &mut BytesMut, status: StatusCode) {
    const VERSION: &[u8] = b"HTTP/1.1 ";
    let reason = status.canonical_reason().unwrap_or("");
    out.reserve(VERSION.len() + 6 + reason.len());
    out.put_slice(VERSION);
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(reason.as_bytes());
    out.put_slice(b"\r\n");
}

/// Appends the one field that delimits the body, or nothing.
pub fn reply_framing_field(out: &mut BytesMut, framing: ReplyFraming) {
    match framing {
        ReplyFraming::None | ReplyFraming::Close => {}
        ReplyFraming::Length(length) => encode::framing(out, BodyFraming::Length(length)),
        ReplyFraming::Chunked => encode::framing(out, BodyFraming::Chunked),
    }
}

/// Appends the whole head that lets a client send its body.
pub fn continue_100(out: &mut BytesMut) {
    out.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends a whole interim (1xx) head. It is followed by another head on the same connection, so it says nothing of a body
/// or of the connection.
pub fn interim_head(out: &mut BytesMut, status: StatusCode, headers: &Fields) {
    debug_assert!(status.is_informational(), "another head follows this one");
    status_line(out, status);
    headers.copy(out, |known, _| {
        !known.is_hop_by_hop() && known != Known::ContentLength
    });
    encode::end_of_head(out);
}
