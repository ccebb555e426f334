//! The backends' side of a [`Site`]: what is said to a request for a page, now. All backends of a world share it, as servers
//! share a database.
//!
//! Every answer carries `x-gen: N`, its number in the book, where a checker finds what was said, to whom and when. A 304 has a
//! number of its own: it says that the representation is this one, now.

use std::sync::{Arc, Mutex};

use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::answer::Answer;
use super::content::{CODINGS, LANGUAGES, Page, Rep, Site, Validator};
use super::message::Head;
use crate::env::lock;
use crate::ledger::{Book, Made};

/// The pages, and what requests have changed.
#[derive(Debug)]
pub struct Origin {
    site: Arc<Site>,
    /// How often each page was changed on request.
    changes: Mutex<Vec<u64>>,
}

impl Origin {
    /// Nothing is changed yet.
    pub fn new(site: Arc<Site>) -> Arc<Self> {
        let changes = Mutex::new(vec![0; site.pages.len()]);
        Arc::new(Origin { site, changes })
    }

    /// The answer to `head`, which is request `id`; `None` if it names no page. It is written into the book.
    pub(super) fn answer(
        &self,
        head: &Head,
        id: u64,
        now: Tick,
        rng: &mut Rng,
        book: &mut Book,
        healed: bool,
    ) -> Option<Answer> {
        let number = page_of(&head.path)?;
        let page = self.site.pages.get(number)?;
        let changed = matches!(head.method.as_str(), "POST" | "PUT" | "DELETE");
        let mut made = self.make(head, id, now, number, changed);
        if changed {
            made.status = 200;
            let number = book.made(made);
            return Some(Answer::of(bare("200 OK\r\ncontent-length: 0", number, "")));
        }
        let fields = fields(page, &made, id);
        if !page.missing && is_unchanged(page.validator, &made.rep, head) {
            made.status = 304;
            let number = book.made(made);
            return Some(Answer::of(bare("304 Not Modified", number, &fields)));
        }
        let range = match page.validator {
            Validator::Strong if !page.missing => part(head, &made.rep, page.size),
            _ => None,
        };
        made.status = match (range, page.missing) {
            (_, true) => 404,
            (Some(_), _) => 206,
            (None, _) => 200,
        };
        let number = book.made(made);
        let (mut answer, begin) = content(head, &made, number, &fields, range, rng);
        answer.pace = if healed {
            page.pace.min(crate::GRAIN)
        } else {
            page.pace
        };
        let left = answer.bytes.len() - begin;
        if !healed && left > 1 && rng.chance(self.site.break_rate) {
            let kept = usize::try_from(rng.below(left as u64)).unwrap_or(0);
            answer.bytes.truncate(begin + kept);
            answer.close = true;
            book.made[number].broken = true;
            book.reach("cacheable body broken off");
        }
        Some(answer)
    }

    /// What the page is now, for this request.
    fn make(&self, head: &Head, id: u64, now: Tick, number: usize, changed: bool) -> Made {
        let page = &self.site.pages[number];
        let said = |name: &str| head.field(name);
        let user = user_of(said("authorization").or(said("cookie")));
        let mut terms = page.terms;
        terms.private |= page.personal && user > 0;
        let shareable = terms.is_shareable(said("authorization").is_some());
        let mut changes = lock(&self.changes);
        changes[number] += u64::from(changed);
        let of = |on: bool, what: usize| if on { what } else { 0 };
        Made {
            request: id,
            at: now,
            rep: Rep {
                page: number,
                language: of(page.by_language, language(said("accept-language"))),
                coding: of(page.by_coding, coding(said("accept-encoding"))),
                user: if shareable { 0 } else { user },
                version: page.by_time(now) + changes[number],
            },
            terms,
            shareable,
            changed,
            status: 0,
            size: page.size,
            broken: false,
        }
    }
}

/// A head without a body.
fn bare(status: &str, number: usize, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nx-gen: {number}\r\n{fields}\r\n").into_bytes()
}

