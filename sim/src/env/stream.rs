//! A simulated connection: turmoil's stream, cut into pieces from the seed, with a reset that the other side sees.
//!
//! Turmoil sends a reset only when data is left unread. An aborted connection is therefore closed in order and marked, and
//! the other side reads an error where it would read the end. Absent: a reset that overtakes data which is still under way.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use turmoil::net::TcpStream;
use weirkeeper::env::Stream;
use weirkeeper::rng::Rng;

use super::count::Counted;
use super::{Fabric, lock};

const KEPT: &str = "the connection is kept until it is dropped";

/// What was sent so long ago has arrived, where nothing holds messages back.
const BEHIND: Duration = Duration::from_millis(5);

const DIALLER: usize = 0;
const ACCEPTOR: usize = 1;

/// What both ends of a connection know of each other.
#[derive(Debug, Default)]
pub struct Link {
    /// One end was dropped with an abort.
    reset: AtomicBool,
    /// The end that dialled, and the one that accepted, is gone, though the other may not have heard of it yet.
    left: [AtomicBool; 2],
    /// Who waits to write to each of them.
    writers: Mutex<[Option<Waker>; 2]>,
    /// How much the end that dialled lets lie unread, if it is not to have all the room there is, and how much does.
    narrow: Mutex<Option<(usize, usize)>>,
    /// Its protocol has changed: it no longer counts among the connections to a backend.
    tunnel: AtomicBool,
}

impl Link {
    /// Has the end that dialled let go of the connection?
    pub fn dialler_left(&self) -> bool {
        self.has_left(DIALLER)
    }

    /// The end that dialled has let go; of a stream, since nothing drops an end of one.
    pub fn leave(&self) {
        self.left[DIALLER].store(true, Ordering::Relaxed);
    }

    /// Has the end that accepted let go of the connection?
    pub fn acceptor_left(&self) -> bool {
        self.has_left(ACCEPTOR)
    }

    /// The end that dialled has room for `bytes` that it has not read, and no more.
    pub fn narrow(&self, bytes: usize) {
        *lock(&self.narrow) = Some((bytes, 0));
    }

    /// Is all of that room taken?
    pub fn is_full(&self) -> bool {
        lock(&self.narrow).is_some_and(|(room, unread)| unread >= room)
    }

    /// How much may be written to the end that dialled.
    fn room(&self) -> usize {
        lock(&self.narrow).map_or(usize::MAX, |(room, unread)| room.saturating_sub(unread))
    }

    /// So much more lies unread at the end that dialled.
    fn put(&self, bytes: usize) {
        if let Some((_, unread)) = &mut *lock(&self.narrow) {
            *unread += bytes;
        }
    }

    /// The end that dialled has read so much.
    fn took(&self, bytes: usize) {
        if let Some((_, unread)) = &mut *lock(&self.narrow) {
            *unread = unread.saturating_sub(bytes);
            if let Some(waker) = lock(&self.writers)[DIALLER].take() {
                waker.wake();
            }
        }
    }

    fn has_left(&self, end: usize) -> bool {
        self.left[end].load(Ordering::Relaxed)
    }

    /// `end` is dropped: nobody makes room there any more for what others write.
    fn drop_end(&self, end: usize) {
        self.left[end].store(true, Ordering::Relaxed);
        if let Some(waker) = lock(&self.writers)[end].take() {
            waker.wake();
        }
    }

    /// Whoever drops its end next resets the connection.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// One end of a simulated connection.
#[derive(Debug)]
pub struct SimStream {
    /// There until it is dropped.
    inner: Option<TcpStream>,
    link: Arc<Link>,
    dialled: bool,
    abort: AtomicBool,
    chop: Option<Rng>,
    counted: Option<Counted>,
    /// The other side has ended in order, or was found to be gone: what cannot be written is a broken pipe then, and a reset
    /// before.
    ended: bool,
}

impl SimStream {
    pub(super) fn new(
        fabric: &Fabric,
        inner: TcpStream,
        link: Arc<Link>,
        dialled: Option<SocketAddr>,
    ) -> Self {
        let mut rng = Rng::new(fabric.seed).stream("chop", chop_index(&inner));
        let chop = rng.chance(fabric.chop).then_some(rng);
        SimStream {
            inner: Some(inner),
            link,
            dialled: dialled.is_some(),
            abort: AtomicBool::new(false),
            chop,
            counted: None,
            ended: false,
        }
    }

    pub(super) fn count(&mut self, counted: Option<Counted>) {
        self.counted = counted;
    }

    /// What both ends know of each other.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The accepting end has agreed to another protocol: from here on the connection is not one that serves requests.
    pub fn become_tunnel(&self, fabric: &Fabric) {
        if let Ok(addr) = self.local_addr()
            && !self.link.dialler_left()
            && !self.link.tunnel.swap(true, Ordering::Relaxed)
        {
            fabric.uncount(addr);
        }
    }

    /// Do its reads and writes come in pieces?
    pub fn is_chopped(&self) -> bool {
        self.chop.is_some()
    }

    /// Would closing it now reset the connection, since something has come that nobody read?
    pub fn has_unread(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        let peeked = self
            .inner()
            .poll_peek(&mut cx, &mut ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Ok(n)) if n > 0)
    }

    fn own_end(&self) -> usize {
        if self.dialled { DIALLER } else { ACCEPTOR }
    }

