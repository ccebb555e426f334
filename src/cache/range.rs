//! Byte ranges: answered from what is stored, whole or in parts, and parts joined (RFC 9110 section 14, RFC 9111 sections 3.3
//! and 3.4).

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, header};

use super::conditional::is_same_strong;
use super::date;
use super::stored::{Body, Head, Stored};
use crate::time::Wall;

/// More ranges in one request than anybody needs; such a request gets the whole.
const MOST_RANGES: usize = 8;

/// Pieces of one response that are stored at once.
const MOST_PARTS: usize = 32;

/// What a request's Range comes to. Positions are of first and last bytes, as in the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranged {
    /// The whole: the field cannot be read, its condition does not hold, or it asks for too much at once.
    Whole,
    /// One range.
    One {
        /// Position of its first byte.
        first: u64,
        /// Position of its last byte.
        last: u64,
        /// Length of the whole.
        total: u64,
    },
    /// Several, for a multipart answer.
    Many(Vec<(u64, u64)>),
    /// 416: none of them lies within.
    Unsatisfiable {
        /// Length of the whole.
        total: u64,
    },
}

/// What a request's Range and If-Range come to on a stored 200; `None` if what they ask for is not stored. `now` is what years of
/// two digits are read by.
pub fn select(request: &HeaderMap, stored: &Stored, now: Wall) -> Option<Ranged> {
    let total = match &stored.body {
        Body::Whole(body) => body.len() as u64,
        Body::Parts { total, .. } => *total,
    };
    let ranged = of_head(request, &stored.head, total, now);
    if matches!(stored.body, Body::Whole(_)) {
        return Some(ranged);
    }
    let has = |first, last| slice(&stored.body, first, last).is_some();
    let there = match &ranged {
        Ranged::One { first, last, .. } => has(*first, *last),
        Ranged::Many(parts) => parts.iter().all(|(first, last)| has(*first, *last)),
        Ranged::Unsatisfiable { .. } => true,
        Ranged::Whole => false,
    };
    there.then_some(ranged)
}

/// What they come to on a 200 with this head and so many bytes, of which none need be here. `now` is what years of two digits are
/// read by.
pub fn of_head(request: &HeaderMap, head: &Head, total: u64, now: Wall) -> Ranged {
    match if_range(request, head, now) {
        true => parse(request, total),
        false => Ranged::Whole,
    }
}

/// Does If-Range hold (RFC 9110 section 13.1.5)? It must be the very validator of the response, and a strong one.
fn if_range(request: &HeaderMap, head: &Head, now: Wall) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).iter();
    let (Some(condition), second) = (lines.next(), lines.next()) else {
        return true;
    };
    if second.is_some() {
        return false;
    }
    let condition = condition.as_bytes().trim_ascii();
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        return is_same_strong(condition, head.get("etag"));
    }
    head.get("last-modified") == Some(condition) && is_strong_date(condition, head, now)
}

/// A response that was made a second or more after its last change: nothing can have changed twice since (RFC 9110 section
/// 8.8.2.2).
fn is_strong_date(modified: &[u8], head: &Head, now: Wall) -> bool {
    let read = |text: &[u8]| date::parse(text, now);
    let made = head.get("date").and_then(read);
    read(modified).is_some_and(|modified| made.is_some_and(|made| made > modified))
}

fn parse(request: &HeaderMap, total: u64) -> Ranged {
    let mut lines = request.get_all(header::RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Ranged::Whole;
    };
    let specs = line.to_str().ok().and_then(|text| {
        let (unit, specs) = text.split_once('=')?;
        unit.trim().eq_ignore_ascii_case("bytes").then_some(specs)
    });
    let Some(specs) = specs else {
        return Ranged::Whole;
    };
    let specs: Vec<&str> = specs
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .collect();
    if specs.is_empty() || specs.len() > MOST_RANGES {
        return Ranged::Whole;
    }
    let mut parts = Vec::new();
    for spec in specs {
        match one(spec, total) {
            Some(Some(part)) => parts.push(part),
            Some(None) => {}
            None => return Ranged::Whole,
        }
    }
    match parts[..] {
        [] => Ranged::Unsatisfiable { total },
        [(first, last)] => Ranged::One { first, last, total },
        // Ranges that overlap send the same bytes again: the whole is cheaper (RFC 9110 section 14.2 allows it).
        _ if overlap(&parts) => Ranged::Whole,
        _ => Ranged::Many(parts),
    }
}

