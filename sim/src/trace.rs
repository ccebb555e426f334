//! The hash of a run: FNV-1a over its semantic events, in order. Two runs that did the same have the same hash.

use weirkeeper::time::Tick;

/// What bytes were, whatever pieces they came in: FNV-1a over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(OFFSET)
    }
}

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digest = Digest::default();
        digest.add(bytes);
        digest
    }

    /// Adds what comes next.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = fold(self.0, *byte);
        }
    }

    /// As a number.
    pub fn word(self) -> u64 {
        self.0
    }
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fold(state: u64, byte: u8) -> u64 {
    (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// Folds events into 64 bits. What an event is made of is for the caller to say; lengths keep neighbours apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceHash {
    state: u64,
    events: u64,
}

impl Default for TraceHash {
    fn default() -> Self {
        TraceHash {
            state: OFFSET,
            events: 0,
        }
    }
}

impl TraceHash {
    /// Adds one event: when, what, and its numbers.
    pub fn event(&mut self, at: Tick, what: &str, numbers: &[u64]) {
        self.events += 1;
        self.word(at.as_nanos());
        self.word(what.len() as u64);
        what.bytes().for_each(|b| self.byte(b));
        self.word(numbers.len() as u64);
        numbers.iter().for_each(|n| self.word(*n));
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Sixteen hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.state)
    }

    fn word(&mut self, word: u64) {
        word.to_le_bytes().into_iter().for_each(|b| self.byte(b));
    }

    fn byte(&mut self, byte: u8) {
        self.state = fold(self.state, byte);
    }
}
