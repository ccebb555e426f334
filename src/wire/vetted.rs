//! A connection of HTTP/2 whose frames are looked at on their way to the library. Absent: what is looked for (message::frames).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::message::frames::{Frames, Sender, TooLarge};

/// What may come of one header block beyond what the library takes of it: it gives up at four times the bound on a head, and
/// after few frames without any bytes.
const SLACK: usize = 64 << 10;

/// The stream below, and what has been read of it and not handed on.
pub struct Vetted<S> {
    stream: S,
    frames: Frames,
    held: BytesMut,
    /// Bytes in front of `held` that may go on.
    free: usize,
}

impl<S> Vetted<S> {
    /// What `sender` sends over `stream`, of which `read` has been read already. The library takes heads of `head` bytes.
    ///
    /// # Errors
    /// What was read is too large.
    pub fn new(stream: S, sender: Sender, read: BytesMut, head: u32) -> io::Result<Self> {
        let bound = (head as usize).saturating_mul(4).saturating_add(SLACK);
        let mut vetted = Vetted {
            stream,
            frames: Frames::new(sender, bound),
            held: read,
            free: 0,
        };
        vetted.free = vetted.vet()?;
        Ok(vetted)
    }

    fn vet(&mut self) -> io::Result<usize> {
        self.frames.vet(&mut self.held).map_err(refused)
    }
}

fn refused(_: TooLarge) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a header block is too large")
}

impl<S: AsyncRead + Unpin> AsyncRead for Vetted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.free > 0 {
                let piece = this.free.min(buf.remaining());
                buf.put_slice(&this.held[..piece]);
                this.held.advance(piece);
                this.free -= piece;
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let fresh = &mut buf.filled_mut()[before..];
            if fresh.is_empty() {
                // The end comes within a frame, which the library says.
                this.free = this.held.len();
                if this.free == 0 {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if !this.held.is_empty() {
                this.held.extend_from_slice(fresh);
                buf.set_filled(before);
                this.free = this.vet()?;
                continue;
            }
            let passed = this.frames.vet(fresh).map_err(refused)?;
            this.held.extend_from_slice(&fresh[passed..]);
            buf.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Vetted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
