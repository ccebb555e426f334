//! The form in which an entry lies in Redis: a versioned, checksummed record that carries its own key.
//!
//! A record is `W`, the version, the form, a CRC-32 over all but itself, and the content. Whatever reads one trusts nothing in
//! it: a record that was cut, changed, moved to another key or written by a newer version is an error, and no length in it is
//! believed before it is held against a bound. Absent: where records lie and for how long (tier).

mod binary;
mod json;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::bans::Seen;
use super::stored::{Body, Entry, Stored, Varies};
use crate::time::Tick;

/// How a record's content is written down. Any of them is read, whichever is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serializer {
    /// Binary, the body as it is.
    #[default]
    Binary,
    /// JSON, for people; the body in base64 unless it is text.
    Json,
    /// Binary, compressed with LZ4 where that makes it smaller.
    Lz4,
}

/// Why bytes are no record that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Shorter than any record.
    #[error("truncated")]
    Truncated,
    /// It does not begin as records do.
    #[error("not a record")]
    Foreign,
    /// Another version wrote it.
    #[error("of another version")]
    Version,
    /// The checksum is another.
    #[error("checksum")]
    Checksum,
    /// It belongs to another key.
    #[error("of another key")]
    WrongKey,
    /// It is larger than a record may be, or would be once it is decompressed.
    #[error("too large")]
    TooLarge,
    /// It is kept for longer than it was written for, so that nobody knows how old it is.
    #[error("of unknown age")]
    Undated,
    /// The checksum holds, and the content is none that is ever written.
    #[error("malformed")]
    Malformed,
}

const MAGIC: u8 = b'W';

/// Raised whenever a record's meaning changes: what is older or newer is a miss, so versions may run side by side.
const VERSION: u8 = 2;

const BINARY: u8 = 0;
const JSON: u8 = 1;
const LZ4: u8 = 2;

/// Magic, version, form, checksum.
const HEADER: usize = 7;

/// What is known of a record beside its bytes, when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// For how long the server will still keep it: how old it is is told by that, and by no machine's date.
    pub left: Duration,
    /// When the server was asked.
    pub asked: Tick,
}

/// Writes `entry` down at `now` as it lies under `key`. `seen` is the last purge that was known when its fetch began. `None` when
/// the record, or what it decompresses to, would be larger than `max` bytes. Whoever keeps it is to do so for as long as
/// [`Life::left`](super::life::Life::left) says at `now`.
pub fn encode(
    entry: &Entry,
    key: &[u8],
    seen: Seen,
    now: Tick,
    serializer: Serializer,
    max: u64,
) -> Option<Bytes> {
    // The body alone tells most of those that are too large, before any of it is copied.
    if body_size(entry) > max {
        return None;
    }
    let (form, content) = match serializer {
        Serializer::Binary => (BINARY, binary::write(entry, key, seen, now)?),
        Serializer::Json => (JSON, json::write(entry, key, seen, now)?),
        Serializer::Lz4 => compress(binary::write(entry, key, seen, now)?, max),
    };
    let mut out = BytesMut::with_capacity(HEADER + content.len());
    out.put_slice(&[MAGIC, VERSION, form]);
    out.put_u32_le(checksum(&[MAGIC, VERSION, form], &content));
    out.put_slice(&content);
    (out.len() as u64 <= max).then(|| out.freeze())
}

/// Reads what lies under `key`. The body shares the memory of `bytes` unless it was compressed or JSON.
///
/// # Errors
/// When it is no whole, unchanged record of this version for this key within `max` bytes.
pub fn decode(bytes: &Bytes, key: &[u8], kept: Kept, max: u64) -> Result<(Entry, Seen), Corrupt> {
    if bytes.len() as u64 > max {
        return Err(Corrupt::TooLarge);
    }
    let Some((header, content)) = bytes.split_at_checked(HEADER) else {
        return Err(Corrupt::Truncated);
    };
    let &[magic, version, form, a, b, c, d] = header else {
        return Err(Corrupt::Truncated);
    };
    if magic != MAGIC {
        return Err(Corrupt::Foreign);
    }
    if version != VERSION {
        return Err(Corrupt::Version);
    }
    if u32::from_le_bytes([a, b, c, d]) != checksum(&[magic, version, form], content) {
        return Err(Corrupt::Checksum);
    }
    let content = bytes.slice(HEADER..);
    match form {
        BINARY => binary::read(&content, key, kept),
        JSON => json::read(&content, key, kept),
        LZ4 => binary::read(&decompress(&content, max)?, key, kept),
        _ => Err(Corrupt::Malformed),
    }
}

