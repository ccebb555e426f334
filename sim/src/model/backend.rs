//! A modelled backend: it accepts, reads, works for as long as its model says, and answers; faults act on it from outside.
//!
//! What it truly works on at once is its own affair: what exceeds that queues inside it. It writes down every request that
//! reaches it and checks, at that moment, that the proxy kept to what the config allows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use weirkeeper::env::{Clock, Env, Listener, Net, Task};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::answer::{Answer, garbage, refusal, whole};
use super::certificates;
use super::forgery;
use super::message::{self, Head, Reader};
use super::origin::Origin;
use super::running::{Load, Running};
use super::socket::Socket;
use super::tunnel::Errand;
use crate::env::{Link, SimEnv, SimStream, lock};
use crate::ledger::Ledger;
use crate::plan::BackendPlan;
use crate::scenario::BackendModel;

/// One modelled backend.
#[derive(Debug)]
pub struct Backend {
    pub(super) plan: BackendPlan,
    pub(super) env: SimEnv,
    pub(super) ledger: Ledger,
    /// What it knows of cacheable pages.
    origin: Option<Arc<Origin>>,
    permits: Semaphore,
    tls: Option<Arc<ServerConfig>>,
    /// What it works on.
    pub(super) load: Load,
    pub(super) state: Mutex<State>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) rng: Rng,
    /// What its habits are drawn from.
    pub(super) whims: Rng,
    /// Faults that keep it from accepting.
    pub(super) closed: u32,
    pub(super) accepting: Option<Task>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) next_connection: u64,
    /// Connections older than this one end with their message.
    pub(super) retired: u64,
    pub(super) hang_until: Tick,
    pub(super) slow: Vec<f64>,
    pub(super) malformed: Vec<f64>,
    /// Faults that make it answer at once that it has failed.
    pub(super) failing: u32,
    pub(super) healed: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) since: Tick,
    pub(super) task: Option<Task>,
    pub(super) link: Arc<Link>,
    pub(super) idle: bool,
    /// It is retired: whoever serves it hears of it here.
    pub(super) told: Arc<Notify>,
}

impl State {
    /// How long the next work takes.
    pub(super) fn time(&mut self, model: &BackendModel) -> Duration {
        if self.is_failing() {
            return AT_ONCE;
        }
        let slow: f64 = self.slow.iter().product();
        let time = model.service_time.sample(&mut self.rng).mul_f64(slow);
        match self.healed {
            true => time.min(HEALED),
            false => time,
        }
    }

    /// Does it answer at once that it has failed?
    pub(super) fn is_failing(&self) -> bool {
        self.failing > 0 && !self.healed
    }

    /// The share of answers that are no HTTP.
    pub(super) fn garbled(&self, model: &BackendModel) -> f64 {
        let rates = self.malformed.iter();
        rates.fold(model.malformed_rate, |a, b| a.max(*b))
    }
}

impl Backend {
    /// A backend that does not accept yet.
    pub fn new(
        index: usize,
        plan: BackendPlan,
        env: SimEnv,
        ledger: Ledger,
        origin: Option<Arc<Origin>>,
    ) -> Arc<Backend> {
        let rng = env.rng("backend", index as u64);
        let whims = env.rng("backend habits", index as u64);
        let manner = plan.manner.unwrap_or_default();
        let alpn: &[&[u8]] = match manner.http2 {
            true => &[b"h2", b"http/1.1"],
            false => &[b"http/1.1"],
        };
        let tls = manner.tls.then(|| certificates::server(&env, alpn));
        let concurrency = plan
            .model
            .concurrency
            .map_or(Semaphore::MAX_PERMITS, |c| c as usize);
        Arc::new(Backend {
            load: Load::new(index, &plan, &env, &ledger),
            plan,
            env,
            ledger,
            origin,
            permits: Semaphore::new(concurrency),
            tls,
            state: Mutex::new(State {
                rng,
                whims,
                closed: 0,
                accepting: None,
                connections: BTreeMap::new(),
                next_connection: 0,
                retired: 0,
                hang_until: Tick::ZERO,
                slow: Vec::new(),
                malformed: Vec::new(),
                failing: 0,
                healed: false,
            }),
        })
    }

    /// Listens, unless a fault keeps it from that. Runs within its host.
    pub fn open(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.closed > 0 || state.accepting.is_some() {
            return;
        }
        let at = SocketAddr::from(([0, 0, 0, 0], self.plan.port));
        let listener = self
            .env
            .net()
            .listen(at)
            .expect("the port is this backend's own");
        let this = Arc::clone(self);
        state.accepting = Some(self.env.spawn("backend accept", async move {
            while let Ok((stream, _)) = listener.accept().await {
                this.connected(stream);
            }
        }));
    }

