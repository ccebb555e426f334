//! Datagrams and the backend that takes them: each says whose it is, its number and its size, and how it is to be answered.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::ReadBuf;
use weirkeeper::env::{Clock, Datagram, Env};

use super::peer::Peer;
use crate::env::SimDatagram;
use crate::model::pattern::Whose;

/// Bytes that a datagram needs to say whose it is. A smaller one is only counted.
pub(super) const ASKED: usize = 24;

/// Bytes that a reply has at least.
pub(super) const REPLIED: usize = 28;

/// What no client's id is: the backend does not know whom it replies to.
const UNKNOWN: u64 = u64::MAX;

/// What a client's datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asks {
    /// The request's id.
    pub(super) id: u64,
    /// Its number among the client's.
    pub(super) number: u32,
    /// How often it is to be answered.
    pub(super) replies: u8,
    /// How long that is to take, in milliseconds.
    pub(super) after: u16,
    /// How large an answer is to be.
    pub(super) answer: u32,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Says {
    /// The session, as the book has it.
    pub(super) session: usize,
    /// The reply's number in it.
    pub(super) number: u32,
    /// Whom the backend takes for its client.
    pub(super) asker: u64,
}

impl Asks {
    pub(super) fn write(&self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size);
        out.extend(self.id.to_be_bytes());
        out.extend(self.number.to_be_bytes());
        out.extend(u32::try_from(size).unwrap_or(0).to_be_bytes());
        out.extend([self.replies, b'?']);
        out.extend(self.after.to_be_bytes());
        out.extend(self.answer.to_be_bytes());
        fill(
            out,
            size,
            Whose::Request((self.id << 12) | u64::from(self.number)),
        )
    }

    /// `None` if it is not just what some client sends.
    pub(super) fn read(bytes: &[u8]) -> Option<Asks> {
        let asks = Asks {
            id: u64::from_be_bytes(*bytes.first_chunk()?),
            number: word(bytes, 8)?,
            replies: *bytes.get(16)?,
            after: u16::from_be_bytes(*bytes.get(18..)?.first_chunk()?),
            answer: word(bytes, 20)?,
        };
        (asks.write(bytes.len()) == bytes).then_some(asks)
    }
}

impl Says {
    fn write(&self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size);
        out.extend((self.session as u64).to_be_bytes());
        out.extend(self.number.to_be_bytes());
        out.extend(u32::try_from(size).unwrap_or(0).to_be_bytes());
        out.extend(self.asker.to_be_bytes());
        out.extend(*b"say\n");
        let whose = ((self.session as u64) << 12) | u64::from(self.number);
        fill(out, size, Whose::Answer(whose))
    }

    /// `None` if it is not just what some backend says.
    pub(super) fn read(bytes: &[u8]) -> Option<Says> {
        let says = Says {
            session: usize::try_from(u64::from_be_bytes(*bytes.first_chunk()?)).ok()?,
            number: word(bytes, 8)?,
            asker: u64::from_be_bytes(*bytes.get(16..)?.first_chunk()?),
        };
        (says.write(bytes.len()) == bytes).then_some(says)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn fill(mut out: Vec<u8>, size: usize, whose: Whose) -> Vec<u8> {
    let more = size.saturating_sub(out.len());
    out.extend_from_slice(whose.slice(0, more));
    out
}

/// What a datagram that is too small to say anything is made of.
pub(super) fn small(size: usize) -> &'static [u8] {
    Whose::Request(0).slice(0, size)
}

/// The next datagram.
pub(super) async fn receive(
    socket: &SimDatagram,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr)> {
    poll_fn(|cx| {
        let mut read = ReadBuf::new(buffer);
        let polled = socket.poll_recv(cx, &mut read);
        polled.map(|from| from.map(|from| (read.filled().len(), from)))
    })
    .await
}

/// Sends one datagram.
pub(super) async fn send(socket: &SimDatagram, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    poll_fn(|cx| socket.poll_send(cx, bytes, to)).await
}

/// Takes datagrams for as long as it is not stopped.
pub(super) async fn run(peer: Arc<Peer>, socket: SimDatagram) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok((n, from)) = receive(&socket, &mut buffer).await else {
            return;
        };
        peer.unhung().await;
        arrived(&peer, &socket, &buffer[..n], from);
    }
}

fn arrived(peer: &Arc<Peer>, socket: &Arc<SimDatagram>, bytes: &[u8], from: SocketAddr) {
    let now = peer.env.clock().now();
    let mut book = peer.ledger.book();
    let session = book.datagram(now, peer.index, from, bytes);
    if bytes.len() < ASKED {
        book.l4.small.entry(bytes.len()).or_default().1 += 1;
        if small(bytes.len()) != bytes {
            let what = format!("a datagram of {} bytes came altered", bytes.len());
            book.violation("sessions", what);
        }
        return;
    }
    let Some(asks) = Asks::read(bytes) else {
        let what = format!(
            "a datagram of {} bytes came altered to session {session}",
            bytes.len()
        );
        book.violation("sessions", what);
        return;
    };
    let id = asks.id;
    let place = usize::try_from(asks.number).unwrap_or(usize::MAX);
    let asker = book.l4.askers.get_mut(&id);
    match asker.and_then(|a| a.sent.get_mut(place)) {
        Some(arrived) if !*arrived => *arrived = true,
        other => {
            let how = other.map_or("was never sent", |_| "came twice");
            let what = format!("datagram {place} of client {id} {how}, in session {session}");
            book.violation("sessions", what);
        }
    }
    match book.l4.sessions[session].asker {
        None => {
            book.l4.sessions[session].asker = Some(id);
            let execution = book.begin(now, peer.index, id);
            book.work(now, execution);
            book.finish(now, execution);
        }
        Some(other) if other != id => {
            let what = format!("session {session} had datagrams of clients {other} and {id}");
            book.violation("sessions", what);
        }
        Some(_) => {}
    }
    drop(book);
    for n in 0..asks.replies {
        // A crash takes the socket away, and with it what was to be said.
        let (peer, socket) = (Arc::clone(peer), Arc::downgrade(socket));
        let after = Duration::from_millis(u64::from(asks.after) * u64::from(n + 1)) + peer.work();
        peer.env.clone().spawn("reply", async move {
            peer.rest(after).await;
            peer.unhung().await;
            if let Some(socket) = socket.upgrade() {
                reply(&peer, &socket, session, asks.answer, from).await;
            }
        });
    }
}

async fn reply(peer: &Peer, socket: &SimDatagram, session: usize, size: u32, to: SocketAddr) {
    let size = usize::try_from(size).unwrap_or(REPLIED).max(REPLIED);
    let says = {
        let mut book = peer.ledger.book();
        let number = book.reply(peer.env.clock().now(), session, size);
        Says {
            session,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            asker: book.l4.sessions[session].asker.unwrap_or(UNKNOWN),
        }
    };
    // What cannot be sent is lost, as any datagram may be.
    let _ = send(socket, &says.write(size), to).await;
}
