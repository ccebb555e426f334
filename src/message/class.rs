//! Classes of bytes as tables: a look at one costs the same for each byte, whatever it is.

/// Marks letters, digits and these bytes.
pub const fn letters_digits_and(others: &[u8]) -> [bool; 256] {
    let mut marked = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        marked[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        marked[others[at] as usize] = true;
        at += 1;
    }
    marked
}

/// What a token consists of, such as a method or a field's name (RFC 9110, section 5.6.2).
pub const TOKEN: [bool; 256] = letters_digits_and(b"!#$%&'*+-.^_`|~");

/// Is this byte part of a token?
pub fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}
