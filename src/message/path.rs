//! The normal form of a path (RFC 3986, section 6.2.2): each character in one spelling, no dot segments; and the same path as the
//! most lenient server reads it, so that no rule is walked around by a spelling. What would leave a place that way is refused. A
//! query has no form of its own: it passes, as long as it is one for every reader.

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

/// What becomes of forms of a path that servers read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// Slashes that follow one another become one.
    pub merge_slashes: bool,
    /// `%2F`; resolved it is a slash.
    pub encoded_slashes: Treatment,
    /// `\` and `%5C`; resolved it is a slash.
    pub backslashes: Treatment,
    /// What a semicolon begins, up to the segment's end; resolved it is gone.
    pub parameters: Treatment,
}

/// What becomes of one such form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It passes. Rules look at the path with it and at the path as if it were resolved.
    Keep,
    /// The request is refused.
    Reject,
    /// The backend gets the path in which it is resolved.
    Resolve,
}

impl PathRules {
    /// Every form passes.
    pub const KEEP: PathRules = PathRules {
        merge_slashes: false,
        encoded_slashes: Treatment::Keep,
        backslashes: Treatment::Keep,
        parameters: Treatment::Keep,
    };
}

impl Default for PathRules {
    fn default() -> Self {
        PathRules::KEEP
    }
}

/// A path with its query, in normal form.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    pub(super) text: Text,
    /// Of the path within it.
    pub(super) path_len: usize,
    /// The path as the most lenient server reads it, where that is another one.
    pub(super) lenient: Option<Box<str>>,
}

/// The normal form of a path and query; `None` if it must be refused. An empty path is the root.
pub(super) fn normal(raw: Raw, rules: &PathRules) -> Option<Normal> {
    let bytes = raw.as_bytes();
    let mark = first(bytes, b'?');
    let (path, query) = bytes.split_at(mark.unwrap_or(bytes.len()));
    let path = if path.is_empty() { b"/" } else { path };
    let normal = normalise(path, rules)?;
    let is_ascii = query_is_ascii(query)?;
    let lenient = normal.as_ref().and_then(|n| n.lenient.clone());
    let changed = normal.and_then(|n| (n.path.as_bytes() != path).then_some(n.path));
    if changed.is_none() && is_ascii && bytes.starts_with(b"/") {
        let path_len = path.len();
        return Some(Normal {
            text: raw.into_text()?,
            path_len,
            lenient,
        });
    }
    let mut spelled = match changed {
        Some(path) => path,
        None => String::from_utf8(path.to_vec()).ok()?,
    };
    let path_len = spelled.len();
    for byte in query {
        match byte.is_ascii() {
            true => spelled.push(*byte as char),
            false => push_encoded(&mut spelled, *byte),
        }
    }
    Some(Normal {
        text: Text::Spelled(spelled),
        path_len,
        lenient,
    })
}

/// `None` if the query holds a control, a blank or a fragment's mark: no reader takes these for part of one. Otherwise, is it
/// ASCII?
fn query_is_ascii(query: &[u8]) -> Option<bool> {
    let plain = first_blank_or_control(query).is_none() && first(query, b'#').is_none();
    plain.then(|| query.is_ascii())
}

/// A path that was not plain.
struct NormalPath {
    path: String,
    lenient: Option<Box<str>>,
}

/// `Some(None)` if the path is plain, so that it is normal and everybody reads it in one way; `None` if it must be refused: it
/// does not begin with a slash, holds a broken percent-encoding, a control, a fragment's mark or what the rules reject, or
/// climbs above the root.
fn normalise(path: &[u8], rules: &PathRules) -> Option<Option<NormalPath>> {
    if path.first() != Some(&b'/') {
        return None;
    }
    if is_plain(path) {
        return Some(None);
    }
    let spelled = treat(respell(path)?, rules)?;
    let path = resolve(&spelled)?;
    let lenient = lenient(&path)?;
    Some(Some(NormalPath { path, lenient }))
}

/// A quick look that most paths pass: only characters that stay as they are and mean the same to everybody, no segment is empty,
/// and none begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let doubtful = before == b'/' && matches!(byte, b'.' | b'/');
        before = byte;
        is_plain_byte(byte) && !doubtful
    })
}

/// Does with each form what its rule says.
fn treat(mut path: String, rules: &PathRules) -> Option<String> {
    for (form, treatment) in [("%2F", rules.encoded_slashes), ("%5C", rules.backslashes)] {
        if treatment != Treatment::Keep && path.contains(form) {
            if treatment == Treatment::Reject {
                return None;
            }
            path = path.replace(form, "/");
        }
    }
    match rules.parameters {
        Treatment::Keep => {}
        Treatment::Reject if path.contains(';') || path.contains("%3B") => return None,
        Treatment::Reject => {}
        Treatment::Resolve => {
            let names = path
                .split('/')
                .map(|segment| segment.split(';').next().unwrap_or_default());
            path = names.collect::<Vec<_>>().join("/");
        }
    }
    if rules.merge_slashes && path.contains("//") {
        let mut before = ' ';
        path.retain(|letter| std::mem::replace(&mut before, letter) != '/' || letter != '/');
    }
    Some(path)
}

/// The path as the most lenient server reads it: every kind of slash is one, parameters are cut off, slashes merged. `None`
/// within if that is the path itself, `None` without if it would be above the root.
fn lenient(path: &str) -> Option<Option<Box<str>>> {
    let doubtful = ["//", ";", "%2F", "%5C", "%3B"];
    if !doubtful.iter().any(|form| path.contains(form)) {
        return Some(None);
    }
    let slashes = path
        .replace("%2F", "/")
        .replace("%5C", "/")
        .replace("%3B", ";");
    let mut out = String::with_capacity(path.len());
    let mut ends_in_slash = true;
    for segment in slashes.split('/').skip(1) {
        let name = segment.split(';').next().unwrap_or_default();
        ends_in_slash = matches!(name, "" | ".");
        match name {
            "" | "." => {}
            ".." => return None,
            name => {
                out.push('/');
                out.push_str(name);
            }
        }
    }
    if ends_in_slash {
        out.push('/');
    }
    Some((out != path).then(|| out.into()))
}

/// Spells each character in its one way: the unreserved plain, all else that is no path character encoded, in
/// upper case. What begins like an overlong form of a character in UTF-8 is refused, since some decoders make a slash or a dot of
/// such bytes (RFC 3629 section 10).
fn respell(path: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    let mut before = 0;
    loop {
        let (byte, encoded, tail) = match rest {
            [] => return Some(out),
            [b'%', high, low, tail @ ..] => (hex(*high)? << 4 | hex(*low)?, true, tail),
            [b'%', ..] => return None,
            [byte, tail @ ..] => (*byte, false, tail),
        };
        rest = tail;
        let overlong = matches!(
            (before, byte),
            (0xC0 | 0xC1, 0x80..=0xBF) | (0xE0, 0x80..=0x9F) | (0xF0, 0x80..=0x8F)
        );
        if byte.is_ascii_control() || overlong || !encoded && matches!(byte, b' ' | b'#') {
            return None;
        }
        before = byte;
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

/// Those of them that mean the same to every server, and the slash.
const PLAIN: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,=:@/");

fn is_plain_byte(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}
