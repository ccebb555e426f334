//! The cache at work: step 4 of the walk. The rules are in the pure room `cache`; here are the tasks, the waiting and the
//! second tier.
//!
//! A miss that may be shared is fetched by a task of its own (`filler`) into a [`fill::Fill`], from which the client that
//! caused it and all who come meanwhile read. Absent: what may be stored or served, and for how long (`cache::policy`).

pub mod fill;
mod filler;
pub mod operate;
mod order;
mod serve;
mod shapes;
mod tier;
mod turn;
mod walk;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};

pub use self::serve::tell;
pub use self::walk::{Asked, Content, Notes, answer};

use self::fill::Fill;
use self::shapes::Shapes;
use crate::cache::flight::{Flights, Join};
use crate::cache::purge::{Purge, Selection};
use crate::cache::rules::Rules;
use crate::cache::store::Store;
use crate::cache::stored::{Body, Entry, Stored};
use crate::cache::{key, policy};
use crate::config::FILLING_SHARE;
use crate::config::model::Config;
use crate::env::{Clock, Env};
use crate::message::head::Head;
use crate::message::target::Target;
use crate::rng::Rng;
use crate::tier::{Look, Shared, Tier};
use crate::time::Tick;
use crate::upstream::inbound::Inbound;
use crate::upstream::origin::Origin;
use crate::wire::core::Core;

/// Uncacheable keys that are remembered at once.
const REMEMBERED: usize = 16_384;

/// The cache as one core uses it.
pub struct Desk<E: Env> {
    /// The core.
    pub core: Arc<Core<E>>,
    /// What all cores share.
    pub caching: Arc<Caching>,
    /// The second tier, if there is one.
    pub tier: Option<Arc<Tier<E>>>,
    /// What all cores share of that.
    pub shared: Option<Arc<Shared>>,
}

/// Fetches by number, each with its primary key.
type UnderWay = BTreeMap<u64, (Box<[u8]>, Arc<Fill>)>;

/// What all cores share of the cache.
pub struct Caching {
    pub store: Store,
    flights: Mutex<Flights<Arc<Fill>>>,
    /// Every fetch that may end in the store, with its primary key, for purges.
    under_way: Mutex<UnderWay>,
    next: AtomicU64,
    /// Bytes of bodies that are held until they are whole, and their bound.
    filling: AtomicU64,
    filling_limit: u64,
    rng: Mutex<Rng>,
    shapes: ArcSwap<Shapes>,
}

impl Caching {
    pub fn new<E: Env>(env: &E, config: &Config) -> Self {
        let mut rng = env.rng("cache", 0);
        // Without a cached route nothing is ever put there.
        Caching {
            store: Store::new(config.cache.memory, rng.next_u64()),
            flights: Mutex::new(Flights::new(REMEMBERED)),
            under_way: Mutex::default(),
            next: AtomicU64::new(0),
            filling: AtomicU64::new(0),
            filling_limit: config.cache.memory / FILLING_SHARE,
            rng: Mutex::new(rng),
            shapes: ArcSwap::from_pointee(Shapes::default().and(config)),
        }
    }

    /// Is any route cached?
    pub fn is_used(&self) -> bool {
        !self.shapes.load().rules.is_empty()
    }

    /// The routes of `config` are served as well from here on.
    pub fn follow(&self, config: &Config) {
        self.shapes.rcu(|shapes| shapes.and(config));
    }

    fn flights(&self) -> MutexGuard<'_, Flights<Arc<Fill>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With `personal` the request carries what may make its response somebody's.
    fn join(
        &self,
        now: Tick,
        key: &[u8],
        personal: bool,
        make: impl FnOnce() -> Arc<Fill>,
    ) -> Join<Arc<Fill>> {
        let mut flights = self.flights();
        if personal && flights.is_passed(now, &personal_key(key)) {
            return Join::Pass;
        }
        flights.join(now, key, make)
    }

    /// Do such requests go alone now, because what they got was not to be shared?
    fn is_passed(&self, now: Tick, key: &[u8], personal: bool) -> bool {
        let flights = self.flights();
        flights.is_passed(now, key) || (personal && flights.is_passed(now, &personal_key(key)))
    }

    fn land(&self, key: &[u8], fill: &Arc<Fill>) {
        self.flights().land(key, |other| Arc::ptr_eq(other, fill));
    }

    /// Has `fill` followed under another key as well.
    fn also(&self, key: &[u8], fill: &Arc<Fill>) {
        self.flights().also(key, Arc::clone(fill));
    }