    /// From now on it does nothing wrong by itself either.
    pub fn heal(&self) {
        lock(&self.state).healed = true;
    }

    /// The most requests that it had at once, orphans aside.
    pub fn peak(&self) -> u32 {
        self.load.peak()
    }

    fn connected(self: &Arc<Self>, stream: SimStream) {
        let mut state = lock(&self.state);
        let key = state.next_connection;
        state.next_connection += 1;
        let told = Arc::new(Notify::new());
        let connection = Connection {
            since: self.env.clock().now(),
            task: None,
            link: Arc::clone(stream.link()),
            idle: true,
            told: Arc::clone(&told),
        };
        state.connections.insert(key, connection);
        let this = Arc::clone(self);
        let task = self.env.spawn("backend connection", async move {
            let gone = Gone {
                backend: &this,
                key,
            };
            // A handshake that fails is the proxy's affair.
            if let Ok(mut socket) = Socket::accept(stream, this.tls.as_ref()).await {
                let manner = this.plan.manner.filter(|m| m.http2);
                match manner.filter(|m| !m.tls || socket.chose_http2()) {
                    Some(manner) => this.serve_streams(key, manner, &told, socket).await,
                    None => {
                        this.serve_connection(key, &mut socket).await;
                        if socket.is_tls() {
                            // Who is gone does not hear it.
                            let _ = socket.shutdown().await;
                        }
                    }
                }
            }
            drop(gone);
        });
        if let Some(connection) = state.connections.get_mut(&key) {
            connection.task = Some(task);
        }
    }

    async fn serve_connection(&self, key: u64, stream: &mut Socket) {
        let mut reader = Reader::default();
        let mut idle = self.plan.model.idle.0;
        loop {
            let clock = self.env.clock();
            let head = tokio::select! {
                biased;
                head = reader.head(stream, true) => head,
                () = clock.sleep_until(clock.now() + idle) => return,
            };
            let head = match head {
                Ok(head) => head,
                Err(message::Fault::Malformed) => {
                    let what = format!("what came to {} is no request", self.plan.name);
                    self.ledger.book().violation("bytes", what);
                    return;
                }
                Err(_) => return,
            };
            self.set_idle(key, false);
            self.note_age(key);
            if head.is_check() {
                self.serve_check(stream).await;
                return;
            }
            forgery::hear(&self.ledger, &self.plan.name, &head, &head.path);
            let keep = match head.id {
                Some(id) => self.serve(key, id, &head, &mut reader, stream).await,
                None => self.serve_unknown(stream).await,
            };
            if !keep || head.close || self.set_idle(key, true) {
                return;
            }
            idle = self.next_idle();
        }
    }

    /// Serves one request; may the connection go on?
    async fn serve(
        &self,
        key: u64,
        id: u64,
        head: &Head,
        reader: &mut Reader,
        stream: &mut Socket,
    ) -> bool {
        let running = Running::begin(&self.load, id, stream.sim().link(), None);
        if let Some(manner) = self.plan.manner {
            self.see(id, head, stream.is_tls());
            let errand = head
                .field("x-tunnel")
                .filter(|_| head.field("upgrade").is_some());
            if let Some(errand) = errand.and_then(|f| Errand::read(id, head.size, f))
                && self.agrees(manner)
            {
                return self.carry(running, errand, head, reader, stream).await;
            }
        }
        self.unhung().await;
        let whim = self.whim(head);
        if !self.say_more(whim, stream).await {
            return false;
        }
        if let Some(leaves) = whim.early {
            return self
                .answer_early(running, (key, id, leaves), head, reader, stream)
                .await;
        }
        if !self.take(id, head, reader, stream).await {
            return false;
        }
        self.ledger
            .book()
            .work(self.env.clock().now(), running.execution);
        let work = self.work(key, id, head);
        let answer = if self.plan.model.abort_stops_work {
            tokio::select! {
                biased;
                answer = work => answer,
                () = stream.left() => return false,
            }
        } else {
            work.await
        };
        let sent = self.write(&answer, stream).await;
        drop(running);
        sent && !answer.close
    }

