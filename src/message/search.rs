//! Looking for bytes, eight at a time.

/// A one in each byte of a word.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of each.
const HIGH: u64 = ONES << 7;

/// Where the first such byte is.
#[inline]
pub fn first(bytes: &[u8], wanted: u8) -> Option<usize> {
    search(bytes, |word| is_zero(word ^ (ONES * u64::from(wanted))))
}

/// Where the first byte is that no target has: a blank, a control or DEL.
#[inline]
pub fn first_blank_or_control(bytes: &[u8]) -> Option<usize> {
    search(bytes, |word| {
        is_below(word, b' ' + 1) | is_zero(word ^ (ONES * 0x7f))
    })
}

/// Where the first byte is that ends a field's name, rightly or not: a colon, a blank or a control.
#[inline]
pub fn first_colon_blank_or_control(bytes: &[u8]) -> Option<usize> {
    search(bytes, |word| {
        is_below(word, b' ' + 1) | is_zero(word ^ (ONES * u64::from(b':')))
    })
}

/// Where the first byte is that no field's value has, and a tab, which one may have: a control or DEL.
#[inline]
pub fn first_control(bytes: &[u8]) -> Option<usize> {
    search(bytes, |word| {
        is_below(word, b' ') | is_zero(word ^ (ONES * 0x7f))
    })
}

/// Marks the bytes that are zero by their highest bit. Behind the first one others may be marked in error, by its borrow.
fn is_zero(word: u64) -> u64 {
    is_below(word, 1)
}

/// The same for bytes below `bound`, which is ASCII.
fn is_below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH
}

/// Where the first marked byte is.
fn search(bytes: &[u8], mark: impl Fn(u64) -> u64) -> Option<usize> {
    let look = |word: &[u8; 8]| {
        let marked = mark(u64::from_le_bytes(*word));
        (marked != 0).then_some((marked.trailing_zeros() / 8) as usize)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        if let Some(found) = look(word) {
            return Some(at * 8 + found);
        }
    }
    if rest.is_empty() {
        return None;
    }
    if let Some(word) = bytes.last_chunk::<8>() {
        // What it shares with the word before holds no such byte.
        return Some(bytes.len() - 8 + look(word)?);
    }
    // No byte that is looked for has its highest bit set.
    let mut word = [0xff; 8];
    word[..rest.len()].copy_from_slice(rest);
    look(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_at_every_place() {
        for length in 0..30 {
            for filler in [b'a', b'!', b'\n', 0x80, 0xff, 0x8a] {
                let mut bytes = vec![filler; length];
                assert_eq!(
                    first(&bytes, b'\n'),
                    (filler == b'\n' && length > 0).then_some(0)
                );
                for at in 0..length {
                    bytes[at] = b':';
                    // One behind the first one, and one that differs by a borrow.
                    if let Some(behind) = bytes.get_mut(at + 1) {
                        *behind = b';';
                    }
                    assert_eq!(first(&bytes, b':'), Some(at), "{length} {at} {filler}");
                    bytes[at..].fill(filler);
                }
            }
        }
    }

    #[test]
    fn blanks_and_controls_are_told_from_all_other_bytes() {
        for byte in 0..=u8::MAX {
            let wanted = byte <= b' ' || byte == 0x7f;
            let control = wanted && byte != b' ';
            for length in [1, 7, 8, 9, 17] {
                for at in 0..length {
                    let mut bytes = vec![b'!'; length];
                    bytes[at] = byte;
                    let found = first_blank_or_control(&bytes);
                    assert_eq!(found, wanted.then_some(at), "{byte}");
                    assert_eq!(first_control(&bytes), control.then_some(at), "{byte}");
                    let ends_name = byte <= b' ' || byte == b':';
                    let found = first_colon_blank_or_control(&bytes);
                    assert_eq!(found, ends_name.then_some(at), "{byte}");
                }
            }
        }
    }
}
