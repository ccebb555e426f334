//! Conditions of a GET or HEAD, held against the head of a 200, stored or just come (RFC 9110 section 13, RFC 9111 section
//! 4.3.2). Absent: If-Match and If-Unmodified-Since, which are the origin's to evaluate.

use http::{HeaderMap, HeaderValue, header};

use super::date;
use super::stored::Head;
use crate::time::Wall;

/// What a request's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The response as it is.
    Whole,
    /// 304: the client has it.
    NotModified,
}

/// Evaluates them in the order of RFC 9110 section 13.2.2. `now` is what years of two digits are read by.
pub fn evaluate(request: &HeaderMap, head: &Head, now: Wall) -> Answer {
    let unchanged = if request.contains_key(header::IF_NONE_MATCH) {
        names_stored(request, head.get("etag"))
    } else {
        is_unmodified(request, head, now).unwrap_or(false)
    };
    match unchanged {
        true => Answer::NotModified,
        false => Answer::Whole,
    }
}

/// Is If-Modified-Since no earlier than the last change? Where a response does not say when that was, Date stands in for it
/// (RFC 9111 section 4.3.2). `None` where there is no such condition, or none that can be read.
fn is_unmodified(request: &HeaderMap, head: &Head, now: Wall) -> Option<bool> {
    let mut lines = request.get_all(header::IF_MODIFIED_SINCE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let limit = date::parse(line.as_bytes(), now)?;
    let changed = head.get("last-modified").or_else(|| head.get("date"))?;
    Some(date::parse(changed, now)? <= limit)
}

/// Does If-None-Match name the stored tag, by the weak comparison (RFC 9110 section 8.8.3.2), or anything?
fn names_stored(request: &HeaderMap, etag: Option<&[u8]>) -> bool {
    let lines = request.get_all(header::IF_NONE_MATCH);
    let mut tags = lines.iter().map(HeaderValue::as_bytes).flat_map(tags);
    tags.any(|tag| tag == b"*" || etag.is_some_and(|etag| opaque(etag) == opaque(tag)))
}

/// The entity tags of a list. They are no quoted strings: a backslash in them is a character like any other.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        while let [b',' | b' ' | b'\t', tail @ ..] = rest {
            rest = tail;
        }
        let begin = if rest.starts_with(b"W/") { 2 } else { 0 };
        let end = match rest.get(begin..) {
            Some([b'"', inside @ ..]) => inside
                .iter()
                .position(|b| *b == b'"')
                .map_or(rest.len(), |at| begin + at + 2),
            _ => rest.iter().position(|b| *b == b',').unwrap_or(rest.len()),
        };
        let (tag, tail) = rest.split_at(end);
        rest = tail;
        (!tag.is_empty()).then(|| tag.trim_ascii_end())
    })
}

/// An entity tag without the mark of weakness.
pub(super) fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// The strong comparison (RFC 9110 section 8.8.3.2).
pub(super) fn is_same_strong(one: &[u8], other: Option<&[u8]>) -> bool {
    other == Some(one) && !one.starts_with(b"W/")
}
