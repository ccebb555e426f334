//! Visitors of cacheable pages: they ask for some pages much more than for others, as themselves or as nobody, now and then with
//! wishes of their own, and leave when they like. Each checks that what it gets is whole and what its head says.
//!
//! Absent: whether it should have got it (checkers).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use weirkeeper::env::{Clock, Env, Net};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::client::{Wire, open_one};
use super::content::{LANGUAGES, Rep, Site, Validator};
use super::message::{Fault, Framing, Head};
use super::socket::Socket;
use crate::env::{SimEnv, lock};
use crate::ledger::{Asked, End, Got, Ledger, PROBE};
use crate::scenario::ClientModel;

/// What browsers say of codings; the second and the third mean the same.
const CODINGS: [&str; 4] = ["", "gzip, br", "br,gzip", "gzip"];

/// A group of visitors.
#[derive(Debug)]
pub struct Visitors {
    index: usize,
    model: ClientModel,
    site: Arc<Site>,
    /// The replicas.
    targets: Vec<SocketAddr>,
    env: SimEnv,
    ledger: Ledger,
    /// Idle connections to each replica.
    pools: Vec<Mutex<Vec<Wire>>>,
    /// What was seen last of each page.
    seen: Mutex<Vec<Option<Rep>>>,
    /// The weights of pages, added up.
    zipf: Vec<f64>,
}

impl Visitors {
    /// Group number `index`. [`PROBE`] is the group of probes.
    pub fn new(
        index: usize,
        model: ClientModel,
        site: Arc<Site>,
        targets: Vec<SocketAddr>,
        env: SimEnv,
        ledger: Ledger,
    ) -> Arc<Self> {
        let mut sum = 0.0;
        let weight = |i: usize| ((i + 1) as f64).powf(-site.skew);
        let zipf = (0..site.pages.len()).map(|i| {
            sum += weight(i);
            sum
        });
        Arc::new(Visitors {
            zipf: zipf.collect(),
            index,
            model,
            pools: targets.iter().map(|_| Mutex::default()).collect(),
            seen: Mutex::new(vec![None; site.pages.len()]),
            site,
            targets,
            env,
            ledger,
        })
    }

    /// Asks until `end`. Runs within its host; what is under way then goes on by itself.
    pub fn start(self: &Arc<Self>, end: Tick) {
        let this = Arc::clone(self);
        let mut rng = self.env.rng("visitors", self.index as u64);
        let rate = self.model.rate.unwrap_or(100.0);
        self.env.spawn("visitors", async move {
            let mut next = Duration::ZERO;
            loop {
                next += Duration::from_secs_f64(rng.exponential(1.0 / rate));
                let at = Tick::ZERO + next;
                if at >= end {
                    return;
                }
                if at > this.env.clock().now() {
                    this.env.clock().sleep_until(at).await;
                }
                // Whoever comes to a hot page seldom comes alone.
                let crowd = if rng.chance(0.03) {
                    2 + rng.below(6)
                } else {
                    1
                };
                let page = this.page(&mut rng);
                for _ in 0..crowd {
                    let asked = this.draw(page, &mut rng);
                    this.send_off(asked, &mut rng);
                }
            }
        });
    }

    fn send_off(self: &Arc<Self>, asked: Asked, rng: &mut Rng) {
        let patience = self.model.patience.map(|p| p.sample(rng));
        let replica = usize::try_from(rng.below(self.targets.len() as u64)).unwrap_or(0);
        let whim = rng.next_u64();
        let id = self.offer(replica, &asked);
        let this = Arc::clone(self);
        self.env.spawn("visit", async move {
            this.run(id, replica, &asked, patience, whim).await;
        });
    }

