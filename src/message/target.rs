//! The request's target in its one normal form (RFC 9112, section 3; RFC 3986, section 6.2.2), which routing, the cache
//! and the backend all see: what a rule was matched against is what is forwarded. `path` owns the normal form of path and
//! query, `host` that of the authority. Absent: limits of length, which stand in the config.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::cause::Cause;
use super::host::{self, Host};
use super::path::{self, Text};

/// Where a request goes. A target that came in normal form costs no allocation.
#[derive(Clone, Debug)]
pub struct Target {
    authority: Option<HeaderValue>,
    /// Only where it differs from the authority's own bytes.
    lower_host: Option<String>,
    /// Length of the host within the authority.
    host_len: usize,
    /// Path and query, with the question mark between them.
    text: Text,
    /// Length of the path within the text.
    path_len: usize,
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
        &self.text.as_str()[..self.path_len]
    }

    /// The query as the client sent it, without its question mark, but for bytes beyond ASCII: they are percent-encoded, as
    /// RFC 3986, section 2.1 has all that is not a character of a URI. ASCII that it forbids as well (`"`, `<`, `{`) stays,
    /// since backends read it.
    pub fn query(&self) -> Option<&str> {
        self.text.as_str().get(self.path_len + 1..)
    }

    /// Path, question mark and query, to be written one after the other as the target of a request line.
    pub fn parts(&self) -> [&str; 3] {
        let (path, query) = self.text.as_str().split_at(self.path_len);
        match query.split_at_checked(1) {
            Some((mark, query)) => [path, mark, query],
            None => [path, "", ""],
        }
    }
}

/// Reads the target out of a request's line and fields, where a library has parsed the line. Fails with `BadRequest`, or
/// `MethodNotAllowed` for CONNECT.
pub fn parse(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
) -> Result<Target, Cause> {
    if method == Method::CONNECT {
        return Err(Cause::MethodNotAllowed);
    }
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Cause::BadRequest);
    }
    let named = match uri.authority() {
        Some(authority) => {
            Some(HeaderValue::from_str(authority.as_str()).map_err(|_| Cause::BadRequest)?)
        }
        None => None,
    };
    // No path at all is the authority form, which belongs to CONNECT.
    let original = uri.path_and_query().cloned().ok_or(Cause::BadRequest)?;
    target(method, named, Text::Parsed(original), headers, version)
}

/// Reads the target out of a request line as it came (RFC 9112, section 3.2) and the fields. It fails as `parse` does.
pub fn read(
    method: &Method,
    raw: &Bytes,
    headers: &HeaderMap,
    version: Version,
) -> Result<Target, Cause> {
    if method == Method::CONNECT {
        return Err(Cause::MethodNotAllowed);
    }
    let (named, text) = match raw.first() {
        Some(b'/' | b'*') => (None, raw.clone()),
        _ => {
            let (authority, text) = absolute(raw).ok_or(Cause::BadRequest)?;
            let named = HeaderValue::from_maybe_shared(authority).map_err(|_| Cause::BadRequest)?;
            (Some(named), text)
        }
    };
    target(method, named, Text::Raw(text), headers, version)
}

/// Authority and path with query of an absolute form, if its scheme is one of ours.
fn absolute(raw: &Bytes) -> Option<(Bytes, Bytes)> {
    let named = |scheme: &&[u8]| {
        raw.get(..scheme.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    };
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(named)?;
    let rest = raw.slice(scheme.len()..);
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let end = end.unwrap_or(rest.len());
    Some((rest.slice(..end), rest.slice(end..)))
}

fn target(
    method: &Method,
    named: Option<HeaderValue>,
    text: Text,
    headers: &HeaderMap,
    version: Version,
) -> Result<Target, Cause> {
    let (authority, host) = authority(named, headers, version)?;
    let asterisk = method == Method::OPTIONS && text.as_bytes() == b"*";
    let (text, path_len) = match asterisk {
        true => (text, 1),
        false => path::normal(text).ok_or(Cause::BadRequest)?,
    };
    Ok(Target {
        authority,
        lower_host: host.lower,
        host_len: host.len,
        text,
        path_len,
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
    let None = path::normalise(path.as_bytes())? else {
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
    let text = Bytes::copy_from_slice(path_query.as_bytes());
    let (normal, _) = path::normal(Text::Raw(text))?;
    Some(normal.as_str().to_owned())
}

/// The authority: the absolute form's before the Host field's (RFC 9112, section 3.2.2), which must be valid even so.
fn authority(
    absolute: Option<HeaderValue>,
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
    match absolute {
        Some(value) => {
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
