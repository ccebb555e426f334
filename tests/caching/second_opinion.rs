//! A second opinion on the policy: the http-cache-semantics crate is asked about the same exchanges. Where the two differ, a
//! frozen list (`classes`) must say why, and by which sentence of an RFC ours is right.
//!
//! Absent: what that crate knows nothing of (targeted fields but for their presence, ranges, keys, invalidation).

mod classes;
mod predicates;

use std::cell::Cell;

use http::{Request, Response};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use weirkeeper::cache::key::variant;
use weirkeeper::cache::stored::Varies;

use self::classes::CLASSES;
use super::*;

/// A response, a later request that it might answer, and a 304 that might speak of it.
#[derive(Clone, Debug, Default)]
struct Case {
    request: HeaderMap,
    status: u16,
    response: HeaderMap,
    /// Seconds between request and response.
    took: u64,
    later: HeaderMap,
    /// Seconds between response and later request.
    secs: u64,
    not_modified: HeaderMap,
}

impl Case {
    /// A 200 with these fields, asked for again by a plain GET after ten seconds.
    fn got(response: Fields<'_>) -> Self {
        Case {
            status: 200,
            response: map(response),
            secs: 10,
            ..Case::default()
        }
    }

    /// The same with a 304.
    fn validated(response: Fields<'_>, not_modified: Fields<'_>) -> Self {
        let mut all = vec![("cache-control", "max-age=60")];
        all.extend_from_slice(response);
        Case {
            not_modified: map(not_modified),
            ..Case::got(&all)
        }
    }

    fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn request(mut self, fields: Fields<'_>) -> Self {
        self.request = map(fields);
        self
    }

    fn later(mut self, secs: u64, fields: Fields<'_>) -> Self {
        (self.secs, self.later) = (secs, map(fields));
        self
    }

    fn took(mut self, secs: u64) -> Self {
        self.took = secs;
        self
    }
}

/// What is compared. Each only where those before it agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aspect {
    /// May the response be stored?
    Store,
    /// How old is it when the later request comes?
    Age,
    /// Does the later request choose it among variants?
    Variant,
    /// May it be served without a word from a backend?
    Reuse,
    /// Does the 304 speak of it?
    Match,
}

/// One opinion, in the order of [`Aspect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opinion {
    stores: bool,
    age: u64,
    chosen: bool,
    reuses: bool,
    matches: bool,
}

const NOTHING: Opinion = Opinion {
    stores: false,
    age: 0,
    chosen: false,
    reuses: false,
    matches: false,
};

fn ours(case: &Case) -> Opinion {
    let exchange = Exchange {
        rules: Rules {
            heuristic: true,
            ..Rules::default()
        },
        request: case.request.clone(),
        status: case.status,
        response: case.response.clone(),
        took: case.took,
    };
    let Ok(keep) = exchange.store() else {
        return NOTHING;
    };
    let now = after(case.secs);
    let Ask::Use(wants) = policy::ask(&exchange.rules, &Method::GET, "/", &case.later) else {
        return NOTHING;
    };
    let key = |headers: &HeaderMap| {
        let mut key = Vec::new();
        let varies = Varies {
            names: keep.vary.clone(),
            generation: 0,
        };
        variant(&mut key, &varies, headers);
        key
    };
    let reuse = policy::reuse(&keep.life, false, &wants, now);
    Opinion {
        stores: true,
        age: keep.life.age(now).into(),
        chosen: key(&case.request) == key(&case.later),
        reuses: reuse != Reuse::Validate,
        matches: policy::matches_304(&exchange.stored("").head, &case.not_modified),
    }
}

fn theirs(case: &Case) -> Opinion {
    let request = |fields: &HeaderMap| {
        let mut request = Request::get("http://h/").body(()).expect("a request");
        *request.headers_mut() = fields.clone();
        request
    };
    let response = |status, fields: &HeaderMap| {
        let mut response = Response::builder()
            .status(status)
            .body(())
            .expect("a response");
        *response.headers_mut() = fields.clone();
        response
    };
    let received: SystemTime = then(0).wall.into();
    let policy = CachePolicy::new_options(
        &request(&case.request),
        &response(case.status, &case.response),
        received,
        CacheOptions::default(),
    );
    if !policy.is_storable() {
        return NOTHING;
    }
    let now: SystemTime = then(case.secs).wall.into();
    let (chosen, reuses) = match policy.before_request(&request(&case.later), now) {
        BeforeRequest::Fresh(_) => (true, true),
        BeforeRequest::Stale { matches, .. } => (matches, false),
    };
    let answer = response(304, &case.not_modified);
    let after = policy.after_response(&request(&case.later), &answer, now);
    Opinion {
        stores: true,
        age: policy.age(now).as_secs(),
        chosen,
        reuses,
        matches: matches!(after, AfterResponse::NotModified(..)),
    }
}

