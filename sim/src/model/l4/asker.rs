//! Clients of datagrams: each sends some from a port of its own, and takes what comes for as long as something may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weirkeeper::env::{Clock, Env, Net};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::replier::{ASKED, Asks, Says, receive, send, small};
use super::traffic::AskerModel;
use crate::env::{SimDatagram, SimEnv};
use crate::ledger::l4::Asker;
use crate::ledger::{End, Ledger, PROBE};
use crate::trace::Digest;

/// Clients of one listener.
#[derive(Debug)]
pub struct Askers {
    index: usize,
    model: AskerModel,
    target: SocketAddr,
    env: SimEnv,
    ledger: Ledger,
}

/// One datagram to come.
#[derive(Clone, Copy, Debug)]
struct Planned {
    gap: Duration,
    size: usize,
    replies: u8,
    after: u16,
    answer: u32,
}

/// How long a client stays after the last reply that it may expect.
const STAYS: Duration = Duration::from_millis(300);

impl Askers {
    /// Group number `index`, which asks `target`.
    pub fn new(
        index: usize,
        model: AskerModel,
        target: SocketAddr,
        env: SimEnv,
        ledger: Ledger,
    ) -> Arc<Askers> {
        Arc::new(Askers {
            index,
            model,
            target,
            env,
            ledger,
        })
    }

    /// Asks until `end`. Runs within its host; what is under way then goes on by itself.
    pub fn start(self: &Arc<Self>, end: Tick) {
        let this = Arc::clone(self);
        let rng = self.env.rng("askers", self.index as u64);
        self.env.spawn("askers", async move {
            let (root, mut gaps) = (rng.stream("ask", 0), rng);
            for number in 0.. {
                let gap = Duration::from_secs_f64(gaps.exponential(1.0 / this.model.rate));
                let at = this.env.clock().now() + gap;
                if at >= end {
                    return;
                }
                this.env.clock().sleep_until(at).await;
                let planned = this.draw(&mut root.stream("script", number));
                let asking = Arc::clone(&this);
                this.env.spawn("asker", async move {
                    asking.run(asking.index, &planned).await;
                });
            }
        });
    }

    /// One datagram and its reply.
    ///
    /// # Errors
    /// How it ended otherwise, in a sentence.
    pub async fn probe(&self) -> Result<(), String> {
        let planned = Planned {
            gap: Duration::ZERO,
            size: 100,
            replies: 1,
            after: 0,
            answer: 100,
        };
        match self.run(PROBE, &[planned]).await {
            End::Answered { .. } => Ok(()),
            other => {
                let now = self.env.clock().now();
                Err(format!("a datagram ended with {other:?} at {now}"))
            }
        }
    }

    fn draw(&self, rng: &mut Rng) -> Vec<Planned> {
        let model = &self.model;
        let one = |rng: &mut Rng, list: &[u32]| {
            list[usize::try_from(rng.below(list.len() as u64)).unwrap_or(0)]
        };
        let flood = rng.chance(model.floods);
        let silent = flood || rng.chance(0.1);
        let count = match flood {
            true => 9 + rng.below(20),
            false => 1 + rng.below(model.count),
        };
        let pause = model.pause.mul_f64(if flood { 0.01 } else { rng.unit() });
        let late = u64::try_from(model.late.as_millis()).unwrap_or(0);
        let planned = |_| {
            let large = rng.chance(0.05);
            let size = match large {
                true => one(rng, &[9000, 30_000, 65_507]),
                false => one(rng, &[0, 1, 23, 24, 24, 60, 100, 512, 1472, 1473]),
            };
            Planned {
                gap: pause.mul_f64(2.0 * rng.unit()),
                size: usize::try_from(size).unwrap_or(0),
                replies: match silent {
                    true => 0,
                    false => u8::try_from(one(rng, &[0, 1, 1, 1, 3])).unwrap_or(1),
                },
                after: match rng.chance(0.3) {
                    true => u16::try_from(rng.below(late.max(1))).unwrap_or(0),
                    false => 0,
                },
                answer: match large {
                    true => one(rng, &[20_000, 65_507]),
                    false => one(rng, &[28, 29, 100, 1472]),
                },
            }
        };
        (0..count).map(planned).collect()
    }

    async fn run(&self, group: usize, planned: &[Planned]) -> End {
        let clock = self.env.clock();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let id = {
            let mut book = self.ledger.book();
            let id = book.offer(clock.now(), group, 1, true);
            let listener = self.model.listener;
            let asker = Asker {
                listener,
                ..Asker::default()
            };
            book.l4.askers.insert(id, asker);
            id
        };
        let Ok(socket) = self.env.net().datagram(any) else {
            self.ledger.book().end(clock.now(), id, End::Broken);
            return End::Broken;
        };
        let wanted = self.wanted(planned);
        tokio::select! {
            biased;
            () = self.listen(id, &socket, wanted.0) => {}
            () = self.speak(id, &socket, planned, wanted.1) => {}
        }
        let mut book = self.ledger.book();
        let got = book.l4.askers.get(&id).map_or(0, |a| a.got);
        let end = match (got, wanted.0) {
            (1.., _) => End::Answered { status: 200 },
            (0, 0) => End::GaveUp,
            (0, _) => End::Broken,
        };
        if let Some(asker) = book.l4.askers.get_mut(&id) {
            asker.over = Some(clock.now());
        }
        book.end(clock.now(), id, end);
        end
    }

