//! Conditions of a GET or HEAD, answered from a stored 200 (RFC 9110 section 13, RFC 9111 section 4.3.2).

use http::{HeaderMap, header};

use super::policy::{opaque, parse_date};
use super::stored::Stored;
use crate::message::fields;

/// What a request's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The response as it is.
    Whole,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client supposed.
    PreconditionFailed,
}

/// Evaluates them in the order of RFC 9110 section 13.2.2.
pub fn evaluate(request: &HeaderMap, stored: &Stored) -> Answer {
    let etag = stored.head.get("etag");
    let modified = || {
        let text = std::str::from_utf8(stored.head.get("last-modified")?).ok()?;
        parse_date(text)
    };
    let since = |name| {
        let mut lines = request.get_all(name).iter();
        // A condition that is no date, or more than one, is none.
        match (lines.next(), lines.next()) {
            (Some(line), None) => parse_date(line.to_str().ok()?),
            _ => None,
        }
    };
    if request.contains_key(header::IF_MATCH) {
        if !names(request, header::IF_MATCH, |tag| is_same_strong(tag, etag)) {
            return Answer::PreconditionFailed;
        }
    } else if let (Some(limit), Some(modified)) = (since(header::IF_UNMODIFIED_SINCE), modified())
        && modified > limit
    {
        return Answer::PreconditionFailed;
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        let weakly = |tag: &[u8]| etag.is_some_and(|etag| opaque(etag) == opaque(tag));
        return match names(request, header::IF_NONE_MATCH, weakly) {
            true => Answer::NotModified,
            false => Answer::Whole,
        };
    }
    match (since(header::IF_MODIFIED_SINCE), modified()) {
        (Some(limit), Some(modified)) if modified <= limit => Answer::NotModified,
        _ => Answer::Whole,
    }
}

/// Does a list of entity tags name one that `is` takes, or everything?
fn names(request: &HeaderMap, field: header::HeaderName, is: impl Fn(&[u8]) -> bool) -> bool {
    let lines = request.get_all(field);
    let mut tags = lines
        .iter()
        .flat_map(|line| fields::list_items(line.as_bytes()));
    tags.any(|tag| tag == b"*" || is(tag))
}

/// The strong comparison (RFC 9110 section 8.8.3.2).
pub(super) fn is_same_strong(one: &[u8], other: Option<&[u8]>) -> bool {
    other == Some(one) && !one.starts_with(b"W/")
}
