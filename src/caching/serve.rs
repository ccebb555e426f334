//! Answers out of what is stored: the whole, a part, or that nothing has changed.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::cache::conditional::{self, Answer};
use crate::cache::policy::Wants;
use crate::cache::range::{self, Ranged};
use crate::cache::rules::Rules;
use crate::cache::status::CacheStatus;
use crate::cache::stored::{Body, Stored};
use crate::time::{Moment, Tick, Wall};

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Between the parts of a multipart answer. What precedes it on its line cannot be in a body by chance.
const BOUNDARY: &str = "weir-3b1f4d6c0e9a4f7d";

/// What a 304 repeats of a 200 (RFC 9110 section 15.4.5).
const IN_304: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::VARY,
    header::VIA,
];

/// What a 304 leaves out of a 200: it describes a content that is not sent.
const OF_CONTENT: [HeaderName; 6] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::TRAILER,
];

/// The head of a stored response as a client is to see it, with its age.
pub fn head(stored: &Stored, now: Tick) -> HeaderMap {
    let mut headers = stored.head.to_map();
    headers.insert(header::AGE, HeaderValue::from(stored.life.age(now)));
    headers
}

/// Adds what the cache has to say of itself, behind what caches before it have said.
pub fn tell(headers: &mut HeaderMap, rules: &Rules, status: &CacheStatus) {
    if rules.cache_status
        && let Ok(value) = HeaderValue::try_from(status.to_string())
    {
        headers.append(&CACHE_STATUS, value);
    }
}

/// Can `stored` answer a request that wants this? What is stored in parts answers for those parts alone.
pub fn can_answer(stored: &Stored, wants: &Wants, request: &HeaderMap, now: Wall) -> bool {
    match &stored.body {
        Body::Whole(_) => true,
        Body::Parts { .. } => {
            wants.range && !wants.head && range::select(request, stored, now).is_some()
        }
    }
}

/// The answer to a request, out of `stored`.
pub fn answer(stored: &Stored, wants: &Wants, request: &HeaderMap, now: Moment) -> Response<Bytes> {
    let headers = head(stored, now.tick);
    if wants.conditional
        && stored.status == 200
        && conditional::evaluate(request, &stored.head, now.wall) == Answer::NotModified
    {
        return not_modified(&headers);
    }
    if wants.range
        && !wants.head
        && stored.status == 200
        && let Some(response) = ranged(stored, request, &headers, now.wall)
    {
        return response;
    }
    let Body::Whole(body) = &stored.body else {
        // `can_answer` was asked before.
        return bare(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    if wants.head {
        let mut response = with(status, headers, Bytes::new());
        // RFC 9110 section 8.6: never in a 204.
        if status != StatusCode::NO_CONTENT {
            let length = HeaderValue::from(body.len());
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
        }
        return response;
    }
    with(status, headers, body.clone())
}

/// 304, with the fields that it repeats.
pub fn not_modified(headers: &HeaderMap) -> Response<Bytes> {
    let mut kept = HeaderMap::with_capacity(10);
    for name in IN_304.iter().chain([&header::AGE]) {
        for value in headers.get_all(name) {
            kept.append(name, value.clone());
        }
    }
    if !headers.contains_key(header::ETAG)
        && let Some(modified) = headers.get(header::LAST_MODIFIED)
    {
        kept.insert(header::LAST_MODIFIED, modified.clone());
    }
    with(StatusCode::NOT_MODIFIED, kept, Bytes::new())
}

/// 304 in the place of a backend's own answer to whom it is for: without what describes the content, and with all else that the
/// backend says, cookies say.
pub fn unmodified(headers: &HeaderMap) -> Response<Bytes> {
    let mut kept = headers.clone();
    for name in &OF_CONTENT {
        kept.remove(name);
    }
    with(StatusCode::NOT_MODIFIED, kept, Bytes::new())
}

/// The part of a body that is still to come, in the place of a backend's 200: its head.
pub fn part(headers: &HeaderMap, (first, last, total): (u64, u64, u64)) -> Response<Bytes> {
    let mut response = with(StatusCode::PARTIAL_CONTENT, headers.clone(), Bytes::new());
    content_range(&mut response, &format!("bytes {first}-{last}/{total}"));
    response
}

/// 416: nothing of what is asked for is within so many bytes.
pub fn unsatisfiable(total: u64) -> Response<Bytes> {
    let mut response = bare(StatusCode::RANGE_NOT_SATISFIABLE);
    content_range(&mut response, &format!("bytes */{total}"));
    response
}

fn ranged(
    stored: &Stored,
    request: &HeaderMap,
    headers: &HeaderMap,
    now: Wall,
) -> Option<Response<Bytes>> {
    match range::select(request, stored, now)? {
        Ranged::Whole => None,
        Ranged::One { first, last, total } => {
            let body = range::slice(&stored.body, first, last)?;
            let mut response = part(headers, (first, last, total));
            *response.body_mut() = body;
            Some(response)
        }
        Ranged::Many(parts) => {
            let total = match &stored.body {
                Body::Whole(body) => body.len() as u64,
                Body::Parts { total, .. } => *total,
            };
            let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            let body = range::multipart(&parts, total, kind, &stored.body, BOUNDARY)?;
            let mut response = with(StatusCode::PARTIAL_CONTENT, headers.clone(), body);
            // Each part has its own.
            response.headers_mut().remove(header::CONTENT_RANGE);
            let kind = format!("multipart/byteranges; boundary={BOUNDARY}");
            if let Ok(kind) = HeaderValue::try_from(kind) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            Some(response)
        }
        Ranged::Unsatisfiable { total } => Some(unsatisfiable(total)),
    }
}

fn content_range(response: &mut Response<Bytes>, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
}

fn bare(status: StatusCode) -> Response<Bytes> {
    with(status, HeaderMap::new(), Bytes::new())
}

fn with(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
