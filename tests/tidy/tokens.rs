//! Code as words and marks, each with its place. Absent: what they mean.

use super::source::is_ident;

/// A word, `::`, or one other character, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// The words and marks of `code`, from which comments and literals were taken out.
pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let length = if is_ident(c) {
            rest.find(|c| !is_ident(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            c.len_utf8()
        };
        if !c.is_whitespace() {
            found.push(Token {
                text: &rest[..length],
                at,
            });
        }
        at += length;
    }
    found
}