/// Where the two differ first.
fn differences(case: &Case) -> Vec<Aspect> {
    let (ours, theirs) = (ours(case), theirs(case));
    if ours.stores != theirs.stores {
        return vec![Aspect::Store];
    }
    let mut found = Vec::new();
    if ours.age != theirs.age {
        found.push(Aspect::Age);
    } else if ours.chosen != theirs.chosen {
        found.push(Aspect::Variant);
    } else if ours.reuses != theirs.reuses && ours.chosen {
        found.push(Aspect::Reuse);
    }
    if ours.matches != theirs.matches {
        found.push(Aspect::Match);
    }
    found
}

/// The classes that explain a difference in this aspect.
fn explained(case: &Case, aspect: Aspect) -> Vec<&'static str> {
    let classes = CLASSES.iter().filter(|c| c.aspect == aspect);
    classes
        .filter(|c| (c.applies)(case))
        .map(|c| c.name)
        .collect()
}

/// Every listed difference is one: its example shows it, and nothing else on the list explains that.
#[test]
fn every_listed_difference_is_there() {
    for class in CLASSES {
        let case = (class.example)();
        assert!(class.because.starts_with("RFC "), "{}", class.name);
        let found = differences(&case);
        let (ours, theirs) = (ours(&case), theirs(&case));
        assert!(
            found.contains(&class.aspect),
            "{}: {ours:?} {theirs:?}",
            class.name
        );
        assert_eq!(explained(&case, class.aspect), [class.name]);
    }
    for (i, class) in CLASSES.iter().enumerate() {
        let twin = |c: &&classes::Class| c.name == class.name && c.aspect == class.aspect;
        assert!(
            !CLASSES[..i].iter().any(|c| twin(&c)),
            "{} is listed twice",
            class.name
        );
    }
}

const DIRECTIVES: &[&str] = &[
    "max-age=60",
    "max-age=60",
    "max-age=10",
    "max-age=0",
    "s-maxage=30",
    "s-maxage=0",
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
    "stale-while-revalidate=30",
    "stale-if-error=30",
    "x-unknown=1",
    "Max-Age=60",
    "NO-STORE",
    "Private",
    "max-age=\"60\"",
    "max-age=junk",
    "max-age=-1",
    "max-age=+60",
    "max-age=99999999999999999999999",
    "max-age",
    "max-age=60; x",
    "s-maxage=junk",
    "private=\"x-a\"",
    "no-cache=\"x-a\"",
    "ext=\"a, no-store, b\"",
    "ext=\"a, no-cache, b\"",
    "\"no-store\"",
    "",
];

const ASKED: &[&str] = &[
    "no-cache",
    "No-Cache",
    "no-store",
    "max-age=20",
    "max-age=0",
    "max-age=junk",
    "min-fresh=10",
    "min-fresh=junk",
    "max-stale",
    "max-stale=10",
    "max-stale=0",
    "max-stale=junk",
    "only-if-cached",
];

fn pick(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(values).prop_map(str::to_owned)
}

fn list(values: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(values), 1..=most).prop_map(|items| items.join(", "))
}

fn dates() -> impl Strategy<Value = String> {
    let offsets = [-100_000_000, -10_000, -1000, -20, 0, 20, 100, 100_000];
    let imf = prop::sample::select(offsets.to_vec()).prop_map(date);
    let odd = &[
        "0",
        "junk",
        "Friday, 15-Jan-27 08:01:00 GMT",
        "Fri Jan 15 08:01:00 2027",
        "fri, 15 jan 2027 08:01:00 gmt",
        "Fri, 15 Jan 2027 08:01:00 +0000",
        "Fri, 15 Jan 2027 08:01:00 PST",
    ];
    prop_oneof![4 => imf, 1 => pick(odd)]
}

/// One field, at the odds of one in `rare`.
fn maybe<S: Strategy<Value = String>>(
    name: &'static str,
    rare: u32,
    value: S,
) -> impl Strategy<Value = Option<(&'static str, String)>> {
    prop_oneof![rare - 1 => Just(None), 1 => value.prop_map(move |v| Some((name, v)))]
}

