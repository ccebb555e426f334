//! Modelled clients: an open loop that asks at random whatever happens, or users who wait for their answers. Each checks
//! that what it gets is the whole answer to what it asked.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use weirkeeper::env::{Clock, Env, Net, Stream};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::message::{Fault, Framing, Head, Reader};
use super::pattern::Whose;
use crate::env::{SimEnv, SimStream, lock};
use crate::ledger::{End, Ledger, PROBE};
use crate::scenario::{ClientModel, RequestModel};

/// A group of clients.
#[derive(Debug)]
pub struct Group {
    index: usize,
    model: ClientModel,
    target: SocketAddr,
    env: SimEnv,
    ledger: Ledger,
    kinds: Vec<Kind>,
    /// Idle connections, the latest last.
    pool: Mutex<Vec<Wire>>,
}

/// A kind of request, ready to be sent.
#[derive(Debug)]
struct Kind {
    model: RequestModel,
    method: http::Method,
    /// The head up to the field that carries the id.
    head: Vec<u8>,
}

/// A connection to the proxy.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: SimStream,
    pub(super) reader: Reader,
}

impl Wire {
    pub(super) fn new(stream: SimStream) -> Self {
        let reader = Reader::default();
        Wire { stream, reader }
    }
}

/// An idle connection that is still open.
pub(super) fn open_one(pool: &Mutex<Vec<Wire>>) -> Option<Wire> {
    let mut pool = lock(pool);
    let mut cx = Context::from_waker(Waker::noop());
    while let Some(mut wire) = pool.pop() {
        if Pin::new(&mut wire.stream)
            .poll_readable(&mut cx)
            .is_pending()
        {
            return Some(wire);
        }
    }
    None
}

/// Bodies above this size go in pieces, a millisecond apart.
const PIECE: usize = 8 * 1024;

impl Group {
    /// Group number `index`, which asks `target`. [`PROBE`] is the group of probes.
    pub fn new(
        index: usize,
        model: ClientModel,
        target: SocketAddr,
        env: SimEnv,
        ledger: Ledger,
    ) -> Arc<Group> {
        let kinds = model.requests.iter().map(Kind::new).collect();
        Arc::new(Group {
            index,
            model,
            target,
            env,
            ledger,
            kinds,
            pool: Mutex::default(),
        })
    }

    /// Asks until `end`. Runs within its host; what is under way then goes on by itself.
    pub fn start(self: &Arc<Self>, end: Tick) {
        let this = Arc::clone(self);
        match self.model.rate {
            Some(rate) => {
                let rng = self.env.rng("client", self.index as u64);
                self.env.spawn("open loop", async move {
                    this.open_loop(rng, rate, end).await;
                });
            }
            None => {
                for user in 0..self.model.users.unwrap_or(1) {
                    let this = Arc::clone(self);
                    let name = format!("client {}", self.index);
                    let rng = self.env.rng(&name, u64::from(user));
                    self.env.spawn("user", async move {
                        this.user(rng, end).await;
                    });
                }
            }
        }
    }

    /// Asks for one request of each kind that can always be made up for and says whether every answer was good.
    pub async fn probe(&self, rng: &mut Rng) -> Result<(), String> {
        for (kind, what) in self.kinds.iter().enumerate() {
            // A body that was taken from the client cannot be sent again, should its kept-alive connection turn out to be closed.
            if !what.method.is_idempotent() || what.model.body_bytes > 0 || what.model.chunked {
                continue;
            }
            let id = self.offer(kind);
            match self.run(id, kind, None, rng.next_u64()).await {
                End::Answered { status } if status < 500 => {}
                // A route may answer by itself, with a redirect for example.
                End::Refused { status } if status < 400 => {}
                other => {
                    let (method, now) = (&what.method, self.env.clock().now());
                    return Err(format!("{method} probe {id} ended with {other:?} at {now}"));
                }
            }
        }
        Ok(())
    }

