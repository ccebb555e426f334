//! PURE: HTTP/1.1 towards backends, as bytes in and bytes out (RFC 9112). `encode` writes request heads and bodies,
//! `decode` reads responses, by means of `head`, `framing` and `chunked`. The caller owns every buffer and its bound.
//!
//! Absent: sockets and time (the proxy drives the codec), the client's side (hyper), what follows a switch of protocols, and
//! leniency: a response that two readers could frame in two ways is refused, since the other reader may be a cache.

mod chunked;
pub mod decode;
pub mod encode;
mod framing;
mod head;

pub use decode::{Piece, ResponseDecoder};
pub use encode::{
    BodyFraming, CHUNK_TAIL, chunk_head, end_of_head, field, framing, last_chunk, request_line,
};
pub use head::{HeadLimits, ResponseFraming, ResponseHead};

use crate::message::cause::Cause;

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
    /// More interim responses came than any honest backend sends.
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
