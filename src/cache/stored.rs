//! A stored response, in the form in which it lies in memory: one allocation for its head, one for its body.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::life::Life;

/// What lies under a key.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A response.
    Response(std::sync::Arc<Stored>),
    /// The response depends on these request fields: look under the variant's key (see [`Varies`]).
    Varies(std::sync::Arc<Varies>),
}

/// What lies under a primary key whose responses have a Vary field (RFC 9111 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Varies {
    /// Lower case, sorted, each once.
    pub names: Vec<HeaderName>,
    /// Part of the variants' keys: once this entry is gone, none of them can be reached.
    pub generation: u64,
}

/// A stored response.
#[derive(Debug)]
pub struct Stored {
    /// 200 ..= 599; a stored 206 is a [`Body::Parts`] with status 200.
    pub status: u16,
    /// Its fields.
    pub head: Head,
    /// Its content.
    pub body: Body,
    /// How long it lives.
    pub life: Life,
    /// Purged softly: to be validated before its next use, yet good enough for stale-while-revalidate and stale-if-error.
    pub soft: AtomicBool,
    /// Times it was served.
    pub hits: AtomicU32,
}

impl Stored {
    /// A response that was not served yet.
    pub fn new(status: u16, head: Head, body: Body, life: Life) -> Self {
        Stored {
            status,
            head,
            body,
            life,
            soft: AtomicBool::new(false),
            hits: AtomicU32::new(0),
        }
    }

    /// Was it purged softly?
    pub fn is_soft(&self) -> bool {
        self.soft.load(Ordering::Relaxed)
    }

    /// Counts one use.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stored response's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// Some ranges of it, in order, neither overlapping nor adjoining (RFC 9111 section 3.3): where each begins, and its bytes.
    Parts {
        /// Length of the whole.
        total: u64,
        /// First byte position and content of each.
        ranges: Box<[(u64, Bytes)]>,
    },
}

/// Fields as they go on the wire: `name: value\r\n`, one after the other. Without hop-by-hop fields, Content-Length and Age,
/// which are said anew each time, and without the Content-Range of a part; with a Date. A box, because a store holds millions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head(Box<[u8]>);

impl Head {
    /// Writes `headers` down in order.
    pub fn of(headers: &HeaderMap) -> Self {
        let size = headers
            .iter()
            .map(|(n, v)| n.as_str().len() + v.len() + 4)
            .sum();
        let mut out = Vec::with_capacity(size);
        for (name, value) in headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Head(out.into())
    }

    /// The lines that `bytes` hold; `None` unless they are fields in the form that [`Head::of`] writes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let head = Head(bytes.into());
        let mut size = 0;
        for (name, value) in head.lines() {
            HeaderName::from_lowercase(name).ok()?;
            HeaderValue::from_bytes(value).ok()?;
            size += name.len() + value.len() + 4;
        }
        (size == head.0.len()).then_some(head)
    }

    /// The lines as they are.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Name and value of each field, in order.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        lines(&self.0)
    }

    /// The first value of the field called `name` (lower case).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.lines()
            .find(|(n, _)| *n == name.as_bytes())
            .map(|(_, v)| v)
    }

    /// The fields as a map. Its values share one copy of this head.
    pub fn to_map(&self) -> HeaderMap {
        let copy = Bytes::copy_from_slice(&self.0);
        let mut map = HeaderMap::with_capacity(16);
        for (name, value) in lines(&copy) {
            // What `of` wrote, or `parse` checked, can be read.
            let Ok(name) = HeaderName::from_lowercase(name) else {
                continue;
            };
            let Ok(value) = HeaderValue::from_maybe_shared(copy.slice_ref(value)) else {
                continue;
            };
            map.append(name, value);
        }
        map
    }
}

fn lines(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let (line, tail) = (&rest[..end], &rest[end + 2..]);
        rest = tail;
        let colon = line.windows(2).position(|w| w == b": ")?;
        Some((&line[..colon], &line[colon + 2..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was() {
        let mut map = HeaderMap::new();
        map.append("etag", HeaderValue::from_static("\"a: b\""));
        map.append("link", HeaderValue::from_static("<a>"));
        map.append("link", HeaderValue::from_static(""));
        let head = Head::of(&map);
        assert_eq!(head.to_map(), map);
        assert_eq!(head.get("etag"), Some(&b"\"a: b\""[..]));
        assert_eq!(Head::parse(head.as_bytes()), Some(head));
        for junk in [
            "x",
            "x: y",
            "x y: z\r\n",
            "a: b\r\nx",
            "a: b\r\n\r\n",
            "A: b\r\n",
        ] {
            assert_eq!(Head::parse(junk.as_bytes()), None, "{junk:?}");
        }
    }
}
