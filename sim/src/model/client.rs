//! Modelled clients: an open loop that asks at random whatever happens, or users who wait for their answers. Each checks
//! that what it gets is the whole answer to what it asked.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use weirkeeper::env::{Clock, Env, Net};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::certificates;
use super::kind::Kind;
use super::message::{Fault, Framing, Head, Reader};
use super::pattern::Whose;
use super::socket::Socket;
use super::speech::Speech;
use super::streams::pool::{Carrier, Pool};
use super::tunnel::{self, Prefixed};
use crate::env::{SimEnv, lock};
use crate::ledger::{End, Ledger, PROBE};
use crate::scenario::ClientModel;

/// A group of clients.
#[derive(Debug)]
pub struct Group {
    index: usize,
    model: ClientModel,
    pub(super) target: SocketAddr,
    pub(super) env: SimEnv,
    pub(super) ledger: Ledger,
    kinds: Vec<Kind>,
    /// Idle connections, the latest last.
    pool: Mutex<Vec<Wire>>,
    speech: Speech,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Connections of HTTP/2.
    pub(super) shared: Pool,
}

/// A connection to the proxy.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Socket,
    pub(super) reader: Reader,
    /// Requests that were answered on it.
    answered: u32,
}

impl Wire {
    pub(super) fn new(stream: Socket) -> Self {
        let reader = Reader::default();
        Wire {
            stream,
            reader,
            answered: 0,
        }
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

/// After so long nothing is under way that nobody waits for.
const SETTLED: Duration = Duration::from_millis(200);

/// Pieces of a body, a millisecond apart.
const PIECE: usize = super::kind::PIECE;

impl Group {
    /// Group number `index`, which asks `target` as `speech` says. [`PROBE`] is the group of probes.
    pub fn new(
        index: usize,
        model: ClientModel,
        target: SocketAddr,
        speech: Speech,
        env: SimEnv,
        ledger: Ledger,
    ) -> Arc<Group> {
        let kind = |model| Kind::new(model, speech.cookies);
        let kinds = model.requests.iter().map(kind).collect();
        let alpn: &[&[u8]] = match speech.http2 {
            Some(_) => &[b"h2", b"http/1.1"],
            None => &[b"http/1.1"],
        };
        Arc::new(Group {
            index,
            model,
            target,
            tls: speech.tls.then(|| certificates::client(&env, alpn)),
            env,
            ledger,
            kinds,
            pool: Mutex::default(),
            speech,
            shared: Pool::default(),
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
            let body = (what.model.body_bytes > 0 && !what.tunnel) || what.model.chunked;
            if !what.method.is_idempotent() || body {
                continue;
            }
            if what.tunnel {
                // What was given up a moment ago may still have its place.
                let clock = self.env.clock();
                clock.sleep_until(clock.now() + SETTLED).await;
            }
            let id = self.offer(kind);
            match self.run(id, kind, None, rng.next_u64()).await {
                End::Answered { status } if status < 500 => {}
                // Nor does every upstream, or every backend, open a tunnel.
                End::Refused { status: 405 | 502 } if what.tunnel => {}
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
        let (mut wire, mut carrier) = (None, None);
        let exchange = self.exchange(id, kind, whim, &mut wire, &mut carrier);
        let end = match patience {
            None => Some(exchange.await),
            Some(patience) => self.env.clock().timeout(patience, exchange).await,
        };
        let end = end.unwrap_or(End::GaveUp);
        // An end in order within a tunnel would be one of its bytes' own.
        let aborts = whim & 1 == 1 || self.kinds[kind].tunnel;
        if end == End::GaveUp
            && aborts
            && let Some(wire) = &wire
        {
            wire.stream.set_abort();
        }
        if let (End::GaveUp, Some(carrier), Some(streams)) = (end, carrier, self.speech.http2) {
            let all = (whim >> 32 & 0xff) as f64 / 256.0 < streams.abort;
            self.ledger.book().reach(match all {
                true => "a client's connection of HTTP/2 aborted",
                false => "a client reset its stream",
            });
            if all {
                carrier.abort();
            }
        }
        ended.end = Some(end);
        end
    }

    /// Sends a request and reads its answer. The connection stays in `wire` unless it went back to the pool.
    async fn exchange(
        &self,
        id: u64,
        kind: usize,
        whim: u64,
        wire: &mut Option<Wire>,
        carrier: &mut Option<Arc<Carrier>>,
    ) -> End {
        let kind = &self.kinds[kind];
        if let Some(streams) = self.speech.http2 {
            return self.exchange_stream(id, kind, whim, streams, carrier).await;
        }
        *wire = open_one(&self.pool);
        let wire_ref = match wire {
            Some(wire) => wire,
            None => {
                let Ok(stream) = self.env.net().connect(self.target).await else {
                    return End::Broken;
                };
                match Socket::connect(stream, self.tls.as_ref()).await {
                    Ok(stream) => wire.insert(Wire::new(stream)),
                    Err(_) => return End::Broken,
                }
            }
        };
        if kind.tunnel {
            let end = self.ask_for_tunnel(kind, id, whim, wire_ref).await;
            if end == End::Broken {
                wire_ref.stream.set_abort();
            }
            return end;
        }
        // A failed write is no end yet: the answer may have come before the request was through.
        let sent = self.send(kind, id, whim, &mut wire_ref.stream).await;
        let Ok((head, end)) = self.receive(kind, id, wire_ref).await else {
            return End::Broken;
        };
        self.count(wire_ref, &head);
        let whole = sent && !head.close && head.framing != Framing::Close;
        if whole && self.model.keep_alive && wire_ref.reader.is_empty() {
            lock(&self.pool).extend(wire.take());
        }
        end
    }

    /// A connection serves so many requests, and says so with the last.
    fn count(&self, wire: &mut Wire, head: &Head) {
        wire.answered += 1;
        let Some(bound) = self.speech.requests else {
            return;
        };
        let mut book = self.ledger.book();
        if wire.answered >= bound && !head.close {
            let what = format!("answer {} of a connection is not the last", wire.answered);
            book.violation("order", what);
        } else if wire.answered == bound {
            book.reach("the last request of a connection");
        }
    }

    /// Asks for a tunnel and sees it through.
    async fn ask_for_tunnel(&self, kind: &Kind, id: u64, whim: u64, wire: &mut Wire) -> End {
        let Wire { stream, reader, .. } = wire;
        let errand = kind.errand(id, whim);
        let early = match whim & 8 {
            0 => 0,
            _ => errand.up.min(EARLY),
        };
        let mut bytes = kind.encode(id).0;
        let end = bytes.len() - 2;
        bytes.truncate(end);
        bytes.extend_from_slice(format!("x-tunnel: {}\r\n\r\n", errand.field()).as_bytes());
        bytes.extend_from_slice(Whose::Request(id).slice(0, early));
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return End::Broken;
        }
        let head = match reader.head(stream, false).await {
            Ok(head) => head,
            Err(fault) => return self.fault(id, &fault),
        };
        if head.status != 101 {
            let whose = head.id.map(Whose::Answer);
            return match reader.body(stream, head.framing, whose).await {
                Ok(size) if head.status == 200 => self.judge(kind, id, &head, size),
                Ok(size) => self.judge_refusal(kind, id, &head, size),
                Err(fault) => self.fault(id, &fault),
            };
        }
        self.ledger.book().wires.tunnel(id).told = true;
        self.ledger.book().reach("tunnel over HTTP/1.1");
        let io = Prefixed::new(reader.rest(), stream);
        let pause = kind.pause(whim);
        let whole = tunnel::visit(&self.env, &self.ledger, errand, early, pause, io).await;
        self.tunnel_end(whole, head.status)
    }

    /// How a tunnel ended for its client.
    pub(super) fn tunnel_end(&self, whole: bool, status: u16) -> End {
        match whole {
            true => End::Answered { status },
            false => {
                self.ledger.book().reach("a tunnel broke off");
                End::Broken
            }
        }
    }

    async fn send(&self, kind: &Kind, id: u64, whim: u64, stream: &mut Socket) -> bool {
        let (bytes, pieces) = kind.encode(id);
        if !pieces || whim & 2 == 0 {
            return stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok();
        }
        let clock = self.env.clock();
        for piece in bytes.chunks(PIECE) {
            if stream.write_all(piece).await.is_err() {
                return false;
            }
            clock.sleep_until(clock.now() + crate::GRAIN).await;
        }
        stream.flush().await.is_ok()
    }

    async fn receive(&self, kind: &Kind, id: u64, wire: &mut Wire) -> Result<(Head, End), Fault> {
        let Wire { stream, reader, .. } = wire;
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
            Err(fault) => {
                self.fault(id, &fault);
                return Err(fault);
            }
        };
        let end = self.judge(kind, id, &head, size);
        Ok((head, end))
    }

    /// An answer that cannot be read to its end. It may break off, and it may not be wrong.
    fn fault(&self, id: u64, fault: &Fault) -> End {
        if matches!(fault, Fault::Foreign | Fault::Malformed) {
            let what = format!("the answer to request {id} came as {fault:?}");
            self.ledger.book().violation("bytes", what);
        }
        End::Broken
    }

    /// A whole answer that opens no tunnel: it has no body unless the proxy made it.
    pub(super) fn judge_refusal(&self, kind: &Kind, id: u64, head: &Head, size: usize) -> End {
        match head.id {
            Some(answered) if answered == id && size == 0 => End::Answered {
                status: head.status,
            },
            _ => self.judge(kind, id, head, size),
        }
    }

    /// What a whole answer says, held against what was asked.
    pub(super) fn judge(&self, kind: &Kind, id: u64, head: &Head, size: usize) -> End {
        let status = head.status;
        let mut book = self.ledger.book();
        let Some(answered) = head.id else {
            let reason = head.error.clone().unwrap_or_else(|| status.to_string());
            if kind.tunnel && reason == "connection_limit_reached" {
                book.reach("tunnels were full");
            }
            *book.reasons.entry(reason).or_default() += 1;
            return End::Refused { status };
        };
        let cached = head.field("cache-status").unwrap_or("");
        let shared = ["hit", "collapsed", "detail=redis"];
        if shared.iter().any(|word| cached.contains(word)) {
            // It was made for another request, in the size that that one asked for.
            book.from_cache(id);
            return End::Answered { status };
        }
        if answered != id {
            let what = format!("request {id} got the answer to request {answered}");
            book.violation("conservation", what);
        }
        let asked = match kind.method == http::Method::HEAD || status >= 500 {
            true => 0,
            false => kind.model.answer_bytes as usize,
        };
        if size != asked {
            let what = format!("the answer to request {id} has {size} bytes instead of {asked}");
            book.violation("bytes", what);
        }
        End::Answered { status }
    }
}

/// Bytes of a tunnel that a client sends with its request, at most.
const EARLY: usize = 2000;

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
