//! Records as they lie in Redis: no panic, nothing beyond the bound, and what is read is written and read again as the same.
//! The first byte chooses the form. The checksum is made to hold, or the fuzzer would never get behind it.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weirkeeper::cache::codec::{Corrupt, Kept, Serializer, decode, encode};
use weirkeeper::cache::stored::{Body, Entry};
use weirkeeper::time::Tick;

const KEY: &[u8] = b"http://a.example/\n";
const MAX: u64 = 1 << 16;
const NOW: Tick = Tick::from_millis(1 << 40);

fn kept(left: Duration) -> Kept {
    Kept { left, asked: NOW }
}

fuzz_target!(|data: &[u8]| {
    let Some((form, content)) = data.split_first() else {
        return;
    };
    // As it came: the checksum does not hold, but for a miracle.
    let _ = decode(&Bytes::copy_from_slice(data), KEY, kept(Duration::ZERO), MAX);
    let header = [b'W', 2, form % 4];
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header);
    hasher.update(content);
    let mut record = header.to_vec();
    record.extend_from_slice(&hasher.finalize().to_le_bytes());
    record.extend_from_slice(content);
    let (entry, seen) = match decode(&record.into(), KEY, kept(Duration::ZERO), MAX) {
        Ok(read) => read,
        Err(why) => return assert_ne!(why, Corrupt::Checksum),
    };
    assert!(size(&entry) <= MAX);
    for serializer in [Serializer::Binary, Serializer::Json, Serializer::Lz4] {
        let written = encode(&entry, KEY, seen, NOW, serializer, u64::from(u32::MAX));
        let written = written.expect("it was small enough to be read");
        let left = match &entry {
            Entry::Response(stored) => stored.life.left(NOW),
            Entry::Varies(_) => Duration::ZERO,
        };
        let read = decode(&written, KEY, kept(left), u64::from(u32::MAX));
        let (again, then) = read.expect("we wrote it");
        assert_eq!(format!("{again:?}"), format!("{entry:?}"));
        assert_eq!(then, seen);
    }
});

fn size(entry: &Entry) -> u64 {
    match entry {
        Entry::Varies(_) => 0,
        Entry::Response(stored) => match &stored.body {
            Body::Whole(bytes) => bytes.len() as u64,
            Body::Parts { ranges, .. } => ranges.iter().map(|(_, b)| b.len() as u64).sum(),
        },
    }
}
