//! Field lines, of which heads and trailer sections consist (RFC 9112, section 5): found in the buffer first, then taken off
//! it, so that values are slices of the bytes that came. Absent: the line before them, and what the fields mean.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::message::class::is_token;

/// How large a head, and how large a trailer section, may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, the first line and the blank line counted.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// Why a section is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A line is no field line.
    Malformed,
    /// There are more fields, or more bytes, than the limits allow.
    TooLarge,
}

/// May a bare LF end a line? RFC 9112, section 2.2 permits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// CRLF or LF.
    Either,
    /// CRLF alone.
    Exact,
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

/// Where a field's name and value lie in the buffer.
#[derive(Clone, Copy, Default)]
struct Span {
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
}

impl Span {
    fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.name as usize..self.name_end as usize]
    }

    fn value(self) -> std::ops::Range<usize> {
        self.value as usize..self.value_end as usize
    }
}

/// So many fields, which is more than most heads have, are held without an allocation.
const INLINE: usize = 32;

/// Where the fields of a section lie.
pub(super) struct Lines {
    first: [Span; INLINE],
    /// Those that have no room in `first`.
    more: Vec<Span>,
    count: usize,
    /// Where the section ends, behind its blank line.
    pub(super) end: usize,
}

impl Lines {
    /// Finds the field lines that begin at `from`, up to the blank line; `None` if that has not come. `buf` holds no more
    /// than the limits allow.
    pub(super) fn find(
        buf: &[u8],
        from: usize,
        max_fields: usize,
        ends: LineEnds,
    ) -> Result<Option<Lines>, Broken> {
        let mut lines = Lines {
            first: [Span::default(); INLINE],
            more: Vec::new(),
            count: 0,
            end: from,
        };
        loop {
            let blank = match buf[lines.end..] {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] if ends == LineEnds::Either => 1,
                [] | [b'\r'] => break,
                _ => 0,
            };
            if blank > 0 {
                lines.end += blank;
                return Ok(Some(lines));
            }
            let Some((span, next)) = line(buf, lines.end, ends)? else {
                break;
            };
            if lines.count == max_fields {
                return Err(Broken::TooLarge);
            }
            lines.push(span);
            lines.end = next;
        }
        // The rest may be long in coming. What is malformed already is said at once.
        let valid = |span: Span| HeaderValue::from_bytes(&buf[span.value()]).is_ok();
        match lines.spans().all(valid) {
            true => Ok(None),
            false => Err(Broken::Malformed),
        }
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

/// The field line at `at`, and where the next one begins; `None` if its end has not come. Its value is not looked at: that
/// happens once, when it becomes one.
fn line(buf: &[u8], at: usize, ends: LineEnds) -> Result<Option<(Span, usize)>, Broken> {
    let Some(length) = buf[at..].iter().position(|byte| !is_token(*byte)) else {
        return Ok(None);
    };
    let name_end = at + length;
    if length == 0 || buf[name_end] != b':' {
        return Err(Broken::Malformed);
    }
    let Some(length) = line_feed(&buf[name_end + 1..]) else {
        return Ok(None);
    };
    let lf = name_end + 1 + length;
    let value_end = match buf[..lf] {
        [.., b'\r'] => lf - 1,
        _ if ends == LineEnds::Exact => return Err(Broken::Malformed),
        _ => lf,
    };
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let value = &buf[name_end + 1..value_end];
    let before = value.iter().take_while(|byte| blank(byte)).count();
    let value = &value[before..];
    let behind = value.iter().rev().take_while(|byte| blank(byte)).count();
    let place = |place: usize| u32::try_from(place).map_err(|_| Broken::TooLarge);
    let begins = name_end + 1 + before;
    let span = Span {
        name: place(at)?,
        name_end: place(name_end)?,
        value: place(begins)?,
        value_end: place(begins + value.len() - behind)?,
    };
    Ok(Some((span, lf + 1)))
}

/// Where the first LF is, looked for in eight bytes at a time.
pub(super) fn line_feed(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        // A byte that is an LF becomes zero, and only below a zero byte is the highest bit never set by a borrow.
        let zero = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'\n'));
        let found = zero.wrapping_sub(ONES) & !zero & (ONES << 7);
        if found != 0 {
            return Some(at * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    let before = words.len() * 8;
    Some(before + rest.iter().position(|byte| *byte == b'\n')?)
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
    match Lines::find(known, 0, limits.fields, LineEnds::Exact)? {
        Some(lines) => lines.collect(&buf.split_to(lines.end).freeze()).map(Some),
        None if buf.len() >= limits.bytes => Err(Broken::TooLarge),
        None => Ok(None),
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
