//! What happened at L4: connections as each of their ends knows them, and datagrams as those who sent and received them do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use weirkeeper::time::Tick;

use super::Book;
use crate::trace::Digest;

/// The pages of L4.
#[derive(Debug, Default)]
pub struct L4 {
    /// Clients' connections, by the request's id.
    pub conns: BTreeMap<u64, Conn>,
    /// Connections as backends accepted them.
    pub joints: Vec<Joint>,
    /// Clients of datagrams, by the request's id.
    pub askers: BTreeMap<u64, Asker>,
    /// Sessions as backends see them: one for each socket that sent them something.
    pub sessions: Vec<Session>,
    /// Datagrams too small to carry a number, by size: sent, and received.
    pub small: BTreeMap<usize, (u64, u64)>,
}

/// How one end of a connection heard that the other has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// In order.
    End,
    /// By a reset.
    Reset,
}

/// One end of a connection.
#[derive(Clone, Debug, Default)]
pub struct EndOf {
    /// Bytes that it sent.
    pub sent: u64,
    /// What they were.
    pub said: Digest,
    /// It said in order that there are no more.
    pub ended: bool,
    /// Bytes that it got.
    pub got: u64,
    /// What they were.
    pub read: Digest,
    /// How it heard of the other's end.
    pub heard: Option<Heard>,
    /// It reset the connection.
    pub broke: bool,
    /// It let go of the connection.
    pub over: Option<Tick>,
}

/// Whose end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A client's.
    Conn(u64),
    /// A backend's.
    Joint(usize),
}

/// A client's connection.
#[derive(Clone, Debug, Default)]
pub struct Conn {
    /// The listener.
    pub listener: usize,
    /// When it was offered.
    pub began: Tick,
    /// Whom a backend is to be told of.
    pub source: Option<SocketAddr>,
    /// It sends no PROXY protocol header where one is due, and is not to be served.
    pub barred: bool,
    /// It left or broke off by its own will.
    pub unwilling: bool,
    /// Bytes that it means to send.
    pub total: u64,
    /// Whose words it got.
    pub joint: Option<usize>,
    /// Its end.
    pub end: EndOf,
}

/// A connection as its backend has it.
#[derive(Clone, Debug, Default)]
pub struct Joint {
    /// The backend.
    pub backend: usize,
    /// When it was accepted.
    pub began: Tick,
    /// Whose words it got.
    pub conn: Option<u64>,
    /// The backend means to serve it to its end, and was not kept from that.
    pub willing: bool,
    /// It said its end before it heard the client's.
    pub first: bool,
    /// Its end.
    pub end: EndOf,
}

/// A client of datagrams.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// The listener.
    pub listener: usize,
    /// What it sent that carries a number, and whether it arrived.
    pub sent: Vec<bool>,
    /// Replies that it got.
    pub got: u64,
    /// Datagrams that it sent, whether they carry a number or not.
    pub all: u32,
    /// When it left.
    pub over: Option<Tick>,
}

/// A session as its backend sees it.
#[derive(Clone, Debug)]
pub struct Session {
    /// The backend.
    pub backend: usize,
    /// The proxy's socket.
    pub peer: SocketAddr,
    /// Its client, once a datagram said so.
    pub asker: Option<u64>,
    /// When its first datagram came.
    pub first: Tick,
    /// When its latest one came.
    pub last: Tick,
    /// Datagrams that came.
    pub received: u32,
    /// What was replied.
    pub replies: Vec<Reply>,
}

/// One reply.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// When it was sent.
    pub at: Tick,
    /// Its size.
    pub size: usize,
    /// Its client has it.
    pub got: bool,
}

impl L4 {
    /// One end of a connection.
    pub fn end_of(&mut self, whose: Whose) -> Option<&mut EndOf> {
        match whose {
            Whose::Conn(id) => self.conns.get_mut(&id).map(|c| &mut c.end),
            Whose::Joint(index) => self.joints.get_mut(index).map(|j| &mut j.end),
        }
    }
}

impl Book {
    /// Notes at one end of a connection what `note` says.
    pub fn at_end(&mut self, whose: Whose, note: impl FnOnce(&mut EndOf)) {
        if !self.closed
            && let Some(end) = self.l4.end_of(whose)
        {
            note(end);
        }
    }

    /// One end lets go of its connection; what it sent and got goes into the hash.
    pub fn let_go(&mut self, at: Tick, whose: Whose) {
        if self.closed {
            return;
        }
        let Some(end) = self.l4.end_of(whose) else {
            return;
        };
        end.over = Some(at);
        let (tag, number) = match whose {
            Whose::Conn(id) => ("conn", id),
            Whose::Joint(index) => ("joint", index as u64),
        };
        let heard = end.heard.map_or(0, |h| h as u64 + 1);
        let numbers = [
            number,
            end.sent,
            end.said.word(),
            end.got,
            end.read.word(),
            heard,
        ];
        self.trace.event(at, tag, &numbers);
    }

    /// A backend accepted a connection; its number.
    pub fn accepted(&mut self, at: Tick, backend: usize, willing: bool) -> usize {
        let number = self.l4.joints.len();
        self.trace
            .event(at, "accepted", &[number as u64, backend as u64]);
        self.l4.joints.push(Joint {
            backend,
            began: at,
            willing,
            ..Joint::default()
        });
        number
    }

    /// A datagram came to `backend` from the proxy's socket `peer`; the session's number.
    pub fn datagram(&mut self, at: Tick, backend: usize, peer: SocketAddr, bytes: &[u8]) -> usize {
        let sessions = &mut self.l4.sessions;
        let known = sessions.iter().rposition(|s| s.peer == peer);
        let number = known.unwrap_or(sessions.len());
        if known.is_none() {
            sessions.push(Session {
                backend,
                peer,
                asker: None,
                first: at,
                last: at,
                received: 0,
                replies: Vec::new(),
            });
        }
        let session = &mut sessions[number];
        session.received += 1;
        session.last = at;
        let (other, received) = (session.backend, session.received);
        let unanswered = session.replies.is_empty();
        let digest = Digest::of(bytes).word();
        let size = bytes.len() as u64;
        self.trace.event(
            at,
            "datagram",
            &[number as u64, backend as u64, size, digest],
        );
        if other != backend {
            let what =
                format!("session {number} went to backend {other} and then to {backend} at {at}");
            self.violation("sessions", what);
        }
        if unanswered && received > 8 {
            let what = format!(
                "{received} datagrams of session {number} came before its first reply, by {at}"
            );
            self.violation("sessions", what);
        }
        number
    }

    /// A backend replies in a session; the reply's number.
    pub fn reply(&mut self, at: Tick, session: usize, size: usize) -> usize {
        self.trace
            .event(at, "reply", &[session as u64, size as u64]);
        let replies = &mut self.l4.sessions[session].replies;
        replies.push(Reply {
            at,
            size,
            got: false,
        });
        replies.len() - 1
    }
}
