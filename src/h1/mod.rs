//! PURE: HTTP/1.1 on both sides, as bytes in and bytes out (RFC 9112). Towards clients `request` reads requests, by means of
//! `request_head`, and `respond` writes responses; towards backends `encode` writes requests and `decode` reads responses, by
//! means of `head`. Both sides share `section`, `framing` and `chunked`. The caller owns every buffer and its bound.
//!
//! Absent: sockets and time (the proxy drives the codec), what follows a switch of protocols, and leniency about
//! lengths: a message that two readers could frame in two ways is refused, since the other reader may be a cache or a backend.

mod chunked;
pub mod decode;
pub mod encode;
mod framing;
mod head;
mod line;
mod piece;
pub mod request;
mod request_head;
pub mod respond;
mod section;

pub use decode::{MAX_INTERIM, ResponseDecoder};
pub use encode::{
    BodyFraming, CHUNK_TAIL, chunk_head, end_of_head, field, framing, known_field, last_chunk,
    request_line, set_title_case,
};
pub use framing::{RequestFraming, ResponseFraming};
pub use head::ResponseHead;
pub use piece::Piece;
pub use request::{Dropped, RequestDecoder};
pub use request_head::{RequestHead, RequestLimits};
pub use respond::{
    ReplyFraming, continue_100, interim_head, reply_framing, reply_framing_field, status_line,
};
pub use section::HeadLimits;

use crate::message::cause::Cause;
use chunked::BadCoding;
use line::Broken;

/// Why a backend's bytes are not a response that can be relayed. After one of these the connection is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first bytes are not those of an HTTP/1 status line.
    #[error("not HTTP/1")]
    NotHttp,
    /// The status line or a field line breaks RFC 9112, sections 4 and 5.
    #[error("malformed head")]
    BadHead,
    /// The head, or the trailer section, has more bytes or fields than the limits allow.
    #[error("head too large")]
    HeadTooLarge,
    /// More bytes of interim responses came than any honest backend sends.
    #[error("too many interim responses")]
    TooManyInterim,
    /// The backend switched protocols (101) although no upgrade was offered.
    #[error("switched protocols unasked")]
    Unasked,
    /// The body's length is not certain (RFC 9112, section 6).
    #[error("ambiguous body length")]
    BadFraming,
    /// The chunked coding is broken (RFC 9112, section 7.1).
    #[error("malformed chunk")]
    BadChunk,
    /// The trailer section is malformed (RFC 9112, section 7.1.2).
    #[error("malformed trailers")]
    BadTrailers,
    /// The connection ended before the message did.
    #[error("the message is incomplete")]
    Incomplete,
    /// The caller asked for a body before the head, or for a second head: a defect of the caller.
    #[error("the decoder was driven out of order")]
    OutOfOrder,
}

impl DecodeError {
    /// The cause that a request fails for. A connection that ended before its first byte is the caller's to tell apart.
    pub fn cause(self) -> Cause {
        match self {
            DecodeError::HeadTooLarge => Cause::ResponseHeadTooLarge,
            DecodeError::Incomplete => Cause::ResponseIncomplete,
            DecodeError::OutOfOrder => Cause::Panic,
            DecodeError::NotHttp
            | DecodeError::BadHead
            | DecodeError::TooManyInterim
            | DecodeError::Unasked
            | DecodeError::BadFraming
            | DecodeError::BadChunk
            | DecodeError::BadTrailers => Cause::BadResponse,
        }
    }
}

impl From<Broken> for DecodeError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Malformed => DecodeError::BadHead,
            Broken::TooLarge => DecodeError::HeadTooLarge,
        }
    }
}

impl From<BadCoding> for DecodeError {
    fn from(bad: BadCoding) -> Self {
        match bad {
            BadCoding::Chunk => DecodeError::BadChunk,
            BadCoding::Trailers => DecodeError::BadTrailers,
            BadCoding::TrailersTooLarge => DecodeError::HeadTooLarge,
        }
    }
}

/// Why a client's bytes are not a request that can be served. After one of these nothing more is read on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The first byte is that of a TLS handshake.
    #[error("TLS where plain HTTP is spoken")]
    Tls,
    /// The preface of HTTP/2 (RFC 9113, section 3.4).
    #[error("the preface of HTTP/2")]
    Http2Preface,
    /// More empty lines came than any honest client sends.
    #[error("too many empty lines")]
    EmptyLines,
    /// The request line breaks RFC 9112, section 3.
    #[error("malformed request line")]
    BadLine,
    /// The method is longer than any that is registered.
    #[error("method too long")]
    MethodTooLong,
    /// The target holds a control (RFC 9112, section 3.2).
    #[error("malformed target")]
    BadTarget,
    /// The target is longer than the limit.
    #[error("target too long")]
    UriTooLong,
    /// The line names a version other than HTTP/1.0 and HTTP/1.1.
    #[error("unknown version of HTTP")]
    UnknownVersion,
    /// A field line breaks RFC 9112, section 5.
    #[error("malformed field")]
    BadField,
    /// The head has more bytes or fields than the limits allow.
    #[error("head too large")]
    HeadTooLarge,
    /// The body's length is not certain (RFC 9112, section 6).
    #[error("ambiguous body length")]
    BadFraming,
    /// The body is in a coding beside `chunked` (RFC 9112, section 6.1).
    #[error("unknown transfer coding")]
    UnknownCoding,
    /// The body's length is beyond any number that is counted with.
    #[error("body too large")]
    BodyTooLarge,
    /// The chunked coding is broken (RFC 9112, section 7.1).
    #[error("malformed chunk")]
    BadChunk,
    /// The trailer section is malformed or too large (RFC 9112, section 7.1.2).
    #[error("malformed trailers")]
    BadTrailers,
    /// The caller asked for a body before the head, or for a head within a body: a defect of the caller.
    #[error("the decoder was driven out of order")]
    OutOfOrder,
}

impl RequestError {
    /// The cause that the request fails for.
    pub fn cause(self) -> Cause {
        match self {
            RequestError::Tls => Cause::TlsInClear,
            RequestError::Http2Preface | RequestError::UnknownVersion => Cause::VersionUnsupported,
            RequestError::MethodTooLong | RequestError::UnknownCoding => Cause::NotImplemented,
            RequestError::UriTooLong => Cause::UriTooLong,
            RequestError::HeadTooLarge => Cause::HeadTooLarge,
            RequestError::BodyTooLarge => Cause::BodyTooLarge,
            RequestError::BadChunk | RequestError::BadTrailers => Cause::BadRequestBody,
            RequestError::OutOfOrder => Cause::Panic,
            RequestError::EmptyLines
            | RequestError::BadLine
            | RequestError::BadTarget
            | RequestError::BadField
            | RequestError::BadFraming => Cause::BadRequest,
        }
    }
}

impl From<Broken> for RequestError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Malformed => RequestError::BadField,
            Broken::TooLarge => RequestError::HeadTooLarge,
        }
    }
}

impl From<BadCoding> for RequestError {
    fn from(bad: BadCoding) -> Self {
        match bad {
            BadCoding::Chunk => RequestError::BadChunk,
            BadCoding::Trailers | BadCoding::TrailersTooLarge => RequestError::BadTrailers,
        }
    }
}
