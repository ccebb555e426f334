//! Where the fields of a compressed header block (RFC 7541) end, and which of them are pseudo-fields (RFC 9113 section 8.3). It
//! follows the peer's dynamic table by the sizes of its entries. Absent: what names and values are, which the library decodes.

use std::collections::VecDeque;

/// What a field is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A field of the message.
    Field,
    /// `:status` of an interim response (1xx).
    Interim,
    /// `:status` of another response.
    Status,
    /// Another pseudo-field.
    Pseudo,
}

/// The bytes are no header block. A decoder finds the same and ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// The dynamic table of a peer that was offered the usual size (section 4.2).
#[derive(Debug)]
pub struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    used: usize,
    bound: usize,
}

/// What has to be known of a field in the table: what its name is and how long, and the size of both parts.
#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    name: usize,
    size: usize,
}

/// The size that is offered where the settings say nothing else.
const OFFERED: usize = 4096;

/// What an entry costs beside its bytes (section 4.1).
const OVERHEAD: usize = 32;

/// The lengths of the names in the static table (appendix A).
const NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];

/// Where `:status` stands in the static table, and the last pseudo-field there.
const STATUS: std::ops::RangeInclusive<usize> = 8..=14;

impl Default for Table {
    fn default() -> Self {
        Table {
            entries: VecDeque::new(),
            used: 0,
            bound: OFFERED,
        }
    }
}

impl Table {
    /// Goes through a whole block; the kind of its first field, if it has any.
    ///
    /// # Errors
    /// It is none. The table is of no use any more.
    pub fn read(&mut self, mut block: &[u8]) -> Result<Option<Kind>, Broken> {
        let mut first = None;
        while let Some(&byte) = block.first() {
            let kind = match byte {
                0x80.. => self.at(integer(&mut block, 7)?)?.0,
                0x40.. => {
                    let (kind, name, value) = self.literal(&mut block, 6)?;
                    self.insert(kind, name, value);
                    kind
                }
                0x20.. => {
                    self.resize(integer(&mut block, 5)?)?;
                    continue;
                }
                _ => self.literal(&mut block, 4)?.0,
            };
            first.get_or_insert(kind);
        }
        Ok(first)
    }

    /// The kind of an entry, and the length of its name.
    fn at(&self, index: usize) -> Result<(Kind, usize), Broken> {
        if let Some(length) = index.checked_sub(1).and_then(|i| NAMES.get(i)) {
            let kind = match index {
                i if STATUS.contains(&i) => Kind::Status,
                i if i < *STATUS.start() => Kind::Pseudo,
                _ => Kind::Field,
            };
            return Ok((kind, usize::from(*length)));
        }
        let dynamic = index.checked_sub(NAMES.len() + 1).ok_or(Broken)?;
        let entry = self.entries.get(dynamic).ok_or(Broken)?;
        Ok((entry.kind, entry.name))
    }

    /// A field that is written out, its name perhaps by an index: its kind, and the lengths of its name and its value.
    fn literal(&self, block: &mut &[u8], bits: u32) -> Result<(Kind, usize, usize), Broken> {
        let (kind, name) = match integer(block, bits)? {
            0 => {
                let name = string(block)?;
                (name.kind(), name.length())
            }
            index => self.at(index)?,
        };
        let value = string(block)?;
        let kind = match kind {
            Kind::Status | Kind::Interim if value.begins_with_one() => Kind::Interim,
            Kind::Interim => Kind::Status,
            other => other,
        };
        Ok((kind, name, value.length()))
    }

    fn insert(&mut self, kind: Kind, name: usize, value: usize) {
        let size = name + value + OVERHEAD;
        self.used += size;
        self.entries.push_front(Entry { kind, name, size });
        self.evict();
    }

    fn resize(&mut self, bound: usize) -> Result<(), Broken> {
        if bound > OFFERED {
            return Err(Broken);
        }
        self.bound = bound;
        self.evict();
        Ok(())
    }

    /// What does not fit leaves, the oldest first; an entry that fits nowhere empties the table (section 4.4).
    fn evict(&mut self) {
        while self.used > self.bound {
            let Some(oldest) = self.entries.pop_back() else {
                return;
            };
            self.used -= oldest.size;
        }
    }
}

/// A string as it stands in a block.
struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    /// Bytes of it once decoded.
    fn length(&self) -> usize {
        if self.huffman {
            symbols(self.bytes)
        } else {
            self.bytes.len()
        }
    }

    /// What a field of this name is; of a status the value says the rest.
    fn kind(&self) -> Kind {
        // The codes of `:` and of `:status` (appendix B).
        let (status, colon): (&[u8], bool) = match self.huffman {
            true => (
                &[0xb8, 0x84, 0x8d, 0x36, 0xa3],
                self.bytes.first().is_some_and(|b| b >> 1 == 0b101_1100),
            ),
            false => (b":status", self.bytes.first() == Some(&b':')),
        };
        match colon {
            true if self.bytes == status => Kind::Status,
            true => Kind::Pseudo,
            false => Kind::Field,
        }
    }

    fn begins_with_one(&self) -> bool {
        let first = self.bytes.first();
        match self.huffman {
            true => first.is_some_and(|b| b >> 3 == 0b00001),
            false => first == Some(&b'1'),
        }
    }
}

