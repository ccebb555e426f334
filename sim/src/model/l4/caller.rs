//! Clients of connections: an open loop. Each says all that it has to say in pieces, reads what comes, and judges it; some are
//! slow, some leave, some break off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use weirkeeper::env::{Clock, Env, Net, Stream};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::end::{Held, Scribe};
use super::header;
use super::text::{HEAD, Kind, Text, own};
use super::traffic::CallerModel;
use crate::env::SimEnv;
use crate::ledger::l4::{Conn, Whose};
use crate::ledger::{End, Ledger, PROBE};

/// Clients of one listener.
#[derive(Debug)]
pub struct Callers {
    index: usize,
    model: CallerModel,
    target: SocketAddr,
    /// The listener wants a PROXY protocol header.
    proxied: bool,
    env: SimEnv,
    ledger: Ledger,
}

/// What one client does.
#[derive(Clone, Debug)]
struct Script {
    text: Text,
    piece: usize,
    pause: Duration,
    /// It says nothing before it has heard something, for a while.
    listens: bool,
    /// How it reads: so many bytes, and then a rest.
    read: (usize, Duration),
    /// When it leaves if it has heard nothing, and whether by a reset.
    leaves: Option<(Duration, bool)>,
    /// Breaks off when it has sent so much.
    cut_sent: Option<u64>,
    /// Breaks off when it has got so much.
    cut_got: Option<u64>,
    /// Leaves without a word.
    mute: bool,
    header: Vec<u8>,
    source: Option<SocketAddr>,
    barred: bool,
}

/// Why a conversation came to no end.
enum Stop {
    /// The client's own will.
    Will,
    /// It broke.
    Broken,
}

impl Callers {
    /// Group number `index`, which calls `target`.
    pub fn new(
        index: usize,
        (model, proxied): (CallerModel, bool),
        target: SocketAddr,
        env: SimEnv,
        ledger: Ledger,
    ) -> Arc<Callers> {
        Arc::new(Callers {
            index,
            model,
            target,
            proxied,
            env,
            ledger,
        })
    }

    /// Calls until `end`. Runs within its host; what is under way then goes on by itself.
    pub fn start(self: &Arc<Self>, end: Tick) {
        let this = Arc::clone(self);
        let rng = self.env.rng("callers", self.index as u64);
        self.env.spawn("callers", async move {
            let (root, mut gaps) = (rng.stream("call", 0), rng);
            for number in 0.. {
                let gap = Duration::from_secs_f64(gaps.exponential(1.0 / this.model.rate));
                let at = this.env.clock().now() + gap;
                if at >= end {
                    return;
                }
                this.env.clock().sleep_until(at).await;
                let script = this.draw(&mut root.stream("script", number));
                let calling = Arc::clone(&this);
                this.env.spawn("caller", async move {
                    calling.run(calling.index, script).await;
                });
            }
        });
    }

    /// One whole conversation of somebody who does nothing odd.
    ///
    /// # Errors
    /// How it ended otherwise, in a sentence.
    pub async fn probe(&self, rng: &mut Rng) -> Result<(), String> {
        let mut script = self.draw(rng);
        script.text.total = 1000;
        script.pause = Duration::ZERO;
        script.read = (4096, Duration::ZERO);
        (script.leaves, script.cut_sent, script.cut_got) = (None, None, None);
        (script.mute, script.listens) = (false, false);
        if self.proxied {
            (script.header, script.source) = header::draw(rng);
        }
        script.barred = false;
        match self.run(PROBE, script).await {
            End::Answered { .. } => Ok(()),
            other => {
                let now = self.env.clock().now();
                Err(format!("a call ended with {other:?} at {now}"))
            }
        }
    }

    fn draw(&self, rng: &mut Rng) -> Script {
        let model = &self.model;
        let sizes = &model.sizes;
        let total = sizes[usize::try_from(rng.below(sizes.len() as u64)).unwrap_or(0)];
        let total = total.max(HEAD as u64);
        // At most forty pieces, and pauses so long that a large one does not take for ever.
        let piece = [1, 7, 100, 1460, 8192, 100_000][usize::try_from(rng.below(6)).unwrap_or(0)];
        let piece = usize::try_from(total.div_ceil(40)).unwrap_or(1).max(piece);
        let spell = |rng: &mut Rng, most: Duration| most.mul_f64(rng.unit() * rng.unit());
        let slow = rng.chance(model.slow);
        let cut = rng.chance(model.aborts);
        let at = rng.below(2 * total);
        let leaves = rng.chance(model.leaves.0).then(|| {
            let mean = model.leaves.1.as_secs_f64();
            (
                Duration::from_secs_f64(rng.exponential(mean)),
                rng.chance(0.7),
            )
        });
        let barred = self.proxied && rng.chance(model.barred);
        let (header, source) = match (self.proxied, barred) {
            (false, _) => (Vec::new(), None),
            (true, false) => header::draw(rng),
            (true, true) => (Vec::new(), None),
        };
        Script {
            text: Text {
                id: 0,
                total,
                waits: rng.chance(0.3),
            },
            piece,
            pause: spell(rng, model.pause),
            listens: rng.chance(0.2),
            read: match slow {
                true => (
                    512.max(usize::try_from(total / 100).unwrap_or(512)),
                    Duration::from_millis(1 + rng.below(8)),
                ),
                false => (16 * 1024, Duration::ZERO),
            },
            leaves,
            cut_sent: (cut && at < total).then_some(at),
            cut_got: at.checked_sub(total).filter(|_| cut),
            mute: rng.chance(model.mute),
            header,
            source,
            barred,
        }
    }

