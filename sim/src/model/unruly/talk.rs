//! One unruly connection seen through: what its script says is written, what comes is read at the same time and held against what
//! was asked.
//!
//! Answers come in the order of their requests, one for each. A connection whose request was answered before its body had come
//! goes on behind that body or ends; nothing else comes of it.

use std::future::pending;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, WriteHalf, split};
use tokio::sync::Notify;
use weirkeeper::env::{Clock, Env, Stream};

use super::ear::Ear;
use super::script::{Ask, Expect, Script, Target, Within, Written};
use crate::env::{SimEnv, SimStream, lock};
use crate::ledger::{Asked, End, Ledger, UNRULY};
use crate::model::message::{Fault, Framing, Head, Reader};
use crate::model::pattern::Whose;
use crate::wires::Claim;

/// The proxy answers a client that has said its end behind a whole request. Without this, it may take that end for a client that
/// leaves, and drops the request.
const HALF_CLOSED_IS_ANSWERED: bool = true;

/// How long a client waits for the word to go on.
const GOES_ON: Duration = Duration::from_millis(800);

/// How long a client that leaves with a whole request waits before.
const WAITS: Duration = Duration::from_millis(3);

/// A connection.
pub(super) struct Talk {
    env: SimEnv,
    ledger: Ledger,
    script: Script,
    door: Door,
    state: Mutex<State>,
    /// Something came.
    heard: Notify,
    /// All is said.
    said: Notify,
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
}

/// How far it has come.
#[derive(Debug, Default)]
struct State {
    /// The ids of requests that were begun.
    ids: Vec<u64>,
    /// Heads that were sent whole.
    heads: usize,
    /// Requests that were sent whole.
    whole: usize,
    /// Answers whose heads have come.
    begun: usize,
    /// Answers that have come whole.
    answered: usize,
    /// Words to go on.
    told: usize,
    /// All is written.
    said: bool,
    /// The proxy's end has come.
    ended: bool,
    /// The client's end is said.
    half_closed: bool,
    /// The proxy may close the connection for what was before, or has said that it will.
    may_end: bool,
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The client has left.
    Left,
    /// The proxy has ended it.
    Ended,
    /// All is answered.
    Quiet,
}

impl Talk {
    /// A connection to `door` on which `script` is followed.
    pub(super) fn new(env: SimEnv, ledger: Ledger, script: Script, door: Door) -> Self {
        Talk {
            env,
            ledger,
            script,
            door,
            state: Mutex::default(),
            heard: Notify::new(),
            said: Notify::new(),
        }
    }

    pub(super) async fn run(&self, stream: SimStream) {
        let (read, mut write) = split(stream);
        let mut ear = Ear::new(read, self.env.clone(), self.script.slow);
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
        if over == Over::Left && self.script.leaving.is_some_and(|l| l.resets) {
            stream.set_abort();
        }
        drop(stream);
        self.close(over);
    }

    fn reach(&self, what: &'static str) {
        self.ledger.book().reach(what);
    }

    fn wrong(&self, what: String) {
        self.ledger.book().violation("order", what);
    }

    /// Ends what has no end.
    fn close(&self, over: Over) {
        let state = lock(&self.state);
        let now = self.env.clock().now();
        let mut book = self.ledger.book();
        for (at, id) in state.ids.iter().enumerate().skip(state.answered) {
            let end = match over {
                Over::Left => End::GaveUp,
                Over::Ended | Over::Quiet => End::Broken,
            };
            book.end(now, *id, end);
            let excused = state.may_end || (state.half_closed && !HALF_CLOSED_IS_ANSWERED);
            let own = matches!(self.script.asks[at].target, Target::Own(..));
            let first = at == state.answered && at < state.whole;
            if end == End::Broken && first && (own || self.door.calm) && !excused {
                let what = format!("request {id} was not answered, as nothing excuses, at {now}");
                book.violation("order", what);
            }
        }
    }

    /// Writes all that is to be written; it ends only when the client leaves.
    async fn write(&self, half: &mut WriteHalf<SimStream>) -> Over {
        let mut mouth = Mouth {
            talk: self,
            half,
            out: Vec::new(),
            heads: 0,
            wholes: 0,
            broken: false,
        };
        for (at, ask) in self.script.asks.iter().enumerate() {
            if lock(&self.state).ended {
                break;
            }
            let written = ask.encode(self.begin(ask));
            if mouth.request(at, ask, &written).await == Some(Over::Left) {
                return Over::Left;
            }
            if at + 1 < self.script.asks.len() && !self.script.pipelined {
                mouth.flush().await;
                self.until(|s| s.answered > at || s.ended).await;
            }
        }
        mouth.flush().await;
        if self.script.half_closes
            && !mouth.broken
            && !lock(&self.state).ended
            && mouth.half.shutdown().await.is_ok()
        {
            lock(&self.state).half_closed = true;
            self.reach("a client said its end behind a whole request");
        }
        lock(&self.state).said = true;
        self.said.notify_one();
        pending().await
    }

