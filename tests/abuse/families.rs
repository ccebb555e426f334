//! Families of heads, made of parts: each field at each place of a head with each separator and each end of a line. Only those
//! that RFC 9112 sections 5 and 2.2 call field lines are served, and what stands behind a refused head is never executed.

use super::{Probe, SMUGGLED, Scene, Want, probe};

/// Fields whose misreading would matter.
const FIELDS: &[(&str, &str)] = &[
    ("Content-Length", "3"),
    ("Transfer-Encoding", "chunked"),
    ("Host", "test.example"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Ordinary", "b"),
];

/// What stands between a name and its value, and whether that makes a field line.
const SEPARATORS: &[(&str, bool)] = &[
    (":", true),
    (": ", true),
    (":\t", true),
    (": \t ", true),
    (" : ", false),
    ("\t: ", false),
    ("\r: ", false),
    ("\n: ", false),
    ("\x0b: ", false),
    ("\x0c: ", false),
    ("\0: ", false),
    ("\x1f: ", false),
    ("\x7f: ", false),
    ("\u{a0}: ", false),
    ("", false),
    (" ", false),
    ("=", false),
    ("; ", false),
    (":\0", false),
    (":\r", false),
    (":\x0b", false),
    (":\x1b", false),
];

/// How a line ends; `None` is that either is right.
const ENDS: &[(&str, Option<bool>)] = &[
    ("\r\n", Some(true)),
    (" \t\r\n", Some(true)),
    ("\n", None),
    ("\r\r\n", Some(false)),
    ("\0\r\n", Some(false)),
    ("\x0b\r\n", Some(false)),
    ("\x7f\r\n", Some(false)),
    ("\r", Some(false)),
];

/// A request in which `line` stands at this place. It has the body that the line may announce, and another request behind.
fn request(name: &str, line: &str, place: usize) -> Vec<u8> {
    let mut lines = vec!["X-A: 1\r\n", "X-B: 2\r\n"];
    if name != "Host" {
        lines.push("Host: test.example\r\n");
    }
    lines.insert([0, 1, lines.len()][place], line);
    let body = match name {
        "Content-Length" => "abc",
        "Transfer-Encoding" => "3\r\nabc\r\n0\r\n\r\n",
        _ => "",
    };
    let method = if body.is_empty() { "GET" } else { "POST" };
    format!("{method} /probe HTTP/1.1\r\n{}\r\n{body}", lines.concat()).into_bytes()
}

/// The same, with a request behind it where it is to be refused.
fn case(name: &'static str, line: &str, place: usize, served: Option<bool>) -> Probe {
    let mut raw = request(name, line, place);
    let want = match served {
        Some(true) => Want::One,
        None => Want::RefusedOrOne(&[400]),
        Some(false) => {
            raw.extend_from_slice(SMUGGLED.as_bytes());
            Want::Refused(&[400, 501])
        }
    };
    probe(name, raw, want)
}

#[test]
fn a_separator_is_a_colon_wherever_the_field_stands() {
    let mut scene = Scene::new();
    for (name, value) in FIELDS {
        for (separator, good) in SEPARATORS {
            for place in 0..3 {
                eprintln!("probe: {name}, {separator:?}, place {place}");
                let line = format!("{name}{separator}{value}\r\n");
                scene.probe(&case(name, &line, place, Some(*good)));
            }
        }
    }
    assert!(!scene.end().saw("/smuggled"));
}

#[test]
fn a_line_ends_as_a_line_wherever_it_stands() {
    let mut scene = Scene::new();
    for (name, value) in FIELDS {
        for (end, good) in ENDS {
            for place in 0..3 {
                eprintln!("probe: {name}, {end:?}, place {place}");
                let line = format!("{name}: {value}{end}");
                scene.probe(&case(name, &line, place, *good));
            }
        }
    }
    assert!(!scene.end().saw("/smuggled"));
}

/// Two fields that say how long the body is, at each pair of places (RFC 9112 section 6.3).
#[test]
fn two_lengths_are_one_or_none_wherever_they_stand() {
    let mut scene = Scene::new();
    let pairs = [
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: 3", "Content-Length: 3"),
        ("Content-Length: 3", "content-length: 3"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "transfer-encoding: Chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
        ("Content_Length: 9", "Content-Length: 3"),
        ("Transfer_Encoding: chunked", "Content-Length: 3"),
        ("Transfer.Encoding: chunked", "Content-Length: 3"),
    ];
    for (one, other) in pairs {
        for (first, second) in [(one, other), (other, one)] {
            for between in 0..4 {
                let mut lines = vec!["Host: test.example", "X-A: 1", "X-B: 2"];
                lines.insert(between.min(3), first);
                lines.insert(lines.len() - between / 2, second);
                let body = match [one, other]
                    .iter()
                    .any(|l| l.starts_with("Content-Length: 3"))
                {
                    true => "abc",
                    false => "0\r\n\r\n",
                };
                let raw = format!(
                    "POST /probe HTTP/1.1\r\n{}\r\n\r\n{body}",
                    lines.join("\r\n")
                );
                eprintln!("probe: {raw:?}");
                scene.probe(&probe("two lengths", raw, Want::RefusedOrOne(&[400, 501])));
            }
        }
    }
    assert!(!scene.end().saw("/smuggled"));
}