    async fn open_loop(self: Arc<Self>, mut rng: Rng, rate: f64, end: Tick) {
        let mut next = Duration::ZERO;
        loop {
            next += Duration::from_secs_f64(rng.exponential(1.0 / rate));
            let at = Tick::ZERO + next;
            if at >= end {
                return;
            }
            if at > self.env.clock().now() {
                self.env.clock().sleep_until(at).await;
            }
            let kind = self.pick(&mut rng);
            let patience = self.model.patience.map(|p| p.sample(&mut rng));
            let whim = rng.next_u64();
            let id = self.offer(kind);
            let this = Arc::clone(&self);
            self.env.spawn("request", async move {
                this.run(id, kind, patience, whim).await;
            });
        }
    }

    async fn user(&self, mut rng: Rng, end: Tick) {
        let clock = self.env.clock();
        // Users do not begin in step.
        let mut pause = Duration::from_millis(rng.below(20));
        loop {
            if !pause.is_zero() {
                clock.sleep_until(clock.now() + pause).await;
            }
            if clock.now() >= end {
                return;
            }
            let kind = self.pick(&mut rng);
            let patience = self.model.patience.map(|p| p.sample(&mut rng));
            let id = self.offer(kind);
            let ended = self.run(id, kind, patience, rng.next_u64()).await;
            pause = self.model.think.sample(&mut rng);
            if !matches!(ended, End::Answered { .. }) {
                // Whoever is refused at once does not ask again at once, or the run would consist of refusals.
                pause = pause.max(Duration::from_millis(5));
            }
        }
    }

    fn pick(&self, rng: &mut Rng) -> usize {
        if self.kinds.len() == 1 {
            return 0;
        }
        let total: f64 = self.kinds.iter().map(|k| k.model.weight).sum();
        let mut at = rng.unit() * total;
        let found = self.kinds.iter().position(|kind| {
            at -= kind.model.weight;
            at < 0.0
        });
        found.unwrap_or(self.kinds.len() - 1)
    }

    fn offer(&self, kind: usize) -> u64 {
        let idempotent = self.kinds[kind].method.is_idempotent();
        let now = self.env.clock().now();
        self.ledger.book().offer(now, self.index, kind, idempotent)
    }

    /// One request from its offer to its end. `whim` decides what the model leaves open.
    async fn run(&self, id: u64, kind: usize, patience: Option<Duration>, whim: u64) -> End {
        let mut ended = Ended {
            group: self,
            id,
            end: None,
        };
        let mut wire = None;
        let exchange = self.exchange(id, kind, whim, &mut wire);
        let end = match patience {
            None => Some(exchange.await),
            Some(patience) => self.env.clock().timeout(patience, exchange).await,
        };
        let end = end.unwrap_or(End::GaveUp);
        if end == End::GaveUp
            && whim & 1 == 1
            && let Some(wire) = &wire
        {
            wire.stream.set_abort();
        }
        ended.end = Some(end);
        end
    }

    /// Sends a request and reads its answer. The connection stays in `wire` unless it went back to the pool.
    async fn exchange(&self, id: u64, kind: usize, whim: u64, wire: &mut Option<Wire>) -> End {
        let kind = &self.kinds[kind];
        *wire = open_one(&self.pool);
        let wire_ref = match wire {
            Some(wire) => wire,
            None => match self.env.net().connect(self.target).await {
                Ok(stream) => wire.insert(Wire::new(stream)),
                Err(_) => return End::Broken,
            },
        };
        // A failed write is no end yet: the answer may have come before the request was through.
        let sent = self.send(kind, id, whim, &mut wire_ref.stream).await;
        let Ok((head, end)) = self.receive(kind, id, wire_ref).await else {
            return End::Broken;
        };
        let whole = sent && !head.close && head.framing != Framing::Close;
        if whole && self.model.keep_alive && wire_ref.reader.is_empty() {
            lock(&self.pool).extend(wire.take());
        }
        end
    }

    async fn send(&self, kind: &Kind, id: u64, whim: u64, stream: &mut SimStream) -> bool {
        let (bytes, pieces) = kind.encode(id);
        if !pieces || whim & 2 == 0 {
            return stream.write_all(&bytes).await.is_ok();
        }
        let clock = self.env.clock();
        for piece in bytes.chunks(PIECE) {
            if stream.write_all(piece).await.is_err() {
                return false;
            }
            clock.sleep_until(clock.now() + crate::GRAIN).await;
        }
        true
    }

