//! What the two ends of a connection say, byte by byte.

use crate::model::pattern::Whose;
use crate::trace::Digest;

/// Bytes at the beginning that say whose stream it is.
pub(super) const HEAD: usize = 16;

/// The second half of a client's head ends so.
const MARK: [u8; 3] = *b"l4\n";

/// What a client sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    /// The request's id.
    pub(super) id: u64,
    /// All of its bytes, the head among them.
    pub(super) total: u64,
    /// The backend is to end first.
    pub(super) waits: bool,
}

impl Text {
    fn head(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.id.to_be_bytes());
        let total = u32::try_from(self.total).unwrap_or(u32::MAX);
        head[8..12].copy_from_slice(&total.to_be_bytes());
        head[12] = u8::from(self.waits);
        head[13..].copy_from_slice(&MARK);
        head
    }

    /// What a head says; `None` if it is none.
    pub(super) fn read(head: &[u8; HEAD]) -> Option<Text> {
        let word = |at: usize| {
            head[at..]
                .first_chunk::<4>()
                .map(|c| u32::from_be_bytes(*c))
        };
        let id = u64::from_be_bytes(*head.first_chunk()?);
        let total = u64::from(word(8)?);
        let text = Text {
            id,
            total,
            waits: head[12] == 1,
        };
        (text.head() == *head).then_some(text)
    }

    /// At most `len` bytes from `at` on.
    pub(super) fn piece(&self, mut at: u64, len: usize) -> Vec<u8> {
        let end = self.total.min(at + len as u64);
        let mut out = Vec::new();
        while at < end {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let before = out.len();
            match start {
                0..HEAD => out.extend(self.head()[start..].iter().take(left)),
                _ => out.extend_from_slice(Whose::Request(self.id).slice(start, left)),
            }
            at += (out.len() - before) as u64;
        }
        out
    }

    /// Are these the bytes from `at` on?
    pub(super) fn matches(&self, at: u64, bytes: &[u8]) -> bool {
        self.piece(at, bytes.len()) == bytes
    }
}

/// What a backend's stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the client says.
    Echo = 1,
    /// How many bytes the client said, and their digest.
    Digest = 2,
    /// The backend's own words.
    Own = 3,
}

impl Kind {
    /// The beginning of the stream of connection `joint`.
    pub(super) fn head(self, joint: usize) -> [u8; HEAD] {
        let mut head = [0xba; HEAD];
        head[..8].copy_from_slice(&(joint as u64).to_be_bytes());
        head[8] = self as u8;
        head
    }

    /// What a head says; `None` if it is none.
    pub(super) fn read(head: &[u8; HEAD]) -> Option<(usize, Kind)> {
        let joint = usize::try_from(u64::from_be_bytes(*head.first_chunk()?)).ok()?;
        let all = [Kind::Echo, Kind::Digest, Kind::Own];
        let kind = all.into_iter().find(|k| *k as u8 == head[8])?;
        (kind.head(joint) == *head).then_some((joint, kind))
    }
}

/// The backend's own words in connection `joint`, `len` bytes from `at` on.
pub(super) fn own(joint: usize, at: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    while out.len() < len {
        out.extend_from_slice(Whose::Answer(joint as u64).slice(at + out.len(), len - out.len()));
    }
    out
}

/// What a backend answers that takes everything in first.
pub(super) fn digest(read: Digest, got: u64) -> Vec<u8> {
    [read.word().to_be_bytes(), got.to_be_bytes()].concat()
}
