//! Cache-Control as it is found in the wild (RFC 9111 section 5.2), and its targeted kin, which are strict (RFC 9213).
//!
//! Leniency goes one way: junk is passed over, but what might mean "do not share" is taken to mean it. Absent: what follows
//! from a directive (`policy`).

use http::{HeaderMap, HeaderName, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser, Version};

/// The largest delta-seconds that is told from infinity (RFC 9111 section 1.2.2).
pub const FOREVER: u32 = 1 << 31;

/// Fields that one response may have left out of what is stored. Who names more means all of it.
const MOST_FIELDS: usize = 32;

/// Fields without which a stored response would be another one when it is judged, validated or read again, and what is no field.
const DEPENDED_ON: [&str; 13] = [
    "*",
    "age",
    "cache-control",
    "cdn-cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "vary",
    "weirkeeper-cache-control",
];

/// Fields that speak to this cache before Cache-Control does, the most specific first (RFC 9213 section 2.2).
static TARGETED: [HeaderName; 2] = [
    HeaderName::from_static("weirkeeper-cache-control"),
    HeaderName::from_static("cdn-cache-control"),
];

/// `no-cache` and `private`: absent, for the whole response, or for some of its fields alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Not said.
    #[default]
    None,
    /// Said of the whole response, or in a way that cannot be read.
    All,
    /// Said of these fields.
    Fields(Vec<HeaderName>),
}

impl Scope {
    fn and(&mut self, other: Scope) {
        match (&mut *self, other) {
            (_, Scope::None) | (Scope::All, _) => {}
            (Scope::Fields(names), Scope::Fields(more))
                if names.len() + more.len() <= MOST_FIELDS =>
            {
                names.extend(more);
            }
            (slot @ Scope::Fields(_), _) => *slot = Scope::All,
            (slot, other) => *slot = other,
        }
    }
}

/// What a response's directives say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// Seconds; of several, the least.
    pub max_age: Option<u32>,
    /// Seconds, for shared caches.
    pub s_maxage: Option<u32>,
    /// To be validated before use.
    pub no_cache: Scope,
    /// For one user.
    pub private: Scope,
    /// Not to be stored.
    pub no_store: bool,
    /// For everybody: freshness may be guessed.
    pub public: bool,
    /// May be shared though the request was authorized (RFC 9111 section 3.5): public, must-revalidate or s-maxage, as the
    /// grammar has them.
    pub lifts_authorization: bool,
    /// Never stale.
    pub must_revalidate: bool,
    /// Never stale, for shared caches.
    pub proxy_revalidate: bool,
    /// Only for caches that know the status.
    pub must_understand: bool,
    /// Seconds (RFC 5861 section 3).
    pub stale_while_revalidate: Option<u32>,
    /// Seconds (RFC 5861 section 4).
    pub stale_if_error: Option<u32>,
    /// A targeted field said all this, so that Expires says nothing.
    pub targeted: bool,
}

impl ResponseDirectives {
    /// Reads a response's fields: the first targeted field that is valid and not empty, else Cache-Control.
    pub fn of(headers: &HeaderMap) -> Self {
        TARGETED
            .iter()
            .find_map(|name| Self::targeted(headers, name))
            .unwrap_or_else(|| {
                let mut directives = Self::default();
                each(headers, &header::CACHE_CONTROL, |name, argument| {
                    directives.take(name, argument);
                });
                directives
            })
    }