    /// One connection from its offer to its end.
    async fn run(&self, group: usize, mut script: Script) -> End {
        let now = self.env.clock().now();
        let id = {
            let mut book = self.ledger.book();
            let id = book.offer(now, group, 0, false);
            script.text.id = id;
            let conn = Conn {
                listener: self.model.listener,
                began: now,
                total: script.text.total,
                source: script.source,
                barred: script.barred,
                ..Conn::default()
            };
            book.l4.conns.insert(id, conn);
            id
        };
        let end = self.call(id, &script).await;
        let now = self.env.clock().now();
        let mut book = self.ledger.book();
        book.end(now, id, end);
        end
    }

    async fn call(&self, id: u64, script: &Script) -> End {
        let Ok(stream) = self.env.net().connect(self.target).await else {
            return End::Broken;
        };
        let local = stream.local_addr().ok();
        let scribe = Scribe {
            env: self.env.clone(),
            ledger: self.ledger.clone(),
            whose: Whose::Conn(id),
        };
        self.note(id, |conn| conn.source = conn.source.or(local));
        let mut held = Held::new(stream, scribe.clone());
        // In two pieces at times, as a network may have it.
        let half = script.header.len() / 2;
        for part in [&script.header[..half], &script.header[half..]] {
            if held.stream.write_all(part).await.is_err() {
                return End::Broken;
            }
            if script.text.id.is_multiple_of(3) && !part.is_empty() {
                self.rest(Duration::from_millis(2)).await;
            }
        }
        if script.mute {
            self.note(id, |conn| conn.unwilling = true);
            self.rest(script.pause).await;
            return End::GaveUp;
        }
        let leaving = async {
            let Some((patience, abort)) = script.leaves else {
                return std::future::pending().await;
            };
            self.rest(patience).await;
            match self.got(id) {
                0 => abort,
                _ => std::future::pending().await,
            }
        };
        let talk = tokio::select! {
            biased;
            talk = self.talk(id, script, &scribe, &mut held.stream) => talk,
            abort = leaving => {
                self.note(id, |conn| conn.unwilling = true);
                if abort {
                    held.abort();
                }
                return End::GaveUp;
            }
        };
        match talk {
            Ok(()) => self.answered(id),
            Err(Stop::Broken) => End::Broken,
            Err(Stop::Will) => {
                self.note(id, |conn| conn.unwilling = true);
                held.abort();
                End::GaveUp
            }
        }
    }

    /// What an end in order means: an answer, if a backend had heard who asks.
    fn answered(&self, id: u64) -> End {
        let book = self.ledger.book();
        let joint = book.l4.conns.get(&id).and_then(|c| c.joint);
        let joint = joint.and_then(|j| book.l4.joints.get(j));
        match joint {
            Some(joint) if joint.conn == Some(id) && joint.willing => End::Answered { status: 200 },
            _ => End::Broken,
        }
    }

