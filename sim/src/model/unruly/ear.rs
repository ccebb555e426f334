//! A reading half that takes its time: a few bytes, a pause, a few bytes. Or one that does not.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf, ReadHalf};
use weirkeeper::env::{Clock, Env};

use crate::env::{SimEnv, SimStream};

/// What a slow reader takes at once as a rule, and how long it then pauses.
pub(super) const SLOW: (usize, Duration) = (900, Duration::from_millis(7));

/// The most that any takes.
const SIP: usize = 4096;

/// The half of a connection that is read.
pub(super) struct Ear {
    half: ReadHalf<SimStream>,
    env: SimEnv,
    slow: Option<(usize, Duration)>,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Ear {
    pub(super) fn new(
        half: ReadHalf<SimStream>,
        env: SimEnv,
        slow: Option<(usize, Duration)>,
    ) -> Self {
        Ear {
            half,
            env,
            slow,
            pause: None,
        }
    }

    pub(super) fn into_half(self) -> ReadHalf<SimStream> {
        self.half
    }
}

impl AsyncRead for Ear {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((sip_size, pause_time)) = this.slow else {
            return Pin::new(&mut this.half).poll_read(cx, buf);
        };
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let mut sip = [0; SIP];
        let room = buf.remaining().min(SIP).min(sip_size);
        let mut part = ReadBuf::new(&mut sip[..room]);
        // Of small segments as many as there are.
        loop {
            let before = part.filled().len();
            match Pin::new(&mut this.half).poll_read(cx, &mut part) {
                Poll::Ready(Ok(())) if part.filled().len() > before && part.remaining() > 0 => {}
                Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        buf.put_slice(part.filled());
        let clock = this.env.clock();
        this.pause = Some(Box::pin(clock.sleep_until(clock.now() + pause_time)));
        Poll::Ready(Ok(()))
    }
}
