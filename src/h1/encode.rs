//! Requests as bytes: the request line, fields, framing, chunks and trailers, appended to the caller's buffer.
//! Absent: validation. Names and values come out of `http`'s types, targets out of `message::target`, and both have
//! refused line breaks already; debug builds check it once more.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Method};

use crate::message::fields::forbidden_in_trailers;
use crate::message::known::Known;

/// How a request's body is delimited (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body, and no field that speaks of one.
    None,
    /// Exactly this many bytes; zero is said aloud, as a POST without a body should.
    Length(u64),
    /// Chunks, ended by `last_chunk`.
    Chunked,
}

/// What follows the data of each chunk.
pub const CHUNK_TAIL: &[u8] = b"\r\n";

/// Appends `METHOD target HTTP/1.1`. The target is the parts put together: a prefix, the path, the query.
pub fn request_line(out: &mut BytesMut, method: &Method, parts: &[&str]) {
    const VERSION: &[u8] = b" HTTP/1.1\r\n";
    let method = method.as_str();
    let target: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(method.len() + 1 + target + VERSION.len());
    out.put_slice(method.as_bytes());
    out.put_u8(b' ');
    for part in parts {
        debug_assert!(
            part.bytes().all(|b| b > b' ' && b != 0x7f),
            "a target has no blanks and no controls"
        );
        out.put_slice(part.as_bytes());
    }
    out.put_slice(VERSION);
}

/// Appends one field line, `name: value`.
pub fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    line(out, b": ", value);
}

/// Appends one field line, of a name that is known.
pub fn known_field(out: &mut BytesMut, known: Known, value: &[u8]) {
    debug_assert!(!known.begins().is_empty(), "it is one name");
    line(out, known.begins().as_bytes(), value);
}

fn line(out: &mut BytesMut, begins: &[u8], value: &[u8]) {
    debug_assert!(
        !value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)),
        "a value has no line breaks"
    );
    out.reserve(begins.len() + value.len() + 2);
    out.put_slice(begins);
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Appends the one field that delimits the body, or nothing.
pub fn framing(out: &mut BytesMut, framing: BodyFraming) {
    match framing {
        BodyFraming::None => {}
        BodyFraming::Length(length) => {
            let mut digits = [0; 20];
            known_field(
                out,
                Known::ContentLength,
                digits_of(length, 10, &mut digits),
            );
        }
        BodyFraming::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
}

/// Appends the blank line after the fields.
pub fn end_of_head(out: &mut BytesMut) {
    out.put_slice(b"\r\n");
}

/// Writes the names of a whole head's fields with capitals, as in Content-Type. Names mean the same in any case (RFC 9110,
/// section 5.1), but some servers know no other.
pub fn set_title_case(head: &mut [u8]) {
    // The first line is none of them.
    for line in head.split_mut(|byte| *byte == b'\n').skip(1) {
        let mut begins = true;
        for byte in line.iter_mut().take_while(|byte| **byte != b':') {
            match begins {
                true => byte.make_ascii_uppercase(),
                false => byte.make_ascii_lowercase(),
            }
            begins = *byte == b'-';
        }
    }
}

/// Appends the line before a chunk of `len` bytes. `len` must not be zero: that would end the body.
pub fn chunk_head(out: &mut BytesMut, len: usize) {
    debug_assert!(len > 0, "an empty chunk would end the body");
    let mut digits = [0; 20];
    let digits = digits_of(len as u64, 16, &mut digits);
    out.reserve(digits.len() + 2);
    out.put_slice(digits);
    out.put_slice(b"\r\n");
}

/// Appends the last chunk, the trailers that may stand there (RFC 9110, section 6.5.1) and the blank line.
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !forbidden_in_trailers(name) {
            field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.put_slice(b"\r\n");
}

/// `n` in the given base, 10 or 16, written into the end of `room`.
fn digits_of(mut n: u64, base: u64, room: &mut [u8; 20]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = DIGITS[(n % base) as usize];
        n /= base;
        if n == 0 {
            return &room[at..];
        }
    }
}