    /// Turmoil does not wake who waits for room at an end that is gone, which is a reset for whoever writes to it.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let other = DIALLER + ACCEPTOR - self.own_end();
        if self.link.has_left(other) {
            return Poll::Ready(self.reset_by_peer());
        }
        lock(&self.link.writers)[other] = Some(cx.waker().clone());
        Poll::Pending
    }

    fn inner(&mut self) -> &mut TcpStream {
        self.inner.as_mut().expect(KEPT)
    }

    /// Are as many segments under way to the other side as may be?
    fn is_full(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        pin!(self.inner().writable()).poll(&mut cx).is_pending()
    }

    fn reset_by_peer(&self) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, "reset by the other side")
    }
}

/// The two ports identify a connection well enough, and do not depend on what else happens in the world.
fn chop_index(inner: &TcpStream) -> u64 {
    let port = |addr: io::Result<SocketAddr>| addr.map_or(0, |a| u64::from(a.port()));
    port(inner.local_addr()) << 16 | port(inner.peer_addr())
}

/// What an operating system does with a connection that was let go of: it says our end, once there is room for it (turmoil
/// loses an end that comes where as much waits to be read as may), and takes the other one, which must not be answered by a
/// reset. What comes before that is for nobody, and is; but that reset does not overtake what was said.
async fn linger(mut inner: TcpStream, mut ended: bool) {
    let mut said = false;
    let unheard = poll_fn(|cx| {
        let mut byte = [0];
        match inner.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0)) => ended = true,
            Poll::Ready(peeked) => return Poll::Ready(peeked.is_ok()),
            Poll::Pending => {}
        }
        if !said {
            ready!(pin!(inner.writable()).poll(cx)).ok();
            // It fails where the other side has reset the connection, which ends it as well.
            ready!(Pin::new(&mut inner).poll_shutdown(cx)).ok();
            said = true;
        }
        if ended {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    });
    if unheard.await {
        tokio::time::sleep(BEHIND).await;
    }
}

/// How much of `len` bytes a cut connection moves at once: mostly a few, at times all.
fn piece(rng: &mut Rng, len: usize) -> usize {
    let bound = [1, 7, 64, 1024, usize::MAX][usize::try_from(rng.below(5)).unwrap_or(0)];
    let len = u64::try_from(len.min(bound)).unwrap_or(u64::MAX);
    usize::try_from(1 + rng.below(len)).unwrap_or(1)
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let room = buf.remaining();
        let inner = this.inner.as_mut().expect(KEPT);
        match &mut this.chop {
            Some(rng) if room > 1 => {
                let some = piece(rng, room);
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(some));
                ready!(Pin::new(inner).poll_read(cx, &mut part))?;
                let filled = part.filled().len();
                buf.advance(filled);
            }
            _ => ready!(Pin::new(inner).poll_read(cx, buf))?,
        }
        if room > 0 && buf.filled().len() == before && this.link.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Err(this.reset_by_peer()));
        }
        if this.dialled {
            this.link.took(buf.filled().len() - before);
        }
        this.ended |= room > 0 && buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let room = match this.dialled {
            true => usize::MAX,
            false => this.link.room(),
        };
        if room == 0 {
            return this.poll_room(cx).map(Err);
        }
        let len = match &mut this.chop {
            Some(rng) if buf.len() > 1 => piece(rng, buf.len()),
            _ => buf.len(),
        };
        let len = len.min(room);
        match Pin::new(this.inner()).poll_write(cx, &buf[..len]) {
            Poll::Ready(Ok(written)) if !this.dialled => {
                this.link.put(written);
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe && !this.ended => {
                this.ended = true;
                Poll::Ready(Err(this.reset_by_peer()))
            }
            Poll::Pending => this.poll_room(cx).map(Err),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One call is one segment: a head and its body travel together, which halves the events of a request.
        let mut whole = bufs.iter().filter(|b| !b.is_empty());
        match (whole.next(), whole.next()) {
            (None, _) => Poll::Ready(Ok(0)),
            (Some(only), None) => self.poll_write(cx, only),
            _ => {
                let joined = bufs.iter().map(|b| &**b).collect::<Vec<_>>().concat();
                self.as_mut().poll_write(cx, &joined)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An end has to wait for room as well: see `linger`.
        let inner = self.inner();
        if pin!(inner.writable()).poll(cx).is_pending() {
            return self.poll_room(cx).map(Err);
        }
        Pin::new(inner).poll_shutdown(cx)
    }
}

impl Stream for SimStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.as_ref().expect(KEPT).peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.as_ref().expect(KEPT).local_addr()
    }

    fn poll_readable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let peeked = ready!(self.inner().poll_peek(cx, &mut ReadBuf::new(&mut byte)))?;
        if peeked == 0 && self.link.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Err(self.reset_by_peer()));
        }
        Poll::Ready(Ok(()))
    }

    fn set_abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.link.drop_end(self.own_end());
        if self.link.tunnel.load(Ordering::Relaxed)
            && let Some(counted) = self.counted.take()
        {
            counted.forget();
        }
        if self.abort.load(Ordering::Relaxed) {
            self.link.reset.store(true, Ordering::Relaxed);
        }
        let ended = self.ended || self.link.reset.load(Ordering::Relaxed);
        if turmoil::in_simulation()
            && let Ok(handle) = Handle::try_current()
            && (!ended || self.is_full())
            && !self.has_unread()
            && let Some(inner) = self.inner.take()
        {
            handle.spawn(linger(inner, ended));
        }
    }
}
