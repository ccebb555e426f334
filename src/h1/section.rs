//! Field lines, of which heads and trailer sections consist (RFC 9112, section 5): found in the buffer first, then taken off
//! it, so that values are slices of the bytes that came. `line` reads each. Absent: the line before them, and what the fields
//! mean.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::line::{Broken, Doubts, Form, Span, line};

/// How large a head, and how large a trailer section, may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, the first line and the blank line counted.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// How far an unfinished section has been looked at, so that a slow sender's bytes are not parsed again and again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Bytes that hold no blank line.
    seen: usize,
    /// Bytes there were when it was last parsed.
    tried: usize,
}

impl Scan {
    /// Is a parse worth its while? At first, when the blank line is there, when the bytes reach one of the bounds, and
    /// whenever they have doubled: so the work stays linear and a malformed line is found before the section is whole.
    pub(super) fn ready(&mut self, buf: &[u8], bounds: [usize; 2]) -> bool {
        let reached = |bound| self.seen < bound && buf.len() >= bound;
        let ready = !buf.is_empty()
            && (buf.len() >= 2 * self.tried
                || bounds.into_iter().any(reached)
                || has_blank_line(buf, self.seen));
        self.seen = buf.len();
        if ready {
            self.tried = buf.len();
        }
        ready
    }
}

/// Is there an empty line that ends at or after `seen`? A bare LF counts, for the parser to judge it.
fn has_blank_line(buf: &[u8], seen: usize) -> bool {
    let tail = &buf[seen.saturating_sub(3).min(buf.len())..];
    tail.iter().enumerate().any(|(at, byte)| {
        *byte == b'\n' && matches!(tail[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..])
    })
}

/// So many fields, which is more than most heads have, are held without an allocation.
const INLINE: usize = 32;

/// Where the fields of a section lie.
pub(super) struct Lines {
    first: [Span; INLINE],
    /// Those that have no room in `first`.
    more: Vec<Span>,
    count: usize,
    /// Line breaks within values, with the blanks behind them.
    folds: Vec<Range<usize>>,
    /// Where the section ends, behind its blank line.
    pub(super) end: usize,
}

impl Lines {
    /// None yet.
    pub(super) fn new() -> Self {
        Lines {
            first: [Span::default(); INLINE],
            more: Vec::new(),
            count: 0,
            folds: Vec::new(),
            end: 0,
        }
    }

    /// Finds the field lines that begin at `from`, up to the blank line. Says whether that has come. `buf` holds no more than
    /// the limits allow.
    pub(super) fn find(
        &mut self,
        buf: &[u8],
        from: usize,
        max_fields: usize,
        form: Form,
    ) -> Result<bool, Broken> {
        if u32::try_from(buf.len()).is_err() {
            return Err(Broken::TooLarge);
        }
        self.end = from;
        let mut doubts = Doubts::behind(&buf[..from]);
        let mut too_many = false;
        loop {
            let blank = match buf[self.end..] {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] if form != Form::Trailers => 1,
                [] | [b'\r'] => break,
                [b'\r', ..] => return Err(Broken::Malformed),
                _ => 0,
            };
            if blank > 0 {
                self.end += blank;
                let certain = form != Form::Response || doubts.settle(blank == 1);
                return certain.then_some(true).ok_or(Broken::Malformed);
            }
            let Some(line) = line(buf, self.end, form, &mut self.folds)? else {
                break;
            };
            if form == Form::Response && !doubts.pass(&line, line.span.name(buf)) {
                return Err(Broken::Malformed);
            }
            too_many = self.count == max_fields;
            if too_many {
                break;
            }
            self.push(line.span);
            self.end = line.next;
        }
        // The rest may be long in coming. What is malformed already is said at once.
        if !self.are_valid(buf) {
            return Err(Broken::Malformed);
        }
        match too_many {
            true => Err(Broken::TooLarge),
            false => Ok(false),
        }
    }

    /// Can all of them become fields? A value that is folded is judged once it is put together.
    fn are_valid(&self, buf: &[u8]) -> bool {
        self.spans().all(|span| {
            let value = HeaderValue::from_bytes(&buf[span.value()]);
            name_of(span.name(buf)).is_some() && (value.is_ok() || !self.folds.is_empty())
        })
    }

    fn push(&mut self, span: Span) {
        match self.first.get_mut(self.count) {
            Some(place) => *place = span,
            None => self.more.push(span),
        }
        self.count += 1;
    }

    fn spans(&self) -> impl Iterator<Item = Span> {
        let first = &self.first[..self.count.min(INLINE)];
        first.iter().chain(&self.more).copied()
    }

    /// Takes the section, and what stands before it, off the buffer that it was found in.
    pub(super) fn split(&self, buf: &mut BytesMut) -> Bytes {
        let mut section = buf.split_to(self.end);
        for fold in &self.folds {
            section[fold.clone()].fill(b' ');
        }
        section.freeze()
    }

    /// Turns the lines into fields. Standard names cost nothing and values share the section's bytes.
    pub(super) fn collect(&self, section: &Bytes) -> Result<HeaderMap, Broken> {
        // The proxy adds a few fields of its own.
        let mut headers = HeaderMap::with_capacity(self.count + 4);
        for span in self.spans() {
            let name = name_of(span.name(section)).ok_or(Broken::Malformed)?;
            let value = HeaderValue::from_maybe_shared(section.slice(span.value()))
                .map_err(|_| Broken::Malformed)?;
            headers
                .try_append(name, value)
                .map_err(|_| Broken::TooLarge)?;
        }
        Ok(headers)
    }
}

/// Takes a section with its blank line off the buffer, `None` if it is not whole yet. A trailer section has nothing before
/// its fields, and its lines end in CRLF.
pub(super) fn take(
    buf: &mut BytesMut,
    scan: &mut Scan,
    limits: HeadLimits,
) -> Result<Option<HeaderMap>, Broken> {
    if !scan.ready(buf, [limits.bytes, limits.bytes]) {
        return Ok(None);
    }
    let known = &buf[..buf.len().min(limits.bytes)];
    let mut lines = Lines::new();
    match lines.find(known, 0, limits.fields, Form::Trailers)? {
        true => lines.collect(&lines.split(buf)).map(Some),
        false if buf.len() >= limits.bytes => Err(Broken::TooLarge),
        false => Ok(None),
    }
}

/// A field's name. The usual ones in their usual spelling are found without lowering each letter.
fn name_of(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"Age" | b"age" => header::AGE,
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Host" | b"host" => header::HOST,
        b"Vary" | b"vary" => header::VARY,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Origin" | b"origin" => header::ORIGIN,
        b"Server" | b"server" => header::SERVER,
        b"Expires" | b"expires" => header::EXPIRES,
        b"Referer" | b"referer" => header::REFERER,
        b"Location" | b"location" => header::LOCATION,
        b"Connection" | b"connection" => header::CONNECTION,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Accept-Ranges" | b"accept-ranges" => header::ACCEPT_RANGES,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"If-None-Match" | b"if-none-match" => header::IF_NONE_MATCH,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        b"Content-Encoding" | b"content-encoding" => header::CONTENT_ENCODING,
        b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
        _ => return HeaderName::from_bytes(name).ok(),
    })
}
