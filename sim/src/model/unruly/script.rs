//! What one unruly connection is about to do, drawn as a whole before it begins, and the bytes of its requests.
//!
//! Absent: when those bytes are written, and what is made of the answers (talk).

use std::time::Duration;

use weirkeeper::rng::Rng;

use crate::model::forgery;
use crate::model::message::DISGUISED;
use crate::model::pattern::{Whose, disguise};

/// What one connection does.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) asks: Vec<Ask>,
    /// The next request does not wait for the last one's answer.
    pub(super) pipelined: bool,
    /// Behind the last request the client says its end, and still waits for what is to come.
    pub(super) half_closes: bool,
    /// It leaves before all is said.
    pub(super) leaving: Option<Leaving>,
    /// It reads little at a time.
    pub(super) slow: bool,
    /// What it has begun it sends to its end, though the proxy has ended the connection.
    pub(super) stubborn: bool,
    /// How long it listens behind the last answer for one that nobody asked for.
    pub(super) listens: Duration,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// During this request.
    pub(super) at: usize,
    pub(super) within: Within,
    /// By a reset instead of an end.
    pub(super) resets: bool,
}

/// Where a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Head,
    Body,
    /// It had been whole, and was not answered yet.
    Wait,
    Answer,
}

/// One request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) target: Target,
    load: Option<Load>,
    /// Size of the answer, where a backend is told.
    pub(super) size: usize,
    /// Where it is cut, and how long it pauses there.
    cuts: Vec<(Cut, Duration)>,
    pub(super) expect: Expect,
}

/// Who is to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A backend, under this path.
    Backend(String),
    /// A backend, with a cacheable page.
    Page(usize),
    /// The proxy, with this status; for one of the closed ways where everybody else asks, otherwise at a host of its own.
    Own(&'static str, u16),
}

/// What can be asked for.
#[derive(Debug)]
pub(super) struct Scene {
    /// Targets that lead to backends.
    pub(super) paths: Vec<String>,
    /// So many pages, which are asked for instead.
    pub(super) pages: usize,
}

/// What the proxy answers by itself, and how. A config whose worlds have unruly clients has routes for the first two.
const OWN: [(&str, u16); 3] = [("/forbidden", 403), ("/moved", 307), ("/nowhere", 404)];

impl Scene {
    fn target(&self, rng: &mut Rng) -> Target {
        let pick = |rng: &mut Rng, len: usize| usize::try_from(rng.below(len as u64)).unwrap_or(0);
        if rng.chance(0.15) {
            return Target::Own(forgery::WAYS[pick(rng, forgery::WAYS.len())], 403);
        }
        if rng.chance(0.5) || (self.pages == 0 && self.paths.is_empty()) {
            let (path, status) = OWN[pick(rng, OWN.len())];
            return Target::Own(path, status);
        }
        match (self.pages, rng.chance(0.5)) {
            (0, _) => Target::Backend(self.paths[pick(rng, self.paths.len())].clone()),
            (pages, true) => Target::Page(pages - 1),
            (pages, false) => Target::Page(pick(rng, pages)),
        }
    }
}

/// A body.
#[derive(Clone, Copy, Debug)]
struct Load {
    size: usize,
    disguised: bool,
    chunked: bool,
}

/// A place within a request.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Between head and body.
    Between,
    /// Behind this share of all bytes.
    At(f64),
}

/// `Expect: 100-continue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// It is not said.
    Not,
    /// It is said, and the body waits for the word, though not for ever.
    Waits,
    /// It is said, and the body comes all the same.
    Hurries,
}

/// The host of what the proxy answers by itself.
const OWN_HOST: &str = "own.test";

/// The host of everything else.
const HOST: &str = "weir.test";

/// One of `choices`.
fn one<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[usize::try_from(rng.below(choices.len() as u64)).unwrap_or(0)].clone()
}

impl Script {
    pub(super) fn draw(rng: &mut Rng, scene: &Scene) -> Script {
        let count = one(rng, &[1, 1, 2, 2, 3, 4]);
        let asks: Vec<Ask> = (0..count).map(|_| Ask::draw(rng, scene)).collect();
        let leaving = rng.chance(0.3).then(|| Leaving {
            at: usize::try_from(rng.below(count)).unwrap_or(0),
            within: one(
                rng,
                &[Within::Head, Within::Body, Within::Wait, Within::Answer],
            ),
            resets: rng.chance(0.5),
        });
        Script {
            asks,
            pipelined: rng.chance(0.35),
            half_closes: leaving.is_none() && rng.chance(0.15),
            leaving,
            slow: rng.chance(0.2),
            stubborn: rng.chance(0.5),
            listens: Duration::from_millis(one(rng, &[0, 40, 400, 1500])),
        }
    }

    /// Does the client leave within this part of request `at`?
    pub(super) fn leaves(&self, at: usize, within: Within) -> bool {
        self.leaving
            .is_some_and(|l| l.at == at && l.within == within)
    }
}