fn checksum(header: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(content);
    hasher.finalize()
}

/// Compressed where that makes it smaller, behind its length of before. What would be too large to read is left as it is, and
/// so found too large to write.
fn compress(plain: Vec<u8>, max: u64) -> (u8, Vec<u8>) {
    if plain.len() as u64 > max {
        return (BINARY, plain);
    }
    let packed = lz4_flex::block::compress(&plain);
    let Some(length) = u32::try_from(plain.len())
        .ok()
        .filter(|_| packed.len() + 4 < plain.len())
    else {
        return (BINARY, plain);
    };
    let mut out = Vec::with_capacity(packed.len() + 4);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&packed);
    (LZ4, out)
}

fn decompress(content: &[u8], max: u64) -> Result<Bytes, Corrupt> {
    let Some((length, packed)) = content.split_first_chunk::<4>() else {
        return Err(Corrupt::Malformed);
    };
    let length = u32::from_le_bytes(*length);
    if u64::from(length) > max {
        return Err(Corrupt::TooLarge);
    }
    // A byte of LZ4 stands for 255 at most: what claims more lies, and gets no memory for it.
    if u64::from(length) > packed.len() as u64 * 255 {
        return Err(Corrupt::Malformed);
    }
    let mut plain = vec![0; length as usize];
    match lz4_flex::block::decompress_into(packed, &mut plain) {
        Ok(written) if written == plain.len() => Ok(plain.into()),
        _ => Err(Corrupt::Malformed),
    }
}

fn body_size(entry: &Entry) -> u64 {
    let Entry::Response(stored) = entry else {
        return 0;
    };
    match &stored.body {
        Body::Whole(bytes) => bytes.len() as u64,
        Body::Parts { ranges, .. } => ranges.iter().map(|(_, b)| b.len() as u64).sum(),
    }
}

/// A response as the store may hold it, or nothing.
fn checked(stored: Stored) -> Result<Entry, Corrupt> {
    let sound = match &stored.body {
        Body::Whole(_) => true,
        // In order, neither overlapping nor adjoining, within the whole.
        Body::Parts { total, ranges } => {
            let mut free = Some(0_u64);
            let in_order = ranges.iter().all(|(first, bytes)| {
                let fits = free.is_some_and(|free| *first >= free) && !bytes.is_empty();
                let end = first.checked_add(bytes.len() as u64);
                let within = end.is_some_and(|end| end <= *total);
                free = end.and_then(|end| end.checked_add(1));
                fits && within
            });
            in_order && !ranges.is_empty() && stored.status == 200
        }
    };
    let final_status = (200..=599).contains(&stored.status);
    if sound && final_status {
        Ok(Entry::Response(std::sync::Arc::new(stored)))
    } else {
        Err(Corrupt::Malformed)
    }
}

/// What a response varies by, or nothing.
fn checked_names<'a>(
    names: impl Iterator<Item = &'a str>,
    generation: u64,
) -> Result<Entry, Corrupt> {
    let mut found: Vec<http::HeaderName> = Vec::new();
    for name in names {
        let name = http::HeaderName::from_lowercase(name.as_bytes());
        let name = name.map_err(|_| Corrupt::Malformed)?;
        if found.last().is_some_and(|l| l.as_str() >= name.as_str()) {
            return Err(Corrupt::Malformed);
        }
        found.push(name);
    }
    Ok(Entry::Varies(std::sync::Arc::new(Varies {
        names: found,
        generation,
    })))
}

#[cfg(test)]
mod tests;
