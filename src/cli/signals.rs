//! Signals, as events.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What somebody asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGTERM: an orchestrator wants it to end.
    Terminate,
    /// SIGINT: a person pressed Ctrl-C.
    Interrupt,
    /// SIGHUP: the terminal went away, or somebody wants a reload.
    HangUp,
    /// SIGUSR1: logs were renamed.
    Reopen,
}

/// The signals that are handled from now on instead of killing the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reopen: Signal,
}

impl Signals {
    /// Must be called within a runtime.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Request::Interrupt,
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.hang_up.recv() => Request::HangUp,
            _ = self.reopen.recv() => Request::Reopen,
        }
    }

    /// The next one that asks the process to end.
    pub(super) async fn stop(&mut self) -> Request {
        loop {
            match self.next().await {
                request @ (Request::Interrupt | Request::Terminate) => return request,
                Request::HangUp | Request::Reopen => {}
            }
        }
    }
}
