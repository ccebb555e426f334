//! Both ends of a tunnel, over whatever carries it. The backend greets, gives back a byte for each that comes, and both check
//! every byte; what each said of its end is written down for the other to be held against.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, split};
use tokio::sync::Notify;
use weirkeeper::env::{Clock, Env};

use super::pattern::Whose;
use crate::env::SimEnv;
use crate::ledger::Ledger;
use crate::wires::{Ending, Way};

/// What passes through one tunnel; it goes with the request in `x-tunnel: UP ENDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errand {
    /// The request.
    pub(super) id: u64,
    /// Bytes of the client.
    pub(super) up: usize,
    /// Bytes of the backend before any of the client's.
    pub(super) greeting: usize,
    /// The client ends first.
    pub(super) client_first: bool,
}

impl Errand {
    /// The field's value.
    pub(super) fn field(self) -> String {
        let first = if self.client_first {
            "client"
        } else {
            "backend"
        };
        format!("{} {first}", self.up)
    }

    /// What a field says.
    pub(super) fn read(id: u64, greeting: usize, field: &str) -> Option<Self> {
        let (up, first) = field.split_once(' ')?;
        Some(Errand {
            id,
            up: up.parse().ok()?,
            greeting,
            client_first: first == "client",
        })
    }
}

/// A stream of bytes, some of which have been read already.
pub(super) struct Prefixed<S> {
    front: Vec<u8>,
    io: S,
}

impl<S> Prefixed<S> {
    pub(super) fn new(front: Vec<u8>, io: S) -> Self {
        Prefixed { front, io }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.front.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.front.len().min(buf.remaining());
        buf.put_slice(&self.front[..n]);
        self.front.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Largest single write.
const PIECE: usize = 4096;

/// Writes `of`'s bytes up to `to`, counting in `at` what was taken.
async fn write(
    io: &mut (impl AsyncWrite + Unpin),
    of: Whose,
    at: &mut usize,
    to: usize,
) -> io::Result<()> {
    while *at < to {
        let n = io.write(of.slice(*at, (to - *at).min(PIECE))).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *at += n;
    }
    io.flush().await
}

/// Says how one direction ended, however it does.
struct End<'a> {
    ledger: &'a Ledger,
    id: u64,
    way: Way,
    /// What a drop without more says.
    otherwise: Ending,
}

impl End<'_> {
    fn say(&mut self, ending: Ending) {
        let mut book = self.ledger.book();
        let tunnel = book.wires.tunnel(self.id);
        let place = match self.way {
            Way::Up => &mut tunnel.up,
            Way::Down => &mut tunnel.down,
        };
        if *place == Ending::Open {
            *place = ending;
        }
    }
}

impl End<'_> {
    /// What a drop would say from here on: an orderly end behind `at` bytes, or none.
    fn dropped(&mut self, at: usize, orderly: bool) {
        self.otherwise = match orderly {
            true => Ending::At(at as u64),
            false => Ending::Cut,
        };
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.say(self.otherwise);
    }
}

/// The client's end. `sent` bytes went with the request, `io` yields what follows the answer's head. True if all came and
/// both ended in order.
pub(super) async fn visit<S: AsyncRead + AsyncWrite + Unpin>(
    env: &SimEnv,
    ledger: &Ledger,
    errand: Errand,
    mut sent: usize,
    pause: Duration,
    io: S,
) -> bool {
    let Errand { id, up, .. } = errand;
    let mut end = End {
        ledger,
        id,
        way: Way::Up,
        otherwise: Ending::Cut,
    };
    let (mut reading, mut writing) = split(io);
    let over = Notify::new();
    let write = async {
        while sent < up {
            let to = (sent + PIECE).min(up);
            write(&mut writing, Whose::Request(id), &mut sent, to).await?;
            if !pause.is_zero() {
                let clock = env.clock();
                clock.sleep_until(clock.now() + pause).await;
            }
        }
        if !errand.client_first {
            over.notified().await;
        }
        end.say(Ending::At(sent as u64));
        writing.shutdown().await
    };
    let read = async {
        let mut came = Reading::new(Whose::Answer(id));
        let read = loop {
            match came.next(&mut reading).await {
                Ok(0) => break Ok(came.size),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        over.notify_one();
        read
    };
    // Who writes to nobody may still have something to read.
    let (written, read) = tokio::join!(write, read);
    let mut book = ledger.book();
    match read {
        Ok(size) => {
            book.wires.tunnel(id).read_down = Some(size as u64);
            written.is_ok() && size == errand.greeting + up
        }
        Err(error) => {
            if error.kind() == io::ErrorKind::InvalidData {
                let what = format!("the bytes of tunnel {id} came wrong to its client");
                book.violation("tunnels", what);
            }
            false
        }
    }
}

/// The backend's end. `head` is what opens the tunnel. `orderly` tells whether a connection that is just dropped ends in order.
pub(super) async fn host<S: AsyncRead + AsyncWrite + Unpin>(
    ledger: &Ledger,
    errand: Errand,
    head: &[u8],
    orderly: bool,
    io: S,
) -> io::Result<()> {
    let Errand {
        id, up, greeting, ..
    } = errand;
    let mut end = End {
        ledger,
        id,
        way: Way::Down,
        otherwise: Ending::Cut,
    };
    let (mut reading, mut writing) = split(io);
    let first = greeting.min(PIECE);
    // The head and the first words go together, as they often do.
    writing
        .write_all(&[head, Whose::Answer(id).slice(0, first)].concat())
        .await?;
    let mut at = first;
    let mut came = Reading::new(Whose::Request(id));
    let mut ended = false;
    let told = async {
        loop {
            end.dropped(at, orderly);
            while at < greeting + came.size && !ended {
                one(&mut writing, id, &mut at, greeting + came.size).await?;
                end.dropped(at, orderly);
            }
            writing.flush().await?;
            if !errand.client_first && came.size == up && !ended {
                ended = true;
                end.say(Ending::At(at as u64));
                writing.shutdown().await?;
            }
            if came.next(&mut reading).await? == 0 {
                return Ok(());
            }
        }
    };
    let told: io::Result<()> = told.await;
    match told {
        Ok(()) => ledger.book().wires.tunnel(id).read_up = Some(came.size as u64),
        Err(error) => {
            if error.kind() == io::ErrorKind::InvalidData {
                let what = format!("the bytes of tunnel {id} came wrong to its backend");
                ledger.book().violation("tunnels", what);
            }
            return Err(error);
        }
    }
    if !ended {
        end.say(Ending::At(at as u64));
        writing.shutdown().await?;
    }
    Ok(())
}

/// One write of the answer's bytes, so that what was taken is known whatever comes next.
async fn one(
    io: &mut (impl AsyncWrite + Unpin),
    id: u64,
    at: &mut usize,
    to: usize,
) -> io::Result<()> {
    let n = io
        .write(Whose::Answer(id).slice(*at, (to - *at).min(PIECE)))
        .await?;
    *at += n;
    match n {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(()),
    }
}

/// One direction as its reader has it: every byte is checked.
struct Reading {
    of: Whose,
    size: usize,
    room: Vec<u8>,
}

impl Reading {
    fn new(of: Whose) -> Self {
        Reading {
            of,
            size: 0,
            room: vec![0; PIECE],
        }
    }

    /// The next piece's length; 0 at the end.
    ///
    /// # Errors
    /// Invalid data is bytes of somebody else.
    async fn next(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let n = io.read(&mut self.room).await?;
        if !self.of.matches(self.size, &self.room[..n]) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.size += n;
        Ok(n)
    }
}
