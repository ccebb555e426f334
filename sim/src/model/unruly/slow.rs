//! Clients that are slow on purpose, at a listener with a minimum rate: they drip a body, or sip an answer. Some keep the rate,
//! and must be served to the end; the others must be gone within a bound.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, split};
use weirkeeper::env::{Clock, Env, Net};
use weirkeeper::rng::Rng;

use super::ear::Ear;
use crate::env::{SimEnv, SimStream};
use crate::ledger::{End, Ledger, Slow, UNRULY};
use crate::model::message::{Head, Reader};
use crate::model::pattern::Whose;
use crate::model::speech::Paced;
use crate::wires::Claim;

/// Between two pieces of a body.
const DRIP: Duration = Duration::from_millis(100);

/// A body that takes a client which keeps the rate about three seconds, and others for ever.
const BODY: usize = 15_000;

/// What lies unread at a client that sips.
const ROOM: usize = 8 << 10;

/// The answers that are sipped: the first is read in a few seconds, the second does not fit into what lies between.
const SIPPED: (usize, usize) = (60_000, 300_000);

/// How often a client that sips looks whether its connection stands.
const LOOK: Duration = Duration::from_millis(50);

/// One connection from its beginning to its end.
pub(super) async fn come(
    env: &SimEnv,
    ledger: &Ledger,
    rng: &mut Rng,
    target: SocketAddr,
    paced: &Paced,
) {
    let keeps = rng.chance(0.4);
    let sips = rng.chance(0.4);
    let piece = match keeps {
        // Two and a half times what is asked for.
        true => usize::try_from(paced.rate / 4).unwrap_or(usize::MAX),
        false => 1 + usize::try_from(rng.below(15)).unwrap_or(0),
    };
    ledger.book().open += 1;
    if let Ok(stream) = env.net().connect(target).await {
        let sloth = Sloth {
            env,
            ledger,
            paced,
            keeps,
            piece,
        };
        match sips {
            true => sloth.sip(stream).await,
            false => sloth.drip(stream).await,
        }
    }
    ledger.book().open -= 1;
}

/// Such a client.
struct Sloth<'a> {
    env: &'a SimEnv,
    ledger: &'a Ledger,
    paced: &'a Paced,
    keeps: bool,
    /// What it moves at once.
    piece: usize,
}

impl Sloth<'_> {
    fn offer(&self, method: &'static str, sips: bool) -> u64 {
        let now = self.env.clock().now();
        let mut book = self.ledger.book();
        let id = book.offer(now, UNRULY, 0, method == "GET");
        let claim = Claim {
            method,
            target: self.paced.path.clone(),
            own: false,
            sent: true,
        };
        book.wires.claims.insert(id, claim);
        book.slow.push(Slow {
            id,
            keeps: self.keeps,
            sips,
            ahead: self.paced.ahead,
            bound: match sips {
                true => self.paced.taking,
                false => self.paced.sending,
            },
            began: (!sips).then_some(now),
            ended: None,
            cut: false,
        });
        id
    }

    /// What is known of request `id`.
    fn note(&self, id: u64, note: impl FnOnce(&mut Slow)) {
        let mut book = self.ledger.book();
        if let Some(slow) = book.slow.iter_mut().rev().find(|s| s.id == id) {
            note(slow);
        }
    }

    /// It is over: with this head, or with none.
    fn end(&self, id: u64, head: Option<&Head>, whole: bool) {
        let now = self.env.clock().now();
        let end = match head {
            Some(head) if whole && head.id == Some(id) => End::Answered {
                status: head.status,
            },
            Some(head) if whole => End::Refused {
                status: head.status,
            },
            _ => End::Broken,
        };
        let cut = head.is_some_and(|head| head.status == 408);
        self.note(id, |slow| {
            slow.ended = Some(now);
            slow.cut |= cut;
        });
        self.ledger.book().end(now, id, end);
    }

    /// Sends a body in small pieces.
    async fn drip(&self, mut stream: SimStream) {
        let id = self.offer("POST", false);
        let path = &self.paced.path;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: weir.test\r\nx-sim: {id} 10 {BODY}\r\ncontent-length: {BODY}\r\n\r\n"
        );
        let mut reader = Reader::default();
        // Who answers or closes early shows in what is read.
        stream.write_all(head.as_bytes()).await.ok();
        let mut sent = 0;
        let answer = loop {
            let piece = Whose::Request(id).slice(sent, self.piece.min(BODY - sent));
            sent += piece.len();
            stream.write_all(piece).await.ok();
            stream.flush().await.ok();
            let head = reader.head(&mut stream, false);
            let waited = match sent < BODY {
                true => self.env.clock().timeout(DRIP, head).await,
                false => Some(head.await),
            };
            match waited {
                Some(Ok(head)) if (100..200).contains(&head.status) => {}
                Some(answer) => break answer.ok(),
                None => {}
            }
        };
        let whole = sent == BODY;
        self.ledger.book().reach(match (self.keeps, whole) {
            (true, true) => "a slow body was taken whole",
            (true, false) => "a slow body was answered early",
            (false, _) => "a dripped body came to its end",
        });
        if answer.as_ref().is_some_and(|head| head.status == 408) {
            self.ledger.book().reach("a dripped body was given up");
        }
        self.end(id, answer.as_ref(), true);
    }

    /// Reads an answer in small pieces.
    async fn sip(&self, stream: SimStream) {
        let id = self.offer("GET", true);
        let path = &self.paced.path;
        let size = if self.keeps { SIPPED.0 } else { SIPPED.1 };
        let link = std::sync::Arc::clone(stream.link());
        link.narrow(ROOM);
        let (read, mut write) = split(stream);
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: weir.test\r\nx-sim: {id} {size} 0\r\n\r\n");
        write.write_all(head.as_bytes()).await.ok();
        let mut reader = Reader::default();
        let slow = match self.keeps {
            true => (self.piece * 4, DRIP),
            false => (self.piece, DRIP),
        };
        let mut ear = Ear::new(read, self.env.clone(), None);
        let head = loop {
            match reader.head(&mut ear, false).await {
                Ok(head) if (100..200).contains(&head.status) => {}
                Ok(head) => break head,
                Err(_) => return self.end(id, None, false),
            }
        };
        let mut ear = Ear::new(ear.into_half(), self.env.clone(), Some(slow));
        let mut body = Vec::new();
        let whole = {
            let mut reading = pin!(reader.body_into(&mut ear, head.framing, &mut body));
            let mut watching = pin!(async {
                let mut is_full = false;
                loop {
                    let clock = self.env.clock();
                    clock.sleep_until(clock.now() + LOOK).await;
                    if link.is_full() && !is_full {
                        is_full = true;
                        let now = clock.now();
                        self.note(id, |slow| slow.began = Some(now));
                    }
                    if link.acceptor_left() && !self.keeps {
                        return;
                    }
                }
            });
            tokio::select! {
                biased;
                read = &mut reading => read.is_ok(),
                () = &mut watching => false,
            }
        };
        if head.status == 200 {
            self.ledger.book().reach(match (self.keeps, whole) {
                (true, true) => "a slow reader got all of its answer",
                (true, false) => "a slow reader's answer broke off",
                (false, _) => "an answer that was hardly read came to its end",
            });
            // A backend that broke off is no reason that is known here.
            self.note(id, |slow| slow.cut |= !whole);
        }
        self.end(id, Some(&head), whole);
    }
}
