//! What cacheable backends serve: a site of pages, and bodies that say in every block of 64 bytes what they are.
//!
//! A body follows from its representation alone (page, variant, user, version) and from the position, so that a strong entity
//! tag is honest and any slice of it can be told. When it was made is in the book, under the number that the answer carries.
//! Absent: HTTP (origin), and who asks (visitor).

use std::time::Duration;

use weirkeeper::time::Tick;

/// Bytes of a block.
const BLOCK: usize = 64;

/// Where a block's number stands, and its digits.
const NUMBER: usize = 29;
const DIGITS: usize = 8;

/// Languages that pages are written in; 0 is the one for whoever names none.
pub const LANGUAGES: [&str; 3] = ["", "de", "fr"];

/// Codings; 0 is none.
pub const CODINGS: [&str; 3] = ["", "gzip", "br"];

/// All pages. Page `i` lies under `/c/i`.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// By number.
    pub pages: Vec<Page>,
    /// How skewed the choice among them is: the exponent of Zipf's law.
    pub skew: f64,
    /// Users who may be logged in.
    pub users: u32,
    /// Share of visits that are not a plain GET by nobody in particular.
    pub whims: f64,
    /// Share of visits that change a page.
    pub posts: f64,
    /// Share of answers that break off within their body.
    pub break_rate: f64,
}

/// How one page is served.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What it says of its caching.
    pub terms: Terms,
    /// It differs by language.
    pub by_language: bool,
    /// It differs by coding.
    pub by_coding: bool,
    /// Logged-in users get one of their own, whatever the terms say.
    pub personal: bool,
    /// What it can be validated by.
    pub validator: Validator,
    /// It becomes another one each time this has passed.
    pub period: Option<Duration>,
    /// Bytes.
    pub size: usize,
    /// Between pieces of 4 KiB.
    pub pace: Duration,
    /// It is not there, and says so with these terms.
    pub missing: bool,
}

/// What a page can be validated by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validator {
    /// Nothing.
    #[default]
    None,
    /// A strong entity tag, which also makes ranges possible.
    Strong,
    /// A weak one.
    Weak,
    /// Last-Modified.
    Date,
}

/// What an answer says of its caching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// max-age.
    pub max_age: Option<u32>,
    /// s-maxage.
    pub s_maxage: Option<u32>,
    /// Age: it came out of another cache.
    pub age: u32,
    /// public.
    pub public: bool,
    /// private.
    pub private: bool,
    /// private="x-for", with that field.
    pub private_field: bool,
    /// no-store.
    pub no_store: bool,
    /// no-cache.
    pub no_cache: bool,
    /// must-revalidate.
    pub must_revalidate: bool,
    /// stale-while-revalidate.
    pub stale_while_revalidate: Option<u32>,
    /// stale-if-error.
    pub stale_if_error: Option<u32>,
    /// Set-Cookie.
    pub set_cookie: bool,
}

impl Terms {
    /// The Cache-Control field; empty if there is nothing to say.
    pub fn field(&self) -> String {
        let mut words = Vec::new();
        let mut flag = |on: bool, word: &str| {
            if on {
                words.push(word.to_string());
            }
        };
        flag(self.public, "public");
        flag(self.private, "private");
        flag(self.private_field, "private=\"x-for\"");
        flag(self.no_store, "no-store");
        flag(self.no_cache, "no-cache");
        flag(self.must_revalidate, "must-revalidate");
        let mut number = |value: Option<u32>, word: &str| {
            words.extend(value.map(|n| format!("{word}={n}")));
        };
        number(self.max_age, "max-age");
        number(self.s_maxage, "s-maxage");
        number(self.stale_while_revalidate, "stale-while-revalidate");
        number(self.stale_if_error, "stale-if-error");
        words.join(", ")
    }

    /// May a shared cache give the answer to a request with credentials to somebody else (RFC 9111 sections 3 and 3.5)?
    pub fn is_shareable(&self, authorized: bool) -> bool {
        let lifted = self.public || self.must_revalidate || self.s_maxage.is_some();
        !(self.private || self.no_store || self.set_cookie) && (!authorized || lifted)
    }

    /// Seconds of freshness, where they are said.
    pub fn lifetime(&self) -> Option<u32> {
        self.s_maxage.or(self.max_age)
    }

    /// Must it not be served stale?
    pub fn is_strict(&self) -> bool {
        self.must_revalidate || self.s_maxage.is_some()
    }
}

/// What a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rep {
    /// The page.
    pub page: usize,
    /// Its language, of [`LANGUAGES`].
    pub language: usize,
    /// Its coding, of [`CODINGS`].
    pub coding: usize,
    /// For whom; 0 is for all.
    pub user: u32,
    /// Which of the page's versions.
    pub version: u64,
}

