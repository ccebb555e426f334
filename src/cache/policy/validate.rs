//! Validation: with what a stored response is validated, and what a 304 makes of it (RFC 9111 sections 3.2, 4.3.1 and 4.3.4).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Keep, Times, Uncacheable, Wants, store};
use crate::cache::conditional::opaque;
use crate::cache::date;
use crate::cache::rules::Rules;
use crate::cache::stored::{Head, Stored};
use crate::message::fields;
use crate::time::Wall;

/// The conditions for a validating GET (RFC 9111 section 4.3.1); `None` where there is nothing to validate with.
pub fn validators(head: &Head) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let field = |name: &str| HeaderValue::from_bytes(head.get(name)?).ok();
    let etag = field("etag").map(|v| (header::IF_NONE_MATCH, v));
    let modified = field("last-modified").map(|v| (header::IF_MODIFIED_SINCE, v));
    let found: Vec<_> = etag.into_iter().chain(modified).collect();
    (!found.is_empty()).then_some(found)
}

/// Does a 304 speak of what is stored (RFC 9111 section 4.3.4)? A strong tag must be the stored one, a weak one or a date must
/// correspond. Without any it does: servers leave them out, and the only ones that were sent are ours.
pub fn matches_304(head: &Head, headers: &HeaderMap) -> bool {
    let tag = headers.get(header::ETAG).map(HeaderValue::as_bytes);
    match (tag, head.get("etag")) {
        (Some(new), old) if !new.starts_with(b"W/") => return old == Some(new),
        (Some(new), Some(old)) => return opaque(new) == opaque(old),
        _ => {}
    }
    let dates = (
        headers.get(header::LAST_MODIFIED),
        head.get("last-modified"),
    );
    match dates {
        (Some(new), Some(old)) => new.as_bytes() == old,
        _ => true,
    }
}

/// A stored response after a 304: its fields replaced by those that came, its life begun anew (RFC 9111 section 3.2).
///
/// # Errors
/// The 304 says that it may no longer be stored.
pub fn refresh(
    rules: &Rules,
    wants: &Wants,
    stored: &Stored,
    headers: &HeaderMap,
    times: Times,
) -> Result<(Stored, Keep), Uncacheable> {
    // Without these the stored bytes could not be read as what they are (RFC 9111 section 3.2 allows to leave them).
    const KEPT: [HeaderName; 4] = [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::TRANSFER_ENCODING,
    ];
    let mut merged = stored.head.to_map();
    for name in headers.keys().filter(|n| !KEPT.contains(n)) {
        merged.remove(name);
        for value in headers.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    // An age is what the 304 says of itself; without a date of its own it was made now.
    if !headers.contains_key(header::DATE) {
        merged.remove(header::DATE);
    }
    let keep = store(rules, wants, stored.status, &merged, times)?;
    let head = head_of(&merged, &keep, times.received.wall);
    let refreshed = Stored::new(stored.status, head, stored.body.clone(), keep.life);
    Ok((refreshed, keep))
}

/// The fields of a 206 as those of the whole that it is a part of.
pub fn head_of_part(headers: &HeaderMap, keep: &Keep, received: Wall) -> Head {
    kept(headers, keep, received, |name| {
        name == header::CONTENT_RANGE
    })
}

/// The fields as they are stored: without what is said anew each time and what is one user's, and with a Date (RFC 9110
/// section 6.6.1). Content-Range says of a whole what its server means by it, and is [`head_of_part`]'s to leave out.
pub fn head_of(headers: &HeaderMap, keep: &Keep, received: Wall) -> Head {
    kept(headers, keep, received, |_| false)
}

/// The fields in their order, but for those that are never stored and those that are `left_out`.
fn kept(
    headers: &HeaderMap,
    keep: &Keep,
    received: Wall,
    left_out: impl Fn(&HeaderName) -> bool,
) -> Head {
    const ANEW: [HeaderName; 3] = [
        header::AGE,
        header::CONTENT_LENGTH,
        // Trailers are not stored, and need no announcement.
        header::TRAILER,
    ];
    let is_dated = headers
        .get(header::DATE)
        .is_some_and(|date| date::parse(date.as_bytes(), received).is_some());
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        let left_out = left_out(name)
            || ANEW.contains(name)
            || (name == header::DATE && !is_dated)
            || keep.drop.contains(name)
            || fields::is_hop_by_hop(name);
        if !left_out {
            kept.append(name, value.clone());
        }
    }
    if !is_dated && let Ok(value) = HeaderValue::try_from(date::format(received)) {
        kept.insert(header::DATE, value);
    }
    Head::of(&kept)
}
