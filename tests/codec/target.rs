//! The target's normal form (RFC 9112, section 3; RFC 3986, section 6.2.2), whoever has parsed the request line.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use proptest::prelude::*;
use weirkeeper::message::cause::Cause;
use weirkeeper::message::head::Fields;
use weirkeeper::message::path::PathRules;
use weirkeeper::message::target::{self, Target};

fn hosts(values: &[&str]) -> Fields {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append("host", HeaderValue::from_str(value).unwrap());
    }
    headers.into()
}

/// A target as it comes in a request line. Where a library parses it as well, the outcome is the same.
fn parse(raw: &str, host: &str) -> Result<Target, Cause> {
    let read = read(raw, host);
    if let Ok(uri) = raw.parse::<Uri>()
        && !raw.contains('#')
    {
        let parsed = target::parse(&Method::GET, &uri, &hosts(&[host]), V11, &PathRules::KEEP);
        assert_eq!(parsed.as_ref().map(gist), read.as_ref().map(gist), "{raw}");
    }
    read
}

fn read(raw: impl AsRef<[u8]>, host: &str) -> Result<Target, Cause> {
    let raw = Bytes::copy_from_slice(raw.as_ref());
    target::read(&Method::GET, &raw, &hosts(&[host]), V11, &PathRules::KEEP)
}

/// All that a target says.
fn gist(target: &Target) -> impl PartialEq + std::fmt::Debug {
    let parts = target.parts().concat();
    let query = target.query().map(str::to_owned);
    let authority = target.authority().map(str::to_owned);
    (
        parts,
        query,
        target.host().to_owned(),
        authority,
        target.port(),
    )
}

fn path(path: &str) -> Option<String> {
    parse(path, "h").ok().map(|target| target.path().to_owned())
}

