//! What is on its way to a client: heads and small pieces gathered in one buffer, and at most one large piece behind them that is
//! not copied. Absent: what is said.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::env::Env;
use crate::h1;
use crate::wire::StreamOf;

/// Pieces up to this size are copied behind what is there, so that one write of one piece sends both.
const COPIED: usize = 4096;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 16 * 1024;

/// What is to be written.
#[derive(Debug, Default)]
pub struct Out {
    /// Heads, framing and small pieces.
    pub front: BytesMut,
    /// A piece behind them.
    body: Bytes,
    /// The end of its chunk.
    tail: &'static [u8],
}

impl Out {
    /// Is there nothing to write?
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// Bytes yet to be written.
    pub fn left(&self) -> usize {
        self.front.len() + self.body.len() + self.tail.len()
    }

    /// May more be put behind what is here?
    pub fn has_room(&self) -> bool {
        self.body.is_empty() && self.tail.is_empty() && self.front.len() < GATHERED
    }

    /// Puts a piece behind what is here, which has room.
    pub fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPIED {
            self.front.extend_from_slice(&piece);
        } else {
            self.body = piece;
        }
    }

    /// The same for a piece that is a chunk. An empty one would end the body, and is left out.
    pub fn push_chunk(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        h1::chunk_head(&mut self.front, piece.len());
        let is_copied = piece.len() <= COPIED;
        self.push(piece);
        if is_copied {
            self.front.extend_from_slice(h1::CHUNK_TAIL);
        } else {
            self.tail = h1::CHUNK_TAIL;
        }
    }

    /// Writes until nothing is left. `last` tells that nothing will ever follow it: over TLS the farewell then goes out together
    /// with it.
    pub fn poll_write<E: Env>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut StreamOf<E>,
        last: bool,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let sent = ready!(self.poll_once::<E>(cx, stream, last))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_once<E: Env>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut StreamOf<E>,
        last: bool,
    ) -> Poll<io::Result<usize>> {
        let pieces = [
            IoSlice::new(&self.front),
            IoSlice::new(&self.body),
            IoSlice::new(self.tail),
        ];
        if last {
            stream.poll_gather(cx, &pieces)
        } else if self.body.is_empty() && self.tail.is_empty() {
            Pin::new(stream).poll_write(cx, &self.front)
        } else {
            Pin::new(stream).poll_write_vectored(cx, &pieces)
        }
    }

    fn advance(&mut self, sent: usize) {
        let of_front = sent.min(self.front.len());
        self.front.advance(of_front);
        let of_body = (sent - of_front).min(self.body.len());
        self.body.advance(of_body);
        self.tail = &self.tail[sent - of_front - of_body..];
        if self.body.is_empty() {
            // What it is a slice of need not be held.
            self.body = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_at_a_time_nothing_is_lost_or_doubled() {
        for step in 1..9_000 {
            let mut out = Out::default();
            out.front.extend_from_slice(b"head");
            out.push_chunk(Bytes::from_static(b"small"));
            out.push_chunk(Bytes::from(vec![b'x'; 5_000]));
            let mut said = Vec::new();
            while !out.is_empty() {
                let all = [&out.front[..], &out.body[..], out.tail].concat();
                let sent = step.min(all.len());
                said.extend_from_slice(&all[..sent]);
                out.advance(sent);
            }
            let body = "x".repeat(5_000);
            let wanted = format!("head5\r\nsmall\r\n1388\r\n{body}\r\n");
            assert_eq!(said, wanted.as_bytes(), "{step} bytes at a time");
        }
    }
}
