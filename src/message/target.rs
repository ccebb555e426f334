//! The request's target in its one normal form (RFC 9112, section 3; RFC 3986, section 6.2.2), which routing, the cache
//! and the backend all see: what a rule was matched against is what is forwarded. `path` owns the path's normal form,
//! `host` that of the authority. Absent: limits of length, which stand in the config.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::cause::Cause;
use super::host::{self, Host};
use super::path;

/// Where a request goes. A target that came in normal form costs no allocation.
#[derive(Clone, Debug)]
pub struct Target {
    authority: Option<HeaderValue>,
    /// Only where it differs from the authority's own bytes.
    lower_host: Option<String>,
    /// Length of the host within the authority.
    host_len: usize,
    original: PathAndQuery,
    /// Only where it differs from the original's path.
    normal_path: Option<String>,
}

impl Target {
    /// The host for routing: lower case, without port and final dot, an IPv6 address in its brackets. Empty if an
    /// HTTP/1.0 client named none.
    pub fn host(&self) -> &str {
        match (&self.lower_host, &self.authority) {
            (Some(host), _) => host,
            (None, Some(authority)) => std::str::from_utf8(&authority.as_bytes()[..self.host_len])
                .expect("only ASCII passes as a host"),
            (None, None) => "",
        }
    }

    /// What to pass on as Host: the client's own spelling, with its port.
    pub fn authority(&self) -> Option<&HeaderValue> {
        self.authority.as_ref()
    }

    /// The port that the client named, if it named one.
    pub fn port(&self) -> Option<u16> {
        let authority = self.authority.as_ref()?.to_str().ok()?;
        let (_, port) = authority.rsplit_once(':')?;
        port.parse().ok()
    }

    /// The normal path, which begins with a slash; `*` for the server as a whole (OPTIONS alone).
    pub fn path(&self) -> &str {
        match &self.normal_path {
            Some(path) => path,
            None => self.original.path(),
        }
    }

    /// The query as the client sent it, without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.original.query()
    }

    /// Path, question mark and query, to be written one after the other as the target of a request line.
    pub fn parts(&self) -> [&str; 3] {
        match self.query() {
            Some(query) => [self.path(), "?", query],
            None => [self.path(), "", ""],
        }
    }
}

/// Reads the target out of a request's line and fields. Fails with `BadRequest`, or `MethodNotAllowed` for CONNECT.
pub fn parse(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
) -> Result<Target, Cause> {
    if method == Method::CONNECT {
        return Err(Cause::MethodNotAllowed);
    }
    let (authority, host) = authority(uri, headers, version)?;
    // No path at all is the authority form, which belongs to CONNECT.
    let original = uri.path_and_query().cloned().ok_or(Cause::BadRequest)?;
    let normal_path = match original.path() {
        "*" if method == Method::OPTIONS && original.query().is_none() => None,
        path => path::normalise(path).ok_or(Cause::BadRequest)?,
    };
    Ok(Target {
        authority,
        lower_host: host.lower,
        host_len: host.len,
        original,
        normal_path,
    })
}

/// A target that came in normal form, as its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Lower case, without port.
    pub host: &'a str,
    /// The port in the Host field.
    pub port: Option<u16>,
    /// Begins with a slash.
    pub path: &'a str,
    /// Without its question mark.
    pub query: Option<&'a str>,
}

/// The parts of a target in origin form and of a Host field, if both are in normal form as they came. `None` says nothing of
/// their validity: [`parse`] does.
pub fn plain<'a>(host: &'a [u8], target: &'a str) -> Option<Plain<'a>> {
    let Host { len, lower: None } = host::normalise(host)? else {
        return None;
    };
    let (name, rest) = host.split_at(len);
    let port = match rest {
        [] => None,
        [b':', digits @ ..] => Some(std::str::from_utf8(digits).ok()?.parse().ok()?),
        _ => return None,
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if query.is_some_and(|q| !path::is_plain_query(q)) {
        return None;
    }
    let None = path::normalise(path)? else {
        return None;
    };
    Some(Plain {
        host: std::str::from_utf8(name).ok()?,
        port,
        path,
        query,
    })
}

/// A path with its query, in normal form; `None` if it is not one. An empty path is the root.
pub fn normal_path(path_query: &str) -> Option<String> {
    let (path, query) = match path_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_query, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let normal = path::normalise(path)?.unwrap_or_else(|| path.to_owned());
    Some(match query {
        Some(query) => format!("{normal}?{query}"),
        None => normal,
    })
}

/// The authority: the absolute form's before the Host field's (RFC 9112, section 3.2.2), which must be valid even so.
fn authority(
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
) -> Result<(Option<HeaderValue>, Host), Cause> {
    let valid = |value: &HeaderValue| host::normalise(value.as_bytes()).ok_or(Cause::BadRequest);
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Cause::BadRequest),
        (Some(named), None) => (Some(named.clone()), valid(named)?),
        (None, _) if version == Version::HTTP_11 => return Err(Cause::BadRequest),
        (None, _) => (None, Host::default()),
    };
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Cause::BadRequest);
    }
    match uri.authority() {
        Some(authority) => {
            let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Cause::BadRequest)?;
            let host = valid(&value)?;
            // RFC 9113 section 8.3.1: a Host that names another is malformed. An authority in HTTP/1.1's absolute form wins.
            let differs =
                |named: &HeaderValue| !named.as_bytes().eq_ignore_ascii_case(value.as_bytes());
            if version == Version::HTTP_2 && named.0.as_ref().is_some_and(differs) {
                return Err(Cause::BadRequest);
            }
            Ok((Some(value), host))
        }
        None if named.0.is_none() && version == Version::HTTP_2 => Err(Cause::BadRequest),
        None => Ok(named),
    }
}
