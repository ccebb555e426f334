//! Cache-Control as it is found in the wild (RFC 9111 section 5.2), and its targeted kin, which are strict (RFC 9213).
//!
//! Leniency goes one way: junk is passed over, but what might mean "do not share" is taken to mean it. Absent: what follows
//! from a directive (`policy`).

use http::{HeaderMap, HeaderName, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// The largest delta-seconds that is told from infinity (RFC 9111 section 1.2.2).
pub const FOREVER: u32 = 1 << 31;

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
            (Scope::Fields(names), Scope::Fields(more)) => names.extend(more),
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
    /// For everybody, also where a request was authorized.
    pub public: bool,
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
                each(headers, &header::CACHE_CONTROL, |name, value| {
                    directives.take(&name, value);
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
        let dictionary: Dictionary = Parser::new(&joined).parse().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut directives = Self {
            targeted: true,
            ..Self::default()
        };
        for (key, entry) in &dictionary {
            let ListEntry::Item(item) = entry else {
                // An inner list has no meaning for any directive; for these two it is safer to heed them.
                directives.take(key.as_str(), None);
                continue;
            };
            match &item.bare_item {
                BareItem::Boolean(true) => directives.take(key.as_str(), None),
                // `?0` unsays a directive.
                BareItem::Boolean(false) => {}
                BareItem::Integer(n) => {
                    let text = i64::from(*n).to_string();
                    directives.take(key.as_str(), Some(text.as_bytes()));
                }
                BareItem::String(s) => directives.take_fields(key.as_str(), s.as_str().as_bytes()),
                BareItem::Token(t) => directives.take_fields(key.as_str(), t.as_str().as_bytes()),
                _ => directives.take(key.as_str(), None),
            }
        }
        Some(directives)
    }

    /// A string is a list of fields; a number in quotes is no number in a structured field.
    fn take_fields(&mut self, name: &str, value: &[u8]) {
        if matches!(name, "no-cache" | "private") {
            self.take(name, Some(value));
        }
    }

    fn take(&mut self, name: &str, value: Option<&[u8]>) {
        let least = |slot: &mut Option<u32>| {
            // A lifetime that cannot be read is no lifetime (RFC 9111 section 4.2.1 encourages to call it stale).
            let seconds = value.and_then(seconds).unwrap_or(0);
            *slot = Some(slot.map_or(seconds, |other| other.min(seconds)));
        };
        match name {
            "max-age" => least(&mut self.max_age),
            "s-maxage" => least(&mut self.s_maxage),
            "stale-while-revalidate" => least(&mut self.stale_while_revalidate),
            "stale-if-error" => least(&mut self.stale_if_error),
            "no-cache" => self.no_cache.and(scope(value)),
            "private" => self.private.and(scope(value)),
            "no-store" => self.no_store = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            _ => {}
        }
    }
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
        each(headers, &header::CACHE_CONTROL, |name, value| {
            let number = value.and_then(seconds);
            let least = |slot: &mut Option<u32>, n: u32| {
                *slot = Some(slot.map_or(n, |other| other.min(n)));
            };
            match name.as_str() {
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
                    let any = value.is_none();
                    least(
                        &mut d.max_stale,
                        number.unwrap_or(if any { FOREVER } else { 0 }),
                    );
                }
                "stale-if-error" => least(&mut d.stale_if_error, number.unwrap_or(0)),
                _ => {}
            }
        });
        d
    }
}

/// Calls `f` with each directive's name in lower case and its value, out of all lines of the field.
fn each(headers: &HeaderMap, field: &HeaderName, mut f: impl FnMut(String, Option<&[u8]>)) {
    for line in headers.get_all(field) {
        for item in items(line.as_bytes()) {
            let equals = item.iter().position(|b| *b == b'=');
            let (name, value) = match equals {
                Some(at) => (&item[..at], Some(item[at + 1..].trim_ascii())),
                None => (item, None),
            };
            f(
                String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase(),
                value,
            );
        }
    }
}

/// The items of a list. A quote that never ends would swallow what follows it, so then every comma parts.
fn items(line: &[u8]) -> Vec<&[u8]> {
    let quotes = line.iter().filter(|b| **b == b'"').count();
    if quotes.is_multiple_of(2) {
        return crate::message::fields::list_items(line).collect();
    }
    line.split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
        .collect()
}

/// delta-seconds (RFC 9111 section 1.2.2), also in quotes; what is too large is [`FOREVER`].
pub fn seconds(value: &[u8]) -> Option<u32> {
    let digits = unquoted(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u32, |n, d| {
        n.saturating_mul(10).saturating_add(u32::from(d - b'0'))
    });
    Some(number.min(FOREVER))
}

/// The fields that a qualified directive names. A list that is empty or cannot be read qualifies nothing.
fn scope(value: Option<&[u8]>) -> Scope {
    let Some(value) = value else {
        return Scope::All;
    };
    let names = unquoted(value).split(|b| *b == b',');
    let names: Result<Vec<_>, _> = names
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .map(HeaderName::from_bytes)
        .collect();
    match names {
        Ok(names) if !names.is_empty() => Scope::Fields(names),
        _ => Scope::All,
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value {
        [b'"', inner @ .., b'"'] => inner.trim_ascii(),
        _ => value,
    }
}
