//! Which route a request takes: host, path, method and headers against an ordered list. The first match wins.

use http::{HeaderMap, HeaderName, Method};

/// What a route matches; every part that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    /// Any of these hosts; empty is any host. Lower case, without port; `*.example.com` is any name below it.
    pub hosts: Vec<String>,
    /// The path.
    pub path: PathMatch,
    /// Any of these; empty is any method.
    pub methods: Vec<Method>,
    /// All of these.
    pub headers: Vec<HeaderMatch>,
}

/// What a path must be. Paths are normalised before they come here.
#[derive(Clone, Debug, Default)]
pub enum PathMatch {
    /// Anything.
    #[default]
    Any,
    /// Exactly this.
    Exact(String),
    /// This, or anything below it: `/a` matches `/a` and `/a/b`, not `/ab`. `/a/` matches `/a/b`, not `/a`.
    Prefix(String),
    /// The expression matches somewhere in the path, unless it is anchored.
    Regex(regex::Regex),
}

/// What a field must be.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// `None`: it is there. Otherwise one of its values is exactly this.
    pub value: Option<String>,
}

impl RouteMatch {
    /// Does a request match? `host` is lower case and without port; `path` is normalised and without query.
    pub fn matches(&self, host: &str, path: &str, method: &Method, headers: &HeaderMap) -> bool {
        self.path.matches(path)
            && (self.hosts.is_empty() || self.hosts.iter().any(|h| host_matches(h, host)))
            && (self.methods.is_empty() || self.methods.contains(method))
            && self.headers.iter().all(|h| h.matches(headers))
    }
}

impl PathMatch {
    fn matches(&self, path: &str) -> bool {
        match self {
            PathMatch::Any => true,
            PathMatch::Exact(exact) => path == exact,
            PathMatch::Prefix(prefix) => path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')
            }),
            PathMatch::Regex(regex) => regex.is_match(path),
        }
    }
}

impl HeaderMatch {
    fn matches(&self, headers: &HeaderMap) -> bool {
        match &self.value {
            None => headers.contains_key(&self.name),
            Some(value) => headers
                .get_all(&self.name)
                .iter()
                .any(|v| v.as_bytes() == value.as_bytes()),
        }
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .strip_suffix(parent)
            .and_then(|name| name.strip_suffix('.'))
            .is_some_and(|name| !name.is_empty()),
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(m: PathMatch, p: &str) -> bool {
        RouteMatch {
            path: m,
            ..RouteMatch::default()
        }
        .matches("h", p, &Method::GET, &HeaderMap::new())
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let a = || PathMatch::Prefix("/a".into());
        assert!(path(a(), "/a") && path(a(), "/a/b"));
        assert!(!path(a(), "/ab") && !path(a(), "/"));
        assert!(path(PathMatch::Prefix("/".into()), "/anything"));
        assert!(!path(PathMatch::Prefix("/a/".into()), "/a"));
    }

    #[test]
    fn a_wildcard_is_any_name_below_and_not_the_parent() {
        assert!(host_matches("*.example.com", "a.example.com"));
        assert!(host_matches("*.example.com", "a.b.example.com"));
        assert!(!host_matches("*.example.com", "example.com"));
        assert!(!host_matches("*.example.com", ".example.com"));
        assert!(!host_matches("*.example.com", "badexample.com"));
    }

    #[test]
    fn every_part_that_is_given_must_hold() {
        let m = RouteMatch {
            hosts: vec!["h".into()],
            methods: vec![Method::GET],
            headers: vec![HeaderMatch {
                name: HeaderName::from_static("x-a"),
                value: Some("1".into()),
            }],
            path: PathMatch::Exact("/x".into()),
        };
        let mut headers = HeaderMap::new();
        assert!(!m.matches("h", "/x", &Method::GET, &headers));
        headers.append("x-a", "2".parse().unwrap());
        headers.append("x-a", "1".parse().unwrap());
        assert!(m.matches("h", "/x", &Method::GET, &headers));
        assert!(!m.matches("h", "/x", &Method::POST, &headers));
        assert!(!m.matches("i", "/x", &Method::GET, &headers));
        assert!(!m.matches("h", "/y", &Method::GET, &headers));
    }
}
