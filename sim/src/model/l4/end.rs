//! One end of a connection: what it sends and gets is written down as it happens, and so is how it is let go.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weirkeeper::env::{Clock, Env, Stream};

use crate::env::{SimEnv, SimStream};
use crate::ledger::Ledger;
use crate::ledger::l4::{Heard, Whose};

/// Who writes down.
#[derive(Clone, Debug)]
pub(super) struct Scribe {
    pub(super) env: SimEnv,
    pub(super) ledger: Ledger,
    pub(super) whose: Whose,
}

impl Scribe {
    /// Sends all of `bytes`.
    pub(super) async fn say<W>(&self, to: &mut W, mut bytes: &[u8]) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        while !bytes.is_empty() {
            let n = to.write(bytes).await?;
            self.ledger.book().at_end(self.whose, |end| {
                end.sent += n as u64;
                end.said.add(&bytes[..n]);
            });
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Says that there is no more.
    pub(super) async fn end<W: AsyncWrite + Unpin>(&self, to: &mut W) -> io::Result<()> {
        to.shutdown().await?;
        self.ledger
            .book()
            .at_end(self.whose, |end| end.ended = true);
        Ok(())
    }

    /// Reads some bytes; none at the end.
    ///
    /// # Errors
    /// The connection was reset.
    pub(super) async fn hear<R>(&self, from: &mut R, bytes: &mut [u8]) -> io::Result<usize>
    where
        R: AsyncRead + Unpin,
    {
        let read = from.read(bytes).await;
        self.ledger.book().at_end(self.whose, |end| match &read {
            Ok(0) => end.heard = Some(Heard::End),
            Ok(n) => {
                end.got += *n as u64;
                end.read.add(&bytes[..*n]);
            }
            Err(_) => end.heard = Some(Heard::Reset),
        });
        read
    }
}

/// A connection that is written down to its last moment, whoever ends it.
pub(super) struct Held {
    pub(super) stream: SimStream,
    pub(super) scribe: Scribe,
}

impl Held {
    pub(super) fn new(stream: SimStream, scribe: Scribe) -> Self {
        if stream.is_chopped() {
            scribe.ledger.book().reach("chopped");
        }
        Held { stream, scribe }
    }

    /// Resets it, which the drop then does.
    pub(super) fn abort(&self) {
        self.stream.set_abort();
        let whose = self.scribe.whose;
        self.scribe
            .ledger
            .book()
            .at_end(whose, |end| end.broke = true);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let unread = turmoil::in_simulation() && self.stream.has_unread();
        let Scribe { env, ledger, whose } = &self.scribe;
        let mut book = ledger.book();
        book.at_end(*whose, |end| {
            // What is closed with something unread is reset; what is closed otherwise ends in order.
            end.broke |= unread;
            end.ended |= !end.broke;
        });
        book.let_go(env.clock().now(), *whose);
    }
}