    /// A request begins; its id.
    fn begin(&self, ask: &Ask) -> u64 {
        let now = self.env.clock().now();
        let mut book = self.ledger.book();
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
        lock(&self.state).ids.push(id);
        id
    }

    /// Waits until the reader has got so far.
    async fn until(&self, far: impl Fn(&State) -> bool) {
        while !far(&lock(&self.state)) {
            self.heard.notified().await;
        }
    }

    async fn sleep(&self, time: Duration) {
        let clock = self.env.clock();
        clock.sleep_until(clock.now() + time).await;
    }

    /// The request is said to its end that the writer is at.
    async fn all_said(&self) {
        lock(&self.state).ended = true;
        self.heard.notify_one();
        while !lock(&self.state).said {
            self.said.notified().await;
        }
    }

    /// All is said and answered, and for a while nothing came.
    async fn quiet(&self) {
        let done = |s: &State| s.said && s.answered == s.ids.len();
        while !done(&lock(&self.state)) {
            self.said.notified().await;
        }
        self.sleep(self.script.listens).await;
    }

    /// Reads answers until the connection is over.
    async fn read(&self, ear: &mut Ear) -> Over {
        let mut reader = Reader::default();
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
                    if self.script.stubborn {
                        self.all_said().await;
                    }
                    return Over::Ended;
                }
            };
            if (100..200).contains(&head.status) {
                lock(&self.state).told += usize::from(head.status == 100);
                self.heard.notify_one();
                continue;
            }
            let Some((at, id)) = self.next(&head) else {
                return Over::Ended;
            };
            if self.script.leaves(at, Within::Answer) {
                self.reach("an unruly client left within its answer");
                return Over::Left;
            }
            if self.answer(at, id, head, &mut reader, ear).await.is_none() {
                return Over::Ended;
            }
            self.heard.notify_one();
        }
    }

    /// Which request the answer belongs to that begins with `head`: the first that has none.
    fn next(&self, head: &Head) -> Option<(usize, u64)> {
        let mut state = lock(&self.state);
        let at = state.begun;
        let complaint = head.id.is_none() && matches!(head.status, 400 | 408 | 431);
        let asked = at < state.heads || complaint;
        let Some(id) = state.ids.get(at).copied().filter(|_| asked) else {
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
        state.may_end |= self.script.asks[at].is_loaded();
        state.may_end |= early || head.close || head.framing == Framing::Close;
        drop(state);
        if early {
            self.reach(match self.script.asks[at].target {
                Target::Own(..) => "the proxy answered before the body was there",
                _ => "a body was still to come behind an answer",
            });
        }
        if at > 0 && self.script.pipelined {
            self.reach("a pipelined pair was answered");
        }
        let before = at.checked_sub(1).map(|i| &self.script.asks[i]);
        if before.is_some_and(|b| b.is_loaded() && matches!(b.target, Target::Own(..))) {
            self.reach("a connection went on behind a body that nobody read");
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
        let ask = &self.script.asks[at];
        let mut body = Vec::new();
        let read = reader.body_into(ear, head.framing, &mut body).await;
        if read == Err(Fault::Malformed) {
            self.wrong(format!("the body of the answer to request {id} is no HTTP"));
        }
        let end = self.judge(ask, id, &head, &body, read.is_ok());
        if read.is_err() {
            // A backend broke off, and the connection cannot go on.
            lock(&self.state).may_end = true;
            return None;
        }
        lock(&self.state).answered += 1;
        let now = self.env.clock().now();
        self.ledger.book().end(now, id, end);
        Some(())
    }

    fn judge(&self, ask: &Ask, id: u64, head: &Head, body: &[u8], whole: bool) -> End {
        let status = head.status;
        let mut book = self.ledger.book();
        let made = head.number("x-gen").and_then(|n| usize::try_from(n).ok());
        let made = made.and_then(|n| book.made.get(n).copied());
        let mut wrong = |what: String| {
            let asked = format!("{} {}", ask.method, ask.path());
            book.violation("order", format!("request {id} ({asked}) {what}"));
        };
        match (&ask.target, head.id, made) {
            (Target::Own(_, own), None, None) => {
                let too_large = status == 413 && ask.exceeds(self.door.limit);
                if status != *own && !too_large && !matches!(status, 400 | 408) {
                    wrong(format!("was answered with {status} instead of {own}"));
                }
                return End::Refused { status };
            }
            (Target::Own(..), ..) => wrong("was answered by a backend".to_string()),
            (_, None, None) => {
                if status < 500 && !matches!(status, 400 | 408 | 413) {
                    wrong(format!("was answered by the proxy with {status}"));
                }
                return End::Refused { status };
            }
            (Target::Backend(_), Some(answered), _) => {
                let size = if status < 500 { ask.size } else { 0 };
                if answered != id {
                    wrong(format!("got the answer to request {answered}"));
                } else if (whole && body.len() != size) || !Whose::Answer(id).matches(0, body) {
                    wrong(format!("got {} bytes instead of its {size}", body.len()));
                }
            }
            (Target::Backend(_), None, Some(_)) => wrong("got a page".to_string()),
            (Target::Page(page), _, Some(made)) => {
                let bytes = made.rep.bytes(0, made.size);
                if made.rep.page != *page {
                    wrong(format!("got page {}", made.rep.page));
                } else if ask.method == "POST" && made.request != id {
                    wrong(format!("got the answer to request {}", made.request));
                } else if ask.method == "GET" && !bytes.starts_with(body) {
                    wrong("got a page with another content".to_string());
                } else if ask.method == "GET" && whole && bytes.len() != body.len() {
                    wrong("got a page that is not whole".to_string());
                }
            }
            // Others may wait for one fetch, and hear of its failure.
            (Target::Page(_), Some(answered), None) if answered != id && ask.method != "GET" => {
                wrong(format!("got the answer to request {answered}"));
            }
            (Target::Page(_), Some(_), None) => {}
        }
        End::Answered { status }
    }
}

/// The writing half.
struct Mouth<'a> {
    talk: &'a Talk,
    half: &'a mut WriteHalf<SimStream>,
    /// To be written.
    out: Vec<u8>,
    /// So many heads have their ends in it.
    heads: usize,
    /// So many requests have.
    wholes: usize,
    /// Nobody reads any more.
    broken: bool,
}