    /// Says its text and reads what comes, both at once.
    async fn talk<S>(
        &self,
        id: u64,
        script: &Script,
        scribe: &Scribe,
        stream: &mut S,
    ) -> Result<(), Stop>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut from, mut to) = tokio::io::split(stream);
        let (heard, mut hears) = watch::channel((false, false));
        let speaking = async {
            if script.listens {
                let patience = Duration::from_millis(200);
                let hearing = async {
                    let _ = hears.wait_for(|heard| heard.0 || heard.1).await;
                };
                self.env.clock().timeout(patience, hearing).await;
            }
            let mut at = 0;
            while at < script.text.total {
                let mut bytes = script.text.piece(at, script.piece);
                if let Some(cut) = script.cut_sent {
                    bytes.truncate(usize::try_from(cut - at).unwrap_or(usize::MAX));
                }
                // A failed write is no end yet: what was said before may still come.
                if scribe.say(&mut to, &bytes).await.is_err() {
                    return Ok(());
                }
                at += bytes.len() as u64;
                if script.cut_sent.is_some_and(|cut| at >= cut) {
                    return Err(Stop::Will);
                }
                if !script.pause.is_zero() {
                    self.rest(script.pause).await;
                }
            }
            if script.text.waits {
                let _ = hears.wait_for(|heard| heard.1).await;
            }
            let _ = scribe.end(&mut to).await;
            Ok(())
        };
        let listening = async {
            let mut judge = Judge::new(id, script.text);
            let mut bytes = vec![0; script.read.0];
            let mut rested = 0;
            loop {
                let n = match scribe.hear(&mut from, &mut bytes).await {
                    Err(_) => return Err(Stop::Broken),
                    Ok(0) => break,
                    Ok(n) => n,
                };
                if let Err(what) = judge.takes(&bytes[..n], &self.ledger) {
                    self.ledger.book().violation("stream", what);
                    return Err(Stop::Broken);
                }
                heard.send_modify(|heard| heard.0 = true);
                if script.cut_got.is_some_and(|cut| judge.got >= cut) {
                    return Err(Stop::Will);
                }
                if !script.read.1.is_zero() && judge.got - rested >= script.read.0 as u64 {
                    rested = judge.got;
                    self.rest(script.read.1).await;
                }
            }
            heard.send_modify(|heard| heard.1 = true);
            Ok(judge)
        };
        let ((), judge) = tokio::try_join!(speaking, listening)?;
        judge.over(&self.ledger);
        Ok(())
    }

    fn got(&self, id: u64) -> u64 {
        let book = self.ledger.book();
        book.l4.conns.get(&id).map_or(0, |c| c.end.got)
    }

    fn note(&self, id: u64, note: impl FnOnce(&mut Conn)) {
        if let Some(conn) = self.ledger.book().l4.conns.get_mut(&id) {
            note(conn);
        }
    }

    async fn rest(&self, time: Duration) {
        let clock = self.env.clock();
        clock.sleep_until(clock.now() + time).await;
    }
}

/// Judges what a client gets as it comes.
struct Judge {
    id: u64,
    text: Text,
    got: u64,
    head: Vec<u8>,
    from: Option<(usize, Kind)>,
    digest: Vec<u8>,
}

impl Judge {
    fn new(id: u64, text: Text) -> Self {
        Judge {
            id,
            text,
            got: 0,
            head: Vec::new(),
            from: None,
            digest: Vec::new(),
        }
    }

    fn takes(&mut self, mut bytes: &[u8], ledger: &Ledger) -> Result<(), String> {
        self.got += bytes.len() as u64;
        let missing = HEAD - self.head.len();
        if missing > 0 {
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            let Some(head) = self.head.first_chunk::<HEAD>() else {
                return Ok(());
            };
            self.from = Kind::read(head);
            let joint = self.from.map(|(joint, _)| joint);
            self.claim(joint, ledger)?;
        }
        let Some((joint, kind)) = self.from else {
            return Ok(());
        };
        let at = self.got - HEAD as u64 - bytes.len() as u64;
        let good = match kind {
            Kind::Echo => self.text.matches(at, bytes),
            Kind::Own => own(joint, at, bytes.len()) == bytes,
            Kind::Digest => {
                self.digest.extend_from_slice(bytes);
                self.digest.len() <= 16
            }
        };
        match good || bytes.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "connection {} got other bytes at {at} than joint {joint} said as {kind:?}",
                self.id
            )),
        }
    }

    /// Whose words they are. They are those of one, and are one's.
    fn claim(&self, joint: Option<usize>, ledger: &Ledger) -> Result<(), String> {
        let mut book = ledger.book();
        let known = joint.filter(|j| *j < book.l4.joints.len());
        let Some(joint) = known else {
            return Err(format!("what came to connection {} is nobody's", self.id));
        };
        let other = book.l4.conns.iter().find(|(_, c)| c.joint == Some(joint));
        if let Some((other, _)) = other {
            let id = self.id;
            return Err(format!(
                "connections {other} and {id} both got joint {joint}"
            ));
        }
        if let Some(conn) = book.l4.conns.get_mut(&self.id) {
            conn.joint = Some(joint);
        }
        Ok(())
    }

    /// The stream has ended in order.
    fn over(&self, ledger: &Ledger) {
        let Some((joint, Kind::Digest)) = self.from else {
            return;
        };
        let mut book = ledger.book();
        let Some(end) = book.l4.conns.get(&self.id).map(|c| c.end.clone()) else {
            return;
        };
        let word = |at: usize| self.digest.get(at..)?.first_chunk::<8>().copied();
        let said = [word(0), word(8)].map(|w| w.map(u64::from_be_bytes));
        if said != [Some(end.said.word()), Some(end.sent)] {
            let id = self.id;
            let what = format!("joint {joint} did not take in just what connection {id} sent");
            book.violation("stream", what);
        }
    }
}
