//! The fields of a head: the bytes that came, with where each field lies in them, or a map of fields where a head never was such
//! bytes. Most fields are looked at once, when they are read, and copied from one buffer to the other. Absent: how the bytes are
//! read and judged (the codec), and what a field means.

mod section;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::fields::ConnectionTokens;
use super::known::{HOP_BY_HOP, Known, Set};
pub use section::Line;
use section::Section;

/// How many fields a head may have at most: a header map holds no more.
pub const MAX_FIELDS: usize = 24_000;

/// How many bytes a name may have at most: a header map takes no longer one.
pub const MAX_NAME: usize = u16::MAX as usize - 1;

/// The status and the fields of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// 100 to 599.
    pub status: StatusCode,
    /// Its fields.
    pub fields: Fields,
}

impl Head {
    /// The same as `http` has it.
    pub fn into_parts(self) -> http::response::Parts {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = self.status;
        parts.headers = self.fields.into_map();
        parts
    }
}

impl From<http::response::Parts> for Head {
    fn from(parts: http::response::Parts) -> Self {
        Head {
            status: parts.status,
            fields: parts.headers.into(),
        }
    }
}

/// The fields of a head, in their order. Either form lies on the heap, since a head is handed on often.
#[derive(Clone)]
pub struct Fields(Form);

#[derive(Clone)]
enum Form {
    Section(Box<Section>),
    Map(Box<HeaderMap>),
}

impl Default for Fields {
    fn default() -> Self {
        HeaderMap::new().into()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.map()).finish()
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        Fields(Form::Map(Box::new(map)))
    }
}

impl Fields {
    /// Of a section in which these lines were found. Each name is a token, and each value one that a header map takes.
    pub fn of_section(bytes: Bytes, lines: Vec<Line>) -> Self {
        Fields(Form::Section(Box::new(Section::new(bytes, lines))))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Section(section) => section.len(),
            Form::Map(map) => map.len(),
        }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is one of this name there?
    pub fn has(&self, known: Known) -> bool {
        match &self.0 {
            Form::Section(section) => section.present.has(known),
            Form::Map(map) => known.name().is_some_and(|name| map.contains_key(name)),
        }
    }

    /// Is one of any of these names there?
    pub fn has_any(&self, names: Set) -> bool {
        match &self.0 {
            Form::Section(section) => section.present.has_any(names),
            Form::Map(map) => map
                .keys()
                .any(|name| names.has(Known::of(name.as_str().as_bytes()))),
        }
    }

