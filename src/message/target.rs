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
            Ok((Some(value), host))
        }
        None if named.0.is_none() && version == Version::HTTP_2 => Err(Cause::BadRequest),
        None => Ok(named),
    }
}
