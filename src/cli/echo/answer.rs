//! What a dummy backend answers with.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Running;

/// The port that answered, so that a client can tell who it was.
pub(in crate::cli) const PORT: HeaderName = HeaderName::from_static("x-echo-port");
/// The highest concurrency that the port has seen so far.
pub(in crate::cli) const PEAK: HeaderName = HeaderName::from_static("x-echo-peak");

/// A description of one request.
pub(super) struct Answer<'a> {
    pub(super) port: u16,
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    /// Bytes of its body.
    pub(super) received: u64,
    /// Requests that the port has answered, with this one.
    pub(super) served: u64,
    /// The highest concurrency that it has seen.
    pub(super) peak: u64,
}

impl Answer<'_> {
    /// The response; `running` ends with its body.
    pub(super) fn respond(
        &self,
        status: StatusCode,
        body_bytes: Option<u64>,
        running: Running,
    ) -> Response<Reply> {
        let (content, content_type) = match body_bytes {
            Some(n) => (Content::Filler(n), "application/octet-stream"),
            None => (Content::Text(self.json().into()), "application/json"),
        };
        let mut response = Response::new(Reply {
            content,
            _running: running,
        });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(PORT, self.port.into());
        headers.insert(PEAK, self.peak.into());
        response
    }

    fn json(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_vec(self).expect("strings and numbers always have a JSON form");
        text.push(b'\n');
        text
    }
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("port", &self.port)?;
        map.serialize_entry("method", self.method.as_str())?;
        map.serialize_entry("path", &self.uri.to_string())?;
        map.serialize_entry("headers", &Headers(self.headers))?;
        map.serialize_entry("body_bytes", &self.received)?;
        map.serialize_entry("served", &self.served)?;
        map.serialize_entry("peak", &self.peak)?;
        map.end()
    }
}

/// Each name once; its values joined by commas, bytes that are not UTF-8 replaced.
struct Headers<'a>(&'a HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.keys_len()))?;
        for name in self.0.keys() {
            let mut joined = String::new();
            for value in self.0.get_all(name) {
                if !joined.is_empty() {
                    joined.push_str(", ");
                }
                joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
            }
            map.serialize_entry(name.as_str(), &joined)?;
        }
        map.end()
    }
}

/// A response body.
pub(super) struct Reply {
    content: Content,
    _running: Running,
}

enum Content {
    Text(Bytes),
    /// So many bytes more.
    Filler(u64),
}

/// What fillers are made of.
static FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut self.content {
            Content::Text(text) => std::mem::take(text),
            Content::Filler(left) => {
                let take = (*left).min(FILLER.len() as u64);
                *left -= take;
                // It fits: it is at most the filler's length.
                Bytes::from_static(&FILLER[..take as usize])
            }
        };
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}

impl Reply {
    fn length(&self) -> u64 {
        match &self.content {
            Content::Text(text) => text.len() as u64,
            Content::Filler(left) => *left,
        }
    }
}