/// An integer whose first bits are those below `bits` of the first byte (section 5.1).
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    let (first, mut rest) = block.split_first().ok_or(Broken)?;
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (byte, more) = rest.split_first().ok_or(Broken)?;
            rest = more;
            // Nothing that fits into a block is as large.
            if shift > 21 {
                return Err(Broken);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn string<'a>(block: &mut &'a [u8]) -> Result<Text<'a>, Broken> {
    let huffman = block.first().ok_or(Broken)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Broken)?;
    *block = rest;
    Ok(Text { huffman, bytes })
}

/// How many codes there are of each length, from 5 bits on (appendix B). They are in order, so that this tells where one ends.
const CODES: [u32; 26] = [
    10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4,
];

/// The first code that is longer than each length, at the top of 32 bits.
const LIMITS: [u64; 26] = {
    let mut limits = [0; 26];
    let (mut code, mut i) = (0_u64, 0);
    while i < 26 {
        code += CODES[i] as u64;
        limits[i] = code << (27 - i);
        code <<= 1;
        i += 1;
    }
    limits
};

/// How many letters a string in Huffman's code has. What is left at its end is padding.
fn symbols(bytes: &[u8]) -> usize {
    let (mut window, mut held, mut count) = (0_u64, 0_u32, 0);
    let mut rest = bytes.iter();
    loop {
        while held <= 56
            && let Some(byte) = rest.next()
        {
            window = window << 8 | u64::from(*byte);
            held += 8;
        }
        // Ones stand behind the end, as in the padding.
        let top = match held {
            32.. => window >> (held - 32) & 0xffff_ffff,
            _ => ((window + 1) << (32 - held)).wrapping_sub(1) & 0xffff_ffff,
        };
        let Some(longer) = LIMITS.iter().position(|limit| top < *limit) else {
            return count;
        };
        let bits = longer as u32 + 5;
        if bits > held {
            return count;
        }
        held -= bits;
        window &= (1 << held) - 1;
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_string_is_that_of_its_letters() {
        // From appendix C.
        for (coded, text) in [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f],
                "custom-key",
            ),
            (&[0x64, 0x02], "302"),
            (&[0xb8, 0x84, 0x8d, 0x36, 0xa3], ":status"),
            (&[], ""),
        ] {
            assert_eq!(symbols(coded), text.len(), "{text}");
        }
        // All codes that there are, and none of 30 bits is a letter but four, of which one is the end's.
        assert_eq!(CODES.iter().sum::<u32>(), 257);
        assert_eq!(LIMITS[25], 1 << 32);
    }

    #[test]
    fn an_entry_keeps_its_kind_and_leaves_when_there_is_no_room() {
        let mut table = Table::default();
        // `:path: /a`, kept; then by its index, then by its name's.
        assert_eq!(table.read(b"\x44\x02/a"), Ok(Some(Kind::Pseudo)));
        assert_eq!(table.read(&[0xbe]), Ok(Some(Kind::Pseudo)));
        assert_eq!(table.read(b"\x7e\x02/b"), Ok(Some(Kind::Pseudo)));
        assert_eq!(table.read(b"\x40\x01x\x01y\xc0"), Ok(Some(Kind::Field)));
        assert_eq!(table.used, 2 * (5 + 2 + 32) + 34);
        assert_eq!(table.read(&[0xc1]), Err(Broken));
        // A table of 40 bytes holds the newest alone.
        let mut small = Table::default();
        assert_eq!(
            small.read(b"\x3f\x09\x44\x01/\x40\x01x\x01y"),
            Ok(Some(Kind::Pseudo))
        );
        assert_eq!(small.read(&[0xbe]), Ok(Some(Kind::Field)));
        assert_eq!(small.read(&[0xbf]), Err(Broken));
    }

    #[test]
    fn a_status_says_whether_it_is_interim() {
        let mut table = Table::default();
        for (block, kind) in [
            (&b"\x88"[..], Kind::Status),
            (b"\x08\x03103", Kind::Interim),
            (b"\x08\x82\x08\x19", Kind::Interim),
            (b"\x08\x82\x64\x02", Kind::Status),
            (b"\x40\x07:status\x03103", Kind::Interim),
            (b"\xbe", Kind::Interim),
            (b"\x0f\x2f\x03200", Kind::Status),
            (b"\x00\x85\xb8\x84\x8d\x36\xa3\x03200", Kind::Status),
            (b"\x00\x05:path\x01/", Kind::Pseudo),
            (b"\x00\x05xpath\x01/\x44\x01/", Kind::Field),
        ] {
            assert_eq!(table.read(block), Ok(Some(kind)), "{block:x?}");
        }
        assert_eq!(table.read(&[]), Ok(None));
        assert_eq!(table.read(b"\x00\x05:pat"), Err(Broken));
    }
}
