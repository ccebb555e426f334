//! What a successful unsafe request makes outdated: RFC 9111 section 4.4.

use super::*;
use weirkeeper::cache::policy::{also_invalidates, invalidates};

/// RFC 9111 section 4.4: a non-error answer (2xx or 3xx) to a method that is not safe, also to one that nobody knows.
#[test]
fn successful_unsafe_requests_invalidate() {
    let unsafe_ones = ["POST", "PUT", "PATCH", "DELETE", "FROB", "get"];
    for name in unsafe_ones {
        let method: Method = name.parse().unwrap();
        let statuses: Vec<u16> = (100..600).filter(|s| invalidates(&method, *s)).collect();
        assert_eq!(statuses, (200..400).collect::<Vec<_>>(), "{name}");
    }
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        assert!(
            (100..600).all(|status| !invalidates(&method, status)),
            "{method}"
        );
    }
}

/// The targets that a POST to http://example.com/a/b?q makes outdated beside its own.
fn targets(location: &str) -> Vec<String> {
    targets_at("http", "example.com", location)
}

fn targets_at(scheme: &str, authority: &str, location: &str) -> Vec<String> {
    let by = |name| also_invalidates(scheme, authority, "/a/b?q", &map(&[(name, location)]));
    let found = by("location");
    assert_eq!(found, by("content-location"), "both fields are read alike");
    assert!(found.iter().all(|(named, _)| named == authority));
    found.into_iter().map(|(_, target)| target).collect()
}

/// RFC 9111 section 4.4 with RFC 3986 section 5.2: references are resolved against the target.
#[test]
fn relative_references_are_resolved() {
    for (location, target) in [
        ("/x", "/x"),
        ("/x?y=1", "/x?y=1"),
        ("/x?y=http://other/", "/x?y=http://other/"),
        ("c", "/a/c"),
        ("./c", "/a/c"),
        ("../c", "/c"),
        ("../../../c", "/c"),
        ("/../c", "/c"),
        ("c?to=http://other/z", "/a/c?to=http://other/z"),
        ("?r", "/a/b?r"),
        ("c/", "/a/c/"),
        (".", "/a/"),
        ("..", "/"),
        ("/x#top", "/x"),
        ("c/d:e", "/a/c/d:e"),
        (" /x ", "/x"),
        ("/%7euser/%2E/x", "/~user/x"),
        ("/a/./b/../x", "/a/x"),
    ] {
        assert_eq!(targets(location), [target], "{location}");
    }
    // The target itself, which is outdated anyway.
    for location in ["", "#top"] {
        assert_eq!(targets(location), [""; 0], "{location:?}");
    }
}

/// RFC 9111 section 4.4: absolute references of the same origin, however it is written.
#[test]
fn the_same_origin_is_known_in_every_spelling() {
    for location in [
        "http://example.com/x",
        "HTTP://EXAMPLE.COM/x",
        "http://example.com:80/x",
        "http://example.com:/x",
        "http://example.com./x",
        "//example.com/x",
        "//example.com:80/x",
        "http://example.com/y/../x",
    ] {
        assert_eq!(targets(location), ["/x"], "{location}");
    }
    assert_eq!(targets("http://example.com"), ["/"]);
    assert_eq!(targets("http://example.com?x"), ["/?x"]);
    assert_eq!(targets("http://example.com#x"), ["/"]);
    assert_eq!(
        targets_at("https", "example.com", "https://example.com:443/x"),
        ["/x"]
    );
    assert_eq!(
        targets_at("http", "example.com:8080", "http://example.com:8080/x"),
        ["/x"]
    );
    assert_eq!(
        targets_at("http", "example.com:8080", "http://Example.com:08080/x"),
        ["/x"]
    );
    assert_eq!(
        targets_at("http", "[::1]:8080", "http://[::1]:8080/x"),
        ["/x"]
    );
    assert_eq!(targets_at("http", "[::1]", "http://[::1]:80/x"), ["/x"]);
}

/// RFC 9111 section 4.4: another origin must not be invalidated: anybody could empty anybody's cache.
#[test]
fn other_origins_are_left_alone() {
    for location in [
        "http://other.example/x",
        "http://example.com.evil/x",
        "http://example.com@evil/x",
        "http://evil@example.com/x",
        "http://example.com:81/x",
        "http://example.com:443/x",
        "https://example.com/x",
        "//other.example/x",
        "ftp://example.com/x",
        "mailto:x@example.com",
        "data:text/plain,x",
        "http:x",
        "http:///x",
        "http://",
        "//",
        "http://example.com:x/",
        "http://exa mple.com/",
    ] {
        assert_eq!(targets(location), [""; 0], "{location}");
    }
    assert_eq!(
        targets_at("https", "example.com", "http://example.com/x"),
        [""; 0]
    );
    assert_eq!(
        targets_at("http", "example.com:8080", "http://example.com/x"),
        [""; 0]
    );
    assert_eq!(targets_at("http", "[::1]", "http://[::2]/x"), [""; 0]);
}

/// What is no path in normal form cannot be a key, and is left alone.
#[test]
fn junk_invalidates_nothing() {
    for location in ["/%", "/%zz", "/%00", "/a%2f..%2fb", "/\tx"] {
        assert_eq!(targets(location), [""; 0], "{location:?}");
    }
}

/// RFC 9111 section 4.4: both fields are looked at.
#[test]
fn both_fields_count() {
    let fields = map(&[("location", "/x"), ("content-location", "/y")]);
    let found = also_invalidates("http", "h", "/", &fields);
    assert_eq!(
        found,
        [
            ("h".to_owned(), "/x".to_owned()),
            ("h".to_owned(), "/y".to_owned())
        ]
    );
}
