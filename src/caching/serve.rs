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
use crate::time::Wall;

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

/// The head of a stored response as a client is to see it, with its age.
pub fn head(stored: &Stored, now: Wall) -> HeaderMap {
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
pub fn can_answer(stored: &Stored, wants: &Wants, request: &HeaderMap) -> bool {
    match &stored.body {
        Body::Whole(_) => true,
        Body::Parts { .. } => {
            wants.range && !wants.head && range::select(request, stored).is_some()
        }
    }
}

/// The answer to a request, out of `stored`.
pub fn answer(stored: &Stored, wants: &Wants, request: &HeaderMap, now: Wall) -> Response<Bytes> {
    let headers = head(stored, now);
    if wants.conditional
        && stored.status == 200
        && conditional::evaluate(request, stored) == Answer::NotModified
    {
        return not_modified(&headers);
    }
    if wants.range
        && !wants.head
        && stored.status == 200
        && let Some(response) = ranged(stored, request, &headers)
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

fn ranged(stored: &Stored, request: &HeaderMap, headers: &HeaderMap) -> Option<Response<Bytes>> {
    match range::select(request, stored)? {
        Ranged::Whole => None,
        Ranged::One { first, last, total } => {
            let body = range::slice(&stored.body, first, last)?;
            let mut response = with(StatusCode::PARTIAL_CONTENT, headers.clone(), body);
            content_range(&mut response, &format!("bytes {first}-{last}/{total}"));
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
            let kind = format!("multipart/byteranges; boundary={BOUNDARY}");
            if let Ok(kind) = HeaderValue::try_from(kind) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            Some(response)
        }
        Ranged::Unsatisfiable { total } => {
            let mut response = bare(StatusCode::RANGE_NOT_SATISFIABLE);
            content_range(&mut response, &format!("bytes */{total}"));
            Some(response)
        }
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
