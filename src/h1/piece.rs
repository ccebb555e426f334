//! A piece of a body, on either side.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the body, never empty, split off the buffer without a copy.
    Data(Bytes),
    /// The buffer holds no whole piece: read more, or report the end with `eof`.
    NeedMore,
    /// The body is over; trailers if the sender sent any that may be relayed.
    End(Option<HeaderMap>),
}

impl Piece {
    /// As much of the `left` bytes that are to come as the buffer holds.
    pub(super) fn of(buf: &mut BytesMut, left: &mut u64) -> Piece {
        if buf.is_empty() {
            return Piece::NeedMore;
        }
        let take = usize::try_from(*left).map_or(buf.len(), |left| left.min(buf.len()));
        *left -= take as u64;
        Piece::Data(buf.split_to(take).freeze())
    }
}