    /// Asks each replica for some pages and says whether every answer was good.
    pub async fn probe(&self, rng: &mut Rng) -> Result<(), String> {
        for replica in 0..self.targets.len() {
            for page in [0, self.page(rng)] {
                let asked = Asked {
                    page,
                    method: "GET",
                    ..Asked::default()
                };
                let id = self.offer(replica, &asked);
                let end = self.run(id, replica, &asked, None, 0).await;
                if !matches!(end, End::Answered { status } if status < 500) {
                    let now = self.env.clock().now();
                    return Err(format!(
                        "probe {id} of page {page} ended with {end:?} at {now}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn page(&self, rng: &mut Rng) -> usize {
        let at = rng.unit() * self.zipf.last().copied().unwrap_or(0.0);
        let found = self.zipf.iter().position(|sum| at < *sum);
        found.unwrap_or(0)
    }

    /// What the next one asks of `page`.
    fn draw(&self, page: usize, rng: &mut Rng) -> Asked {
        let below = |rng: &mut Rng, n: usize| usize::try_from(rng.below(n as u64)).unwrap_or(0);
        let mut asked = Asked {
            page,
            method: "GET",
            language: below(rng, LANGUAGES.len()),
            codings: CODINGS[below(rng, CODINGS.len())],
            ..Asked::default()
        };
        if rng.chance(self.site.posts) {
            asked.method = "POST";
            return asked;
        }
        if self.site.users > 0 && rng.chance(0.3) {
            asked.user = 1 + u32::try_from(rng.below(self.site.users.into())).unwrap_or(0);
            asked.authorized = rng.chance(0.6);
        }
        if !rng.chance(self.site.whims) {
            return asked;
        }
        let page = &self.site.pages[asked.page];
        let seconds = u32::try_from(rng.below(4)).unwrap_or(0);
        match rng.below(8) {
            0 => asked.no_cache = true,
            1 => asked.max_age = Some(seconds),
            2 => asked.max_stale = Some(seconds),
            3 => asked.only_if_cached = true,
            4 => asked.method = "HEAD",
            5 | 6 if page.size > 0 => {
                let from = below(rng, page.size);
                asked.range = Some((from, from + below(rng, page.size)));
            }
            _ => asked.has = lock(&self.seen)[asked.page],
        }
        asked
    }

    fn offer(&self, replica: usize, asked: &Asked) -> u64 {
        let now = self.env.clock().now();
        let mut book = self.ledger.book();
        let id = book.offer(now, self.index, asked.page, asked.method != "POST");
        book.ask(id, replica, asked.clone());
        id
    }

    /// One visit from its offer to its end. `whim` decides what the model leaves open.
    async fn run(
        &self,
        id: u64,
        replica: usize,
        asked: &Asked,
        patience: Option<Duration>,
        whim: u64,
    ) -> End {
        let mut wire = None;
        let exchange = self.exchange(id, replica, asked, whim, &mut wire);
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
        let mut book = self.ledger.book();
        book.end(self.env.clock().now(), id, end);
        if self.index != PROBE {
            match end {
                End::GaveUp => book.reach("gave up"),
                End::Broken => book.reach("broken answer"),
                _ => {}
            }
        }
        end
    }

    async fn exchange(
        &self,
        id: u64,
        replica: usize,
        asked: &Asked,
        whim: u64,
        wire: &mut Option<Wire>,
    ) -> End {
        *wire = open_one(&self.pools[replica]);
        let wire_ref = match wire {
            Some(wire) => wire,
            None => match self.env.net().connect(self.targets[replica]).await {
                Ok(stream) => wire.insert(Wire::new(Socket::Plain(stream))),
                Err(_) => return End::Broken,
            },
        };
        let request = self.request(id, asked);
        if wire_ref.stream.write_all(request.as_bytes()).await.is_err() {
            return End::Broken;
        }
        let (head, end) = match self.receive(id, asked, whim, wire_ref).await {
            Ok(read) => read,
            Err(Fault::Malformed) => {
                let what = format!("the answer to visit {id} is no HTTP");
                self.ledger.book().violation("bytes", what);
                return End::Broken;
            }
            Err(_) => return End::Broken,
        };
        let whole = end != End::GaveUp && !head.close && head.framing != Framing::Close;
        if whole && self.model.keep_alive && wire_ref.reader.is_empty() {
            lock(&self.pools[replica]).extend(wire.take());
        }
        end
    }

    fn request(&self, id: u64, asked: &Asked) -> String {
        let mut text = format!(
            "{} /c/{} HTTP/1.1\r\nhost: weir.test\r\nx-sim: {id} 0 0\r\n",
            asked.method, asked.page
        );
        let mut field = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        field("accept-language", LANGUAGES[asked.language]);
        field("accept-encoding", asked.codings);
        match (asked.user, asked.authorized) {
            (0, _) => {}
            (user, true) => field("authorization", &format!("Basic {user}")),
            (user, false) => field("cookie", &format!("user={user}")),
        }
        if asked.no_cache {
            field("cache-control", "no-cache");
        }
        if asked.only_if_cached {
            field("cache-control", "only-if-cached");
        }
        let seconds = [("max-age", asked.max_age), ("max-stale", asked.max_stale)];
        for (name, value) in seconds {
            if let Some(value) = value {
                field("cache-control", &format!("{name}={value}"));
            }
        }
        if let Some((first, last)) = asked.range {
            field("range", &format!("bytes={first}-{last}"));
        }
        if let Some(rep) = &asked.has {
            field("if-none-match", &rep.tag());
        }
        if asked.method == "POST" {
            field("content-length", "0");
        }
        text.push_str("\r\n");
        text
    }

    async fn receive(
        &self,
        id: u64,
        asked: &Asked,
        whim: u64,
        wire: &mut Wire,
    ) -> Result<(Head, End), Fault> {
        let Wire { stream, reader, .. } = wire;
        let mut head = reader.head(stream, false).await?;
        while (100..200).contains(&head.status) {
            head = reader.head(stream, false).await?;
        }
        if asked.method == "HEAD" {
            head.framing = Framing::Length(0);
        }
        let made = head.number("x-gen").and_then(|n| usize::try_from(n).ok());
        self.ledger.book().got(
            id,
            Got {
                at: self.env.clock().now(),
                status: head.status,
                made,
                cache: head.field("cache-status").unwrap_or("").to_string(),
                age: head.number("age"),
                error: head.error.clone(),
                whole: false,
            },
        );
        // Some only wanted to see whether it is there.
        if self.index != PROBE && whim.is_multiple_of(40) && asked.method == "GET" {
            return Ok((head, End::GaveUp));
        }
        let mut body = Vec::new();
        let read = reader.body_into(stream, head.framing, &mut body).await;
        self.judge(id, asked, &head, &body, read.is_ok());
        read?;
        let status = head.status;
        self.ledger.book().got_whole(id);
        let own = made.is_none() && head.id.is_none() && status != 304;
        if own {
            let reason = head.error.clone().unwrap_or_else(|| status.to_string());
            *self.ledger.book().reasons.entry(reason).or_default() += 1;
            return Ok((head, End::Refused { status }));
        }
        Ok((head, End::Answered { status }))
    }

    /// Is the body the one that the head speaks of, and the one that was asked for?
    fn judge(&self, id: u64, asked: &Asked, head: &Head, body: &[u8], whole: bool) {
        let mut book = self.ledger.book();
        let made = head.number("x-gen").and_then(|n| usize::try_from(n).ok());
        let made = made.and_then(|n| book.made.get(n).copied());
        let mut wrong = |what: String| {
            book.violation("bytes", format!("visit {id} ({asked:?}): {what}"));
        };
        if head.status == 304 {
            let tag = asked.has.map(|rep| rep.tag());
            let said = head
                .field("etag")
                .map(|t| t.trim_start_matches("W/").to_string());
            if asked.has.is_none() || (said.is_some() && said != tag) {
                wrong(format!("304 for {said:?} where it has {tag:?}"));
            }
            return;
        }
        let Some(made) = made else {
            return;
        };
        if made.rep.page != asked.page {
            wrong(format!("got page {}", made.rep.page));
        }
        if let Some(other) = head.number("x-for").filter(|other| *other != id) {
            wrong(format!("got the field of visit {other}"));
        }
        if asked.method != "GET" {
            return;
        }
        let (from, len) = match (head.status, content_range(head)) {
            (206, Some((first, last, total))) => {
                let (from, to) = asked.range.unwrap_or((0, 0));
                let to = to.min(made.size - 1);
                if asked.range.is_none() || (first, last, total) != (from, to, made.size) {
                    wrong(format!("got {first}-{last}/{total} of {}", made.size));
                }
                (first, last + 1 - first.min(last))
            }
            (206, None) => return wrong("a part of what?".to_string()),
            _ => (0, made.size),
        };
        let expected = made.rep.bytes(from, len);
        let same = match whole {
            true => expected == body,
            false => expected.starts_with(body),
        };
        if !same {
            let is = Rep::read(body);
            wrong(format!(
                "the head says {:?}, {len} bytes from {from} on; the body has {} and says {is:?}",
                made.rep,
                body.len()
            ));
        }
        let tagged = self.site.pages[asked.page].validator;
        if whole && matches!(tagged, Validator::Strong | Validator::Weak) {
            lock(&self.seen)[asked.page] = Some(made.rep);
        }
    }
}

/// First, last and total of Content-Range.
fn content_range(head: &Head) -> Option<(usize, usize, usize)> {
    let text = head.field("content-range")?.strip_prefix("bytes ")?;
    let (span, total) = text.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}