impl Ask {
    fn draw(rng: &mut Rng, scene: &Scene) -> Ask {
        let target = scene.target(rng);
        let loaded = rng.chance(0.75);
        let method = match (&target, loaded) {
            // What is changed is a page that few visit.
            (Target::Page(page), true) if page + 1 == scene.pages => "POST",
            (Target::Page(_), _) => "GET",
            (_, true) => one(rng, &["POST", "POST", "PUT", "GET"]),
            (_, false) => "GET",
        };
        let loaded = loaded && !(method == "GET" && matches!(target, Target::Page(_)));
        let load = loaded.then(|| Load::draw(rng));
        let expect = match (load, rng.below(4)) {
            (Some(_), 0) => one(rng, &[Expect::Waits, Expect::Hurries]),
            _ => Expect::Not,
        };
        let cuts = one(rng, &[0, 1, 1, 2, 3]);
        let mut cuts: Vec<(Cut, Duration)> = (0..cuts)
            .map(|_| {
                let cut = match rng.below(3) {
                    0 => Cut::Between,
                    _ => Cut::At(rng.unit()),
                };
                (cut, pause(rng))
            })
            .collect();
        // One long pause is enough.
        let long = |(_, pause): &(Cut, Duration)| *pause >= Duration::from_secs(1);
        if cuts.iter().filter(|c| long(c)).count() > 1 {
            cuts.truncate(1);
        }
        Ask {
            method,
            target,
            load,
            size: one(rng, &[0, 10, 2000, 60_000]),
            cuts,
            expect,
        }
    }

    /// The target in its head.
    pub(super) fn path(&self) -> String {
        match &self.target {
            Target::Backend(path) => path.clone(),
            Target::Page(number) => format!("/c/{number}"),
            Target::Own(path, _) => (*path).to_string(),
        }
    }

    /// Does it have a body?
    pub(super) fn is_loaded(&self) -> bool {
        self.load.is_some()
    }

    /// Its body is larger than `limit`.
    pub(super) fn exceeds(&self, limit: Option<u64>) -> bool {
        let size = self.load.map_or(0, |l| l.size as u64);
        limit.is_some_and(|limit| size > limit)
    }

    /// The whole request in the name of `id`.
    pub(super) fn encode(&self, id: u64) -> Written {
        let host = match &self.target {
            Target::Own(path, _) if !forgery::WAYS.contains(path) => OWN_HOST,
            _ => HOST,
        };
        let (path, method) = (self.path(), self.method);
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        if self.expect != Expect::Not {
            text.push_str("expect: 100-continue\r\n");
        }
        let size = self.load.map_or(0, |l| l.size);
        text.push_str(&format!("x-sim: {id} {} {size}", self.size));
        if self.load.is_some_and(|l| l.disguised) {
            text.push_str(&format!(" {DISGUISED}"));
        }
        text.push_str("\r\n");
        text.push_str(&forgery::line(id));
        match self.load {
            None => {}
            Some(load) if load.chunked => text.push_str("transfer-encoding: chunked\r\n"),
            Some(load) => text.push_str(&format!("content-length: {}\r\n", load.size)),
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        let head = bytes.len();
        if let Some(load) = self.load {
            load.append(id, &mut bytes);
        }
        let place = |cut: &Cut| match cut {
            Cut::Between => head,
            Cut::At(share) => (bytes.len() as f64 * share) as usize,
        };
        let mut cuts: Vec<(usize, Duration)> =
            self.cuts.iter().map(|(c, p)| (place(c), *p)).collect();
        cuts.sort_unstable();
        Written { bytes, head, cuts }
    }
}

/// A request in bytes.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// So many of them are its head.
    pub(super) head: usize,
    /// Where to pause, in order.
    pub(super) cuts: Vec<(usize, Duration)>,
}

impl Load {
    fn draw(rng: &mut Rng) -> Load {
        let disguised = rng.chance(0.7);
        let size = match disguised {
            // Less than a head, a head as a rule, two and a piece.
            true => one(rng, &[20, 64, 68, 70, 72, 150]),
            false => one(rng, &[1, 40, 3000, 30_000]),
        };
        Load {
            size,
            disguised,
            chunked: rng.chance(0.3),
        }
    }

    fn append(self, id: u64, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(self.size);
        match self.disguised {
            true => body = disguise(id, self.size),
            false => {
                while body.len() < self.size {
                    body.extend_from_slice(
                        Whose::Request(id).slice(body.len(), self.size - body.len()),
                    );
                }
            }
        }
        if !self.chunked {
            out.extend_from_slice(&body);
            return;
        }
        // Two chunks, so that a whole request in disguise may stand on lines of its own.
        for chunk in body.chunks(self.size.div_ceil(2).max(64)) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Mostly short; at times about as long as a connection idles before the proxy lets go of what it holds for it, or longer.
fn pause(rng: &mut Rng) -> Duration {
    Duration::from_millis(match rng.below(8) {
        0 | 1 => 0,
        2 | 3 => 1 + rng.below(30),
        4 | 5 => 30 + rng.below(300),
        6 => 900 + rng.below(400),
        _ => rng.below(3000),
    })
}