    fn remember(&self, key: &[u8], personal: bool, until: Tick) {
        match personal {
            true => self.flights().remember(&personal_key(key), until),
            false => self.flights().remember(key, until),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A fetch begins that may end in the store.
    fn begun(&self, primary: &[u8], fill: &Arc<Fill>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.under_way()
            .insert(number, (primary.into(), Arc::clone(fill)));
        number
    }

    fn ended(&self, number: u64) {
        self.under_way().remove(&number);
    }

    /// What is being fetched under such keys is served to those who wait for it, and not stored; nobody else joins it.
    fn taint(&self, matching: impl Fn(&[u8]) -> bool) {
        for (key, fill) in self.under_way().values() {
            if matching(key) {
                fill.taint();
            }
        }
        // A variant's key begins with its primary key, so that both match alike.
        self.flights().taint(&matching, |fill| fill.taint());
    }

    /// Forgets in memory what `purge` selects; returns how many entries.
    pub fn purge(&self, purge: &Purge) -> u64 {
        match &purge.what {
            Selection::Url(url) => self.taint(|k| key::url(k) == url.as_bytes()),
            Selection::Prefix(prefix) => self.taint(|k| k.starts_with(prefix.as_bytes())),
            Selection::Tag(_) | Selection::All => self.taint(|_| true),
        }
        self.store.purge(purge) as u64
    }

    /// Bytes of bodies that are on their way in.
    fn filling(&self) -> u64 {
        self.filling.load(Ordering::Relaxed)
    }

    /// The same for a purge of another replica. They come with every unsafe request anywhere, so one of a URL looks at its keys
    /// alone where these can be told; its variants are then out of reach.
    pub fn hear(&self, purge: &Purge) {
        match &purge.what {
            Selection::Url(url) if !purge.soft && !self.shapes.load().divided => {
                self.taint(|k| key::url(k) == url.as_bytes());
                for rules in &self.shapes.load().rules {
                    let key = [url.as_bytes(), b"\n", rules.partition.as_bytes()].concat();
                    self.store.remove(&key);
                }
            }
            _ => {
                self.purge(purge);
            }
        }
    }

    fn may_hold(&self, more: u64) -> bool {
        self.filling.load(Ordering::Relaxed) + more <= self.filling_limit
    }

    fn draw(&self) -> u64 {
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }

    /// Uniform in (0, 1].
    fn unit(&self) -> f64 {
        1.0 - self
            .rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unit()
    }
}

/// Under which it is remembered that requests with credentials cannot share, though others can. No key ends so.
fn personal_key(key: &[u8]) -> Vec<u8> {
    [key, b"\0\0"].concat()
}

/// Bytes of one body that are held until it is whole.
struct Held<'a> {
    caching: &'a Caching,
    bytes: u64,
}

impl<'a> Held<'a> {
    fn new(caching: &'a Caching) -> Self {
        Held { caching, bytes: 0 }
    }

