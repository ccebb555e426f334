//! The request's target in its one normal form (RFC 9112, section 3; RFC 3986, section 6.2.2), which routing, the cache
//! and the backend all see: what a rule was matched against is what is forwarded, and where a server may read that otherwise, the
//! rule is matched against both. `path` owns the normal form of path and query, `host` that of the authority. Absent: limits of
//! length, which stand in the config.

use bytes::Bytes;
use bytestring::ByteString;
use http::{Method, Uri, Version};

use super::cause::Cause;
use super::head::Fields;
use super::host::{self, Host};
use super::known::Known;
use super::path::{self, PathRules, Raw, Text};

/// Where a request goes. A target that came in normal form costs no allocation.
#[derive(Clone, Debug)]
pub struct Target {
    authority: Option<ByteString>,
    /// Only where it differs from the authority's own bytes.
    lower_host: Option<String>,
    /// Length of the host within the authority.
    host_len: usize,
    /// Path and query, with the question mark between them.
    text: Text,
    /// Length of the path within the text.
    path_len: usize,
    /// The path as the most lenient server reads it, where that is another one.
    lenient: Option<Box<str>>,
}

impl Target {
    /// The host for routing: lower case, without port and final dot, an IPv6 address in its brackets. Empty if an
    /// HTTP/1.0 client named none.
    pub fn host(&self) -> &str {
        match (&self.lower_host, &self.authority) {
            (Some(host), _) => host,
            (None, Some(authority)) => &authority[..self.host_len],
            (None, None) => "",
        }
    }

    /// What to pass on as Host: the client's own spelling, with its port.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The port that the client named, if it named one.
    pub fn port(&self) -> Option<u16> {
        let (_, port) = self.authority()?.rsplit_once(':')?;
        port.parse().ok()
    }

    /// The normal path, which begins with a slash; `*` for the server as a whole (OPTIONS alone).
    pub fn path(&self) -> &str {
        &self.text.as_str()[..self.path_len]
    }

    /// The path as the most lenient server reads it, where it may read another one: encoded slashes and backslashes are slashes,
    /// what a semicolon begins is cut off its segment, and slashes are merged. A rule for paths that takes either takes the
    /// request.
    pub fn lenient_path(&self) -> Option<&str> {
        self.lenient.as_deref()
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
    headers: &Fields,
    version: Version,
    rules: &PathRules,
) -> Result<Target, Cause> {
    if method == Method::CONNECT {
        return Err(Cause::MethodNotAllowed);
    }
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Cause::BadRequest);
    }
    let named = uri.authority().map(|named| named.as_str().into());
    // No path at all is the authority form, which belongs to CONNECT.
    let original = uri.path_and_query().cloned().ok_or(Cause::BadRequest)?;
    let (authority, host) = authority(named, headers, version)?;
    target(method, (authority, host), Raw::Parsed(original), rules)
}

/// Reads the target out of a request line as it came (RFC 9112, section 3.2) and the fields. It fails as `parse` does.
pub fn read(
    method: &Method,
    raw: &Bytes,
    headers: &Fields,
    version: Version,
    rules: &PathRules,
) -> Result<Target, Cause> {
    if method == Method::CONNECT {
        return Err(Cause::MethodNotAllowed);
    }
    let (named, text) = match raw.first() {
        Some(b'/' | b'*') => (None, raw.clone()),
        _ => {
            let (authority, text) = absolute(raw).ok_or(Cause::BadRequest)?;
            let named = ByteString::try_from(authority).map_err(|_| Cause::BadRequest)?;
            (Some(named), text)
        }
    };
    let (authority, host) = authority(named, headers, version)?;
    target(method, (authority, host), Raw::Line(text), rules)
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
    (authority, host): (Option<ByteString>, Host),
    raw: Raw,
    rules: &PathRules,
) -> Result<Target, Cause> {
    let asterisk = method == Method::OPTIONS && raw.as_bytes() == b"*";
    let (text, path_len, lenient) = match asterisk {
        true => (raw.into_text().ok_or(Cause::BadRequest)?, 1, None),
        false => {
            let normal = path::normal(raw, rules).ok_or(Cause::BadRequest)?;
            (normal.text, normal.path_len, normal.lenient)
        }
    };
    Ok(Target {
        authority,
        lower_host: host.lower,
        host_len: host.len,
        text,
        path_len,
        lenient,
    })
}

/// A path with its query, in the normal form that keeps most; `None` if it has none. An empty path is the root.
pub fn normal_path(path_query: &str) -> Option<String> {
    let text = Bytes::copy_from_slice(path_query.as_bytes());
    let normal = path::normal(Raw::Line(text), &PathRules::KEEP)?;
    Some(normal.text.as_str().to_owned())
}

/// The authority: the absolute form's before the Host field's (RFC 9112, section 3.2.2), which must be valid even so.
fn authority(
    absolute: Option<ByteString>,
    headers: &Fields,
    version: Version,
) -> Result<(Option<ByteString>, Host), Cause> {
    let valid = |value: &[u8]| host::normalise(value).ok_or(Cause::BadRequest);
    let mut hosts = headers.get_all(Known::Host);
    let named = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Cause::BadRequest),
        (Some(named), None) => {
            let host = valid(named)?;
            (headers.shared_text(Known::Host), host)
        }
        (None, _) if version == Version::HTTP_11 => return Err(Cause::BadRequest),
        (None, _) => (None, Host::default()),
    };
    match absolute {
        Some(value) => {
            let host = valid(value.as_bytes())?;
            // RFC 9113 section 8.3.1: a Host that names another is malformed. An authority in HTTP/1.1's absolute form wins.
            let differs = |named: &ByteString| !named.eq_ignore_ascii_case(&value);
            if version == Version::HTTP_2 && named.0.as_ref().is_some_and(differs) {
                return Err(Cause::BadRequest);
            }
            Ok((Some(value), host))
        }
        None if named.0.is_none() && version == Version::HTTP_2 => Err(Cause::BadRequest),
        None => Ok(named),
    }
}