impl Mouth<'_> {
    /// Writes one request with its pauses, or leaves the last of it to be written with the next.
    async fn request(&mut self, at: usize, ask: &Ask, written: &Written) -> Option<Over> {
        let talk = self.talk;
        let Written { bytes, head, cuts } = written;
        let leaves = |within| talk.script.leaves(at, within);
        let (mut end, mut done) = (bytes.len(), 0);
        if leaves(Within::Head) {
            end = head / 2;
        } else if leaves(Within::Body) && bytes.len() > *head {
            end = head + (bytes.len() - head) / 2;
        }
        let mut waits = ask.expect == Expect::Waits;
        let mut stops: Vec<(usize, Duration)> = cuts.clone();
        stops.push((*head, Duration::ZERO));
        stops.push((end, Duration::ZERO));
        stops.sort_by_key(|(at, _)| *at);
        for (stop, pause) in stops.into_iter().filter(|(at, _)| *at <= end) {
            self.out.extend_from_slice(&bytes[done..stop]);
            if done < *head && stop >= *head {
                self.heads += 1;
            }
            done = stop;
            if waits && stop == *head {
                waits = false;
                self.flush().await;
                talk.until_told(at).await;
            }
            if !pause.is_zero() {
                self.flush().await;
                talk.sleep(pause).await;
            }
        }
        if end < bytes.len() {
            self.flush().await;
            talk.reach(match end < *head {
                true => "an unruly client left within its head",
                false => "an unruly client left within its body",
            });
            return Some(Over::Left);
        }
        self.wholes += 1;
        let late = bytes.len() > *head && lock(&talk.state).begun > at;
        if leaves(Within::Wait) || late || !talk.script.pipelined {
            self.flush().await;
        }
        if late && !self.broken {
            talk.reach(match ask.target {
                Target::Own(..) => "a late body behind an answer of the proxy's own",
                _ => "a late body behind a backend's early answer",
            });
        }
        if leaves(Within::Wait) {
            talk.sleep(WAITS).await;
            talk.reach("an unruly client left before its answer");
            return Some(Over::Left);
        }
        None
    }

    /// Writes what is to be written.
    async fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        let heads = std::mem::take(&mut self.heads);
        let wholes = std::mem::take(&mut self.wholes);
        if self.broken || out.is_empty() {
            return;
        }
        self.talk.claim(heads);
        // The reader hears why.
        self.broken = self.half.write_all(&out).await.is_err();
        self.broken |= self.half.flush().await.is_err();
        lock(&self.talk.state).whole += wholes;
    }
}

impl Talk {
    /// So many more heads leave whole.
    fn claim(&self, heads: usize) {
        let mut state = lock(&self.state);
        let from = state.heads;
        state.heads += heads;
        let mut book = self.ledger.book();
        for id in &state.ids[from..from + heads] {
            if let Some(claim) = book.wires.claims.get_mut(id) {
                claim.sent = true;
            }
        }
    }

    /// Waits for the word to go on, or for an answer, though not for ever.
    async fn until_told(&self, at: usize) {
        let before = lock(&self.state).told;
        let word = self.until(|s| s.told > before || s.begun > at || s.ended);
        let waited = self.env.clock().timeout(GOES_ON, word).await;
        let told = waited.is_some() && lock(&self.state).told > before;
        if told {
            self.reach("a client was told to go on");
        }
    }
}
