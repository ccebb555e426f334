//! The bytes of a head's fields that came, with where each field lies in them, and what was added behind.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::put_line;
use crate::message::known::{Known, Set, header_name};

/// Where a field lies in the bytes of its section.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Where its name begins.
    pub at: u32,
    /// Where its name ends.
    pub name_end: u32,
    /// Where its value begins.
    pub value: u32,
    /// Where its value ends.
    pub value_end: u32,
    /// Where the next line begins.
    pub next: u32,
    /// What its name is.
    pub known: Known,
    /// The line is `name: value` and CRLF, and nothing besides: it may be copied as it is.
    pub is_plain: bool,
}

impl Line {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.at as usize..self.name_end as usize]
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.value as usize..self.value_end as usize]
    }
}

/// The bytes that came.
#[derive(Clone)]
pub(super) struct Section {
    bytes: Bytes,
    lines: Vec<Line>,
    /// Added behind them.
    added: Vec<(Known, HeaderValue)>,
    /// The known names that are there.
    pub(super) present: Set,
    /// Those of them that are there more than once.
    pub(super) repeated: Set,
    /// The same fields as a map, once somebody has asked for one.
    map: OnceLock<Box<HeaderMap>>,
}

impl Section {
    pub(super) fn new(bytes: Bytes, lines: Vec<Line>) -> Self {
        let mut section = Section {
            bytes,
            lines,
            added: Vec::new(),
            present: Set::default(),
            repeated: Set::default(),
            map: OnceLock::new(),
        };
        section.look();
        section
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len() + self.added.len()
    }

    pub(super) fn append(&mut self, known: Known, value: HeaderValue) {
        self.map = OnceLock::new();
        self.note(known);
        self.added.push((known, value));
    }

    pub(super) fn map(&self) -> &HeaderMap {
        self.map.get_or_init(|| Box::new(self.to_map()))
    }

    pub(super) fn shared_text(&self, known: Known) -> Option<ByteString> {
        let line = self.lines.iter().find(|line| line.known == known)?;
        let span = line.value as usize..line.value_end as usize;
        ByteString::try_from(self.bytes.slice(span)).ok()
    }

    pub(super) fn copy(&self, out: &mut BytesMut, mut keep: impl FnMut(Known, &[u8]) -> bool) {
        let bytes = &self.bytes;
        let mut run = 0..0;
        for line in &self.lines {
            if !keep(line.known, line.name(bytes)) {
                continue;
            }
            if line.is_plain && run.end == line.at as usize {
                run.end = line.next as usize;
                continue;
            }
            out.extend_from_slice(&bytes[run]);
            run = line.next as usize..line.next as usize;
            if line.is_plain {
                run.start = line.at as usize;
            } else {
                put_line(out, line.name(bytes), line.value(bytes));
            }
        }
        out.extend_from_slice(&bytes[run]);
        for (known, value) in &self.added {
            let name = known.text().as_bytes();
            if keep(*known, name) {
                put_line(out, name, value.as_bytes());
            }
        }
    }

    /// One of them by its number: what its name is, the name, the value.
    pub(super) fn field(&self, at: usize) -> Option<(Known, &[u8], &[u8])> {
        if let Some(line) = self.lines.get(at) {
            let bytes = &self.bytes;
            return Some((line.known, line.name(bytes), line.value(bytes)));
        }
        let (known, value) = self.added.get(at - self.lines.len())?;
        Some((*known, known.text().as_bytes(), value.as_bytes()))
    }

    pub(super) fn shared_value(&self, known: Known) -> Option<HeaderValue> {
        if !self.present.has(known) {
            return None;
        }
        if let Some(line) = self.lines.iter().find(|line| line.known == known) {
            return self.shared(line);
        }
        let added = self.added.iter().find(|(added, _)| *added == known);
        added.map(|(_, value)| value.clone())
    }

    /// A value that shares the section's bytes. The codec has judged it.
    fn shared(&self, line: &Line) -> Option<HeaderValue> {
        let span = line.value as usize..line.value_end as usize;
        let value = HeaderValue::from_maybe_shared(self.bytes.slice(span));
        debug_assert!(value.is_ok(), "the codec has judged it");
        value.ok()
    }

    pub(super) fn remove(&mut self, names: Set) {
        if self.present.has_any(names) {
            self.map = OnceLock::new();
            self.lines.retain(|line| !names.has(line.known));
            self.added.retain(|(added, _)| !names.has(*added));
            self.present = self.present.without(names);
            self.repeated = self.repeated.without(names);
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(Known, &[u8]) -> bool) {
        let Section { bytes, lines, .. } = self;
        lines.retain(|line| keep(line.known, line.name(bytes)));
        self.added
            .retain(|(known, _)| keep(*known, known.text().as_bytes()));
        self.map = OnceLock::new();
        self.look();
    }

    /// Notes which names are there.
    fn look(&mut self) {
        let (mut present, mut repeated) = (Set::default(), Set::default());
        let lines = self.lines.iter().map(|line| line.known);
        for known in lines.chain(self.added.iter().map(|(known, _)| *known)) {
            if present.has(known) {
                repeated = repeated.with(known);
            }
            present = present.with(known);
        }
        (self.present, self.repeated) = (present, repeated);
    }

    /// One more of this name is there.
    fn note(&mut self, known: Known) {
        if self.present.has(known) {
            self.repeated = self.repeated.with(known);
        }
        self.present = self.present.with(known);
    }

    /// The value of the first one of this name.
    pub(super) fn one(&self, known: Known) -> Option<&[u8]> {
        if let Some(line) = self.lines.iter().find(|line| line.known == known) {
            return Some(line.value(&self.bytes));
        }
        let mut added = self.added.iter();
        let found = added.find(|(added, _)| *added == known);
        found.map(|(_, value)| value.as_bytes())
    }

    pub(super) fn take_map(&mut self) -> HeaderMap {
        match self.map.take() {
            Some(map) => *map,
            None => self.to_map(),
        }
    }

    /// Standard names cost nothing, and values share the section's bytes.
    fn to_map(&self) -> HeaderMap {
        // The proxy adds a few fields of its own.
        let mut map = HeaderMap::with_capacity(self.lines.len() + self.added.len() + 4);
        self.each_shared(|_, name, value| {
            let fits = map.try_append(name, value);
            debug_assert!(fits.is_ok(), "the codec has counted them");
        });
        map
    }

    pub(super) fn each_shared(&self, mut each: impl FnMut(Known, HeaderName, HeaderValue)) {
        for line in &self.lines {
            let name = header_name(line.name(&self.bytes));
            if let (Some(name), Some(value)) = (name, self.shared(line)) {
                each(line.known, name, value);
            }
        }
        for (known, value) in &self.added {
            if let Some(name) = known.name() {
                each(*known, name, value.clone());
            }
        }
    }
}