    /// False when there is no room for more.
    fn grow(&mut self, by: usize) -> bool {
        let by = by as u64;
        self.bytes += by;
        self.caching.filling.fetch_add(by, Ordering::Relaxed) + by <= self.caching.filling_limit
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.caching
            .filling
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where a request's response lies, or would.
pub struct Place {
    /// Under which it was looked up last, and under which others find its flight.
    pub key: Vec<u8>,
    pub primary: Vec<u8>,
    /// The variant's key, where there are variants.
    pub store_under: Vec<u8>,
}

/// What a look brought.
pub struct Found {
    pub place: Place,
    pub stored: Option<Arc<Stored>>,
    /// There are variants.
    pub varied: bool,
    /// It was not in memory.
    pub from_redis: bool,
    /// What the request may still spend on the second tier; nothing once that did not answer.
    pub patience: Duration,
}

/// Looks in memory, then where replicas share, for as long as `patience` lasts.
pub async fn find<E: Env>(
    desk: &Desk<E>,
    primary: Vec<u8>,
    headers: &HeaderMap,
    patience: Duration,
) -> Found {
    let mut found = Found {
        place: Place {
            key: primary.clone(),
            store_under: primary.clone(),
            primary,
        },
        stored: None,
        varied: false,
        from_redis: false,
        patience,
    };
    let caching = &desk.caching;
    let Some(tier) = &desk.tier else {
        while let Some(entry) = caching.store.get(&found.place.key) {
            if found.take(entry, headers) {
                break;
            }
        }
        return found;
    };
    // Two looks at most, and the time of one.
    loop {
        let key = &found.place.key;
        let entry = match caching.store.get(key) {
            Some(entry) => entry,
            None if found.patience.is_zero() => return found,
            None => {
                let clock = desk.core.env.clock();
                let asked = clock.now();
                let look = tier.get(key, found.patience).await;
                found.patience = found.patience.saturating_sub(clock.now().since(asked));
                match look {
                    Look::Found(entry, seen) if tier::adopt(desk, key, &entry, seen) => {
                        found.from_redis = true;
                        entry
                    }
                    Look::Found(..) | Look::Nothing => return found,
                    Look::Away => {
                        found.patience = Duration::ZERO;
                        return found;
                    }
                }
            }
        };
        if found.take(entry, headers) {
            return found;
        }
    }
}

impl Found {
    /// True when there is nothing further to look for.
    fn take(&mut self, entry: Entry, headers: &HeaderMap) -> bool {
        match entry {
            Entry::Response(stored) => {
                self.stored = Some(stored);
                true
            }
            // A variant's key leads to responses alone.
            Entry::Varies(_) if self.varied => true,
            Entry::Varies(varies) => {
                self.varied = true;
                key::variant(&mut self.place.key, &varies, headers);
                self.place.store_under.clone_from(&self.place.key);
                false
            }
        }
    }
}

/// The scheme and the authority in a key, and what else tells requests of trusted proxies apart.
fn primary(origin: &Origin, rules: &Rules, target: &Target, headers: &HeaderMap) -> Vec<u8> {
    let said = |name: &str| {
        let value = origin.trusted.then(|| headers.get(name)).flatten()?;
        value.to_str().ok()
    };
    let scheme = match said("x-forwarded-proto") {
        Some(proto) if proto.trim().eq_ignore_ascii_case("https") => "https",
        Some(proto) if proto.trim().eq_ignore_ascii_case("http") => "http",
        _ => origin.scheme(),
    };
    let authority = key::authority(target.host(), target.port(), scheme);
    let mut out = Vec::with_capacity(128);
    key::primary(
        &mut out,
        rules,
        scheme,
        &authority,
        (target.path(), target.query()),
        headers,
    );
    if origin.trusted || headers.contains_key(header::FORWARDED) {
        said_of_links(&mut out, headers);
    }
    out
}

/// Appends what those who may say such things say that a backend may build its links from. A plain scheme is in the key already.
fn said_of_links(out: &mut Vec<u8>, headers: &HeaderMap) {
    let mut say = |said: &[u8]| {
        out.push(b'\n');
        out.extend_from_slice(said);
    };
    headers
        .get_all("x-forwarded-host")
        .iter()
        .for_each(|host| say(host.as_bytes()));
    let protos = headers.get_all("x-forwarded-proto");
    let is_one = protos.iter().count() == 1;
    let plain = |proto: &[u8]| is_one && matches!(proto, b"http" | b"https");
    let unusual = protos.iter().filter(|p| !plain(p.as_bytes()));
    unusual.for_each(|proto| say(proto.as_bytes()));
    for line in headers.get_all(header::FORWARDED) {
        let line = line.as_bytes();
        if line.contains(&b'"') {
            // Quotes hide where a pair ends.
            say(line);
            continue;
        }
        let pairs = line.split(|b| matches!(b, b',' | b';'));
        let names = |pair: &&[u8]| {
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
            let name = name.trim_ascii();
            name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto")
        };
        pairs.filter(names).for_each(&mut say);
    }
}

/// Forgets what a successful unsafe request has made outdated (RFC 9111 section 4.4).
pub fn invalidate<E: Env>(desk: &Desk<E>, origin: &Origin, inbound: &Inbound, response: &Head) {
    let caching = &desk.caching;
    if !caching.is_used() || !policy::invalidates(&inbound.method, response.status.as_u16()) {
        return;
    }
    let (target, request) = (&inbound.target, inbound.headers.map());
    let primary = primary(origin, &Rules::default(), target, request);
    let url = key::url(&primary);
    let Some((scheme, rest)) = std::str::from_utf8(url)
        .ok()
        .and_then(|url| url.split_once("://"))
    else {
        return;
    };
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    let others = policy::also_invalidates(scheme, authority, path, response.fields.map());
    let mut urls = vec![(authority.to_owned(), path.to_owned())];
    urls.extend(others);
    let shapes = caching.shapes.load();
    for (authority, path_query) in urls {
        let (path, query) = match path_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_query.as_str(), None),
        };
        for rules in &shapes.rules {
            let mut out = Vec::new();
            key::primary(&mut out, rules, scheme, &authority, (path, query), request);
            let Ok(url) = String::from_utf8(key::url(&out).to_vec()) else {
                continue;
            };
            let purge = Purge {
                what: Selection::Url(url.clone()),
                soft: false,
            };
            // Ruled out there before it is gone here, or it could come back from there in between.
            if let Some(shared) = &desk.shared {
                shared.purge(&purge);
            }
            caching.taint(|k| key::url(k) == url.as_bytes());
            // One key tells all there is, unless fields or proxies in front divide the URL further.
            if rules.key_headers.is_empty() && !shapes.trusting {
                caching.store.remove(&out);
            } else {
                caching.store.purge(&purge);
            }
        }
    }
}

/// Is `stored` good for requests that ask for all of it?
fn is_whole(stored: &Stored) -> bool {
    matches!(stored.body, Body::Whole(_))
}
