//! Bodies that check themselves: each byte follows from whose body it is and where it stands, so that a byte lost, doubled,
//! swapped or taken from another message is seen where it is read.

use std::sync::OnceLock;

use weirkeeper::rng::Rng;

/// The table's period; a slice of any length up to it is contiguous.
const PERIOD: usize = 1 << 16;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut rng = Rng::new(0x5eed);
        let mut once: Vec<u8> = (0..PERIOD / 8)
            .flat_map(|_| rng.next_u64().to_le_bytes())
            .collect();
        once.extend_from_within(..);
        once
    })
}

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The body of the request with this id.
    Request(u64),
    /// The body of the answer to it.
    Answer(u64),
}

impl Whose {
    fn start(self) -> usize {
        let mixed = match self {
            Whose::Request(id) => id.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            Whose::Answer(id) => (!id).wrapping_mul(0xc2b2_ae3d_27d4_eb4f),
        };
        usize::try_from(mixed >> 48).unwrap_or(0)
    }

    /// At most `len` bytes of the body from `offset` on; fewer at the period's end.
    pub fn slice(self, offset: usize, len: usize) -> &'static [u8] {
        let at = (self.start() + offset) % PERIOD;
        &table()[at..at + len.min(PERIOD)]
    }

    /// Are these the body's bytes from `offset` on?
    pub fn matches(self, mut offset: usize, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.slice(offset, bytes.len());
            if bytes[..expected.len()] != *expected {
                return false;
            }
            offset += expected.len();
            bytes = &bytes[expected.len()..];
        }
        true
    }
}

/// A body of `len` bytes that looks like one request after the other, as long as nobody knows that it is a body. They would come
/// in the name of the request with this id, which asked for something else.
pub(super) fn disguise(id: u64, len: usize) -> Vec<u8> {
    let text = format!("GET {SMUGGLED}{id} HTTP/1.1\r\nhost: weir.test\r\nx-sim: {id} 0 0\r\n\r\n");
    text.bytes().cycle().take(len).collect()
}

/// How the targets begin that only bodies speak of.
pub(super) const SMUGGLED: &str = "/smuggled-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disguise_is_a_request_and_begins_the_next() {
        let once = disguise(7, 1000);
        let end = once
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("a head");
        assert!(once.starts_with(b"GET /smuggled-7 HTTP/1.1\r\n"));
        assert!(once[end + 4..].starts_with(b"GET /smuggled-7 HTTP/1.1\r\n"));
        assert_eq!(disguise(7, 5), b"GET /");
    }

    #[test]
    fn a_body_is_itself_and_no_other() {
        let mut body = Vec::new();
        while body.len() < 200_000 {
            body.extend_from_slice(Whose::Answer(7).slice(body.len(), 200_000 - body.len()));
        }
        assert!(Whose::Answer(7).matches(0, &body));
        assert!(Whose::Answer(7).matches(70_000, &body[70_000..]));
        assert!(!Whose::Answer(8).matches(0, &body[..16]));
        assert!(!Whose::Request(7).matches(0, &body[..16]));
        assert!(!Whose::Answer(7).matches(1, &body[..16]));
        body[123_456] ^= 1;
        assert!(!Whose::Answer(7).matches(0, &body));
    }
}
