//! Bytes between two streams, both ways at once: the whole of L4, and what an upgraded connection is made of.
//!
//! What is read goes through a scratch on the stack and out again at once. Only what the other side could not take is kept,
//! so that an idle pair holds no buffer. Absent: deadlines and what is reset after an end, which belong to whoever polls.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::env::{Clock, Env};

/// What one read may bring.
pub const SCRATCH: usize = 16 * 1024;

/// What one direction moves before others have their turn.
const TURN: usize = 16 * SCRATCH;

/// How long, and for how many bytes, the peer of a side that takes nothing more is listened to before it is closed under.
/// Closing with unread bytes would reset it, and with that could take away what was on its way to it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first: the client.
    Near,
    /// The second: the backend.
    Far,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Each side has ended, and has heard of the other's end.
    Whole,
    /// This side has ended in order and all that it sent is passed on, but it takes nothing more. The other side, which has
    /// heard of the end, may be in the middle of something that nobody will read: [`linger`] on it.
    Refused(Side),
    /// This side broke off. The other must not take that for an orderly end: reset it.
    Broken(Side),
}

/// Two streams that are joined. It owns neither; whoever polls it hands them in, the same ones each time.
#[derive(Debug, Default)]
pub struct Relay {
    /// From near to far.
    forth: Pipe,
    /// From far to near.
    back: Pipe,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    /// Read, and not taken by the other side yet.
    left: Bytes,
    /// The reading side has ended.
    ended: bool,
    /// Nothing more goes this way, and the writing side knows it.
    done: bool,
    /// The writing side takes nothing more: what is read is dropped.
    sink: bool,
    /// Written since the last flush.
    unflushed: bool,
    /// Bytes that the writing side took.
    moved: u64,
}

/// What stopped a direction.
enum Fault {
    /// The reading side broke off.
    Source,
    /// The writing side broke off.
    Target,
}

impl Relay {
    /// A relay that begins with what was read of each side before; `ended` tells that the near side has ended after that.
    pub fn new(near: Bytes, ended: bool, far: Bytes) -> Self {
        let forth = Pipe {
            left: near,
            ended,
            ..Pipe::default()
        };
        let back = Pipe {
            left: far,
            ..Pipe::default()
        };
        Relay { forth, back }
    }

    /// Bytes that have gone from near to far, and from far to near.
    pub fn moved(&self) -> (u64, u64) {
        (self.forth.moved, self.back.moved)
    }

    /// Moves whatever can be moved. Must not be polled after its end.
    pub fn poll<N, F>(&mut self, cx: &mut Context<'_>, near: &mut N, far: &mut F) -> Poll<End>
    where
        N: AsyncRead + AsyncWrite + Unpin,
        F: AsyncRead + AsyncWrite + Unpin,
    {
        match self.forth.poll(cx, near, far, true) {
            Ok(()) => {}
            Err(Fault::Source) => return Poll::Ready(End::Broken(Side::Near)),
            Err(Fault::Target) => {
                // Its last words came before the break, and are still to be read.
                let _ = self.back.poll(cx, far, near, false);
                return Poll::Ready(End::Broken(Side::Far));
            }
        }
        match self.back.poll(cx, far, near, true) {
            Ok(()) => {}
            Err(Fault::Source) => return Poll::Ready(End::Broken(Side::Far)),
            Err(Fault::Target) => {
                let _ = self.forth.poll(cx, near, far, false);
                return Poll::Ready(End::Broken(Side::Near));
            }
        }
        match (&self.forth, &self.back) {
            (Pipe { sink: true, .. }, Pipe { done: true, .. }) => {
                Poll::Ready(End::Refused(Side::Far))
            }
            (Pipe { done: true, .. }, Pipe { sink: true, .. }) => {
                Poll::Ready(End::Refused(Side::Near))
            }
            (Pipe { done: true, .. }, Pipe { done: true, .. }) => Poll::Ready(End::Whole),
            _ => Poll::Pending,
        }
    }
}

impl Pipe {
    /// Moves what can be moved from `from` to `to`. An end is passed on only where `may_end` says so.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        may_end: bool,
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH];
        let mut turn = 0;
        while !self.done {
            if !self.left.is_empty() {
                let written = write(cx, to, &self.left);
                let taken = self.wrote(written)?;
                self.left.advance(taken);
                if self.sink {
                    self.left.clear();
                }
                if !self.left.is_empty() {
                    return self.flush(cx, to);
                }
                // An empty one may hold on to its memory.
                self.left = Bytes::new();
            }
            if self.ended {
                if may_end {
                    self.end(cx, to);
                }
                return Ok(());
            }
            if turn >= TURN {
                cx.waker().wake_by_ref();
                return self.flush(cx, to);
            }
            let mut read = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut read) {
                Poll::Pending => return self.flush(cx, to),
                Poll::Ready(Err(_)) => return Err(Fault::Source),
                Poll::Ready(Ok(())) if read.filled().is_empty() => self.ended = true,
                Poll::Ready(Ok(())) => {
                    let new = read.filled();
                    turn += new.len();
                    if self.sink {
                        continue;
                    }
                    let written = write(cx, to, new);
                    let taken = self.wrote(written)?;
                    if taken < new.len() && !self.sink {
                        self.left = Bytes::copy_from_slice(&new[taken..]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes what became of a write, and gives the bytes that were taken.
    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Result<usize, Fault> {
        match written {
            Poll::Pending => Ok(0),
            Poll::Ready(Ok(n)) => {
                self.moved += n as u64;
                self.unflushed = true;
                Ok(n)
            }
            // The system calls a reset so when the peer had ended in order before.
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.sink = true;
                Ok(0)
            }
            Poll::Ready(Err(_)) => Err(Fault::Target),
        }
    }

    fn flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Result<(), Fault> {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(to).poll_flush(cx)
        {
            self.unflushed = false;
            self.wrote(flushed.map_or_else(|e| Poll::Ready(Err(e)), |()| Poll::Pending))?;
        }
        Ok(())
    }

    /// Passes an end on. That it cannot be is for the other direction to find out.
    fn end<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) {
        self.done = self.sink || Pin::new(to).poll_shutdown(cx).is_ready();
    }
}

/// Writes as much of `bytes` as is taken at once: a first piece that is not all of it fills the other side's buffer.
fn write<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    to: &mut W,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let mut taken = 0;
    while taken < bytes.len() {
        match Pin::new(&mut *to).poll_write(cx, &bytes[taken..]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(n)) => taken += n,
            // What was taken counts; the error comes again.
            Poll::Ready(Err(e)) if taken == 0 => return Poll::Ready(Err(e)),
            Poll::Ready(Err(_)) => break,
            Poll::Pending if taken == 0 => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(taken))
}

/// Reads and drops what still comes from a stream whose other side is gone, for a while; it has been shut down before.
pub async fn linger<E: Env, S: AsyncRead + Unpin + Send>(env: &E, stream: &mut S) {
    let reading = async {
        // On the heap, and made only here: a relay's frame would carry it for its whole life.
        let mut scrap = vec![0; 4096];
        let mut dropped = 0;
        while dropped < LINGER_BYTES {
            match stream.read(&mut scrap).await {
                Ok(n) if n > 0 => dropped += n,
                _ => return,
            }
        }
    };
    // Whoever goes on for longer is closed under.
    let _ = env.clock().timeout(LINGER, reading).await;
}

#[cfg(test)]
mod tests;
