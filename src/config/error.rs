//! What is wrong with a config, as data: every error of one run with its file, line, column and path, in file order.

use std::fmt;

/// A place in a text. Lines and columns count from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// The line.
    pub line: u32,
    /// The character within the line.
    pub col: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named by whoever loaded it.
    pub file: String,
    /// From 1; 0 when the file could not be read at all.
    pub line: u32,
    /// From 1, in characters; 0 when the file could not be read at all.
    pub col: u32,
    /// A JSON pointer (RFC 6901) to the value; empty for the whole file.
    pub path: String,
    /// What is wrong, without a full stop.
    pub what: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    /// `file:line:col: error: what (path) - did you mean "hint"?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.col)?;
        }
        write!(f, ": error: {}", one_line(&self.what))?;
        if !self.path.is_empty() {
            write!(f, " ({})", one_line(&self.path))?;
        }
        match &self.hint {
            Some(hint) => write!(f, " - did you mean \"{}\"?", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// `text` with its control characters escaped: a config that somebody else wrote must not steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// All that is wrong with a config, in file order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<ConfigError>);

impl Errors {
    /// The one error of a file that cannot be read or is not JSON.
    pub(crate) fn single(file: &str, pos: Option<Pos>, what: String) -> Self {
        Errors(vec![ConfigError {
            file: file.to_owned(),
            line: pos.map_or(0, |p| p.line),
            col: pos.map_or(0, |p| p.col),
            path: String::new(),
            what,
            hint: None,
        }])
    }
}

impl fmt::Display for Errors {
    /// One error a line, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The candidate nearest to `word`, if it is near enough to be a slip: at most a third of the word's letters differ.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (distance(&word, &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment). `-` and `_`
/// count as one letter, so that a name in the other spelling is always near.
fn distance(a: &str, b: &str) -> usize {
    let plain =
        |s: &str| -> Vec<char> { s.chars().map(|c| if c == '-' { '_' } else { c }).collect() };
    let (a, b) = (plain(a), plain(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if swap {
                    best.min(rows[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let keys = ["weight", "max_in_flight", "url"];
        assert_eq!(nearest("wieght", keys), Some("weight"));
        assert_eq!(nearest("maxInFlight", keys), Some("max_in_flight"));
        assert_eq!(nearest("max-in-flight", keys), Some("max_in_flight"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("a-b", "a_b"), 0);
    }
}
