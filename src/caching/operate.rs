//! What an operator does with the cache: purges, and looks at what is stored. It is called from outside the runtimes, so nothing
//! here waits. Absent: who may do so (admin).

use http::{HeaderMap, Method, Uri, Version};

use super::Caching;
use crate::cache::purge::{Purge, Selection};
use crate::cache::stored::{Body, Entry, Stored};
use crate::cache::{key, store};
use crate::message::head::Fields;
use crate::message::path::PathRules;
use crate::message::target;
use crate::telemetry::CachingStatus;
use crate::tier::{Published, Shared};
use crate::time::Tick;

/// What a purge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Responses in this process's memory.
    pub entries: u64,
    /// Who else hears of it.
    pub replicas: Replicas,
}

/// How the replicas that share a Redis hear of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// There is no Redis, so no other replica has what this one has.
    None,
    /// It is on its way to them.
    Queued,
    /// Redis is away: they hear of it only once it is back.
    Unreachable,
}

/// What lies in memory under one URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlStatus {
    /// Of some of them, if there are very many.
    pub responses: Vec<StoredStatus>,
    /// How many there are.
    pub count: usize,
    /// Names of the request fields that tell them apart.
    pub varies_by: Vec<String>,
}

/// One stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStatus {
    /// Its status.
    pub status: u16,
    /// Seconds since it was made or last validated.
    pub age: u32,
    /// Seconds of freshness that are left; negative when stale.
    pub ttl: i64,
    /// Times it was served.
    pub hits: u32,
    /// What it takes of the memory, with its key and fields.
    pub bytes: u64,
    /// Purged softly: validated before its next use.
    pub soft: bool,
    /// All of the body is there, not only ranges of it.
    pub whole: bool,
    /// By which it can be purged.
    pub tags: Vec<String>,
}

/// Why a text is no URL of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Without scheme or host.
    #[error("it is not absolute, as http://localhost:8080/a is")]
    NotAbsolute,
    /// Neither http nor https.
    #[error("its scheme is not http or https")]
    Scheme,
    /// A request for it is refused.
    #[error("no request can have it: the host, the port or the path is not valid")]
    Impossible,
}

/// Responses of one URL that are described.
const DESCRIBED: usize = 100;

/// A URL in the form in which keys begin with it: scheme and host in lower case, no port that the scheme implies, the path as
/// routing sees it, the query as it is, no fragment.
///
/// # Errors
/// When no request can have this URL.
pub fn normal_url(text: &str) -> Result<String, UrlFault> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlFault::NotAbsolute)?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(UrlFault::Scheme);
    }
    let rest = rest.split('#').next().unwrap_or_default();
    if rest.is_empty() || rest.starts_with(['/', '?']) {
        return Err(UrlFault::NotAbsolute);
    }
    let uri: Uri = format!("{scheme}://{rest}")
        .parse()
        .map_err(|_| UrlFault::Impossible)?;
    // The absolute form of a request has its host in the target, so that no field is needed.
    let target = target::parse(
        &Method::GET,
        &uri,
        &Fields::default(),
        Version::HTTP_10,
        &PathRules::KEEP,
    )
    .map_err(|_| UrlFault::Impossible)?;
    let authority = key::authority(target.host(), target.port(), &scheme);
    let [path, mark, query] = target.parts();
    Ok(format!("{scheme}://{authority}{path}{mark}{query}"))
}

/// The cache as an operator sees it.
#[derive(Clone, Copy)]
pub struct Operator<'a> {
    /// The cache in memory.
    pub caching: &'a Caching,
    /// What the cores share of the second tier.
    pub shared: Option<&'a Shared>,
}

