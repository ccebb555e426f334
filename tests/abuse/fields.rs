//! Heads that are not what RFC 9112 sections 2 to 5 call a head, and a body where none is expected.

use crate::support::client::{Client, get};

use super::{Probe, SMUGGLED, Scene, Want, probe};

/// A GET with these bytes as its field lines, and a request behind it that must not run when it is refused.
fn case(name: &'static str, fields: &str, want: Want) -> Probe {
    let raw = format!("GET /probe HTTP/1.1\r\n{fields}\r\n\r\n{SMUGGLED}");
    probe(name, raw, want)
}

#[test]
fn field_lines_that_are_none_are_refused() {
    let bad = Want::Refused(&[400]);
    Scene::new().run(vec![
        case(
            "a space before the colon",
            "Host: test.example\r\nX-A : b",
            bad,
        ),
        case(
            "a tab before the colon",
            "Host: test.example\r\nX-A\t: b",
            bad,
        ),
        case(
            "a coding with a space before its colon",
            "Host: test.example\r\nContent-Length: 3\r\nTransfer-Encoding : chunked",
            bad,
        ),
        case("a fold on the first line", " Host: test.example", bad),
        case("a fold before Host", "\tX-A: b\r\nHost: test.example", bad),
        case("a NUL in a value", "Host: test.example\r\nX-A: b\0c", bad),
        case("a NUL in a name", "Host: test.example\r\nX\0A: b", bad),
        case(
            "a bare CR in a value",
            "Host: test.example\r\nX-A: b\rc",
            bad,
        ),
        case(
            "a bare CR that hides a field",
            "Host: test.example\r\nX-A: b\rContent-Length: 9",
            bad,
        ),
        case("no colon", "Host: test.example\r\nnonsense", bad),
        case("no name", "Host: test.example\r\n: b", bad),
        case("a blank in a name", "Host: test.example\r\nX A: b", bad),
        case("a bracket in a name", "Host: test.example\r\nX(A): b", bad),
        case(
            "a letter that is not ASCII in a name",
            "Host: test.example\r\nX-Ä: b",
            bad,
        ),
        case(
            "an escape in a value",
            "Host: test.example\r\nX-A: b\x1bc",
            bad,
        ),
        case(
            "a delete in a value",
            "Host: test.example\r\nX-A: b\x7fc",
            bad,
        ),
    ]);
}

/// A fold in the middle may be refused or become a space; it never becomes a line of its own.
#[test]
fn a_fold_hides_no_field() {
    let fold = |fields: &str| format!("GET /probe HTTP/1.1\r\n{fields}\r\n\r\n");
    let either = Want::RefusedOrOne(&[400]);
    Scene::new().run(vec![
        probe(
            "a fold",
            fold("Host: test.example\r\nX-A: b\r\n c\r\nX-D: e"),
            either,
        ),
        probe(
            "a fold with a tab",
            fold("Host: test.example\r\nX-A: b\r\n\tc"),
            either,
        ),
        probe(
            "a fold that looks like a coding",
            fold("Host: test.example\r\nX-A: b\r\n Transfer-Encoding: chunked"),
            either,
        ),
        probe(
            "a fold of nothing but blanks",
            fold("Host: test.example\r\nX-A: b\r\n "),
            either,
        ),
    ]);
}

#[test]
fn request_lines_that_are_none_are_refused() {
    let bad = Want::Refused(&[400, 505]);
    let line = |name, line: &str| {
        let raw = format!("{line}\r\nHost: test.example\r\n\r\n{SMUGGLED}");
        probe(name, raw, bad)
    };
    Scene::new().run(vec![
        line("no version", "GET /probe"),
        line("a blank in the target", "GET /pro be HTTP/1.1"),
        line("two blanks", "GET  /probe HTTP/1.1"),
        line("a tab for a blank", "GET\t/probe HTTP/1.1"),
        line("no target", "GET HTTP/1.1"),
        line("HTTP/1.2 in small letters", "GET /probe http/1.1"),
        line("HTTP/0.9", "GET /probe HTTP/0.9"),
        line("HTTP/2.0", "GET /probe HTTP/2.0"),
        line("HTTP/11", "GET /probe HTTP/11"),
        line("a method that is no token", "G@T /probe HTTP/1.1"),
        line("a NUL in the target", "GET /pro\0be HTTP/1.1"),
        line("a target without a slash", "GET probe HTTP/1.1"),
        line("a fragment's mark", "GET /probe#part HTTP/1.1"),
        line("a star for a GET", "GET * HTTP/1.1"),
    ]);
}

/// A recipient may take a bare LF for a line's end (RFC 9112 section 2.2), as long as what it sends on has none.
#[test]
fn bare_line_feeds_are_refused_or_made_good() {
    let either = Want::RefusedOrOne(&[400]);
    Scene::new().run(vec![
        probe(
            "LF throughout",
            "GET /probe HTTP/1.1\nHost: test.example\n\n",
            either,
        ),
        probe(
            "LF behind a field",
            "GET /probe HTTP/1.1\r\nHost: test.example\nX-A: b\r\n\r\n",
            either,
        ),
        probe(
            "an empty line first",
            "\r\nGET /probe HTTP/1.1\r\nHost: test.example\r\n\r\n",
            either,
        ),
    ]);
}

#[test]
fn a_get_with_a_body_is_one_request_and_the_next_is_another() {
    let scene = Scene::new();
    let length = SMUGGLED.len();
    for (name, framing, body) in [
        (
            "a length",
            "Content-Length: 5".to_owned(),
            "hello".to_owned(),
        ),
        (
            "a body that is a request",
            format!("Content-Length: {length}"),
            SMUGGLED.to_owned(),
        ),
        (
            "chunks",
            "Transfer-Encoding: chunked".to_owned(),
            "5\r\nhello\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "no body at all",
            "Content-Length: 0".to_owned(),
            String::new(),
        ),
    ] {
        scene.backend.forget();
        let mut client = Client::connect(scene.weir.port);
        let first = format!("GET /one HTTP/1.1\r\nHost: test.example\r\n{framing}\r\n\r\n{body}");
        client.send(format!("{first}{}", get("/two")));
        assert_eq!(client.response("GET").map(|r| r.status), Ok(200), "{name}");
        assert_eq!(client.response("GET").map(|r| r.status), Ok(200), "{name}");
        let log = scene.backend.log();
        assert_eq!(
            log.lines(),
            ["GET /one HTTP/1.1", "GET /two HTTP/1.1"],
            "{name}"
        );
        assert!(log.broken.is_empty(), "{name}: {:?}", log.broken);
        let passed = log.requests[0].text();
        assert!(
            passed.is_empty() || passed == "hello" || passed == SMUGGLED,
            "{name}: {passed}"
        );
    }
    scene.end();
}