fn headers(fields: Vec<Option<(&'static str, String)>>) -> HeaderMap {
    let fields: Vec<_> = fields.into_iter().flatten().collect();
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    map(&fields)
}

fn response() -> impl Strategy<Value = HeaderMap> {
    const TAGS: &[&str] = &["\"a\"", "W/\"a\"", "\"b\"", "W/\"b\""];
    const VARY: &[&str] = &[
        "accept-language",
        "Accept-Language, x-a",
        "accept-encoding",
        "*",
        "x-a, *",
        "",
    ];
    const AGES: &[&str] = &[
        "0",
        "15",
        "5, 100",
        "junk",
        "+5",
        "-5",
        "99999999999999999999",
    ];
    let first = (
        prop_oneof![1 => Just(None), 5 => list(DIRECTIVES, 4).prop_map(|v| Some(("cache-control", v)))],
        maybe("cache-control", 8, list(DIRECTIVES, 1)),
        maybe("expires", 3, dates()),
        maybe("expires", 12, dates()),
        maybe("date", 3, dates()),
        maybe("age", 3, pick(AGES)),
        maybe("last-modified", 3, dates()),
    );
    let second = (
        maybe("etag", 2, pick(TAGS)),
        maybe("vary", 3, pick(VARY)),
        maybe("set-cookie", 8, pick(&["a=b"])),
        maybe("pragma", 8, pick(&["no-cache", "x"])),
        maybe(
            "cdn-cache-control",
            12,
            pick(&["max-age=5", "no-store", "&&&"]),
        ),
    );
    (first, second).prop_map(|((a, b, c, d, e, f, g), (h, i, j, k, l))| {
        headers(vec![a, b, c, d, e, f, g, h, i, j, k, l])
    })
}

fn request() -> impl Strategy<Value = HeaderMap> {
    const LANGUAGES: &[&str] = &["de", "en", "de, en", "de,en"];
    const CODINGS: &[&str] = &["gzip", "gzip, br", "br, gzip", "gzip;q=0"];
    (
        maybe("cache-control", 3, list(ASKED, 2)),
        maybe("pragma", 8, pick(&["no-cache"])),
        maybe("accept-language", 3, pick(LANGUAGES)),
        maybe("accept-encoding", 3, pick(CODINGS)),
        maybe("x-a", 4, pick(&["1", "2"])),
        maybe("authorization", 8, pick(&["Basic YTpi"])),
        maybe("cookie", 8, pick(&["id=1"])),
    )
        .prop_map(|(a, b, c, d, e, f, g)| headers(vec![a, b, c, d, e, f, g]))
}

fn case() -> impl Strategy<Value = Case> {
    let statuses = [
        200, 200, 200, 203, 204, 301, 302, 404, 410, 403, 412, 418, 500, 503,
    ];
    let times = [
        0, 1, 5, 9, 10, 11, 29, 30, 39, 40, 45, 59, 60, 61, 69, 70, 71, 89, 90, 100, 1000, 100_000,
    ];
    let not_modified = (
        maybe("etag", 2, pick(&["\"a\"", "W/\"a\"", "\"b\""])),
        maybe("last-modified", 2, dates()),
    );
    (
        request(),
        prop::sample::select(statuses.to_vec()),
        response(),
        prop_oneof![4 => Just(0), 1 => 1..20_u64],
        // Most often the same client asks again.
        prop_oneof![1 => Just(true), 1 => Just(false)],
        request(),
        prop::sample::select(times.to_vec()),
        not_modified.prop_map(|(a, b)| headers(vec![a, b])),
    )
        .prop_map(
            |(request, status, response, took, same, mut later, secs, not_modified)| {
                if same {
                    for name in ["accept-language", "accept-encoding", "x-a"] {
                        later.remove(name);
                        if let Some(value) = request.get(name) {
                            later.insert(name, value.clone());
                        }
                    }
                }
                Case {
                    request,
                    status,
                    response,
                    took,
                    later,
                    secs,
                    not_modified,
                }
            },
        )
}

/// Any difference that is not listed is a finding, in one of the two.
#[test]
fn no_other_difference_is_found() {
    let config = ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // The same cases each time.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let (stored, reused) = (Cell::new(0), Cell::new(0));
    let result = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        let opinion = ours(&case);
        stored.set(stored.get() + u32::from(opinion.stores));
        reused.set(reused.get() + u32::from(opinion.reuses));
        for aspect in differences(&case) {
            let known = explained(&case, aspect);
            let theirs = theirs(&case);
            prop_assert!(
                !known.is_empty(),
                "{aspect:?}: ours {opinion:?}, theirs {theirs:?}"
            );
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // The grammar is worth its while only if much of what it makes is stored and used.
    let (stored, reused) = (stored.get(), reused.get());
    assert!(stored > 4_000 && reused > 800, "{stored} {reused}");
}