    /// How many replies are to come, and how long the last of them takes at most.
    fn wanted(&self, planned: &[Planned]) -> (u64, Duration) {
        let numbered = planned.iter().filter(|p| p.size >= ASKED);
        let all = numbered.clone().map(|p| u64::from(p.replies)).sum();
        let latest = numbered.map(|p| u64::from(p.after) * u64::from(p.replies));
        (all, Duration::from_millis(latest.max().unwrap_or(0)))
    }

    /// Sends all, and stays for as long as replies may come.
    async fn speak(&self, id: u64, socket: &SimDatagram, planned: &[Planned], latest: Duration) {
        let clock = self.env.clock();
        for planned in planned {
            clock.sleep_until(clock.now() + planned.gap).await;
            let bytes = self.next(id, planned);
            if send(socket, &bytes, self.target).await.is_err() {
                return;
            }
        }
        clock.sleep_until(clock.now() + latest + STAYS).await;
    }

    /// The next datagram, written down.
    fn next(&self, id: u64, planned: &Planned) -> Vec<u8> {
        let mut book = self.ledger.book();
        if let Some(asker) = book.l4.askers.get_mut(&id) {
            asker.all += 1;
        }
        if planned.size < ASKED {
            book.l4.small.entry(planned.size).or_default().0 += 1;
            if planned.size == 0 {
                book.reach("an empty datagram");
            }
            return small(planned.size).to_vec();
        }
        let Some(asker) = book.l4.askers.get_mut(&id) else {
            return Vec::new();
        };
        let number = u32::try_from(asker.sent.len()).unwrap_or(u32::MAX);
        asker.sent.push(false);
        let asks = Asks {
            id,
            number,
            replies: planned.replies,
            after: planned.after,
            answer: planned.answer,
        };
        let bytes = asks.write(planned.size);
        let now = self.env.clock().now();
        let digest = Digest::of(&bytes).word();
        book.trace
            .event(now, "asks", &[id, u64::from(number), digest]);
        bytes
    }

    /// Takes what comes, until all is there that was asked for.
    async fn listen(&self, id: u64, socket: &SimDatagram, wanted: u64) {
        let mut buffer = vec![0; 64 * 1024];
        let mut got = 0;
        while wanted == 0 || got < wanted {
            let Ok((n, from)) = receive(socket, &mut buffer).await else {
                return;
            };
            got += 1;
            self.judge(id, &buffer[..n], from);
        }
    }

    fn judge(&self, id: u64, bytes: &[u8], from: SocketAddr) {
        let now = self.env.clock().now();
        let mut book = self.ledger.book();
        let digest = Digest::of(bytes).word();
        book.trace
            .event(now, "hears", &[id, bytes.len() as u64, digest]);
        if let Some(asker) = book.l4.askers.get_mut(&id) {
            asker.got += 1;
        }
        let says = Says::read(bytes);
        let Some(says) = says.filter(|_| from == self.target) else {
            let size = bytes.len();
            let what = format!("client {id} got {size} bytes from {from} that no backend said");
            return book.violation("sessions", what);
        };
        let (number, place) = (
            says.session,
            usize::try_from(says.number).unwrap_or(usize::MAX),
        );
        let Some(session) = book.l4.sessions.get_mut(number) else {
            let what = format!("client {id} got a reply of session {number}, and there is none");
            return book.violation("sessions", what);
        };
        let asker = session.asker.filter(|_| says.asker != u64::MAX);
        let what = match session.replies.get_mut(place) {
            None => Some("and there is none"),
            Some(reply) if reply.got => Some("for the second time"),
            Some(reply) if reply.size != bytes.len() => Some("and it is not whole"),
            Some(reply) => {
                reply.got = true;
                let other = asker.is_some_and(|asker| asker != id);
                other.then_some("and it is another's")
            }
        };
        let sent = session.replies.get(place).map(|r| r.at);
        if let Some(what) = what {
            let what = format!("client {id} got reply {place} of session {number}, {what}");
            return book.violation("sessions", what);
        }
        // Before a session that followed had its backend, this one was over. Which was opened later its port tells: the network
        // may let a later one overtake.
        let port = session.peer.port();
        let sessions = &book.l4.sessions;
        let follows = |s: &&crate::ledger::l4::Session| {
            s.asker == Some(id) && s.peer.port() > port && sent.is_some_and(|sent| s.first < sent)
        };
        let later = sessions.iter().find(follows);
        if let Some(later) = later {
            let (first, peer) = (later.first, later.peer);
            let what = format!(
                "client {id} got reply {place} of session {number}, and had another ({peer}) since {first}"
            );
            book.violation("sessions", what);
        }
    }
}
