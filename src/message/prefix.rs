//! A path whose prefix gives way to another, as parts to be put together. Absent: whether a route asks for it.

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
}