#[test]
fn rfc3986_6_2_2_paths_have_one_form() {
    for (given, normal) in [
        ("/", "/"),
        ("/a/b.c/d..e", "/a/b.c/d..e"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/a/./b/../c", "/a/c"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/./a", "/a"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("//a", "//a"),
        ("/%61%2D%5f%7e%2e", "/a-_~."),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%2f%3a%3F", "/%2F%3A%3F"),
        ("/a%2fb", "/a%2Fb"),
        ("/%c3%bc", "/%C3%BC"),
        ("/%25%32%65", "/%252e"),
        ("/a|b{c}\"", "/a%7Cb%7Bc%7D%22"),
        ("/a\\b", "/a%5Cb"),
        ("/a;v=1,2/(b)'*!$&+:@", "/a;v=1,2/(b)'*!$&+:@"),
    ] {
        assert_eq!(path(given).as_deref(), Some(normal), "{given}");
    }
}

#[test]
fn paths_that_readers_could_read_in_two_ways_are_refused() {
    for bad in [
        "/..",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/%2e%2e/a",
        "/%",
        "/%2",
        "/%zz",
        "/%+1",
        "/a%0",
        "/%00",
        "/a%0d%0ab",
        "/%1f",
        "/%7F",
        "/%09",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/..%3b/b",
        "/a/..%2fb",
        "/a/x%2f..%2Fb",
        "/a/b%2F..",
        "/a/..%5cb",
        "/a/..\\b",
        "/a/x%5C%2e%2e",
        "/a/..%2f..;",
    ] {
        assert_eq!(path(bad), None, "{bad}");
    }
}

#[test]
fn rfc3986_2_1_what_no_uri_may_hold_is_encoded_in_a_path_and_passes_in_a_query() {
    for (given, parts) in [
        (
            &b"/q?query=up{job=\"x\"}&a<b>c|d^e`f\\"[..],
            "/q?query=up{job=\"x\"}&a<b>c|d^e`f\\",
        ),
        (b"/q{}\"<>|^`?{}", "/q%7B%7D%22%3C%3E%7C%5E%60?{}"),
        (b"/\xfc?\xfc", "/%FC?%FC"),
        ("/ü?ü=%61".as_bytes(), "/%C3%BC?%C3%BC=%61"),
        (b"/a?\xfc/../b", "/a?%FC/../b"),
    ] {
        let target = read(given, "h").unwrap();
        assert_eq!(target.parts().concat(), parts);
        assert_eq!(
            target.query(),
            parts.split_once('?').map(|(_, query)| query)
        );
        // What is forwarded is read in the same way by the next one.
        assert_eq!(gist(&read(parts, "h").unwrap()), gist(&target));
    }
    for bad in [
        "/a?b c", "/a?b\tc", "/a?\0", "/a?\r", "/a?b\x7f", "/a?b#c", "/a#b", "/a b", "#",
    ] {
        assert_eq!(read(bad, "h").unwrap_err(), Cause::BadRequest, "{bad:?}");
    }
}

#[test]
fn a_normal_target_shares_the_bytes_of_its_line() {
    let line = Bytes::from_static(b"/a/b?c=d&e={f}");
    let target = target::read(&Method::GET, &line, &hosts(&["h"]), V11, &PathRules::KEEP).unwrap();
    assert_eq!(target.path().as_ptr(), line.as_ptr());
    assert_eq!(target.query().unwrap().as_ptr(), line[5..].as_ptr());
}

#[test]
fn the_query_is_not_touched() {
    let target = parse("/%61?b=%61&../%zz/%00", "h").unwrap();
    assert_eq!(target.query(), Some("b=%61&../%zz/%00"));
    assert_eq!(target.parts(), ["/a", "?", "b=%61&../%zz/%00"]);
    assert_eq!(parse("/a?", "h").unwrap().parts(), ["/a", "?", ""]);
    assert_eq!(parse("/a", "h").unwrap().parts().concat(), "/a");
}

#[test]
fn rfc9112_3_2_2_the_absolute_form_replaces_host() {
    let target = parse("http://A.example:81/x?y", "other").unwrap();
    assert_eq!(target.host(), "a.example");
    assert_eq!(target.authority(), Some("A.example:81"));
    assert_eq!(target.parts().concat(), "/x?y");
    assert_eq!(parse("http://a", "other").unwrap().path(), "/");
    assert_eq!(
        parse("http://a?b", "other").unwrap().parts().concat(),
        "/?b"
    );
    assert_eq!(parse("HTTP://a/b", "other").unwrap().host(), "a");
    for bad in [
        "",
        "http://",
        "http:///a",
        "http:/a",
        "http://?a",
        "http://a#b",
        "http://a:b/",
        "?a",
        "*",
        "**",
        "*/a",
        "ftp://a/",
        "file://a/b",
        "http://u@a/",
        "http://u:p@a/",
        "a.example",
        "a:80",
    ] {
        assert_eq!(parse(bad, "h").unwrap_err(), Cause::BadRequest, "{bad}");
    }
    // Host must be right even where it is not used.
    assert!(parse("http://a/", "a b").is_err());
}

#[test]
fn rfc9112_3_2_4_the_asterisk_belongs_to_options() {
    let parse = |method| {
        target::parse(
            &method,
            &"*".parse().unwrap(),
            &hosts(&["h"]),
            V11,
            &PathRules::KEEP,
        )
    };
    assert_eq!(parse(Method::OPTIONS).unwrap().parts().concat(), "*");
    assert_eq!(parse(Method::GET).unwrap_err(), Cause::BadRequest);
    let read = |raw| {
        target::read(
            &Method::OPTIONS,
            &Bytes::from_static(raw),
            &hosts(&["h"]),
            V11,
            &PathRules::KEEP,
        )
    };
    assert_eq!(read(b"*").unwrap().parts().concat(), "*");
    assert_eq!(read(b"*").unwrap().query(), None);
    assert_eq!(read(b"*?").unwrap_err(), Cause::BadRequest);
    assert_eq!(read(b"/x").unwrap().path(), "/x");
}

const V11: Version = Version::HTTP_11;

#[test]
fn rfc9110_9_3_6_connect_is_not_served() {
    let uri = "127.0.0.1:22".parse().unwrap();
    let connect = target::parse(
        &Method::CONNECT,
        &uri,
        &hosts(&["127.0.0.1:22"]),
        V11,
        &PathRules::KEEP,
    );
    assert_eq!(connect.unwrap_err(), Cause::MethodNotAllowed);
    let raw = Bytes::from_static(b"127.0.0.1:22");
    let connect = target::read(
        &Method::CONNECT,
        &raw,
        &hosts(&["127.0.0.1:22"]),
        V11,
        &PathRules::KEEP,
    );
    assert_eq!(connect.unwrap_err(), Cause::MethodNotAllowed);
}

#[test]
fn rfc9112_3_2_host_is_there_once_and_valid() {
    let parse = |values: &[&str], version| {
        target::parse(
            &Method::GET,
            &"/".parse().unwrap(),
            &hosts(values),
            version,
            &PathRules::KEEP,
        )
    };
    assert_eq!(parse(&[], V11).unwrap_err(), Cause::BadRequest);
    assert_eq!(parse(&["a", "a"], V11).unwrap_err(), Cause::BadRequest);
    assert_eq!(
        parse(&["a", "b"], Version::HTTP_10).unwrap_err(),
        Cause::BadRequest
    );
    let old = parse(&[], Version::HTTP_10).unwrap();
    assert_eq!((old.host(), old.authority()), ("", None));
    assert!(parse(&[], Version::HTTP_2).is_err());
    for (value, host) in [
        ("a.example", "a.example"),
        ("A.Example:8080", "a.example"),
        ("a.example.", "a.example"),
        ("A.example.:80", "a.example"),
        ("a_b--c", "a_b--c"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:65535", "[2001:db8::1]"),
        ("a:", "a"),
        ("%41b", "%41b"),
    ] {
        let target = parse(&[value], V11).unwrap();
        assert_eq!(target.host(), host);
        assert_eq!(target.authority(), Some(value), "passed on as it came");
    }
    for bad in [
        "",
        " ",
        ".",
        ":",
        ":80",
        "a b",
        "a/b",
        "a@b",
        "a?b",
        "a#b",
        "a\\b",
        "a\"",
        "<a>",
        "a,b:x",
        "a:65536",
        "a:-1",
        "a:+1",
        "a:8x",
        "a:1:2",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[::1]x",
        "[::1]:x",
        "[a]",
        "[1.2.3.4]",
        "[fe80::1%25eth0]",
        "%4",
        "%zz",
        "a\tb",
        "ü",
    ] {
        assert_eq!(
            parse(&[bad], V11).unwrap_err(),
            Cause::BadRequest,
            "{bad:?}"
        );
        assert!(parse(&[bad], Version::HTTP_10).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn the_normal_form_is_its_own_normal_form(
        given in "(/(\\.|\\.\\.|%2[eEfF]|%5c|%[0-9a-fA-F]{2}|[a-c.;%\\\\|]){0,4}){1,6}(\\?[a%./]{0,4})?"
    ) {
        let Ok(first) = parse(&given, "h") else { return Ok(()) };
        let normal = first.parts().concat();
        prop_assert!(normal.starts_with('/'));
        let second = parse(&normal, "h").unwrap();
        prop_assert_eq!(second.path(), first.path());
        prop_assert_eq!(second.query(), first.query());
        prop_assert!(first.path().split('/').all(|segment| segment != "." && segment != ".."));
        // What a backend gets by decoding and resolving everything stays below the root at each step.
        let decoded = first.path().replace("%2F", "/").replace("%5C", "/");
        let mut depth = 0i32;
        for segment in decoded.split('/').skip(1) {
            depth += if segment == ".." { -1 } else { 1 };
            prop_assert!(depth >= 0, "{} climbs", decoded);
        }
    }

    #[test]
    fn any_target_has_one_normal_form_for_both_readers(
        given in prop::collection::vec(prop_oneof![
            8 => prop::sample::select(&b"/a?%2eF.#:@[]{}|\"<>^`\\;=&+"[..]),
            1 => any::<u8>(),
        ], 0..24),
        absolute in any::<bool>(),
    ) {
        let begin = if absolute { &b"http://h"[..] } else { b"/" };
        let raw = [begin, &given].concat();
        let target = read(&raw, "h");
        if let Ok(uri) = Uri::try_from(&raw[..]) && !raw.contains(&b'#') {
            let parsed = target::parse(&Method::GET, &uri, &hosts(&["h"]), V11, &PathRules::KEEP);
            prop_assert_eq!(parsed.as_ref().map(gist), target.as_ref().map(gist));
        }
        let Ok(target) = target else { return Ok(()) };
        prop_assert!(target.path().starts_with('/'));
        prop_assert!(target.parts().concat().bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
        let again = read(target.parts().concat(), "h").unwrap();
        prop_assert_eq!(again.parts(), target.parts());
        prop_assert_eq!(target::normal_path(&target.parts().concat()), Some(target.parts().concat()));
    }

    #[test]
    fn every_spelling_of_a_path_has_one_normal_form(
        segments in prop::collection::vec("[a-zA-Z0-9_~-]{1,5}", 1..6),
        choices in prop::collection::vec(0u8..4, 64),
    ) {
        let plain = format!("/{}", segments.join("/"));
        let mut choices = choices.into_iter().cycle();
        let mut spelled = String::new();
        for c in plain.chars() {
            match (c, choices.next().unwrap()) {
                ('/', 0) => spelled.push_str("/./"),
                ('/', 1) => spelled.push_str("/x/%2e./"),
                ('/', _) => spelled.push('/'),
                (c, 0) => spelled.push_str(&format!("%{:02x}", c as u32)),
                (c, 1) => spelled.push_str(&format!("%{:02X}", c as u32)),
                (c, _) => spelled.push(c),
            }
        }
        prop_assert_eq!(path(&spelled), Some(plain), "{}", spelled);
    }

    #[test]
    fn no_host_panics_and_a_valid_one_is_stable(host in "[a-cA-C0-9.:\\[\\]%@/ -]{0,12}") {
        let Ok(target) = parse("/", &host) else { return Ok(()) };
        prop_assert!(!target.host().is_empty());
        // A name may end in more than one dot; each reading takes one off.
        if !target.host().ends_with('.') {
            let again = parse("/", target.host()).unwrap();
            prop_assert_eq!(again.host(), target.host());
        }
    }
}
