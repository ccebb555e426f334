//! A reading half that takes its time: a few bytes, a pause, a few bytes. Or one that does not.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf, ReadHalf};
use weirkeeper::env::{Clock, Env};

use crate::env::{SimEnv, SimStream};

/// What a slow reader takes at once.
const SIP: usize = 900;

/// How long it then pauses.
const PAUSE: Duration = Duration::from_millis(7);

/// The half of a connection that is read.
pub(super) struct Ear {
    half: ReadHalf<SimStream>,
    env: SimEnv,
    slow: bool,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Ear {
    pub(super) fn new(half: ReadHalf<SimStream>, env: SimEnv, slow: bool) -> Self {
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
        if !this.slow {
            return Pin::new(&mut this.half).poll_read(cx, buf);
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let mut sip = [0; SIP];
        let room = buf.remaining().min(SIP);
        let mut part = ReadBuf::new(&mut sip[..room]);
        ready!(Pin::new(&mut this.half).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        let clock = this.env.clock();
        this.pause = Some(Box::pin(clock.sleep_until(clock.now() + PAUSE)));
        Poll::Ready(Ok(()))
    }
}