/// What an answer says of itself, in lines.
fn fields(page: &Page, made: &Made, id: u64) -> String {
    let mut lines = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
    };
    field("cache-control", &made.terms.field());
    field("vary", page.vary());
    match page.validator {
        Validator::None => {}
        Validator::Strong => field("etag", &made.rep.tag()),
        Validator::Weak => field("etag", &format!("W/{}", made.rep.tag())),
        Validator::Date => field("last-modified", &made.rep.modified()),
    }
    if made.terms.age > 0 {
        field("age", &made.terms.age.to_string());
    }
    if made.terms.set_cookie {
        field("set-cookie", &format!("visit={id}"));
    }
    if made.terms.private_field {
        field("x-for", &id.to_string());
    }
    lines
}

/// Does the client have it already (RFC 9110 section 13.1)?
fn is_unchanged(validator: Validator, rep: &Rep, head: &Head) -> bool {
    let tag = rep.tag();
    match (head.field("if-none-match"), validator) {
        (Some(tags), Validator::Strong | Validator::Weak) => tags
            .split(',')
            .any(|t| t.trim().trim_start_matches("W/") == tag),
        (None, Validator::Date) => head.field("if-modified-since") == Some(&rep.modified()),
        _ => false,
    }
}

/// The part that is asked for: where it begins and how long it is.
fn part(head: &Head, rep: &Rep, size: usize) -> Option<(usize, usize)> {
    let range = head.field("range")?;
    let current = head.field("if-range").is_none_or(|tag| tag == rep.tag());
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last = last.parse().unwrap_or(size).min(size.checked_sub(1)?);
    (current && first <= last).then(|| (first, last - first + 1))
}

/// Head and body, and where the body begins.
fn content(
    head: &Head,
    made: &Made,
    number: usize,
    fields: &str,
    range: Option<(usize, usize)>,
    rng: &mut Rng,
) -> (Answer, usize) {
    let size = made.size;
    let (from, len) = range.unwrap_or((0, size));
    let reason = match made.status {
        404 => "Not Found",
        206 => "Partial Content",
        _ => "OK",
    };
    let mut text = format!(
        "HTTP/1.1 {} {reason}\r\nx-gen: {number}\r\n{fields}",
        made.status
    );
    if range.is_some() {
        let last = from + len - 1;
        text.push_str(&format!("content-range: bytes {from}-{last}/{size}\r\n"));
    }
    let bodiless = head.method == "HEAD";
    let body = made.rep.bytes(from, if bodiless { 0 } else { len });
    let chunked = !bodiless && rng.chance(0.4);
    let mut bytes = text.into_bytes();
    let framing = match chunked {
        true => "transfer-encoding: chunked\r\n\r\n".to_string(),
        false => format!("content-length: {len}\r\n\r\n"),
    };
    bytes.extend_from_slice(framing.as_bytes());
    let begin = bytes.len();
    if chunked {
        let most = 1 + usize::try_from(rng.below(8192)).unwrap_or(0);
        for chunk in body.chunks(most) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(&body);
    }
    (Answer::of(bytes), begin)
}

/// The page that a target names.
pub fn page_of(path: &str) -> Option<usize> {
    path.strip_prefix("/c/")?.parse().ok()
}

/// Who a request says that it comes from; 0 for nobody.
pub fn user_of(said: Option<&str>) -> u32 {
    said.and_then(|text| text.rsplit(['=', ' ']).next()?.parse().ok())
        .unwrap_or(0)
}

/// The language that a request gets.
pub fn language(said: Option<&str>) -> usize {
    let said = said.unwrap_or("");
    LANGUAGES.iter().position(|l| *l == said).unwrap_or(0)
}

/// The coding that a request gets: the best one that it takes.
pub fn coding(said: Option<&str>) -> usize {
    let said = said.unwrap_or("");
    let takes = |coding: &str| said.split(',').any(|item| item.trim() == coding);
    (1..CODINGS.len())
        .rev()
        .find(|c| takes(CODINGS[*c]))
        .unwrap_or(0)
}
