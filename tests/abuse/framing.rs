//! Bodies whose end has two readings: Content-Length against Transfer-Encoding, lengths that are no numbers, codings that are
//! not ours (RFC 9112 section 6).

use super::{Probe, SMUGGLED, Scene, Want, probe};

/// A POST with these field lines; the bytes behind its head.
fn post(fields: &str, behind: &str) -> String {
    format!("POST /probe HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n{behind}")
}

#[test]
fn a_length_next_to_a_coding_smuggles_nothing() {
    let behind = format!("0\r\n\r\n{SMUGGLED}");
    let all = behind.len();
    let both = Want::RefusedOrOne(&[400]);
    let case = |name, fields: String| probe(name, post(&fields, &behind), both);
    Scene::new().run(vec![
        case(
            "length, then coding",
            format!("Content-Length: {all}\r\nTransfer-Encoding: chunked\r\n"),
        ),
        case(
            "coding, then length",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {all}\r\n"),
        ),
        case(
            "a length that ends within the chunks",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n".into(),
        ),
        case(
            "a length of zero",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".into(),
        ),
        case(
            "a length on each side",
            format!(
                "Content-Length: {all}\r\nTransfer-Encoding: chunked\r\nContent-Length: {all}\r\n"
            ),
        ),
        case(
            "a coding behind a tab",
            format!("Content-Length: {all}\r\nTransfer-Encoding:\tchunked\r\n"),
        ),
        case(
            "a coding in capitals",
            format!("Content-Length: {all}\r\ntRANSFER-eNCODING: CHUNKED\r\n"),
        ),
    ]);
}

#[test]
fn codings_that_are_not_ours_are_refused() {
    let bad = Want::Refused(&[400, 501]);
    let behind = format!("0\r\n\r\n{SMUGGLED}");
    let case = |name, coding: &str| {
        let fields = format!("Transfer-Encoding: {coding}\r\n");
        probe(name, post(&fields, &behind), bad)
    };
    let mut probes: Vec<Probe> = vec![
        case("gzip, chunked", "gzip, chunked"),
        case("identity, chunked", "identity, chunked"),
        case("identity", "identity"),
        case("gzip", "gzip"),
        case("chunked is not the last", "chunked, gzip"),
        case("a name that only ends in chunked", "xchunked"),
        case("a name that only begins with chunked", "chunkedx"),
        case("quoted", "\"chunked\""),
        case("a vertical tab before it", "\x0bchunked"),
        case("a parameter", "chunked;a=b"),
        case("empty", ""),
    ];
    probes.push(probe(
        "chunked twice",
        post(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            &behind,
        ),
        bad,
    ));
    probes.push(probe(
        "identity on a line of its own",
        post(
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            &behind,
        ),
        bad,
    ));
    probes.push(probe(
        "a coding in HTTP/1.0",
        format!("POST /probe HTTP/1.0\r\nHost: test.example\r\nTransfer-Encoding: chunked\r\n\r\n{behind}"),
        Want::Refused(&[400, 501, 505]),
    ));
    Scene::new().run(probes);
}

#[test]
fn lengths_that_are_no_numbers_are_refused() {
    let bad = Want::Refused(&[400]);
    let behind = format!("abc{SMUGGLED}");
    let case = |name, fields: &str| probe(name, post(fields, &behind), bad);
    let huge = |name, fields: &str| probe(name, post(fields, &behind), Want::Refused(&[400, 413]));
    Scene::new().run(vec![
        case(
            "two different",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
        ),
        case(
            "two different, reversed",
            "Content-Length: 4\r\nContent-Length: 3\r\n",
        ),
        case("a list of two", "Content-Length: 3, 4\r\n"),
        case("plus", "Content-Length: +3\r\n"),
        case("minus", "Content-Length: -3\r\n"),
        case("hexadecimal", "Content-Length: 0x3\r\n"),
        case("a semicolon", "Content-Length: 3;\r\n"),
        case("a fraction", "Content-Length: 3.0\r\n"),
        case("a space within", "Content-Length: 3 3\r\n"),
        case("empty", "Content-Length: \r\n"),
        huge(
            "2 to the 64th plus 3",
            "Content-Length: 18446744073709551619\r\n",
        ),
        huge(
            "larger than any number",
            "Content-Length: 99999999999999999999999\r\n",
        ),
        case("an underscore", "Content-Length: 3_0\r\n"),
    ]);
}

/// What follows the body is a request of its own here, so these carry nothing behind it.
#[test]
fn one_length_reaches_the_backend() {
    let either = Want::RefusedOrOne(&[400]);
    let case = |name, fields: &str, want| probe(name, post(fields, "abc"), want);
    Scene::new().run(vec![
        case("one", "Content-Length: 3\r\n", Want::One),
        case("blanks around it", "Content-Length: \t3 \r\n", Want::One),
        case(
            "two equal lines",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            either,
        ),
        case(
            "a list of two equal ones",
            "Content-Length: 3, 3\r\n",
            either,
        ),
        case("leading zeros", "Content-Length: 0003\r\n", either),
        case(
            "another field with an underscore",
            "Content-Length: 3\r\nTransfer_Encoding: chunked\r\n",
            either,
        ),
    ]);
}