    /// A targeted field is a Dictionary (RFC 9213 section 2.1); one that does not parse is as if it were not there.
    fn targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut lines = headers.get_all(name).iter().peekable();
        lines.peek()?;
        let mut joined = Vec::new();
        for line in lines {
            if !joined.is_empty() {
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(line.as_bytes());
        }
        let parser = Parser::new(&joined).with_version(Version::Rfc8941);
        let dictionary: Dictionary = parser.parse().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut directives = Self {
            targeted: true,
            ..Self::default()
        };
        for (key, entry) in &dictionary {
            let name = key.as_str();
            let item = match entry {
                ListEntry::Item(item) => &item.bare_item,
                ListEntry::InnerList(_) => {
                    directives.take(name, Argument::Junk);
                    continue;
                }
            };
            let is_list = matches!(name, "no-cache" | "private");
            match item {
                BareItem::Boolean(true) => directives.take(name, Argument::Absent),
                // `?0` unsays a directive; a lifetime has no such value.
                BareItem::Boolean(false) if !is_lifetime(name) => {}
                BareItem::Integer(n) => {
                    let digits = i64::from(*n).to_string();
                    directives.take(name, Argument::Token(digits.as_bytes()));
                }
                BareItem::String(text) if is_list => {
                    directives.take(name, Argument::Quoted(text.as_str().as_bytes()));
                }
                _ => directives.take(name, Argument::Junk),
            }
        }
        Some(directives)
    }

    /// What forbids is heeded with any argument, what permits only with its own.
    fn take(&mut self, name: &str, argument: Argument<'_>) {
        let read = argument.seconds();
        let least = |slot: &mut Option<u32>| {
            // A lifetime that cannot be read is no lifetime (RFC 9111 section 4.2.1 encourages to call it stale).
            let seconds = read.unwrap_or(0);
            *slot = Some(slot.map_or(seconds, |other| other.min(seconds)));
        };
        let is_bare = argument == Argument::Absent;
        match name {
            "max-age" => least(&mut self.max_age),
            "s-maxage" => {
                least(&mut self.s_maxage);
                self.lifts_authorization |= read.is_some();
            }
            "stale-while-revalidate" => least(&mut self.stale_while_revalidate),
            "stale-if-error" => least(&mut self.stale_if_error),
            "no-cache" => self.no_cache.and(argument.scope()),
            "private" => self.private.and(argument.scope()),
            "no-store" => self.no_store = true,
            "must-revalidate" => {
                self.must_revalidate = true;
                self.lifts_authorization |= is_bare;
            }
            "proxy-revalidate" => self.proxy_revalidate = true,
            "public" if is_bare => {
                self.public = true;
                self.lifts_authorization = true;
            }
            "must-understand" => self.must_understand |= is_bare,
            _ => {}
        }
    }
}

fn is_lifetime(name: &str) -> bool {
    matches!(
        name,
        "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error"
    )
}

/// What a request's directives say (RFC 9111 section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Nothing without validation.
    pub no_cache: bool,
    /// The response is not to be stored.
    pub no_store: bool,
    /// Nothing from a backend.
    pub only_if_cached: bool,
    /// Seconds of age at most.
    pub max_age: Option<u32>,
    /// Seconds of freshness left at least.
    pub min_fresh: Option<u32>,
    /// Seconds of staleness at most; [`FOREVER`] is any.
    pub max_stale: Option<u32>,
    /// Seconds of staleness that are taken in the place of an error (RFC 5861 section 4).
    pub stale_if_error: Option<u32>,
}

impl RequestDirectives {
    /// Reads Cache-Control; where there is none, `Pragma: no-cache` (RFC 9111 section 5.4).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut d = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            each(headers, &header::PRAGMA, |name, _| {
                d.no_cache |= name == "no-cache";
            });
            return d;
        }
        each(headers, &header::CACHE_CONTROL, |name, argument| {
            let number = argument.seconds();
            let least = |slot: &mut Option<u32>, n: u32| {
                *slot = Some(slot.map_or(n, |other| other.min(n)));
            };
            match name {
                "no-cache" => d.no_cache = true,
                "no-store" => d.no_store = true,
                "only-if-cached" => d.only_if_cached = true,
                // What cannot be read asks for the freshest.
                "max-age" => least(&mut d.max_age, number.unwrap_or(0)),
                "min-fresh" => {
                    let n = number.unwrap_or(FOREVER);
                    d.min_fresh = Some(d.min_fresh.map_or(n, |other| other.max(n)));
                }
                "max-stale" => {
                    let any = argument == Argument::Absent;
                    let n = number.unwrap_or(if any { FOREVER } else { 0 });
                    least(&mut d.max_stale, n);
                }
                "stale-if-error" => least(&mut d.stale_if_error, number.unwrap_or(0)),
                _ => {}
            }
        });
        d
    }
}

