//! A request's head as HTTP/2 has it (RFC 9113 section 8.3).

use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};

use crate::config::model::{self, HeaderRules};
use crate::h1::BodyFraming;
use crate::message::fields::is_hop_by_hop;
use crate::message::head as message;
use crate::message::known::Known;
use crate::upstream::inbound::{FieldSink, Hop, Inbound};
use crate::upstream::origin::Origin;

/// The request has no form in HTTP/2.
#[derive(Debug)]
pub struct Unspeakable;

/// The head as `backend` is to see it.
///
/// # Errors
/// Its target or its authority, as the route and the backend's prefix make it, is none.
pub fn request(
    inbound: &Inbound,
    origin: &Origin,
    backend: &model::Backend,
    hop: &Hop<'_>,
    id: (u64, u64),
) -> Result<Request<()>, Unspeakable> {
    let path = inbound.target_parts(hop).concat();
    let path = PathAndQuery::try_from(&path[..])
        .or_else(|_| PathAndQuery::try_from(encoded(&path)))
        .map_err(|_| Unspeakable)?;
    let authority = authority(inbound, backend, hop.rules)?;
    let uri = Uri::builder()
        .scheme(backend.scheme.as_str())
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| Unspeakable)?;
    let mut fields = Fields(HeaderMap::with_capacity(inbound.headers.len() + 8));
    inbound.fields(&mut fields, origin, hop, id);
    if let BodyFraming::Length(length) = inbound.framing {
        fields
            .0
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut request = Request::new(());
    *request.method_mut() = inbound.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields.0;
    Ok(request)
}

/// A target without the bytes that a URI has only in percent-encoding (RFC 3986 section 2): a query passes as it came over
/// HTTP/1, and the type that HTTP/2 wants does not take all of them.
fn encoded(target: &str) -> String {
    let mut out = String::with_capacity(target.len() + 8);
    for letter in target.chars() {
        match letter {
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                out.push_str(&format!("%{:02X}", u32::from(letter)));
            }
            other => out.push(other),
        }
    }
    out
}

/// What the route says of Host, or the client's, or, where neither says a thing, the backend's own name.
fn authority(
    inbound: &Inbound,
    backend: &model::Backend,
    rules: &HeaderRules,
) -> Result<Authority, Unspeakable> {
    let set = rules.set.iter().find(|(name, _)| name == header::HOST);
    let said = match set {
        Some((_, value)) => Some(value.as_bytes()),
        None if rules.remove.contains(&header::HOST) => None,
        None => inbound.target.authority().map(str::as_bytes),
    };
    match said.filter(|value| !value.is_empty()) {
        Some(value) => Authority::try_from(value),
        None => Authority::try_from(backend.authority()),
    }
    .map_err(|_| Unspeakable)
}

struct Fields(HeaderMap);

impl FieldSink for Fields {
    fn pass(&mut self, fields: &message::Fields, mut keep: impl FnMut(Known, &[u8]) -> bool) {
        fields.each_shared(|known, name, value| {
            // Host is in :authority, and what belongs to a connection has no place here (section 8.2.2).
            if keep(known, name.as_str().as_bytes()) && !known.is_hop_by_hop() {
                self.0.append(name, value);
            }
        });
    }

    fn say(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name != header::HOST && !is_hop_by_hop(name) {
            self.0.append(name, value.clone());
        }
    }

    fn put(&mut self, known: Known, value: &[u8]) {
        if let (Some(name), Ok(value)) = (known.name(), HeaderValue::from_bytes(value))
            && !known.is_hop_by_hop()
        {
            self.0.append(name, value);
        }
    }

    fn connection(&mut self, trailers: bool, _: bool, _: bool) {
        if trailers {
            let value = HeaderValue::from_static("trailers");
            self.0.insert(header::TE, value);
        }
    }
}
