//! One field line (RFC 9112, section 5): where its name and its value lie, and whether every reader would see the same line.
//! Absent: what a value may hold, which is asked once, when it becomes one.

use std::ops::Range;

use crate::message::search::first;

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

/// The field line at `at`, `None` if its end has not come. Neither its name nor its value is looked at: that happens once, when
/// they become what they are. Places fit into 32 bits, as the caller has seen.
#[inline]
pub(super) fn line(
    buf: &[u8],
    at: usize,
    form: Form,
    folds: &mut Vec<Range<usize>>,
) -> Result<Option<Line>, Broken> {
    let Some((mut value_end, mut next)) = line_end(buf, at, form)? else {
        return Ok(None);
    };
    let colon = at + first(&buf[at..value_end], b':').ok_or(Broken::Malformed)?;
    let padding = match form {
        Form::Response => trailing_blanks(&buf[at..colon]),
        Form::Request | Form::Trailers => 0,
    };
    let name_end = colon - padding;
    if name_end == at {
        return Err(Broken::Malformed);
    }
    let mut value = colon + 1 + blanks(&buf[colon + 1..value_end]);
    let mut is_odd = padding > 0;
    loop {
        match buf.get(next) {
            _ if form != Form::Response => break,
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
    let behind = trailing_blanks(&buf[value..value_end]);
    Ok(Some(Line {
        span: Span {
            name: at as u32,
            name_end: name_end as u32,
            value: value as u32,
            value_end: (value_end - behind) as u32,
        },
        next,
        is_bare: buf[next - 2] != b'\r',
        is_odd,
    }))
}

/// Where the line that `from` lies in ends, without and with its line break; `None` if that has not come.
#[inline]
fn line_end(buf: &[u8], from: usize, form: Form) -> Result<Option<(usize, usize)>, Broken> {
    let Some(length) = first(&buf[from..], b'\n') else {
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

/// How many blanks these bytes end with.
fn trailing_blanks(bytes: &[u8]) -> usize {
    let backwards = bytes.iter().rev();
    backwards.take_while(|byte| is_blank(**byte)).count()
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
        let framing = matches!(name.len(), 14 | 17) && speaks_of_framing(name);
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
