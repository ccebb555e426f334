//! Backends that do not speak HTTP, or break off. Before the response has begun the client gets 502 with Proxy-Status; after it
//! has begun, a message that it can tell is incomplete. It is never left in silence, and never gets another one's bytes.

use crate::support::backend::{Backend, Conn};
use crate::support::client::{Client, get, post};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

use super::Scene;

/// A backend that gives these bytes to `/probe` and closes, and answers everything else.
fn backend(bytes: &[u8]) -> Backend {
    let bytes = bytes.to_owned();
    Backend::start(move |conn: &mut Conn| {
        while let Some(request) = conn.request() {
            if request.start.contains("/probe") {
                conn.reply(&bytes);
                return;
            }
            conn.reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

/// Runs `check` on the answers to a GET and to a POST for each of these backends.
fn each(cases: &[(&str, &[u8])], check: impl Fn(&str, &mut Client)) {
    for (name, bytes) in cases {
        eprintln!("probe: {name}");
        // No back-off: the good requests that follow need this backend.
        let extra = Extra {
            upstream: r#""back_off": {"base": "0s", "max": "0s"}"#,
            ..Extra::default()
        };
        let scene = Scene::with(backend(bytes), extra);
        for raw in [get("/probe"), post("/probe", "body")] {
            let mut client = Client::connect(scene.weir.port);
            client.send(&raw);
            check(name, &mut client);
            drop(client);
            scene.good(name);
        }
        let log = scene.end();
        assert_eq!(
            log.count("POST /probe "),
            1,
            "{name}: a POST was executed twice"
        );
        assert!(log.broken.is_empty(), "{name}: {:?}", log.broken);
    }
}

#[test]
fn what_is_no_response_is_502() {
    let huge = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(1 << 20));
    let cases: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("garbage", b"\x00\x01\x02\xff\xfe nonsense\r\n\r\n"),
        ("HTTP/0.9", b"<html>hello</html>"),
        ("half a status line", b"HTTP/1.1 20"),
        ("a status line without its end", b"HTTP/1.1 200 OK"),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("letters for a status", b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok"),
        ("a status of two digits", b"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("a status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("a length of letters", b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nok"),
        ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
        ("a length with a plus", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
        ("a length past 64 bits", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        (
            "both framings",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("an unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: foo\r\n\r\nok"),
        (
            "an unknown coding before chunked",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: foo, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("a NUL in a value", b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok"),
        ("a bare CR in a value", b"HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 2\r\n\r\nok"),
        ("a line without a colon", b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nok"),
        ("a switch that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\nhi"),
        ("nothing but a 100", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("a head of a megabyte", huge.as_bytes()),
    ];
    each(cases, |name, client| {
        let answer = client.response("GET");
        let Ok(response) = answer else {
            panic!("{name}: {answer:?}");
        };
        assert_eq!(response.status, 502, "{name}: {response:?}");
        let why = response.get("proxy-status").unwrap_or_default();
        assert!(why.contains("error="), "{name}: Proxy-Status is {why:?}");
    });
}

#[test]
fn a_response_that_breaks_off_is_seen_to_break_off() {
    let cases: &[(&str, &[u8])] = &[
        (
            "short of its length",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        ),
        (
            "chunks without an end",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        ),
        (
            "half a chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort",
        ),
        (
            "a chunk size of letters",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nxyz\r\n\r\n",
        ),
        (
            "a chunk size past 64 bits",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nshort",
        ),
        (
            "no CRLF behind a chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshortXX0\r\n\r\n",
        ),
    ];
    each(cases, |name, client| {
        let answer = client.response("GET");
        // The head may not have gone out when the end was noticed: then there is a whole 502.
        let told = matches!(&answer, Ok(r) if r.status == 502);
        assert!(
            told || answer == Err(Broken::Truncated),
            "{name}: {answer:?}"
        );
    });
}

/// What a backend sends behind its response belongs to nobody.
#[test]
fn a_second_response_poisons_no_one() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            conn.reply(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
                 HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            );
        }
    });
    let mut weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    for _ in 0..50 {
        let answer = client.ask(get("/"));
        assert_eq!(answer.map(|r| r.text()), Ok("ok".to_owned()));
    }
    assert!(weir.lives());
}

/// Bodies that a status or a method forbids are not taken for the next response (RFC 9112 section 6.3).
#[test]
fn a_response_without_a_body_has_none() {
    for (method, response, status) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            200,
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\npoison", 204),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison",
            304,
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            200,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
            304,
        ),
    ] {
        let backend = Backend::answering(move |_| response.as_bytes().to_vec());
        let mut weir = Weir::start(&config(&[backend.port], Extra::default()));
        let mut client = Client::connect(weir.port);
        for _ in 0..20 {
            let answer = client.ask(format!("{method} / HTTP/1.1\r\nHost: test.example\r\n\r\n"));
            assert_eq!(
                answer.map(|r| (r.status, r.text())),
                Ok((status, String::new())),
                "{method} {response:?}"
            );
        }
        assert!(weir.lives());
    }
}

/// Interim responses come before the response and are not it (RFC 9110 section 15.2).
#[test]
fn interim_responses_are_not_the_answer() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(500);
    let whole = format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let backend = Backend::answering(move |_| whole.clone().into_bytes());
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    for _ in 0..5 {
        assert_eq!(client.ask(get("/")).map(|r| r.text()), Ok("ok".to_owned()));
    }
}
