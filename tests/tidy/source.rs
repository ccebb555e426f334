//! One source file, as the rules read it: its text, and its code with comments and literals blanked out, so that a rule never
//! trips over prose. Not a compiler's lexer: it knows comments, strings, characters and lifetimes, and nothing else.

/// A file under inspection.
pub(super) struct Source {
    /// Its path from the root, with forward slashes.
    pub(super) name: String,
    /// As it stands in the file.
    pub(super) text: String,
    /// The same length and lines, with spaces for comments and for what is inside literals.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Source {
            name: name.to_owned(),
            text: text.to_owned(),
            code: blank(text),
        }
    }

    /// A complaint about the code at byte `at`.
    pub(super) fn complain(&self, at: usize, what: &str) -> String {
        let line = 1 + self.code[..at].matches('\n').count();
        format!("{}:{line}: {what}", self.name)
    }

    /// Where `word` stands in the code with no letter, digit or underscore joined to either end.
    pub(super) fn find_word(&self, word: &str) -> Vec<usize> {
        let joined = |c: Option<char>| c.is_some_and(is_ident);
        let ends_open = word.ends_with(is_ident);
        self.code
            .match_indices(word)
            .filter(|(at, _)| {
                let joined_before = joined(self.code[..*at].chars().next_back());
                let joined_after = joined(self.code[at + word.len()..].chars().next());
                let joins = joined_before || (ends_open && joined_after);
                !joins
            })
            .map(|(at, _)| at)
            .collect()
    }
}

/// May `c` be part of an identifier?
pub(super) fn is_ident(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// `text` with comments and the insides of literals replaced by spaces. Newlines stay; other bytes keep their places.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = text[..text.len() - rest.len()].chars().next_back();
        let (keep, length) = match c {
            '/' if rest.starts_with("//") => (0, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (0, block_comment(rest)),
            '"' => (1, string(rest)),
            'r' if !before.is_some_and(is_ident) || before == Some('b') => match raw_string(rest) {
                Some(length) => (1, length),
                None => (1, 1),
            },
            '\'' => (1, character(rest)),
            _ => (c.len_utf8(), c.len_utf8()),
        };
        out.push_str(&rest[..keep]);
        for byte in rest[keep..length].bytes() {
            out.push(if byte == b'\n' { '\n' } else { ' ' });
        }
        rest = &rest[length..];
    }
    out
}

/// The length of the block comment that `rest` begins with; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string literal that `rest` begins with.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The length of the raw string that `rest` begins with (`r"` or `r#"`), if it is one.
fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
    rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = 2 + hashes;
    Some(match rest[inside..].find(&end) {
        Some(at) => inside + at + end.len(),
        None => rest.len(),
    })
}

/// The length of the character literal that `rest` begins with; 1 if it is a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // The character after the backslash may be a quote; the end is the next one behind it.
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text = "a /* x /* y */ z */ b // c\nd \"e\\\"f\n\" g r#\"h\"i\"# 'j' '\\'' &'k l";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.matches('\n').count(), 2);
    let words: Vec<&str> = code
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(words, ["a", "b", "d", "g", "r", "k", "l"]);
}

#[test]
fn words_end_where_identifiers_end() {
    let source = Source::new("x.rs", "fastrand::a rand::b HashMapX HashMap");
    assert_eq!(source.find_word("rand::"), [12]);
    assert_eq!(source.find_word("HashMap"), [29]);
}