impl Rep {
    /// All of a block but its number and its filling.
    fn pattern(&self) -> [u8; BLOCK] {
        let text = format!(
            "p{:04} l{} c{} u{:04} v{:08} @",
            self.page, self.language, self.coding, self.user, self.version
        );
        let mut block = [b' '; BLOCK];
        block[..text.len()].copy_from_slice(text.as_bytes());
        block[BLOCK - 1] = b'\n';
        block
    }

    /// `len` bytes of the body from `offset` on.
    pub fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 2 * BLOCK);
        let mut block = self.pattern();
        // What every filling depends on, so that each byte tells something.
        let seed = block.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut number = offset / BLOCK;
        let skip = offset % BLOCK;
        while out.len() < skip + len {
            let mut rest = number;
            for digit in block[NUMBER..NUMBER + DIGITS].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
            let mut state = (seed ^ number as u64).wrapping_mul(0x5851_f42d_4c95_7f2d);
            for byte in &mut block[NUMBER + DIGITS + 1..BLOCK - 1] {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                *byte = b'a' + u8::try_from((state >> 60) & 15).unwrap_or(0);
            }
            out.extend_from_slice(&block);
            number += 1;
        }
        out.drain(..skip);
        out.truncate(len);
        out
    }

    /// What `body` says that it is, by its first whole block, and where it begins.
    pub fn read(body: &[u8]) -> Option<(Rep, usize)> {
        let begin = (0..BLOCK.min(body.len())).find(|i| {
            let block = body.get(*i..*i + BLOCK);
            block.is_some_and(|b| b[0] == b'p' && b[BLOCK - 1] == b'\n' && b[5] == b' ')
        })?;
        let text = std::str::from_utf8(&body[begin..begin + BLOCK - 1]).ok()?;
        let mut words = text.split(' ');
        let mut number = |mark: char| words.next()?.strip_prefix(mark)?.parse::<u64>().ok();
        let (page, language, coding) = (number('p')?, number('l')?, number('c')?);
        let (user, version, block) = (number('u')?, number('v')?, number('@')?);
        let rep = Rep {
            page: usize::try_from(page).ok()?,
            language: usize::try_from(language).ok()?,
            coding: usize::try_from(coding).ok()?,
            user: u32::try_from(user).ok()?,
            version,
        };
        let offset = (usize::try_from(block).ok()? * BLOCK).checked_sub(begin)?;
        Some((rep, offset))
    }

    /// Its entity tag, without a mark of weakness.
    pub fn tag(&self) -> String {
        format!(
            "\"{}-{}-{}-{}-{}\"",
            self.page, self.language, self.coding, self.user, self.version
        )
    }

    /// Its Last-Modified: a second for each version, all of them long ago.
    pub fn modified(&self) -> String {
        let (h, m, s) = (
            self.version / 3600 % 24,
            self.version / 60 % 60,
            self.version % 60,
        );
        format!("Mon, 01 Dec 2025 {h:02}:{m:02}:{s:02} GMT")
    }
}

impl Page {
    /// Which version there is by itself at `now`, before whatever changed it on request.
    pub fn by_time(&self, now: Tick) -> u64 {
        self.period
            .map_or(0, |period| now.as_nanos() / period.as_nanos().max(1) as u64)
    }

    /// The Vary field; empty without one.
    pub fn vary(&self) -> &'static str {
        match (self.by_language, self.by_coding) {
            (false, false) => "",
            (true, false) => "accept-language",
            (false, true) => "Accept-Encoding",
            (true, true) => "accept-encoding, Accept-Language",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_what_it_is_from_any_slice() {
        let rep = Rep {
            page: 3,
            language: 1,
            coding: 2,
            user: 4,
            version: 77,
        };
        let whole = rep.bytes(0, 5000);
        assert_eq!(whole.len(), 5000);
        for (from, to) in [(0, 5000), (1, 200), (63, 190), (64, 128), (4000, 5000)] {
            let slice = rep.bytes(from, to - from);
            assert_eq!(slice, whole[from..to]);
            assert_eq!(Rep::read(&slice), Some((rep, from)), "{from}..{to}");
        }
        let other = Rep { version: 78, ..rep };
        assert_ne!(other.bytes(100, 60), rep.bytes(100, 60));
        assert_eq!(Rep::read(&whole[..60]), None);
    }

    #[test]
    fn terms_are_written_as_they_are_meant() {
        let terms = Terms {
            max_age: Some(3),
            public: true,
            stale_if_error: Some(9),
            ..Terms::default()
        };
        assert_eq!(terms.field(), "public, max-age=3, stale-if-error=9");
        assert!(terms.is_shareable(true) && terms.is_shareable(false));
        let shy = Terms {
            max_age: Some(3),
            ..Terms::default()
        };
        assert!(shy.is_shareable(false) && !shy.is_shareable(true));
    }
}