    /// Works for as long as it takes, and says what comes of it.
    pub(super) async fn work(&self, key: u64, id: u64, head: &Head) -> Answer {
        let _permit = self.permit().await;
        let clock = self.env.clock();
        let (time, answer) = self.draw(key, head, id);
        clock.sleep_until(clock.now() + time).await;
        self.unhung().await;
        // What a page is, it is when the work is done.
        match answer {
            Some(answer) => answer,
            None => self.page(head, id),
        }
    }

    /// A place among what it works on at once.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // Once healed it has room: orphaned work of slower days may go on for long.
        let healed = lock(&self.state).healed;
        match healed {
            true => None,
            false => Some(self.permits.acquire().await.expect("it is never closed")),
        }
    }

    /// Writes all of it; false if nobody is there to read it.
    pub(super) async fn write(&self, answer: &Answer, stream: &mut Socket) -> bool {
        let clock = self.env.clock();
        let size = if answer.pace.is_zero() { PIECE } else { PACED };
        for (i, piece) in answer.bytes.chunks(size).enumerate() {
            if i > 0 && !answer.pace.is_zero() {
                clock.sleep_until(clock.now() + answer.pace).await;
            }
            if stream.write_all(piece).await.is_err() {
                return false;
            }
        }
        stream.flush().await.is_ok()
    }

    /// A request that no modelled client sent: a health check, say.
    /// A health check, whose connection ends with it: good, unless the backend hangs.
    async fn serve_check(&self, stream: &mut Socket) {
        self.ledger.book().reach("a backend was checked");
        self.serve_unknown(stream).await;
    }

    async fn serve_unknown(&self, stream: &mut Socket) -> bool {
        self.unhung().await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.is_ok() && stream.flush().await.is_ok()
    }

    pub(super) async fn unhung(&self) {
        loop {
            let until = lock(&self.state).hang_until;
            if self.env.clock().now() >= until {
                return;
            }
            self.env.clock().sleep_until(until).await;
        }
    }

    /// What is said of a cacheable page.
    fn page(&self, head: &Head, id: u64) -> Answer {
        let now = self.env.clock().now();
        let mut state = lock(&self.state);
        let healed = state.healed;
        let mut book = self.ledger.book();
        let answer = self
            .origin
            .as_ref()
            .and_then(|origin| origin.answer(head, id, now, &mut state.rng, &mut book, healed));
        answer.unwrap_or_else(|| refusal(id, 404))
    }

    /// How long the work takes, and what is said after it; nothing yet, if that is for the page to say.
    fn draw(&self, key: u64, head: &Head, id: u64) -> (Duration, Option<Answer>) {
        let model = &self.plan.model;
        let mut state = lock(&self.state);
        let time = state.time(model);
        let garbled = state.garbled(model);
        let healed = state.healed;
        let retired = key < state.retired;
        let fails = state.is_failing();
        let rng = &mut state.rng;
        let answer = if fails {
            Some(refusal(id, model.fail_status))
        } else if !healed && rng.chance(garbled) {
            Some(garbage(rng, id))
        } else if !healed && rng.chance(model.fail_rate) {
            Some(refusal(id, model.fail_status))
        } else if self.origin.is_some() {
            None
        } else {
            let chunked = rng.chance(model.chunked_rate).then_some(rng);
            let trailed = self.plan.manner.is_some_and(|m| m.trailers)
                && head.field("te") == Some("trailers");
            Some(whole(id, head, chunked, retired, trailed))
        };
        (time, answer)
    }

    /// Notes whether a connection waits for a request; true if it should rather end.
    pub(super) fn set_idle(&self, key: u64, idle: bool) -> bool {
        let mut state = lock(&self.state);
        if let Some(connection) = state.connections.get_mut(&key) {
            connection.idle = idle;
        }
        key < state.retired
    }

    /// How long the connection stays open for another request.
    fn next_idle(&self) -> Duration {
        let mut state = lock(&self.state);
        if !state.healed && state.rng.chance(self.plan.model.close_rate) {
            return Duration::from_millis(state.rng.below(4));
        }
        self.plan.model.idle.0
    }
}

/// Who fails does so quickly.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Work takes no longer once all is healed: a probe asks whether it is answered, not whether in time.
const HEALED: Duration = Duration::from_millis(5);

/// Writes larger than this go in pieces.
const PIECE: usize = 16 * 1024;

/// So large are the pieces of what has a pace.
const PACED: usize = 4 * 1024;

/// Takes a connection out of the list, however it ends.
struct Gone<'a> {
    backend: &'a Backend,
    key: u64,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        lock(&self.backend.state).connections.remove(&self.key);
    }
}
