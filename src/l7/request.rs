//! A request as the walk begins with it, whether it came over HTTP/1 or HTTP/2, and the route that it takes. Absent: its body
//! (upload), and what becomes of it (walk).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Uri, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::conn::Conn;
use crate::config::model::{self, Route};
use crate::env::Env;
use crate::h1::RequestHead;
use crate::message::cause::Cause;
use crate::message::fields;
use crate::message::head::Fields;
use crate::message::known::CLAIMS;
use crate::message::target::{self, Target};
use crate::message::upgrade::WEBSOCKET;

/// A request's head, whichever way it came. It lies on the heap, since it is handed on often.
pub struct Request {
    pub method: Method,
    raw: Raw,
    /// Where it goes, or why it goes nowhere.
    pub target: Result<Target, Cause>,
    pub version: Version,
    pub headers: Fields,
    /// The stream that becomes a tunnel's bytes, if the request is an extended CONNECT (RFC 8441).
    pub connect: Option<OnUpgrade>,
}

/// A target as it came.
enum Raw {
    Line(Bytes),
    Uri(Box<Uri>),
}

impl Request {
    /// Of a connection of HTTP/1.
    pub fn of_line<E: Env>(conn: &Conn<E>, head: RequestHead) -> Box<Self> {
        let (method, version, mut headers) = (head.method, head.version, head.headers);
        let rules = &conn.model().path;
        let target = guarded(|| target::read(&method, &head.target, &headers, version, rules));
        distrust(conn, &mut headers);
        Box::new(Request {
            method,
            raw: Raw::Line(head.target),
            target: target.flatten(),
            version,
            headers,
            connect: None,
        })
    }

    /// Of a stream of HTTP/2.
    pub fn of_stream<E: Env>(conn: &Conn<E>, mut parts: Parts) -> Box<Self> {
        let connect = take_connect(&mut parts);
        // HTTP/1.1 has one field for them, and a bound of fields counts one (RFC 9113 section 8.2.3).
        fields::join_cookies(&mut parts.headers);
        let mut headers = Fields::from(parts.headers);
        let (method, version, rules) = (&parts.method, parts.version, &conn.model().path);
        let target = guarded(|| target::parse(method, &parts.uri, &headers, version, rules));
        distrust(conn, &mut headers);
        Box::new(Request {
            method: parts.method,
            raw: Raw::Uri(Box::new(parts.uri)),
            target: target.flatten(),
            version: parts.version,
            headers,
            connect,
        })
    }

    /// The target as it came, for the access log.
    pub fn target_text(&self) -> String {
        match &self.raw {
            Raw::Line(target) => String::from_utf8_lossy(target).into_owned(),
            Raw::Uri(uri) => uri.to_string(),
        }
    }

    /// Is it within the bounds of its listener? What came over HTTP/1 has been held against them when it was read, and the
    /// library that reads HTTP/2 looks at the size of a head only while it is incomplete.
    pub fn fits(&self, limits: &model::Limits) -> Result<(), Cause> {
        let Raw::Uri(uri) = &self.raw else {
            return Ok(());
        };
        let target = uri.path_and_query().map_or(0, |p| p.as_str().len());
        if target > limits.uri_bytes {
            return Err(Cause::UriTooLong);
        }
        // A colon and a line's end for each field.
        let mut bytes = target;
        self.headers
            .each(|_, name, value| bytes += name.len() + value.len() + 3);
        match bytes > limits.head_bytes || self.headers.len() > limits.head_fields {
            true => Err(Cause::HeadTooLarge),
            false => Ok(()),
        }
    }
}

/// Takes out what only a proxy in front may say, where the client is none: before anything looks at the fields, so that neither a
/// rule nor a backend believes it.
fn distrust<E: Env>(conn: &Conn<E>, headers: &mut Fields) {
    let rules = &conn.model().untrusted_fields;
    if !conn.client.origin.trusted && (headers.has_any(CLAIMS) || !rules.drop.is_empty()) {
        headers.retain(|known, name| rules.lets_pass(known, name));
    }
}

/// The route that a request takes, and its place among the listener's.
pub fn route<'a, E: Env>(
    conn: &'a Conn<E>,
    request: &Request,
    target: &Target,
) -> Option<(usize, &'a Arc<Route>)> {
    let mut routes = conn.model().routes.iter().enumerate();
    routes.find(|(_, route)| {
        route
            .matches
            .matches(target, &request.method, &request.headers)
    })
}

/// Makes a GET of an extended CONNECT that asks for WebSocket. What is returned becomes the stream's bytes.
fn take_connect(parts: &mut Parts) -> Option<OnUpgrade> {
    let protocol = parts.extensions.get::<Protocol>();
    let websocket = protocol.is_some_and(|p| p.as_str().eq_ignore_ascii_case(WEBSOCKET));
    if parts.method != Method::CONNECT || parts.version != Version::HTTP_2 || !websocket {
        return None;
    }
    parts.method = Method::GET;
    parts.extensions.remove::<OnUpgrade>()
}

/// Work whose panic is this request's alone.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Cause::Panic)
}
