//! One field line (RFC 9112, section 5): where its name and its value lie, and whether every reader would see the same line.
//! Absent: what a value may hold, which is asked once, when it becomes one.

use std::ops::Range;

use crate::message::class::is_token;

/// Why a section is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A line is no field line.
    Malformed,
    /// There are more fields, or more bytes, than the limits allow.
    TooLarge,
}

/// What a section may be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A bare LF may end a line, as RFC 9112, section 2.2 permits.
    Request,
    /// That, blanks before a colon, which are taken out, and folded lines, which are put together (sections 5.1 and 5.2): but
    /// none of it where a body's length may hang on it.
    Response,
    /// Nothing is forgiven.
    Trailers,
}

/// Where a field's name and value lie in the buffer.
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
}

impl Span {
    pub(super) fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.name as usize..self.name_end as usize]
    }

    pub(super) fn value(self) -> Range<usize> {
        self.value as usize..self.value_end as usize
    }
}

/// A field line.
pub(super) struct Line {
    pub(super) span: Span,
    /// Where the next one begins.
    pub(super) next: usize,
    /// It ends in a bare LF.
    is_bare: bool,
    /// It has blanks before its colon, or is folded.
    is_odd: bool,
}

/// The field line at `at`, `None` if its end has not come. Its value is not looked at: that happens once, when it becomes one.
pub(super) fn line(
    buf: &[u8],
    at: usize,
    form: Form,
    folds: &mut Vec<Range<usize>>,
) -> Result<Option<Line>, Broken> {
    let Some(length) = buf[at..].iter().position(|byte| !is_token(*byte)) else {
        return Ok(None);
    };
    let name_end = at + length;
    let padding = match form {
        Form::Response => blanks(&buf[name_end..]),
        Form::Request | Form::Trailers => 0,
    };
    let colon = name_end + padding;
    match buf.get(colon) {
        None => return Ok(None),
        Some(b':') if length > 0 => {}
        Some(_) => return Err(Broken::Malformed),
    }
    let Some((mut value_end, mut next)) = line_end(buf, colon + 1, form)? else {
        return Ok(None);
    };
    let mut value = colon + 1 + blanks(&buf[colon + 1..value_end]);
    let mut is_odd = padding > 0;
    while form == Form::Response {
        match buf.get(next) {
            None => return Ok(None),
            Some(b' ' | b'\t') => is_odd = true,
            Some(_) => break,
        }
        let begins = next + blanks(&buf[next..]);
        let Some((end, behind)) = line_end(buf, begins, form)? else {
            return Ok(None);
        };
        // A line of blanks is the head's end to some; one that is a length or a coding is a field to others.
        if begins == end || speaks_of_framing(&buf[begins..end]) {
            return Err(Broken::Malformed);
        }
        folds.push(value_end..begins);
        if value == value_end {
            value = begins;
        }
        (value_end, next) = (end, behind);
    }
    let behind = buf[value..value_end].iter().rev();
    let behind = behind.take_while(|byte| is_blank(**byte)).count();
    let place = |place: usize| u32::try_from(place).map_err(|_| Broken::TooLarge);
    Ok(Some(Line {
        span: Span {
            name: place(at)?,
            name_end: place(name_end)?,
            value: place(value)?,
            value_end: place(value_end - behind)?,
        },
        next,
        is_bare: buf[next - 2] != b'\r',
        is_odd,
    }))
}

/// Where the line that `from` lies in ends, without and with its line break; `None` if that has not come.
fn line_end(buf: &[u8], from: usize, form: Form) -> Result<Option<(usize, usize)>, Broken> {
    let Some(length) = line_feed(&buf[from..]) else {
        return Ok(None);
    };
    let lf = from + length;
    match buf[from..lf] {
        [.., b'\r'] => Ok(Some((lf - 1, lf + 1))),
        _ if form == Form::Trailers => Err(Broken::Malformed),
        _ => Ok(Some((lf, lf + 1))),
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// How many blanks these bytes begin with.
fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_blank(**byte)).count()
}

/// Does this begin with the name of a field that delimits the body?
fn speaks_of_framing(bytes: &[u8]) -> bool {
    let mut names = [&b"content-length"[..], b"transfer-encoding"].into_iter();
    names.any(|name| {
        bytes
            .get(..name.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
    })
}

/// What makes it uncertain where a head ends, or whether a line that delimits the body is one. The odder a line, the more
/// readers lose the next one or the one before: so no such line may stand next to one that matters.
pub(super) struct Doubts {
    /// The line before speaks of framing, ends in a bare LF, is odd otherwise.
    framing: bool,
    bare: bool,
    odd: bool,
    /// Some line ends in CRLF.
    crlf: bool,
    /// A bare LF ends a line that matters, or one next to it.
    bare_near: bool,
}

impl Doubts {
    /// Those that the first line leaves.
    pub(super) fn behind(first_line: &[u8]) -> Self {
        let bare = !first_line.ends_with(b"\r\n");
        Doubts {
            framing: false,
            bare,
            odd: false,
            crlf: !bare,
            bare_near: false,
        }
    }

    /// Takes a line in. Says whether it may stand here.
    pub(super) fn pass(&mut self, line: &Line, name: &[u8]) -> bool {
        let framing = speaks_of_framing(name);
        let near = framing || self.framing;
        let certain = !(near && (line.is_odd || self.odd));
        self.bare_near |= near && (line.is_bare || self.bare);
        self.crlf |= !line.is_bare;
        (self.framing, self.bare, self.odd) = (framing, line.is_bare, line.is_odd);
        certain
    }

    /// Takes in the blank line, which matters as well. A head that has nothing but bare LFs can be read in one way only.
    pub(super) fn settle(&mut self, is_bare: bool) -> bool {
        self.bare_near |= is_bare || self.bare;
        self.crlf |= !is_bare;
        !(self.crlf && self.bare_near)
    }
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