    /// The value of the first one of this name.
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        match &self.0 {
            Form::Section(section) if !section.present.has(known) => None,
            Form::Section(section) => section.one(known),
            Form::Map(_) => self.get_all(known).next(),
        }
    }

    /// The values of all of this name, in their order.
    pub fn get_all(&self, known: Known) -> Values<'_> {
        Values(match &self.0 {
            Form::Section(section) if !section.present.has(known) => Search::None,
            Form::Section(section) if !section.repeated.has(known) => {
                Search::One(section.one(known))
            }
            Form::Section(section) => Search::Section(section, Wanted::Known(known), 0),
            Form::Map(map) => match known.name() {
                Some(name) => Search::Map(map.get_all(name).iter()),
                None => Search::None,
            },
        })
    }

    /// The values of all of any name, in their order.
    pub fn named<'a>(&'a self, name: &'a HeaderName) -> Values<'a> {
        Values(match &self.0 {
            Form::Section(section) => {
                let wanted = Wanted::Name(name.as_str().as_bytes());
                Search::Section(section, wanted, 0)
            }
            Form::Map(map) => Search::Map(map.get_all(name).iter()),
        })
    }

    /// The value of the first one of this name, in a form that outlives the head.
    pub fn shared(&self, known: Known) -> Option<HeaderValue> {
        match &self.0 {
            Form::Section(section) => section.shared_value(known),
            Form::Map(map) => map.get(known.name()?).cloned(),
        }
    }

    /// The value of the first one of this name as text that outlives the head; `None` as well where it is no text.
    pub fn shared_text(&self, known: Known) -> Option<ByteString> {
        match &self.0 {
            Form::Section(section) => section.shared_text(known),
            Form::Map(map) => Some(map.get(known.name()?)?.to_str().ok()?.into()),
        }
    }

    /// Takes out all of this name.
    pub fn remove(&mut self, known: Known) {
        match &mut self.0 {
            Form::Section(section) => section.remove(Set::of(&[known])),
            Form::Map(map) => {
                known.name().map(|name| map.remove(name));
            }
        }
    }

    /// Adds one behind the others.
    pub fn append(&mut self, known: Known, value: HeaderValue) {
        match &mut self.0 {
            Form::Section(section) => section.append(known, value),
            Form::Map(map) => {
                known.name().map(|name| map.append(name, value));
            }
        }
    }

    /// Puts one in the place of all of this name.
    pub fn set(&mut self, known: Known, value: HeaderValue) {
        self.remove(known);
        self.append(known, value);
    }

    /// Takes out what belongs to the sender's connection: the hop-by-hop fields and those that Connection nominates.
    pub fn strip_hop_by_hop(&mut self) {
        let tokens = ConnectionTokens::of(self.get_all(Known::Connection));
        match &mut self.0 {
            Form::Section(section) if tokens.nominates_none() => section.remove(HOP_BY_HOP),
            Form::Section(section) => {
                section.retain(|known, name| !known.is_hop_by_hop() && !tokens.nominates(name));
            }
            Form::Map(map) => super::fields::strip_hop_by_hop(map, tokens),
        }
    }

    /// Takes out all but those that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8]) -> bool) {
        match &mut self.0 {
            Form::Section(section) => section.retain(keep),
            Form::Map(map) => {
                let gone = |name: &&HeaderName| {
                    let name = name.as_str().as_bytes();
                    !keep(Known::of(name), name)
                };
                let gone: Vec<_> = map.keys().filter(gone).cloned().collect();
                for name in gone {
                    map.remove(name);
                }
            }
        }
    }

    /// Calls `each` with every field: what its name is, the name, the value.
    pub fn each(&self, mut each: impl FnMut(Known, &[u8], &[u8])) {
        match &self.0 {
            Form::Section(section) => {
                for (known, name, value) in (0..).map_while(|at| section.field(at)) {
                    each(known, name, value);
                }
            }
            Form::Map(map) => {
                for (name, value) in map.iter() {
                    let name = name.as_str().as_bytes();
                    each(Known::of(name), name, value.as_bytes());
                }
            }
        }
    }

    /// The same, with names and values that outlive the head.
    pub fn each_shared(&self, mut each: impl FnMut(Known, HeaderName, HeaderValue)) {
        match &self.0 {
            Form::Section(section) => section.each_shared(each),
            Form::Map(map) => {
                for (name, value) in map.iter() {
                    let known = Known::of(name.as_str().as_bytes());
                    each(known, name.clone(), value.clone());
                }
            }
        }
    }

    /// Appends those that `keep` says yes to, one line each as HTTP/1.1 has them, in the case in which they came. Neighbours are
    /// copied together.
    pub fn copy(&self, out: &mut BytesMut, mut keep: impl FnMut(Known, &[u8]) -> bool) {
        if let Form::Section(section) = &self.0 {
            return section.copy(out, keep);
        }
        self.each(|known, name, value| {
            if keep(known, name) {
                put_line(out, name, value);
            }
        });
    }

    /// All of them as a map.
    pub fn map(&self) -> &HeaderMap {
        match &self.0 {
            Form::Section(section) => section.map(),
            Form::Map(map) => map,
        }
    }

    /// Changes them as a map.
    pub fn change(&mut self, change: impl FnOnce(&mut HeaderMap)) {
        if let Form::Section(section) = &mut self.0 {
            self.0 = Form::Map(Box::new(section.take_map()));
        }
        if let Form::Map(map) = &mut self.0 {
            change(map);
        }
    }

    /// The same, to be kept.
    pub fn into_map(self) -> HeaderMap {
        match self.0 {
            Form::Section(mut section) => section.take_map(),
            Form::Map(map) => *map,
        }
    }
}

/// Appends `name: value` and CRLF.
fn put_line(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// The values of fields of one name, in their order.
pub struct Values<'a>(Search<'a>);

enum Search<'a> {
    None,
    One(Option<&'a [u8]>),
    /// From so many fields on.
    Section(&'a Section, Wanted<'a>, usize),
    Map(http::header::ValueIter<'a, HeaderValue>),
}

enum Wanted<'a> {
    Known(Known),
    /// In lower case.
    Name(&'a [u8]),
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (section, wanted, at) = match &mut self.0 {
            Search::None => return None,
            Search::One(value) => return value.take(),
            Search::Map(values) => return values.next().map(HeaderValue::as_bytes),
            Search::Section(section, wanted, at) => (*section, wanted, at),
        };
        loop {
            let (known, name, value) = section.field(*at)?;
            *at += 1;
            let found = match wanted {
                Wanted::Known(wanted) => known == *wanted,
                Wanted::Name(wanted) => name.eq_ignore_ascii_case(wanted),
            };
            if found {
                return Some(value);
            }
        }
    }
}
