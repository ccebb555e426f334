//! One unruly connection seen through: what its script says is written, what comes is read at the same time and held against what
//! was asked.
//!
//! Answers come in the order of their requests, one for each. A connection whose request was answered before its body had come
//! goes on behind that body or ends; nothing else comes of it.

use std::future::pending;
use std::pin::pin;

use tokio::io::{AsyncWriteExt, WriteHalf, split};
use weirkeeper::env::{Clock, Env, Stream};

use super::course::{Course, Over};
use super::ear::{Ear, SLOW};
use super::judge::judge;
use super::mouth::Mouth;
use super::script::{Ask, Script, Target, Within};
use crate::env::{SimEnv, SimStream};
use crate::ledger::{Asked, End, Ledger, UNRULY};
use crate::model::message::{Fault, Framing, Head, Reader};
use crate::wires::Claim;

/// The proxy answers a client that has said its end behind a whole request. Without this, it may take that end for a client that
/// leaves, and drops the request.
const HALF_CLOSED_IS_ANSWERED: bool = true;

/// A connection.
pub(super) struct Talk {
    course: Course,
    door: Door,
}

/// What it comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    /// Which of the replicas it is.
    pub(super) replica: usize,
    /// The largest body that its listener takes.
    pub(super) limit: Option<u64>,
    /// Nothing goes wrong behind it: whatever is asked is answered, however.
    pub(super) calm: bool,
    /// A request may have to wait in the queue.
    pub(super) waits: bool,
}

impl Talk {
    /// A connection to `door` on which `script` is followed.
    pub(super) fn new(env: SimEnv, ledger: Ledger, script: Script, door: Door) -> Self {
        let course = Course::new(env, ledger, script);
        Talk { course, door }
    }

    pub(super) async fn run(&self, stream: SimStream) {
        let (read, mut write) = split(stream);
        let slow = self.course.script.slow.then_some(SLOW);
        let mut ear = Ear::new(read, self.course.env.clone(), slow);
        let over = {
            let mut writing = pin!(self.write(&mut write));
            let mut reading = pin!(self.read(&mut ear));
            tokio::select! {
                biased;
                over = &mut reading => over,
                over = &mut writing => over,
            }
        };
        let stream = ear.into_half().unsplit(write);
        if over == Over::Left && self.course.script.leaving.is_some_and(|l| l.resets) {
            stream.set_abort();
        }
        drop(stream);
        self.close(over);
    }

    fn wrong(&self, what: String) {
        self.course.ledger.book().violation("order", what);
    }

    /// Ends what has no end.
    fn close(&self, over: Over) {
        let state = self.course.state();
        let now = self.course.env.clock().now();
        let mut book = self.course.ledger.book();
        for (at, id) in state.ids.iter().enumerate().skip(state.answered) {
            let end = match over {
                Over::Left => End::GaveUp,
                Over::Ended | Over::Quiet => End::Broken,
            };
            book.end(now, *id, end);
            // A client that has said its end may have left, and does not wait in the queue. What a backend has heard of is
            // answered.
            let heard = book.executions.iter().any(|e| e.request == *id);
            let dropped = state.half_closed && self.door.waits && !heard;
            let excused =
                state.may_end || dropped || (state.half_closed && !HALF_CLOSED_IS_ANSWERED);
            let own = matches!(self.course.script.asks[at].target, Target::Own(..));
            let first = at == state.answered && at < state.whole;
            if end == End::Broken && first && (own || self.door.calm) && !excused {
                let script = &self.course.script;
                let (ask, of) = (&script.asks[at], script.asks.len());
                let (method, path, number) = (ask.method, ask.path(), at + 1);
                let closed = if state.half_closed {
                    ", half-closed"
                } else {
                    ""
                };
                let what = format!(
                    "request {id} ({method} {path}, {number} of {of}{closed}) was not answered, as nothing excuses, at {now}"
                );
                book.violation("order", what);
            }
        }
    }

    /// Writes all that is to be written; it ends only when the client leaves.
    async fn write(&self, half: &mut WriteHalf<SimStream>) -> Over {
        let course = &self.course;
        let mut mouth = Mouth::new(course, half);
        for (at, ask) in self.course.script.asks.iter().enumerate() {
            if self.course.state().ended {
                break;
            }
            let written = ask.encode(self.begin(ask));
            if mouth.request(at, ask, &written).await == Some(Over::Left) {
                return Over::Left;
            }
            if at + 1 < self.course.script.asks.len() && !self.course.script.pipelined {
                mouth.flush().await;
                self.course.until(|s| s.answered > at || s.ended).await;
            }
        }
        mouth.flush().await;
        if self.course.script.half_closes
            && !mouth.broken
            && !self.course.state().ended
            && mouth.half.shutdown().await.is_ok()
        {
            self.course.state().half_closed = true;
            self.course
                .reach("a client said its end behind a whole request");
        }
        self.course.says_no_more();
        pending().await
    }