    async fn receive(&self, kind: &Kind, id: u64, wire: &mut Wire) -> Result<(Head, End), Fault> {
        let Wire { stream, reader } = wire;
        let read = async {
            let mut head = reader.head(stream, false).await?;
            while (100..200).contains(&head.status) {
                head = reader.head(stream, false).await?;
            }
            if kind.method == http::Method::HEAD {
                head.framing = Framing::Length(0);
            }
            let whose = head.id.map(Whose::Answer);
            let size = reader.body(stream, head.framing, whose).await?;
            Ok((head, size))
        };
        let (head, size) = match read.await {
            Ok(read) => read,
            Err(fault @ (Fault::Foreign | Fault::Malformed)) => {
                let what = format!("the answer to request {id} came as {fault:?}");
                self.ledger.book().violation("bytes", what);
                return Err(fault);
            }
            Err(fault) => return Err(fault),
        };
        let mut book = self.ledger.book();
        let Some(answered) = head.id else {
            let reason = head
                .error
                .clone()
                .unwrap_or_else(|| head.status.to_string());
            *book.reasons.entry(reason).or_default() += 1;
            let status = head.status;
            return Ok((head, End::Refused { status }));
        };
        let cached = head.field("cache-status").unwrap_or("");
        let shared = ["hit", "collapsed", "detail=redis"];
        if shared.iter().any(|word| cached.contains(word)) {
            // It was made for another request, in the size that that one asked for.
            let status = head.status;
            book.from_cache(id);
            return Ok((head, End::Answered { status }));
        }
        if answered != id {
            let what = format!("request {id} got the answer to request {answered}");
            book.violation("conservation", what);
        }
        let asked = match kind.method == http::Method::HEAD || head.status >= 500 {
            true => 0,
            false => kind.model.answer_bytes as usize,
        };
        if size != asked {
            let what = format!("the answer to request {id} has {size} bytes instead of {asked}");
            book.violation("bytes", what);
        }
        let status = head.status;
        Ok((head, End::Answered { status }))
    }
}

impl Kind {
    fn new(model: &RequestModel) -> Kind {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\n",
            model.method, model.path, model.host
        );
        for (name, value) in &model.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Kind {
            method: http::Method::from_bytes(model.method.as_bytes())
                .expect("the scenario was checked"),
            model: model.clone(),
            head: head.into_bytes(),
        }
    }

    /// The whole request, and whether it is large enough to go in pieces.
    fn encode(&self, id: u64) -> (Vec<u8>, bool) {
        let size = self.model.body_bytes as usize;
        let mut bytes = Vec::with_capacity(self.head.len() + 96 + size);
        bytes.extend_from_slice(&self.head);
        let answer = self.model.answer_bytes;
        bytes.extend_from_slice(format!("x-sim: {id} {answer} {size}\r\n").as_bytes());
        let body = |bytes: &mut Vec<u8>, mut offset: usize, len: usize| {
            let end = offset + len;
            while offset < end {
                let part = Whose::Request(id).slice(offset, end - offset);
                bytes.extend_from_slice(part);
                offset += part.len();
            }
        };
        if self.model.chunked {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            let half = size / 2;
            for (offset, len) in [(0, half), (half, size - half)] {
                if len > 0 {
                    bytes.extend_from_slice(format!("{len:x}\r\n").as_bytes());
                    body(&mut bytes, offset, len);
                    bytes.extend_from_slice(b"\r\n");
                }
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            if size > 0 || !(self.method.is_safe() || self.method == http::Method::DELETE) {
                bytes.extend_from_slice(format!("content-length: {size}\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            body(&mut bytes, 0, size);
        }
        (bytes, size > PIECE)
    }
}

/// Writes a request's end down, however it comes.
struct Ended<'a> {
    group: &'a Group,
    id: u64,
    end: Option<End>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let now = self.group.env.clock().now();
        let end = self.end.unwrap_or(End::Broken);
        let mut book = self.group.ledger.book();
        book.end(now, self.id, end);
        if self.group.index != PROBE {
            match end {
                End::GaveUp => book.reach("gave up"),
                End::Broken => book.reach("broken answer"),
                End::Refused { status: 502 } => book.reach("502"),
                End::Refused { status: 504 } => book.reach("504"),
                _ => {}
            }
        }
    }
}
