//! A path whose prefix gives way to another, and the way back in what a backend answers. Absent: whether a route asks for it.

use std::ops::Range;

/// `path` with `from` at its front replaced by `to` (empty strips it). The two halves meet in exactly one slash; what is left
/// of an emptied path is `/`. `None` when `path` does not begin with `from`.
pub fn replaced<'a>(path: &'a str, from: &str, to: &'a str) -> Option<[&'a str; 3]> {
    let rest = path.strip_prefix(from)?;
    let (head, tail) = (
        to.trim_end_matches('/'),
        rest.strip_prefix('/').unwrap_or(rest),
    );
    let bare = tail.is_empty() && !rest.starts_with('/') && !to.ends_with('/') && !head.is_empty();
    Some([head, if bare { "" } else { "/" }, tail])
}

/// A path (a query may follow it) as a client knows it, where `from` gives way to `to` in requests. `None` when it does not begin
/// with `to`, or begins with `from` already, since then the backend knows of that.
fn restored(path: &str, from: &str, to: &str) -> Option<String> {
    let below = |prefix: &str| {
        let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
    };
    let rest = below(to).filter(|_| path.starts_with('/') && below(from).is_none())?;
    Some(format!("{}{rest}", from.trim_end_matches('/')))
}

/// The same for a Location or Content-Location (RFC 9110, sections 10.2.2 and 8.7): a path, or a URL at `authority`, which is the
/// client's own name for this server. What leads elsewhere, or is relative, stays as it is.
pub fn restored_location(value: &str, authority: &str, from: &str, to: &str) -> Option<String> {
    let schemes = ["http://", "https://", "//"];
    let path = schemes
        .iter()
        .find_map(|scheme| {
            let begin = value.get(..scheme.len())?;
            begin.eq_ignore_ascii_case(scheme).then_some(scheme.len())
        })
        .map_or(Some(0), |host| {
            let end = value[host..].find(['/', '?', '#']);
            let end = end.map_or(value.len(), |end| host + end);
            let ours = !authority.is_empty() && value[host..end].eq_ignore_ascii_case(authority);
            ours.then_some(end)
        })?;
    let (server, path) = value.split_at(path);
    Some(format!("{server}{}", restored(path, from, to)?))
}

/// The same for the Path of a Set-Cookie (RFC 6265, section 5.2.4). A cookie for `/` is for every path of this server, and
/// stays so.
pub fn restored_cookie(value: &str, from: &str, to: &str) -> Option<String> {
    let path = cookie_path(value)?;
    let restored =
        restored(&value[path.clone()], from, to).filter(|_| &value[path.clone()] != "/")?;
    Some([&value[..path.start], &restored, &value[path.end..]].concat())
}

/// Where the value of a cookie's last Path, the one that counts, lies.
fn cookie_path(value: &str) -> Option<Range<usize>> {
    let mut begins = value.len();
    for part in value.rsplit(';') {
        let ends = begins;
        begins = ends.saturating_sub(part.len() + 1);
        let Some((name, path)) = part.split_once('=') else {
            continue;
        };
        // The first part is the cookie itself.
        if part.len() < ends && name.trim().eq_ignore_ascii_case("path") {
            let from = ends - path.trim_start().len();
            return Some(from..from + path.trim().len());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_meet_in_one_slash() {
        let put = |path, from, to| replaced(path, from, to).map(|parts| parts.concat());
        for (path, from, to, want) in [
            ("/api/x", "/api", "", "/x"),
            ("/api", "/api", "", "/"),
            ("/api/", "/api", "", "/"),
            ("/api/x", "/api/", "", "/x"),
            ("/a/x", "/a", "/b", "/b/x"),
            ("/a", "/a", "/b", "/b"),
            ("/a/", "/a", "/b", "/b/"),
            ("/a/x", "/a", "/b/", "/b/x"),
            ("/a", "/a", "/b/", "/b/"),
            ("/a/x", "/a/", "/b", "/b/x"),
            ("/x", "/", "/b", "/b/x"),
        ] {
            assert_eq!(
                put(path, from, to).as_deref(),
                Some(want),
                "{path} {from} {to}"
            );
        }
        assert_eq!(put("/other", "/api", ""), None);
    }

    #[test]
    fn a_location_leads_back_to_where_the_client_is() {
        for (value, to, want) in [
            ("/login", "", Some("/api/login")),
            ("/", "", Some("/api/")),
            ("/?a=/b#c", "", Some("/api/?a=/b#c")),
            ("/login?next=/x", "", Some("/api/login?next=/x")),
            ("http://h:8080/login", "", Some("http://h:8080/api/login")),
            ("HTTPS://H:8080/login", "", Some("HTTPS://H:8080/api/login")),
            ("//h:8080/x", "", Some("//h:8080/api/x")),
            ("/v2/login", "/v2", Some("/api/login")),
            ("/v2", "/v2", Some("/api")),
            ("/v2?a", "/v2/", Some("/api?a")),
            // Beside what was put in the prefix's place.
            ("/v20/login", "/v2", None),
            ("/login", "/v2", None),
            // The backend knows of the prefix.
            ("/api/login", "", None),
            ("/api", "", None),
            ("/apis", "", Some("/api/apis")),
            // Elsewhere.
            ("http://other/login", "", None),
            ("http://h/login", "", None),
            ("http://h:8080", "", None),
            ("login", "", None),
            ("../login", "", None),
            ("?a=b", "", None),
            ("", "", None),
            ("mailto:a@h", "", None),
        ] {
            let found = restored_location(value, "h:8080", "/api", to);
            assert_eq!(found.as_deref(), want, "{value} {to}");
        }
        assert_eq!(restored_location("http:///x", "", "/api", ""), None);
    }

    #[test]
    fn a_cookie_is_for_the_path_that_the_client_knows() {
        for (value, want) in [
            ("a=b; Path=/x; Secure", Some("a=b; Path=/api/x; Secure")),
            ("a=b;path = /x ", Some("a=b;path = /api/x ")),
            ("a=b; Path=/y; Path=/x", Some("a=b; Path=/y; Path=/api/x")),
            ("a=b; Path=/", None),
            ("a=b; Path=/api/x", None),
            ("a=b; Path=", None),
            ("a=b; Path", None),
            ("a=b", None),
            ("path=/x", None),
            ("path=/x; Path=/z", Some("path=/x; Path=/api/z")),
        ] {
            assert_eq!(
                restored_cookie(value, "/api", "").as_deref(),
                want,
                "{value}"
            );
        }
    }
}
