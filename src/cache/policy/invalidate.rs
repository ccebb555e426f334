//! What a successful unsafe request makes outdated (RFC 9111 section 4.4).

use http::{HeaderMap, Method, header};

use crate::cache::key;
use crate::message::target;

/// Does this exchange make stored responses outdated? A successful answer to a method that is not safe does.
pub fn invalidates(method: &Method, status: u16) -> bool {
    let safe = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    !safe && (200..400).contains(&status)
}

/// Which other URLs of the same origin a response makes outdated, by Location and Content-Location: authority, and path with
/// query in normal form. `authority` is in a key's form (see [`key::authority`]).
pub fn also_invalidates(
    scheme: &str,
    authority: &str,
    path_query: &str,
    headers: &HeaderMap,
) -> Vec<(String, String)> {
    let fields = [header::LOCATION, header::CONTENT_LOCATION];
    let values = fields.iter().filter_map(|name| headers.get(name));
    values
        .filter_map(|value| {
            let reference = std::str::from_utf8(value.as_bytes()).ok()?;
            let target = resolve(scheme, authority, path_query, reference.trim_ascii())?;
            Some((authority.to_owned(), target::normal_path(&target)?))
        })
        .collect()
}

/// A reference of the same origin as path and query, without dot segments (RFC 3986 section 5.2). `None` if it is another
/// origin's, or the target itself.
fn resolve(scheme: &str, authority: &str, base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().filter(|r| !r.is_empty())?;
    let relative = match scheme_of(reference) {
        // Without an authority it is no URL of HTTP.
        Some((named, rest)) => {
            (named.eq_ignore_ascii_case(scheme) && rest.starts_with("//")).then_some(rest)?
        }
        None => reference,
    };
    if let Some(rest) = relative.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (named, path_query) = rest.split_at(end);
        return is_same_authority(scheme, authority, named).then(|| without_dots(path_query));
    }
    let base_path = base.split('?').next().unwrap_or_default();
    let parent = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
    Some(match relative.as_bytes().first() {
        Some(b'/') => without_dots(relative),
        Some(b'?') => format!("{base_path}{relative}"),
        _ => without_dots(&format!("{parent}{relative}")),
    })
}

/// A reference's scheme and what follows its colon (RFC 3986 section 3.1); `None` if it is relative.
fn scheme_of(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    is_scheme.then_some((scheme, rest))
}

/// Is it the same host and port? The scheme's own port may be written or not, and the host in any case and with a final dot.
fn is_same_authority(scheme: &str, ours: &str, named: &str) -> bool {
    let end = named.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match named[end..].find(':') {
        Some(colon) => (&named[..end + colon], &named[end + colon + 1..]),
        None => (named, ""),
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(port) => Some(port),
            Err(_) => return false,
        },
        _ => return false,
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    key::authority(&host, port, scheme) == ours
}

/// The path without dot segments, which do not climb above the root (RFC 3986 section 5.2.4), and the query as it is.
fn without_dots(path_query: &str) -> String {
    let end = path_query.find('?').unwrap_or(path_query.len());
    let (path, query) = path_query.split_at(end);
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                out.pop();
            }
            _ => {
                out.push(segment);
                continue;
            }
        }
        if is_last {
            out.push("");
        }
    }
    format!("/{}{query}", out.join("/"))
}
