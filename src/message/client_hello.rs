//! The first message of a TLS client, read and not answered: which host it asks for, and which protocols it offers, so that a
//! connection can be led on by name without being decrypted (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301).
//! Absent: everything else about TLS. What is read here is a wish and proves nothing.

use std::net::IpAddr;

/// Bytes of the longest message that is taken. Real ones have up to two KiB.
const LONGEST: usize = 16 * 1024;

/// Bytes of a record's longest fragment (RFC 8446 section 5.1).
const LONGEST_RECORD: usize = 1 << 14;

/// The fatal alert for a name that nobody has here, as one record (RFC 6066 section 3, RFC 8446 section 6).
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host in lower case, without a final dot; `None` where it names none, or an address.
    pub server_name: Option<String>,
    /// In the client's order; empty where it does not say.
    pub protocols: Vec<Vec<u8>>,
}

/// How far the bytes so far lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The message is not whole yet.
    More,
    /// It is; what stands behind it does not matter.
    Done(ClientHello),
}

/// The bytes do not begin a TLS connection that has one certain reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads the first bytes of a connection. The message may come in several records, and its bytes in any pieces: call it again
/// with all of them when there are more. 20 KiB are enough for a whole message in reasonable records.
///
/// # Errors
/// No more bytes can make a ClientHello of these, or one that is longer than 16 KiB.
pub fn read(bytes: &[u8]) -> Result<Progress, Malformed> {
    let mut message = Vec::new();
    let mut records = Cursor(bytes);
    loop {
        let whole = append_record(&mut records, &mut message)?;
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Malformed);
        }
        if let Some(&[_, a, b, c]) = message.get(..4) {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > LONGEST {
                return Err(Malformed);
            }
            if let Some(body) = message.get(4..4 + length) {
                return hello(body).ok_or(Malformed).map(Progress::Done);
            }
        }
        if !whole {
            return Ok(Progress::More);
        }
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const PROTOCOLS: u16 = 16;

/// Takes what has come of the next record. False: it is not whole.
fn append_record(records: &mut Cursor<'_>, message: &mut Vec<u8>) -> Result<bool, Malformed> {
    let begun = records.0;
    // Every version since SSL 3 has 3 here, and what follows it says nothing.
    let right = |at: usize, want: u8| begun.get(at).is_none_or(|is| *is == want);
    if !right(0, HANDSHAKE) || !right(1, 3) {
        return Err(Malformed);
    }
    let Some(&[_, _, _, high, low]) = begun.get(..5) else {
        return Ok(false);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > LONGEST_RECORD {
        return Err(Malformed);
    }
    let rest = &begun[5..];
    let fragment = &rest[..length.min(rest.len())];
    message.extend_from_slice(fragment);
    records.0 = &rest[fragment.len()..];
    Ok(fragment.len() == length)
}

/// The body of the message, all of it; `None` if any part's length is wrong.
fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Cursor(body);
    body.take(2 + 32)?;
    let session = body.short()?;
    let suites = body.long()?;
    let compressions = body.short()?;
    if session.0.len() > 32 || suites.0.is_empty() || suites.0.len() % 2 != 0 {
        return None;
    }
    if compressions.0.is_empty() {
        return None;
    }
    let mut found = ClientHello::default();
    if body.0.is_empty() {
        // A client of old need not send any extensions.
        return Some(found);
    }
    let mut extensions = body.long()?;
    if !body.0.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        // Two of a kind have two readings.
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => found.server_name = server_name(content)?,
            PROTOCOLS => found.protocols = protocols(content)?,
            _ => {}
        }
    }
    Some(found)
}

/// The one host name of the list (RFC 6066 section 3).
fn server_name(mut content: Cursor<'_>) -> Option<Option<String>> {
    let mut list = content.long()?;
    let kind = list.take(1)?;
    let name = list.long()?;
    if !content.0.is_empty() || !list.0.is_empty() || kind != [HOST_NAME] {
        return None;
    }
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:".contains(b);
    if name.0.len() > 255 || !name.0.iter().all(plain) {
        return None;
    }
    // The final dot of an absolute name has no place here, and whoever sends it means the same host.
    let name = name.0.strip_suffix(b".").unwrap_or(name.0);
    if name.is_empty() {
        return None;
    }
    let name = String::from_utf8(name.to_ascii_lowercase()).ok()?;
    // An address is no host name, though some clients send one.
    Some(name.parse::<IpAddr>().is_err().then_some(name))
}

/// The names of the list, none of them empty (RFC 7301 section 3.1).
fn protocols(mut content: Cursor<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = content.long()?;
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.short()?;
        if name.0.is_empty() {
            return None;
        }
        names.push(name.0.to_vec());
    }
    (content.0.is_empty() && !names.is_empty()).then_some(names)
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// A vector with a length of one byte.
    fn short(&mut self) -> Option<Cursor<'a>> {
        let n = self.take(1)?[0];
        self.take(usize::from(n)).map(Cursor)
    }

    /// A vector with a length of two bytes.
    fn long(&mut self) -> Option<Cursor<'a>> {
        let n = self.number()?;
        self.take(usize::from(n)).map(Cursor)
    }
}
