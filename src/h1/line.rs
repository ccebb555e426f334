//! One field line (RFC 9112, section 5): where its name and its value lie, whether they may be what they are, and whether every
//! reader would see the same line. Absent: what the field means.

use std::ops::Range;

use crate::message::class::TOKEN;
use crate::message::head::{Line, MAX_NAME};
use crate::message::known::Known;
use crate::message::search::{first_colon_blank_or_control, first_control};

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

/// A field line, and how it is written.
pub(super) struct Written {
    pub(super) line: Line,
    /// It ends in a bare LF.
    is_bare: bool,
    /// It has blanks before its colon, or is folded.
    is_odd: bool,
}

impl Written {
    /// A line as nearly all are: `name: value` and CRLF, with nothing besides, and no fold behind it. `None` for any other, which
    /// [`line`] judges.
    #[inline]
    pub(super) fn plain(buf: &[u8], at: usize, form: Form) -> Option<Written> {
        let rest = &buf[at..];
        let colon = first_colon_blank_or_control(rest)?;
        let (name, [b':', b' ', value @ ..]) = rest.split_at_checked(colon)? else {
            return None;
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return None;
        }
        // A name that is known has been compared byte by byte, and is a token.
        let known = Known::of(name);
        if !known.is_one_name() && !name.iter().all(|byte| TOKEN[usize::from(*byte)]) {
            return None;
        }
        let length = first_control(value)?;
        let (value, [b'\r', b'\n', behind @ ..]) = value.split_at_checked(length)? else {
            return None;
        };
        let (begins, ends) = (*value.first()?, *value.last()?);
        let folds = form == Form::Response && behind.first().is_none_or(|byte| is_blank(*byte));
        if folds || is_blank(begins) || is_blank(ends) {
            return None;
        }
        let value = at + colon + 2;
        Some(Written {
            line: Line {
                at: at as u32,
                name_end: (at + colon) as u32,
                value: value as u32,
                value_end: (value + length) as u32,
                next: (value + length + 2) as u32,
                known,
                is_plain: true,
            },
            is_bare: false,
            is_odd: false,
        })
    }
}

/// The field line at `at`, `None` if its end has not come. Places fit into 32 bits, as the caller has seen.
#[inline]
pub(super) fn line(
    buf: &[u8],
    at: usize,
    form: Form,
    folds: &mut Vec<Range<usize>>,
) -> Result<Option<Written>, Broken> {
    let Some((name_end, colon, known)) = name(buf, at, form)? else {
        return Ok(None);
    };
    let mut value = colon + 1 + blanks(&buf[colon + 1..]);
    let Some((mut value_end, mut next)) = line_end(buf, value, form)? else {
        return Ok(None);
    };
    let mut is_odd = name_end != colon;
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
    let trailing = trailing_blanks(&buf[value..value_end]);
    let is_bare = buf[next - 2] != b'\r';
    let line = Line {
        at: at as u32,
        name_end: name_end as u32,
        value: value as u32,
        value_end: (value_end - trailing) as u32,
        next: next as u32,
        known,
        is_plain: !(is_odd || is_bare)
            && trailing == 0
            && value == colon + 2
            && buf[colon + 1] == b' ',
    };
    Ok(Some(Written {
        line,
        is_bare,
        is_odd,
    }))
}

/// The name that begins at `at`: where it ends, where its colon is, and what it is; `None` if its end has not come.
#[inline]
fn name(buf: &[u8], at: usize, form: Form) -> Result<Option<(usize, usize, Known)>, Broken> {
    let mut rest = buf[at..].iter();
    let length = rest.position(|byte| !TOKEN[usize::from(*byte)]);
    match length {
        Some(0) => return Err(Broken::Malformed),
        Some(length) if length > MAX_NAME => return Err(Broken::TooLarge),
        None if buf.len() - at > MAX_NAME => return Err(Broken::TooLarge),
        None => return Ok(None),
        Some(_) => {}
    }
    let end = at + length.unwrap_or_default();
    let padding = match form {
        Form::Response => blanks(&buf[end..]),
        Form::Request | Form::Trailers => 0,
    };
    match buf.get(end + padding) {
        Some(b':') => Ok(Some((end, end + padding, Known::of(&buf[at..end])))),
        Some(_) => Err(Broken::Malformed),
        None => Ok(None),
    }
}

/// Where the line that `from` lies in ends, without and with its line break; `None` if that has not come. What stands before it
/// may stand in a value (RFC 9110, section 5.5).
#[inline]
fn line_end(buf: &[u8], from: usize, form: Form) -> Result<Option<(usize, usize)>, Broken> {
    let mut at = from;
    while let Some(length) = first_control(&buf[at..]) {
        at += length;
        match buf[at..] {
            [b'\t', ..] => at += 1,
            [b'\r', b'\n', ..] => return Ok(Some((at, at + 2))),
            [b'\r'] => return Ok(None),
            [b'\n', ..] if form != Form::Trailers => return Ok(Some((at, at + 1))),
            _ => return Err(Broken::Malformed),
        }
    }
    Ok(None)
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
    pub(super) fn pass(&mut self, line: &Written) -> bool {
        let framing = matches!(
            line.line.known,
            Known::ContentLength | Known::TransferEncoding
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the line that `buf` begins with.
    fn said(written: &Written) -> String {
        let Written {
            line,
            is_bare,
            is_odd,
        } = written;
        format!("{line:?} {is_bare} {is_odd}")
    }

    #[test]
    fn what_is_taken_for_a_plain_line_is_one() {
        let pieces: [&[u8]; 9] = [b"te", b"a", b":", b": ", b" ", b"\t", b"\r\n", b"\n", b"\r"];
        let mut plain = 0;
        for number in 0..9_usize.pow(6) {
            let mut buf = Vec::new();
            let mut left = number;
            while left > 0 {
                buf.extend_from_slice(pieces[left % 9]);
                left /= 9;
            }
            for form in [Form::Request, Form::Response, Form::Trailers] {
                let Some(quick) = Written::plain(&buf, 0, form) else {
                    continue;
                };
                plain += 1;
                let general = line(&buf, 0, form, &mut Vec::new());
                let general = general.expect("it is well formed").expect("it is whole");
                assert_eq!(said(&quick), said(&general), "{buf:?} {form:?}");
            }
        }
        assert!(plain > 500, "{plain} lines only");
    }
}
