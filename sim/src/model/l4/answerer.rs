//! A backend's end of one connection: it judges what it hears, and does what it is to do with it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use weirkeeper::env::{Clock, Env};

use super::end::{Held, Scribe};
use super::header::{self, Came};
use super::peer::{Peer, Way};
use super::text::{HEAD, Kind, Text, digest, own};
use crate::env::SimStream;
use crate::ledger::l4::Whose;

/// What one read may bring.
const PIECE: usize = 8 * 1024;

/// Serves connection `joint` to its end.
pub(super) async fn serve(peer: &Peer, joint: usize, stream: SimStream, way: Way) {
    let scribe = Scribe {
        env: peer.env.clone(),
        ledger: peer.ledger.clone(),
        whose: Whose::Joint(joint),
    };
    let mut held = Held::new(stream, scribe.clone());
    peer.unhung().await;
    let mut told = None;
    if let Some(version) = peer.header {
        match header::read(&mut held.stream, version).await {
            Came::Named(source) => told = source,
            Came::Nothing => return,
            Came::Wrong => {
                let what = format!("joint {joint} did not begin with a header of {version:?}");
                peer.ledger.book().violation("stream", what);
                return;
            }
        }
    }
    let mut talk = Talk {
        peer,
        joint,
        scribe,
        told,
        head: Vec::new(),
        text: None,
        got: 0,
        said: false,
        running: Running {
            peer,
            execution: None,
        },
    };
    let done = talk.through(&mut held.stream, way).await;
    if done.is_ok() && matches!(way, Way::Reset(_)) {
        held.abort();
    }
}

/// One conversation.
struct Talk<'a> {
    peer: &'a Peer,
    joint: usize,
    scribe: Scribe,
    /// Whom the header named.
    told: Option<SocketAddr>,
    head: Vec<u8>,
    /// What the client says.
    text: Option<Text>,
    got: u64,
    /// The head went out.
    said: bool,
    running: Running<'a>,
}

impl Talk<'_> {
    async fn through<S>(&mut self, stream: &mut S, way: Way) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match way {
            Way::Echo => {
                while let Some(bytes) = self.hear(stream, PIECE).await? {
                    self.peer.unhung().await;
                    self.say(stream, Kind::Echo, &bytes).await?;
                    if self.is_all() {
                        break;
                    }
                }
                self.peer.rest(self.peer.work()).await;
            }
            Way::Sink => {
                self.hear_all(stream).await?;
                self.peer.rest(self.peer.work()).await;
                self.peer.unhung().await;
                let read = {
                    let mut book = self.peer.ledger.book();
                    let end = book.l4.end_of(self.scribe.whose);
                    end.map(|end| end.read).unwrap_or_default()
                };
                self.say(stream, Kind::Digest, &digest(read, self.got))
                    .await?;
            }
            Way::Greet(size) => {
                self.say(stream, Kind::Own, &own(self.joint, 0, size))
                    .await?;
                self.hear_all(stream).await?;
                self.peer.rest(self.peer.work()).await;
                self.peer.unhung().await;
                let more = own(self.joint, size as u64, size);
                self.say(stream, Kind::Own, &more).await?;
            }
            Way::Ends(size) | Way::Early(size) | Way::Reset(size) => {
                while self.got < size as u64 && !self.is_all() {
                    let most = size - usize::try_from(self.got).unwrap_or(size);
                    if self.hear(stream, most.min(PIECE)).await?.is_none() {
                        break;
                    }
                }
                self.say(stream, Kind::Own, &own(self.joint, 0, size))
                    .await?;
                match way {
                    Way::Ends(_) => {}
                    Way::Early(_) => return self.scribe.end(stream).await,
                    _ => return Ok(()),
                }
            }
        }
        {
            let mut book = self.peer.ledger.book();
            let joint = &mut book.l4.joints[self.joint];
            joint.first = joint.end.heard.is_none();
        }
        self.scribe.end(stream).await?;
        // Whatever still comes is read, so that nothing is unread when it closes.
        while self.hear(stream, PIECE).await?.is_some() {}
        Ok(())
    }

    /// Hears to the client's end, or to where the client waits for ours.
    async fn hear_all<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<()> {
        while !self.is_all() && self.hear(from, PIECE).await?.is_some() {
            self.peer.unhung().await;
        }
        Ok(())
    }

    /// Has the client said all, and waits for us to end first?
    fn is_all(&self) -> bool {
        let waits = |text: &Text| text.waits && self.got >= text.total;
        self.text.as_ref().is_some_and(waits)
    }

    async fn say<W>(&mut self, to: &mut W, kind: Kind, bytes: &[u8]) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        if !self.said {
            self.said = true;
            self.scribe.say(to, &kind.head(self.joint)).await?;
        }
        self.scribe.say(to, bytes).await
    }

    /// The next bytes, judged; `None` at the end.
    async fn hear<R>(&mut self, from: &mut R, most: usize) -> io::Result<Option<Vec<u8>>>
    where
        R: AsyncRead + Unpin,
    {
        let mut bytes = vec![0; most];
        let n = self.scribe.hear(from, &mut bytes).await?;
        bytes.truncate(n);
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.judge(&bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(what) => {
                self.peer.ledger.book().violation("stream", what);
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    fn judge(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let joint = self.joint;
        self.got += bytes.len() as u64;
        let missing = HEAD - self.head.len();
        if missing > 0 {
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            let Some(head) = self.head.first_chunk::<HEAD>() else {
                return Ok(());
            };
            let text = Text::read(head).ok_or(format!("what came to joint {joint} is nobody's"))?;
            self.text = Some(text);
            self.meet(text)?;
        }
        let at = self.got - bytes.len() as u64;
        match self.text {
            Some(text) if !text.matches(at, bytes) => {
                let id = text.id;
                Err(format!(
                    "joint {joint} got other bytes at {at} than connection {id} sent"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Now it is known who speaks: a client that is there, whom no other has met, and of whom we were told right.
    fn meet(&mut self, text: Text) -> Result<(), String> {
        let (id, joint, peer) = (text.id, self.joint, self.peer);
        let now = peer.env.clock().now();
        let mut book = peer.ledger.book();
        let Some(conn) = book.l4.conns.get(&id) else {
            return Err(format!(
                "joint {joint} met connection {id}, and there is none"
            ));
        };
        let (source, total, barred) = (conn.source, conn.total, conn.barred);
        if total != text.total || barred {
            return Err(format!(
                "joint {joint} met connection {id}, which it must not"
            ));
        }
        let other = book.l4.joints.iter().position(|j| j.conn == Some(id));
        if let Some(other) = other {
            return Err(format!(
                "connection {id} came to joints {other} and {joint}"
            ));
        }
        if peer.header.is_some() && self.told != source {
            let told = self.told;
            return Err(format!(
                "joint {joint} was told of {told:?}, and connection {id} is {source:?}"
            ));
        }
        book.l4.joints[joint].conn = Some(id);
        let execution = book.begin(now, peer.index, id);
        book.work(now, execution);
        self.running.execution = Some(execution);
        Ok(())
    }
}

/// What the backend has of a client, however it ends.
struct Running<'a> {
    peer: &'a Peer,
    execution: Option<usize>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(execution) = self.execution {
            let now = self.peer.env.clock().now();
            self.peer.ledger.book().finish(now, execution);
        }
    }
}
