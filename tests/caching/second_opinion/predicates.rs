//! What the classes ask of an input. Absent: what follows from it.

use super::*;

/// The lines of a field, one after the other with commas.
pub(super) fn text(headers: &HeaderMap, name: &str) -> String {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines.map(|l| l.to_str().expect("ASCII")).collect();
    lines.join(", ")
}

/// The directives as the crate parts them: at every comma.
pub(super) fn directives(headers: &HeaderMap) -> Vec<String> {
    let text = text(headers, "cache-control");
    let items = text.split(',').map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

/// The directives as we read them: without regard to case, with quoted strings whole, and semicolons as commas.
pub(super) fn heard(case: &Case) -> Vec<String> {
    let mut text = text(&case.response, "cache-control").to_ascii_lowercase();
    for quoted in ["\"a, no-store, b\"", "\"a, no-cache, b\""] {
        text = text.replace(quoted, "");
    }
    let items = text.split([',', ';']).map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

/// Does anything tell a lifetime, in our reading?
pub(super) fn is_explicit(case: &Case) -> bool {
    let lifetime = |d: &String| d.starts_with("max-age") || d.starts_with("s-maxage");
    has(&case.response, "expires") || heard(case).iter().any(lifetime)
}

pub(super) fn says(case: &Case, directive: &str) -> bool {
    directives(&case.response).iter().any(|d| d == directive)
}

pub(super) fn says_any(case: &Case, start: &str) -> bool {
    directives(&case.response)
        .iter()
        .any(|d| d.starts_with(start))
}

pub(super) fn asks(case: &Case, start: &str) -> bool {
    directives(&case.later).iter().any(|d| d.starts_with(start))
}

pub(super) fn has_upper_case(headers: &HeaderMap) -> bool {
    directives(headers).iter().any(|d| {
        let name = d.split('=').next().unwrap_or_default();
        name.bytes().any(|b| b.is_ascii_uppercase())
    })
}

/// One directive with two values, as the crate compares them: the first without its quotes, the next as it stands.
pub(super) fn is_conflicting(headers: &HeaderMap) -> bool {
    let mut first = std::collections::BTreeMap::new();
    directives(headers).into_iter().any(|d| {
        let (name, value) = match d.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (d, None),
        };
        match first.get(&name) {
            Some(known) => *known != value,
            None => {
                first.insert(name, value.map(|v: String| v.trim_matches('"').to_owned()));
                false
            }
        }
    })
}

pub(super) fn has(headers: &HeaderMap, name: &str) -> bool {
    headers.contains_key(name)
}

/// A date that the crate cannot read and we can, or the other way round.
pub(super) fn is_other_date(text: &str) -> bool {
    let imf = httpdate::parse_http_date(text).is_ok_and(|at| httpdate::fmt_http_date(at) == text);
    !imf && text != "0" && text != "junk"
}

pub(super) fn has_other_date(case: &Case) -> bool {
    let names = ["expires", "date", "last-modified"];
    names.iter().any(|name| {
        case.response
            .get_all(*name)
            .iter()
            .any(|v| is_other_date(v.to_str().unwrap()))
    })
}

/// Seconds after [`NOW`] of a date in the preferred form.
pub(super) fn offset(headers: &HeaderMap, name: &str) -> Option<i64> {
    let at = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
    let secs = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(secs.cast_signed() - NOW.cast_signed())
}

/// Nothing tells a lifetime, and there is no past change to guess from.
pub(super) fn nothing_to_guess_from(case: &Case) -> bool {
    let made = offset(&case.response, "date").unwrap_or(0);
    let changed = offset(&case.response, "last-modified").filter(|at| *at <= made);
    is_guess(case) && changed.is_none()
}

pub(super) fn is_guess(case: &Case) -> bool {
    !is_explicit(case) && !heard(case).iter().any(|d| d == "no-cache")
}

/// The crate's list; it stores no other status.
pub(super) const THEIR_STATUSES: [u16; 14] = [
    200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501,
];

/// Nothing in a 304 can be compared with what is stored.
pub(super) fn is_incomparable(case: &Case) -> bool {
    let (new, old) = (&case.not_modified, &case.response);
    let tags = has(new, "etag") && (has(old, "etag") || !text(new, "etag").starts_with("W/"));
    let dates = has(new, "last-modified") && has(old, "last-modified");
    !(tags || dates)
}