impl Operator<'_> {
    /// Forgets what `purge` selects, here and in replicas that share a Redis. A URL or a prefix is in the form of
    /// [`normal_url`]. Fetches under way are served to those who wait for them and not stored.
    pub fn purge(self, purge: &Purge) -> Purged {
        let mut entries = 0;
        let mut replicas = Replicas::None;
        for purge in self.caching.forms(purge) {
            if let Some(shared) = self.shared {
                replicas = match shared.purge(&purge) {
                    Published::Sent => Replicas::Queued,
                    Published::Queued => Replicas::Unreachable,
                };
            }
            entries += self.caching.purge(&purge);
        }
        Purged { entries, replicas }
    }

    /// What the cache is at; `None` when no route is cached.
    pub fn status(self) -> Option<CachingStatus> {
        let caching = self.caching;
        caching.is_used().then(|| CachingStatus {
            store: caching.store.stats(),
            flights: caching.flights().len() as u64,
            filling: caching.filling(),
            redis: self.shared.map(Shared::status),
        })
    }

    /// What lies in memory under `url`, which is in the form of [`normal_url`].
    pub fn stored(self, url: &str, now: Tick) -> UrlStatus {
        let forms: Vec<String> = self.caching.urls(url);
        let mut found = UrlStatus::default();
        self.caching.store.each(|key, entry| {
            let url = key::url(key);
            if !forms.iter().any(|form| form.as_bytes() == url) {
                return;
            }
            match entry {
                Entry::Response(stored) => {
                    found.count += 1;
                    if found.responses.len() < DESCRIBED {
                        found.responses.push(describe(key, entry, stored, now));
                    }
                }
                Entry::Varies(varies) => {
                    let names = varies.names.iter().map(ToString::to_string);
                    found.varies_by.extend(names);
                }
            }
        });
        found.varies_by.sort();
        found.varies_by.dedup();
        found
    }
}

impl Caching {
    /// One order for each form that the URL has in keys.
    fn forms(&self, purge: &Purge) -> Vec<Purge> {
        let Selection::Url(url) = &purge.what else {
            return vec![purge.clone()];
        };
        let order = |url| Purge {
            what: Selection::Url(url),
            soft: purge.soft,
        };
        self.urls(url).into_iter().map(order).collect()
    }

    /// The forms that `url` has at the beginnings of keys: rules may leave out some of its query, or all.
    fn urls(&self, url: &str) -> Vec<String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let mut forms = Vec::new();
        for rules in &self.shapes.load().rules {
            let mut out = Vec::new();
            let none = HeaderMap::new();
            key::primary(&mut out, rules, scheme, authority, (path, query), &none);
            let form = String::from_utf8_lossy(key::url(&out)).into_owned();
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        forms
    }
}

fn describe(key: &[u8], entry: &Entry, stored: &Stored, now: Tick) -> StoredStatus {
    let tags = store::tags(stored).map(|tag| String::from_utf8_lossy(tag).into_owned());
    StoredStatus {
        status: stored.status,
        age: stored.life.age(now),
        ttl: stored.life.ttl(now),
        hits: stored.hits.load(std::sync::atomic::Ordering::Relaxed),
        bytes: store::size(key, entry),
        soft: stored.is_soft(),
        whole: matches!(stored.body, Body::Whole(_)),
        tags: tags.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_form_that_keys_begin_with() {
        for (text, normal) in [
            ("HTTP://Example.COM:80", "http://example.com/"),
            ("http://example.com./a", "http://example.com/a"),
            ("https://a:443/x?b=C&d#e", "https://a/x?b=C&d"),
            ("http://a:443/", "http://a:443/"),
            (
                "http://[::1]:8080/a/../b/%7e%2f",
                "http://[::1]:8080/b/~%2F",
            ),
            ("http://a?q", "http://a/?q"),
        ] {
            assert_eq!(normal_url(text).as_deref(), Ok(normal), "{text}");
        }
        for (text, fault) in [
            ("", UrlFault::NotAbsolute),
            ("/a", UrlFault::NotAbsolute),
            ("example.com/a", UrlFault::NotAbsolute),
            ("http:///a", UrlFault::NotAbsolute),
            ("ftp://a/", UrlFault::Scheme),
            ("http://a b/", UrlFault::Impossible),
            ("http://u@a/", UrlFault::Impossible),
            ("http://a:99999/", UrlFault::Impossible),
            ("http://a/%zz", UrlFault::Impossible),
            ("http://a/../..", UrlFault::Impossible),
        ] {
            assert_eq!(normal_url(text), Err(fault), "{text}");
        }
    }
}
