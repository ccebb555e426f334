//! Field lines, of which heads and trailer sections consist (RFC 9112, section 5): found in the buffer first, then taken off
//! it, so that values are slices of the bytes that came. `line` reads each. Absent: the line before them, and what the fields
//! mean.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::line::{Broken, Doubts, Form, Written, line};
use crate::message::head::{Fields, Line, MAX_FIELDS};

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

/// So many fields, which is more than most heads have, are found without a second allocation.
const MOST: usize = 16;

/// Where the fields of a section lie.
pub(super) struct Lines {
    lines: Vec<Line>,
    /// Line breaks within values, with the blanks behind them.
    folds: Vec<Range<usize>>,
    /// Where the section ends, behind its blank line.
    end: usize,
}

impl Lines {
    /// None yet.
    pub(super) fn new() -> Self {
        Lines {
            lines: Vec::with_capacity(MOST),
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
        loop {
            let blank = match buf[self.end..] {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] if form != Form::Trailers => 1,
                [] | [b'\r'] => return Ok(false),
                [b'\r', ..] => return Err(Broken::Malformed),
                _ => 0,
            };
            if blank > 0 {
                self.end += blank;
                let certain = form != Form::Response || doubts.settle(blank == 1);
                return certain.then_some(true).ok_or(Broken::Malformed);
            }
            let written = match Written::plain(buf, self.end, form) {
                Some(written) => written,
                None => match line(buf, self.end, form, &mut self.folds)? {
                    Some(written) => written,
                    None => return Ok(false),
                },
            };
            if form == Form::Response && !doubts.pass(&written) {
                return Err(Broken::Malformed);
            }
            if self.lines.len() == max_fields.min(MAX_FIELDS) {
                return Err(Broken::TooLarge);
            }
            self.end = written.line.next as usize;
            self.lines.push(written.line);
        }
    }

    /// Takes the section, and what stands before it, off the buffer that it was found in: as bytes, and as fields.
    pub(super) fn take(self, buf: &mut BytesMut) -> (Bytes, Fields) {
        let mut section = buf.split_to(self.end);
        for fold in self.folds {
            section[fold].fill(b' ');
        }
        let section = section.freeze();
        let fields = Fields::of_section(section.clone(), self.lines);
        (section, fields)
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
        true => Ok(Some(lines.take(buf).1.into_map())),
        false if buf.len() >= limits.bytes => Err(Broken::TooLarge),
        false => Ok(None),
    }
}