    /// A request begins; its id.
    fn begin(&self, ask: &Ask) -> u64 {
        let now = self.course.env.clock().now();
        let mut book = self.course.ledger.book();
        let id = book.offer(now, UNRULY, 0, ask.method == "GET" || ask.method == "PUT");
        let claim = Claim {
            method: ask.method,
            target: ask.path(),
            own: matches!(ask.target, Target::Own(..)),
            sent: false,
        };
        book.wires.claims.insert(id, claim);
        if let Target::Page(page) = ask.target {
            let asked = Asked {
                page,
                method: ask.method,
                ..Asked::default()
            };
            book.ask(id, self.door.replica, asked);
        }
        self.course.state().ids.push(id);
        id
    }

    /// All is said and answered, and for a while nothing came.
    async fn quiet(&self) {
        self.course.done().await;
        self.course.sleep(self.course.script.listens).await;
    }

    /// Reads answers until the connection is over.
    async fn read(&self, ear: &mut Ear) -> Over {
        let mut reader = Reader::default();
        let mut told = 0;
        loop {
            let head = tokio::select! {
                biased;
                head = reader.head(ear, false) => head,
                () = self.quiet() => return Over::Quiet,
            };
            let head = match head {
                Ok(head) => head,
                Err(Fault::Malformed) => {
                    self.wrong("an answer to an unruly client is no HTTP".to_string());
                    return Over::Ended;
                }
                Err(_) => {
                    if self.course.script.stubborn {
                        self.course.all_said().await;
                    }
                    return Over::Ended;
                }
            };
            if (100..200).contains(&head.status) {
                let goes_on = usize::from(head.status == 100);
                self.course.state().told += goes_on;
                told += goes_on;
                if told > 1 {
                    // Pipelined requests are answered in order, and each is told once at most.
                    self.wrong("a client was told twice to go on with one request".to_string());
                }
                self.course.hears();
                continue;
            }
            told = 0;
            let Some((at, id)) = self.next(&head) else {
                return Over::Ended;
            };
            if self.course.script.leaves(at, Within::Answer) {
                self.course.reach("an unruly client left within its answer");
                return Over::Left;
            }
            if self.answer(at, id, head, &mut reader, ear).await.is_none() {
                return Over::Ended;
            }
            self.course.hears();
        }
    }

    /// Which request the answer belongs to that begins with `head`: the first that has none.
    fn next(&self, head: &Head) -> Option<(usize, u64)> {
        let mut state = self.course.state();
        let at = state.begun;
        let asked = state.ids.get(at).filter(|_| at < state.heads);
        let Some(id) = asked.copied() else {
            let (begun, status) = (state.heads, head.status);
            drop(state);
            self.wrong(format!(
                "an answer with {status} came behind the {begun} that were asked for"
            ));
            return None;
        };
        state.begun += 1;
        // It was answered before all of it was sent. What was sent may be under way when the answer leaves.
        let early = at >= state.whole;
        state.may_end |= self.course.script.asks[at].is_loaded();
        state.may_end |= early || head.close || head.framing == Framing::Close;
        drop(state);
        if early {
            self.course.reach(match self.course.script.asks[at].target {
                Target::Own(..) => "the proxy answered before the body was there",
                _ => "a body was still to come behind an answer",
            });
        }
        if at > 0 && self.course.script.pipelined {
            self.course.reach("a pipelined pair was answered");
        }
        let before = at.checked_sub(1).map(|i| &self.course.script.asks[i]);
        if before.is_some_and(|b| b.is_loaded() && matches!(b.target, Target::Own(..))) {
            self.course
                .reach("a connection went on behind a body that nobody read");
        }
        Some((at, id))
    }

    /// Reads the rest of an answer and judges it; nothing if it breaks off.
    async fn answer(
        &self,
        at: usize,
        id: u64,
        head: Head,
        reader: &mut Reader,
        ear: &mut Ear,
    ) -> Option<()> {
        let ask = &self.course.script.asks[at];
        let mut body = Vec::new();
        let read = reader.body_into(ear, head.framing, &mut body).await;
        if read == Err(Fault::Malformed) {
            self.wrong(format!("the body of the answer to request {id} is no HTTP"));
        }
        let end = judge(
            &self.course.ledger,
            (ask, id),
            self.door.limit,
            &head,
            &body,
            read.is_ok(),
        );
        if read.is_err() {
            // A backend broke off, and the connection cannot go on.
            self.course.state().may_end = true;
            return None;
        }
        self.course.state().answered += 1;
        let now = self.course.env.clock().now();
        self.course.ledger.book().end(now, id, end);
        Some(())
    }
}
