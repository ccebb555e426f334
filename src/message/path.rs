//! The normal form of a path (RFC 3986, section 6.2.2): each character in one spelling, no dot segments. What one
//! reader would decode or resolve further than another is refused, since a rule could then be walked around. A query has no
//! form of its own: it passes, as long as it is one for every reader.

use bytes::Bytes;
use bytestring::ByteString;
use http::uri::PathAndQuery;

use super::class::letters_digits_and;
use super::search::{first, first_blank_or_control};

/// A path with its query as it came.
pub(super) enum Raw {
    /// Bytes of a request line.
    Line(Bytes),
    /// What a library has parsed.
    Parsed(PathAndQuery),
}

impl Raw {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Raw::Line(bytes) => bytes,
            Raw::Parsed(text) => text.as_str().as_bytes(),
        }
    }

    /// The same as text; `None` if it is none.
    pub(super) fn into_text(self) -> Option<Text> {
        match self {
            Raw::Line(bytes) => ByteString::try_from(bytes).ok().map(Text::Line),
            Raw::Parsed(text) => Some(Text::Parsed(text)),
        }
    }
}

/// A path with its query in normal form, which is ASCII.
#[derive(Clone, Debug)]
pub(super) enum Text {
    /// As it came in a request line.
    Line(ByteString),
    /// As a library has parsed it.
    Parsed(PathAndQuery),
    /// Spelled anew.
    Spelled(String),
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Text::Line(text) => text,
            Text::Parsed(text) => text.as_str(),
            Text::Spelled(text) => text,
        }
    }
}

/// A path and query in normal form, and the path's length; `None` if it must be refused. An empty path is the root.
pub(super) fn normal(raw: Raw) -> Option<(Text, usize)> {
    let bytes = raw.as_bytes();
    let mark = first(bytes, b'?');
    let (path, query) = bytes.split_at(mark.unwrap_or(bytes.len()));
    let path = if path.is_empty() { b"/" } else { path };
    let normal_path = normalise(path)?;
    let is_ascii = query_is_ascii(query)?;
    if normal_path.is_none() && is_ascii && bytes.starts_with(b"/") {
        let length = path.len();
        return Some((raw.into_text()?, length));
    }
    let mut spelled = match normal_path {
        Some(path) => path,
        None => String::from_utf8(path.to_vec()).ok()?,
    };
    let length = spelled.len();
    for byte in query {
        match byte.is_ascii() {
            true => spelled.push(*byte as char),
            false => push_encoded(&mut spelled, *byte),
        }
    }
    Some((Text::Spelled(spelled), length))
}

/// `None` if the query holds a control, a blank or a fragment's mark: no reader takes these for part of one. Otherwise, is it
/// ASCII?
fn query_is_ascii(query: &[u8]) -> Option<bool> {
    let plain = first_blank_or_control(query).is_none() && first(query, b'#').is_none();
    plain.then(|| query.is_ascii())
}

/// `Some(None)` if the path is normal already, `Some(Some(normal))` if not, `None` if it must be refused: it does not
/// begin with a slash, holds a broken percent-encoding, a control or a fragment's mark, or climbs above the root.
pub(super) fn normalise(path: &[u8]) -> Option<Option<String>> {
    if path.first() != Some(&b'/') {
        return None;
    }
    if is_plain(path) {
        return Some(None);
    }
    let spelled = respell(path)?;
    let normal = resolve(&spelled)?;
    Some((normal.as_bytes() != path).then_some(normal))
}

/// A quick look that most paths pass: only characters that stay as they are, and no segment begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let dotted = byte == b'.' && before == b'/';
        before = byte;
        (is_pchar(byte) || byte == b'/') && !dotted
    })
}

/// Spells each character in its one way: the unreserved plain, all else that is no path character encoded, in
/// upper case.
fn respell(path: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    loop {
        let (byte, encoded, tail) = match rest {
            [] => return Some(out),
            [b'%', high, low, tail @ ..] => (hex(*high)? << 4 | hex(*low)?, true, tail),
            [b'%', ..] => return None,
            [byte, tail @ ..] => (*byte, false, tail),
        };
        rest = tail;
        if byte.is_ascii_control() || !encoded && matches!(byte, b' ' | b'#') {
            return None;
        }
        if is_unreserved(byte) || !encoded && (is_pchar(byte) || byte == b'/') {
            out.push(byte as char);
        } else {
            push_encoded(&mut out, byte);
        }
    }
}

fn push_encoded(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)] as char);
    out.push(DIGITS[usize::from(byte & 15)] as char);
}

/// Removes dot segments (RFC 3986, section 5.2.4). Empty segments stay: they are part of the name.
fn resolve(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/')?),
            _ if hides_dot_dot(segment) => return None,
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if is_last {
            out.push('/');
        }
    }
    Some(out)
}

/// Would a reader that decodes slashes (or backslashes) first, or that cuts parameters off, see a `..` in this
/// segment? Such paths leave the prefix that they were routed by; no honest client writes them.
fn hides_dot_dot(segment: &str) -> bool {
    let mut rest = segment;
    while let Some(at) = rest.find("..") {
        let before = &segment[..segment.len() - rest.len() + at];
        let after = &rest[at + 2..];
        let begins = before.is_empty() || before.ends_with("%2F") || before.ends_with("%5C");
        let ends = after.is_empty()
            || after.starts_with(';')
            || after.starts_with("%3B")
            || after.starts_with("%2F")
            || after.starts_with("%5C");
        if begins && ends {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Path characters that need no encoding (RFC 3986, section 3.3).
const PCHAR: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,;=:@");

fn is_pchar(byte: u8) -> bool {
    PCHAR[usize::from(byte)]
}
