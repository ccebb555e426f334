//! A parked connection: a socket and little else, waiting for its next request. What the cache can answer at once is answered
//! here; the first request that it cannot goes to hyper, with every byte that was read.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use crate::env::{Env, Stream};
use crate::l7::conn::Conn;
use crate::l7::quick::{self, Out};
use crate::wire::StreamOf;
use crate::wire::watch::Phase;

/// What a parked connection reads at once: most heads are smaller, and then hyper need not read at all.
const FIRST_READ: usize = 2048;

/// Waits, holding little more than the socket, until the client sends what is not answered at once from the cache; `None`
/// when it left, or its patience or ours is over.
pub async fn wait<E: Env>(
    conn: &Conn<E>,
    stream: &mut StreamOf<E>,
    quick: bool,
    patience: Duration,
) -> Option<Bytes> {
    conn.arm_in(Phase::Idle, patience);
    let mut waiting = Waiting {
        out: Out::default(),
        rest: Bytes::new(),
        quick,
        answered: false,
    };
    let begun = std::future::poll_fn(|cx| {
        conn.errand.watch.register(cx.waker());
        waiting.poll(cx, conn, stream)
    })
    .await;
    conn.line.hope.parked(quick, waiting.answered);
    begun
}

/// When to let hyper go before the connection has idled for long, because the cache may answer the next request without it.
/// Building hyper anew costs a tenth of a fetch, and a hit through it half as much again as one past it: so after a request among
/// quick answers it goes at once, and otherwise after the more hits the oftener that was in vain.
#[derive(Debug, Default)]
pub struct Hope {
    /// Hits through hyper since the connection was parked.
    hits: AtomicU32,
    /// Times in a row that nothing was answered while it was parked; the wait for a first request is one.
    vain: AtomicU32,
}

impl Hope {
    /// The cache answered a request that came through hyper.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Is the quick way worth a try?
    pub fn is_enough(&self) -> bool {
        let needed = match self.vain.load(Ordering::Relaxed) {
            0 | 1 => 0,
            u32::MAX => return false,
            times => 4 << (times - 2).min(6),
        };
        self.hits.load(Ordering::Relaxed) >= needed
    }

    /// The connection was parked; `quick` tells whether anything could have been answered meanwhile, `answered` whether it was.
    fn parked(&self, quick: bool, answered: bool) {
        let vain = match self.vain.load(Ordering::Relaxed) {
            _ if !quick => u32::MAX,
            _ if answered => 0,
            before => before.saturating_add(1).min(u32::MAX - 1),
        };
        self.vain.store(vain, Ordering::Relaxed);
        self.hits.store(0, Ordering::Relaxed);
    }
}

/// A parked connection's part of its task.
struct Waiting {
    /// Answers from the cache that are on their way.
    out: Out,
    /// Read, and yet to be looked at.
    rest: Bytes,
    /// May anything be answered from the cache before hyper sees it?
    quick: bool,
    /// Something was.
    answered: bool,
}

impl Waiting {
    fn poll<E: Env>(
        &mut self,
        cx: &mut Context<'_>,
        conn: &Conn<E>,
        stream: &mut StreamOf<E>,
    ) -> Poll<Option<Bytes>> {
        loop {
            if !self.out.is_empty() {
                let before = self.out.left();
                match self.out.poll_write(cx, stream) {
                    Poll::Ready(Ok(())) => conn.arm_in(Phase::Idle, conn.model().timeouts.idle),
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending if self.out.left() < before => {
                        conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
                        return Poll::Pending;
                    }
                    Poll::Pending if conn.due() == Some(Phase::ClientWrite) => {
                        // It takes nothing: what is buffered for it need not outlive it.
                        stream.set_abort();
                        return Poll::Ready(None);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if !self.rest.is_empty() {
                let rest = std::mem::take(&mut self.rest);
                if !self.quick {
                    return Poll::Ready(Some(rest));
                }
                self.take(conn, &rest);
                continue;
            }
            // On the stack of this poll, so that a connection that waits does not hold it. A fresh socket may claim to be
            // readable when it is not, so that only a read tells.
            let mut room = [0; FIRST_READ];
            let mut room = ReadBuf::new(&mut room);
            // A request that has come is served, even if the proxy is stopping.
            match Pin::new(&mut *stream).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) if !room.filled().is_empty() => {
                    if !self.quick || conn.errand.watch.is_closing() {
                        return Poll::Ready(Some(Bytes::copy_from_slice(room.filled())));
                    }
                    self.take(conn, room.filled());
                }
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {
                    return match conn.errand.watch.is_closing() || conn.due().is_some() {
                        true => Poll::Ready(None),
                        false => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Answers what it can of `bytes` and keeps the rest.
    fn take<E: Env>(&mut self, conn: &Conn<E>, bytes: &[u8]) {
        let (done, more) = quick::answer(conn, bytes, &mut self.out);
        self.quick = more;
        self.answered |= done > 0;
        if done < bytes.len() {
            self.rest = Bytes::copy_from_slice(&bytes[done..]);
        }
        if !self.out.is_empty() {
            conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_is_tried_the_less_the_oftener_it_was_in_vain() {
        let hope = Hope::default();
        let hits_until_tried = || {
            let hits = (0..).find(|_| {
                hope.is_enough() || {
                    hope.hit();
                    false
                }
            });
            hope.parked(true, false);
            hits.expect("it is tried at last")
        };
        // The wait for the first request, then one try that costs no hit.
        hope.parked(true, false);
        let first: Vec<u32> = (0..9).map(|_| hits_until_tried()).collect();
        assert_eq!(first, [0, 4, 8, 16, 32, 64, 128, 256, 256]);
        hope.parked(true, true);
        assert!(hope.is_enough());
        hope.parked(false, false);
        hope.hit();
        assert!(!hope.is_enough());
    }
}