/// One range: `None` if it is none, `Some(None)` if it lies outside.
fn one(spec: &str, total: u64) -> Option<Option<(u64, u64)>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A position beyond all numbers is beyond the end.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = spec.split_once('-')?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => {
            let suffix: u64 = number(last)?;
            if suffix == 0 {
                return Some(None);
            }
            // Of nothing it is all, which no Content-Range can name.
            let end = total.checked_sub(1)?;
            Some(Some((total.saturating_sub(suffix), end)))
        }
        (false, open) => {
            let first: u64 = number(first)?;
            let last = if open { u64::MAX } else { number(last)? };
            if last < first {
                return None;
            }
            Some((first < total).then(|| (first, last.min(total - 1))))
        }
    }
}

fn overlap(parts: &[(u64, u64)]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|w| w[1].0 <= w[0].1)
}

/// The bytes from `first` to `last`; `None` if not all of them are stored.
pub fn slice(body: &Body, first: u64, last: u64) -> Option<Bytes> {
    let cut = |begin: u64, bytes: &Bytes| {
        let from = usize::try_from(first.checked_sub(begin)?).ok()?;
        let to = usize::try_from(last.checked_sub(begin)?)
            .ok()?
            .checked_add(1)?;
        (from < to && to <= bytes.len()).then(|| bytes.slice(from..to))
    };
    match body {
        Body::Whole(bytes) => cut(0, bytes),
        Body::Parts { ranges, .. } => ranges.iter().find_map(|(begin, bytes)| cut(*begin, bytes)),
    }
}

/// The body of a multipart/byteranges answer (RFC 9110 section 14.6).
pub fn multipart(
    parts: &[(u64, u64)],
    total: u64,
    content_type: Option<&[u8]>,
    body: &Body,
    boundary: &str,
) -> Option<Bytes> {
    let mut out = BytesMut::new();
    for (first, last) in parts {
        let bytes = slice(body, *first, *last)?;
        out.put_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        if let Some(kind) = content_type {
            out.put_slice(b"content-type: ");
            out.put_slice(kind);
            out.put_slice(b"\r\n");
        }
        out.put_slice(format!("content-range: bytes {first}-{last}/{total}\r\n\r\n").as_bytes());
        out.put_slice(&bytes);
    }
    out.put_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Some(out.freeze())
}

/// What a 206 carries, if it is one range that says where it belongs: its first position, the whole's length, its bytes.
pub fn part(status: u16, headers: &HeaderMap, body: Bytes) -> Option<(u64, u64, Bytes)> {
    let mut lines = headers.get_all(header::CONTENT_RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (unit, range) = line.to_str().ok()?.trim().split_once(' ')?;
    let (span, total) = range.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())?
    };
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    let fits = first <= last && last < total && last - first == (body.len() as u64).wrapping_sub(1);
    (status == 206 && unit.eq_ignore_ascii_case("bytes") && fits).then_some((first, total, body))
}

/// A part joined to what is stored of the same representation; alone where nothing is. `None` if it must not be stored, because
/// nothing tells for sure which representation it is a part of (RFC 9111 section 3.4 asks for a strong validator).
pub fn join(
    old: Option<&Stored>,
    head: &Head,
    first: u64,
    total: u64,
    bytes: Bytes,
) -> Option<Body> {
    let etag = head.get("etag")?;
    if etag.starts_with(b"W/") || bytes.is_empty() {
        return None;
    }
    let mut ranges = vec![(first, bytes)];
    if let Some(old) = old
        && is_same_strong(etag, old.head.get("etag"))
    {
        match &old.body {
            Body::Whole(whole) if whole.len() as u64 == total => {
                return Some(Body::Whole(whole.clone()));
            }
            Body::Parts {
                total: known,
                ranges: others,
            } if *known == total => ranges.extend(others.iter().cloned()),
            _ => {}
        }
    }
    let ranges = merged(ranges);
    match &ranges[..] {
        [(0, whole)] if whole.len() as u64 == total => Some(Body::Whole(whole.clone())),
        _ if ranges.len() > MOST_PARTS => None,
        _ => Some(Body::Parts {
            total,
            ranges: ranges.into(),
        }),
    }
}

/// In order, with what overlaps or adjoins put together.
fn merged(mut ranges: Vec<(u64, Bytes)>) -> Vec<(u64, Bytes)> {
    ranges.sort_by_key(|(first, _)| *first);
    let mut out: Vec<(u64, Bytes)> = Vec::with_capacity(ranges.len());
    for (first, bytes) in ranges {
        let Some((begin, before)) = out.last_mut() else {
            out.push((first, bytes));
            continue;
        };
        let end = *begin + before.len() as u64;
        if first > end {
            out.push((first, bytes));
            continue;
        }
        // Both fit into memory, so the difference does.
        let known = usize::try_from(end - first).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
            let mut joined = BytesMut::with_capacity(before.len() + new.len());
            joined.put_slice(before);
            joined.put_slice(new);
            *before = joined.freeze();
        }
    }
    out
}