/// A directive's argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument<'a> {
    Absent,
    Token(&'a [u8]),
    /// What is between the quotes, as it stands there.
    Quoted(&'a [u8]),
    /// Neither.
    Junk,
}

impl Argument<'_> {
    fn of(text: &[u8]) -> Argument<'_> {
        match text {
            [b'"', inner @ .., b'"'] => Argument::Quoted(inner),
            [] => Argument::Junk,
            _ if text.iter().all(|b| is_tchar(*b)) => Argument::Token(text),
            _ => Argument::Junk,
        }
    }

    fn seconds(self) -> Option<u32> {
        match self {
            Argument::Token(text) => seconds(text),
            Argument::Quoted(text) => seconds(text.trim_ascii()),
            Argument::Absent | Argument::Junk => None,
        }
    }

    /// The fields that a qualified directive names, in quotes as it must be. A list that is empty, too long or cannot be read
    /// qualifies nothing, and nor does one that takes away what the cache itself depends on.
    fn scope(self) -> Scope {
        let Argument::Quoted(text) = self else {
            return Scope::All;
        };
        let mut names = Vec::new();
        let items = text.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        for item in items.filter(|item| !item.is_empty()) {
            match HeaderName::from_bytes(item) {
                Ok(name) if names.len() < MOST_FIELDS && !DEPENDED_ON.contains(&name.as_str()) => {
                    names.push(name);
                }
                _ => return Scope::All,
            }
        }
        match names.is_empty() {
            true => Scope::All,
            false => Scope::Fields(names),
        }
    }
}

/// Calls `f` with each directive's name in lower case and its argument, out of all lines of the field. In what does not follow
/// the grammar each word that forbids something is a directive of its own.
fn each(headers: &HeaderMap, field: &HeaderName, mut f: impl FnMut(&str, Argument<'_>)) {
    for line in headers.get_all(field) {
        items(line.as_bytes(), |item| {
            let end = item.iter().position(|b| !is_tchar(*b));
            let (name, rest) = item.split_at(end.unwrap_or(item.len()));
            let argument = match rest.trim_ascii() {
                // Some quote with apostrophes, which a token may hold.
                _ if name.contains(&b'\'') => return forbidding_words(item, &mut f),
                [] => Argument::Absent,
                [b'=', text @ ..] => Argument::of(text.trim_ascii()),
                _ => return forbidding_words(item, &mut f),
            };
            if argument == Argument::Junk {
                forbidding_words(rest, &mut f);
            }
            let name = name.to_ascii_lowercase();
            f(std::str::from_utf8(&name).unwrap_or_default(), argument);
        });
    }
}

fn forbidding_words(junk: &[u8], f: &mut impl FnMut(&str, Argument<'_>)) {
    for word in junk.split(|b| !is_tchar(*b) || *b == b'\'') {
        for name in ["no-store", "private", "no-cache"] {
            if word.eq_ignore_ascii_case(name.as_bytes()) {
                f(name, Argument::Junk);
            }
        }
    }
}

/// Calls `f` with each item of a list. A semicolon parts them as well, since some servers write it so and no directive can hold
/// it. A quote that never ends would swallow what follows it, so then quotes mean nothing.
fn items(line: &[u8], mut f: impl FnMut(&[u8])) {
    let mut cuts = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b';' if !quoted => cuts.push(at),
            _ => {}
        }
    }
    if quoted {
        let all = line.iter().enumerate();
        cuts = all
            .filter_map(|(at, b)| matches!(b, b',' | b';').then_some(at))
            .collect();
    }
    let mut from = 0;
    for to in cuts.into_iter().chain([line.len()]) {
        let item = line[from..to].trim_ascii();
        if !item.is_empty() {
            f(item);
        }
        from = to + 1;
    }
}

/// May it be part of a token (RFC 9110 section 5.6.2)?
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// delta-seconds (RFC 9111 section 1.2.2); what is too large is [`FOREVER`].
pub fn seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u32, |n, d| {
        n.saturating_mul(10).saturating_add(u32::from(d - b'0'))
    });
    Some(number.min(FOREVER))
}
