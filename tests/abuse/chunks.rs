//! Chunked bodies that break their own framing (RFC 9112 section 7.1). The head may have gone on already, so the backend may see
//! a request that never ends; it must not see one that ends.

use super::{SMUGGLED, Scene, Want, probe};

fn post(body: &str) -> String {
    format!(
        "POST /probe HTTP/1.1\r\nHost: test.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
    )
}

#[test]
fn a_broken_chunk_ends_the_request() {
    let end = format!("\r\n0\r\n\r\n{SMUGGLED}");
    let case = |name, start: &str| probe(name, post(&format!("{start}{end}")), Want::Cut);
    Scene::new().run(vec![
        case("a size past 64 bits", "FFFFFFFFFFFFFFFFF\r\nhello"),
        case("a size that wraps to 5", "10000000000000005\r\nhello"),
        case("a negative size", "-5\r\nhello"),
        case("a plus", "+5\r\nhello"),
        case("0x", "0x5\r\nhello"),
        case("no size", "\r\nhello"),
        case("a letter", "g\r\nhello"),
        case("a space before the size", " 5\r\nhello"),
        case("data longer than its size", "3\r\nhello"),
        case("no CRLF behind the data", "5\r\nhelloXX"),
        case("a bare CR behind the size", "5\rhello"),
        case("an underscore", "5_0\r\nhello"),
        case("a NUL in the size", "5\0\r\nhello"),
    ]);
}

#[test]
fn a_body_without_end_is_never_whole() {
    let scene = Scene::new();
    for body in ["5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5"] {
        scene.backend.forget();
        let mut client = crate::support::client::Client::connect(scene.weir.port);
        client.send(post(body));
        drop(client);
        scene.good(body);
        assert_eq!(
            scene.backend.log().lines(),
            ["GET /good HTTP/1.1"],
            "{body:?}"
        );
    }
    let log = scene.end();
    assert_eq!(log.count("POST"), 0);
}

#[test]
fn what_is_legal_goes_through_whole() {
    let scene = Scene::new();
    for (name, body) in [
        ("one chunk", "5\r\nhello\r\n0\r\n\r\n"),
        ("a byte each", "1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("leading zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        ("an extension", "5;name=value\r\nhello\r\n0\r\n\r\n"),
        ("a trailer", "5\r\nhello\r\n0\r\nX-Trailer: yes\r\n\r\n"),
        (
            "a trailer that would frame",
            "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
        ),
    ] {
        scene.backend.forget();
        let mut client = crate::support::client::Client::connect(scene.weir.port);
        let answer = client.ask(post(body)).map(|r| r.status);
        assert_eq!(answer, Ok(200), "{name}");
        let next = client
            .ask(crate::support::client::get("/next"))
            .map(|r| r.status);
        assert_eq!(next, Ok(200), "{name}: the same connection");
        let log = scene.backend.log();
        assert_eq!(
            log.lines(),
            ["POST /probe HTTP/1.1", "GET /next HTTP/1.1"],
            "{name}"
        );
        assert_eq!(log.requests[0].text(), "hello", "{name}");
        assert!(log.broken.is_empty(), "{name}: {:?}", log.broken);
    }
    scene.end();
}
