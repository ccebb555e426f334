//! Which route a request takes: host, path, method and headers against an ordered list. The first match wins.

use http::{HeaderName, Method};

use crate::message::client_hello::ClientHello;
use crate::message::head::Fields;
use crate::message::target::Target;

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
    /// For connections that pass byte for byte: the client's hello names any of these hosts; empty is any connection.
    pub server_names: Vec<String>,
    /// The same for the protocols that it offers.
    pub alpn: Vec<String>,
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
    /// Does a request match? Its host is lower case and without port, its path normal. Either reading of the path will do.
    pub fn matches(&self, target: &Target, method: &Method, headers: &Fields) -> bool {
        let host = target.host();
        self.path.takes(target)
            && (self.hosts.is_empty() || self.hosts.iter().any(|h| host_matches(h, host)))
            && (self.methods.is_empty() || self.methods.contains(method))
            && self.headers.iter().all(|h| h.matches(headers))
    }

    /// Does a connection match that passes byte for byte? `hello` is `None` where it does not begin with TLS.
    pub fn takes(&self, hello: Option<&ClientHello>) -> bool {
        let named = |h: &ClientHello| {
            let name = h.server_name.as_deref();
            name.is_some_and(|name| self.server_names.iter().any(|s| host_matches(s, name)))
        };
        let offers = |h: &ClientHello| {
            let mut offered = h.protocols.iter();
            offered.any(|p| self.alpn.iter().any(|a| a.as_bytes() == p))
        };
        (self.server_names.is_empty() || hello.is_some_and(named))
            && (self.alpn.is_empty() || hello.is_some_and(offers))
    }

    /// Does it take a client's hello to tell?
    pub fn asks_for_hello(&self) -> bool {
        !self.server_names.is_empty() || !self.alpn.is_empty()
    }
}

impl PathMatch {
    /// Does either reading of the target's path match?
    fn takes(&self, target: &Target) -> bool {
        self.matches(target.path()) || target.lenient_path().is_some_and(|path| self.matches(path))
    }

    /// Does this path match, which is normal?
    pub fn matches(&self, path: &str) -> bool {
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
    fn matches(&self, headers: &Fields) -> bool {
        let mut said = headers.named(&self.name);
        match &self.value {
            None => said.next().is_some(),
            Some(value) => said.any(|v| v == value.as_bytes()),
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
    use http::Version;

    use super::*;
    use crate::message::path::PathRules;
    use crate::message::target;

    fn target(host: &str, path: &str) -> Target {
        let uri = format!("http://{host}{path}").parse().expect("a target");
        let none = Fields::default();
        let rules = &PathRules::KEEP;
        target::parse(&Method::GET, &uri, &none, Version::HTTP_10, rules).expect("a good one")
    }

    fn path(m: PathMatch, p: &str) -> bool {
        let m = RouteMatch {
            path: m,
            ..RouteMatch::default()
        };
        m.matches(&target("h", p), &Method::GET, &Fields::default())
    }

    #[test]
    fn a_rule_is_not_walked_around_by_a_spelling() {
        let admin = || PathMatch::Prefix("/admin".into());
        for p in [
            "/admin",
            "//admin",
            "/admin%2fx",
            "/admin;x/y",
            "/admin%3bx",
            "/admin%5Cx",
            "/x/../admin",
            "/%61dmin",
            "/.//admin",
        ] {
            assert!(path(admin(), p), "{p}");
        }
        for p in [
            "/admins",
            "/a/dmin",
            "/x;/admin",
            "/x//admin",
            "/ad%2Fmin",
            "/",
        ] {
            assert!(!path(admin(), p), "{p}");
        }
        assert!(path(PathMatch::Exact("/a%2Fb".into()), "/a%2fb"));
        assert!(path(PathMatch::Exact("/a/b".into()), "/a%2fb"));
        assert!(path(PathMatch::Regex("^/a/b$".parse().unwrap()), "/a//b"));
        assert!(path(PathMatch::Regex("^/a//b$".parse().unwrap()), "/a//b"));
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
    fn a_hello_must_have_every_part_that_is_asked_for() {
        let hello = |name: Option<&str>, protocols: &[&str]| ClientHello {
            server_name: name.map(Into::into),
            protocols: protocols.iter().map(|p| p.as_bytes().to_vec()).collect(),
        };
        let any = RouteMatch::default();
        assert!(any.takes(None) && any.takes(Some(&hello(None, &[]))) && !any.asks_for_hello());
        let mut m = RouteMatch {
            server_names: vec!["a.example".into(), "*.b.example".into()],
            ..RouteMatch::default()
        };
        assert!(m.takes(Some(&hello(Some("a.example"), &[]))));
        assert!(m.takes(Some(&hello(Some("x.b.example"), &["h2"]))));
        assert!(!m.takes(Some(&hello(Some("b.example"), &[]))));
        assert!(!m.takes(Some(&hello(None, &[]))) && !m.takes(None));
        m.alpn = vec!["h2".into(), "acme-tls/1".into()];
        assert!(m.takes(Some(&hello(Some("a.example"), &["http/1.1", "h2"]))));
        assert!(!m.takes(Some(&hello(Some("a.example"), &["http/1.1"]))));
        assert!(!m.takes(Some(&hello(Some("c.example"), &["h2"]))));
        m.server_names.clear();
        assert!(m.takes(Some(&hello(None, &["h2"]))) && !m.takes(None) && m.asks_for_hello());
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
            ..RouteMatch::default()
        };
        let mut headers = Fields::default();
        assert!(!m.matches(&target("h", "/x"), &Method::GET, &headers));
        headers.change(|map| {
            map.append("x-a", "2".parse().unwrap());
            map.append("x-a", "1".parse().unwrap());
        });
        assert!(m.matches(&target("h", "/x"), &Method::GET, &headers));
        assert!(!m.matches(&target("h", "/x"), &Method::POST, &headers));
        assert!(!m.matches(&target("i", "/x"), &Method::GET, &headers));
        assert!(!m.matches(&target("h", "/y"), &Method::GET, &headers));
    }
}
