//! The caching policy against the RFCs: one named test a rule, each with its section, over the pure functions of `cache`.
//! Absent: sockets and the walk of a request (they have tests of their own).

mod ages;
mod conditions;
mod directives;
mod freshness;
mod hostile;
mod invalidation;
mod keys;
mod parts;
mod ranges;
mod reusing;
mod second_opinion;
mod staleness;
mod status;
mod storing;
mod targeted;
mod validation;
mod variants;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weirkeeper::cache::life::Life;
use weirkeeper::cache::policy::{self, Ask, Keep, Reuse, Times, Uncacheable, Wants};
use weirkeeper::cache::rules::Rules;
use weirkeeper::cache::stored::{Body, Head, Stored};
use weirkeeper::time::{Moment, Tick, Wall};

/// When everything here is received, in seconds: Fri, 15 Jan 2027 08:00:00 GMT.
const NOW: u64 = 1_800_000_000;

/// Fields, in order.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// The fields as a map; a name that comes twice has two lines.
fn map(fields: Fields<'_>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            name.parse::<HeaderName>().expect("a test's field name"),
            HeaderValue::from_str(value).expect("a test's field value"),
        );
    }
    map
}

/// How long the process has been running then.
const UP: Duration = Duration::from_secs(1_000_000);

/// Seconds after [`NOW`], by the clock that ages go by.
fn after(secs: u64) -> Tick {
    Tick::ZERO + UP + Duration::from_secs(secs)
}

/// Seconds after [`NOW`], by both clocks.
fn then(secs: u64) -> Moment {
    Moment {
        tick: after(secs),
        wall: Wall::from_secs(NOW + secs),
    }
}

/// An HTTP date that many seconds after [`NOW`], or before it.
fn date(offset: i64) -> String {
    let secs = NOW.checked_add_signed(offset).expect("after the epoch");
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(secs))
}

/// What a GET with these fields wants of the cache.
fn wants(fields: Fields<'_>) -> Wants {
    match policy::ask(&Rules::default(), &Method::GET, "/", &map(fields)) {
        Ask::Use(wants) => wants,
        Ask::Bypass(why) => panic!("it goes past the cache: {why:?}"),
    }
}

/// A GET and its response, received at [`NOW`].
#[derive(Clone)]
struct Exchange {
    rules: Rules,
    request: HeaderMap,
    status: u16,
    response: HeaderMap,
    took: u64,
}

/// A 200 with these fields.
fn got(response: Fields<'_>) -> Exchange {
    Exchange {
        rules: Rules::default(),
        request: HeaderMap::new(),
        status: 200,
        response: map(response),
        took: 0,
    }
}

/// A 200 with this Cache-Control.
fn cc(value: &str) -> Exchange {
    got(&[("cache-control", value)])
}

impl Exchange {
    fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn request(mut self, fields: Fields<'_>) -> Self {
        self.request = map(fields);
        self
    }

    fn rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }

    /// Seconds between request and response.
    fn took(mut self, secs: u64) -> Self {
        self.took = secs;
        self
    }

    fn times(&self) -> Times {
        Times {
            requested: Tick::ZERO + (UP - Duration::from_secs(self.took)),
            received: then(0),
        }
    }

    fn wants(&self) -> Wants {
        match policy::ask(&self.rules, &Method::GET, "/", &self.request) {
            Ask::Use(wants) => wants,
            Ask::Bypass(why) => panic!("it goes past the cache: {why:?}"),
        }
    }

    fn store(&self) -> Result<Keep, Uncacheable> {
        let (rules, wants) = (&self.rules, self.wants());
        policy::store(rules, &wants, self.status, &self.response, self.times())
    }

    /// As it is kept.
    fn keep(&self) -> Keep {
        self.store().expect("it may be stored")
    }

    fn life(&self) -> Life {
        self.keep().life
    }

    /// Seconds that it is fresh for, from when it was received.
    fn fresh_for(&self) -> i64 {
        let life = self.life();
        assert!(!life.no_cache, "it is never fresh");
        life.ttl(after(0)).max(0)
    }

    fn refused(&self) -> Uncacheable {
        self.store().expect_err("it must not be stored")
    }

    /// As it lies in the store.
    fn stored(&self, body: &'static str) -> Stored {
        let keep = self.keep();
        let head = policy::head_of(&self.response, &keep, then(0).wall);
        let body = Body::Whole(Bytes::from_static(body.as_bytes()));
        Stored::new(self.status, head, body, keep.life)
    }

    /// How it may be used by a request with this Cache-Control, that many seconds later.
    fn reuse(&self, request: &str, secs: u64) -> Reuse {
        let wants = match request {
            "" => Wants::default(),
            said => wants(&[("cache-control", said)]),
        };
        policy::reuse(&self.life(), false, &wants, after(secs))
    }

    /// Would a plain request be answered without a backend, that many seconds later?
    fn is_fresh(&self, secs: u64) -> bool {
        matches!(self.reuse("", secs), Reuse::Fresh { .. })
    }
}

/// Every test that the manual's matrix names is there.
#[test]
fn the_matrix_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = weirkeeper::manual::page("caching").expect("there is one");
    let (_, section) = page
        .text
        .split_once("\n## What of the RFCs is supported\n")
        .expect("the section");
    let mut sources = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(root.join("tests/caching")).expect("this folder") {
        let path = entry.expect("an entry").path();
        if let Some(stem) = path.file_stem().filter(|_| path.is_file()) {
            let text = std::fs::read_to_string(&path).expect("a source");
            sources.insert(stem.to_string_lossy().into_owned(), text);
        }
    }
    let mut named = 0;
    for row in section.lines().filter(|line| line.starts_with('|')) {
        // A file is named before its tests, with `::` or by itself.
        let mut file = String::new();
        for word in row.split('`').skip(1).step_by(2) {
            let name = match word.split_once("::") {
                Some((of, name)) => {
                    file = of.to_owned();
                    name
                }
                None if sources.contains_key(word) => {
                    file = word.to_owned();
                    continue;
                }
                None if word.contains('_') => word,
                None => continue,
            };
            named += 1;
            let is_there = sources
                .get(&file)
                .is_some_and(|text| text.contains(&format!("fn {name}(")));
            assert!(is_there, "`{name}` is not in {file:?}");
        }
    }
    assert!(named > 40, "{named} tests are named");
}
