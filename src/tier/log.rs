//! A purge as it stands in the stream that all replicas read: who made it, how, and what it selects, with a space between them.
//! `7f03c2a1b4d59e68 hard url http://example.com/a`
//!
//! How long the stream may grow and how it is waited for also stand here, because its reader and its writer must agree on that.

use std::time::Duration;

use crate::cache::purge::{Purge, Selection};

/// How many purges the log holds at least.
pub const LENGTH: usize = 8192;

/// How long the server holds a question for the log while there is nothing new in it.
pub const BLOCK: Duration = Duration::from_secs(1);

/// Writes a purge of the replica `origin`.
pub fn write(origin: u64, purge: &Purge) -> String {
    let how = if purge.soft { "soft" } else { "hard" };
    let (kind, what) = match &purge.what {
        Selection::Url(url) => ("url", url.as_str()),
        Selection::Prefix(prefix) => ("prefix", prefix.as_str()),
        Selection::Tag(tag) => ("tag", tag.as_str()),
        Selection::All => ("all", ""),
    };
    format!("{origin:016x} {how} {kind} {what}")
}

/// Reads what [`write`] wrote. What cannot be read was meant to purge something, so it purges everything.
pub fn read(text: &[u8]) -> (u64, Purge) {
    let everything = || {
        let all = Purge {
            what: Selection::All,
            soft: false,
        };
        (None, all)
    };
    let (origin, purge) = std::str::from_utf8(text)
        .ok()
        .and_then(parse)
        .unwrap_or_else(everything);
    // Of nobody: no replica takes it for its own.
    (origin.unwrap_or(u64::MAX), purge)
}

fn parse(text: &str) -> Option<(Option<u64>, Purge)> {
    let mut words = text.splitn(4, ' ');
    let origin = u64::from_str_radix(words.next()?, 16).ok()?;
    let soft = match words.next()? {
        "soft" => true,
        "hard" => false,
        _ => return None,
    };
    let (kind, what) = (words.next()?, words.next()?.to_owned());
    let what = match kind {
        "url" => Selection::Url(what),
        "prefix" => Selection::Prefix(what),
        "tag" => Selection::Tag(what),
        "all" => Selection::All,
        _ => return None,
    };
    Some((Some(origin), Purge { what, soft }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purges_come_back_as_they_were_and_junk_selects_everything() {
        let selections = [
            Selection::Url("http://a.example/b?c d".into()),
            Selection::Prefix("http://a.example/".into()),
            Selection::Tag("a tag".into()),
            Selection::All,
        ];
        for what in selections {
            for soft in [false, true] {
                let purge = Purge {
                    what: what.clone(),
                    soft,
                };
                assert_eq!(read(write(7, &purge).as_bytes()), (7, purge));
            }
        }
        let all = Purge {
            what: Selection::All,
            soft: false,
        };
        for junk in [
            "",
            "7 hard",
            "x hard all ",
            "7 mild all ",
            "7 soft host x",
            "\u{e4}",
        ] {
            assert_eq!(read(junk.as_bytes()), (u64::MAX, all.clone()), "{junk:?}");
        }
        assert_eq!(read(b"7 hard url \xff").1, all);
    }
}
