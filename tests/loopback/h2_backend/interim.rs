//! Interim responses of backends over HTTP/2 (RFC 9113 section 8.1): any number passes within a bound of bytes, and
//! none is the answer.

use h2::server::Builder;
use http::Response;

use super::weir;
use crate::support::client::{Client, get};
use crate::support::secure::Server;
use crate::support::streams::{Asked, answer, ok, server};

/// A server that says so many hints of so many bytes each before its answer.
fn hinting() -> Server {
    server(Builder::new(), |(request, mut respond): Asked| {
        let path = request.uri().path().to_owned();
        let mut numbers = path.split('/').filter_map(|n| n.parse::<usize>().ok());
        let (count, bytes) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        async move {
            for _ in 0..count {
                let hint = Response::builder()
                    .status(103)
                    .header("link", "a".repeat(bytes));
                let hint = hint.body(()).expect("a head");
                if respond.send_informational(hint).is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            answer(respond, ok(), "ok");
        }
    })
}

#[test]
fn many_interim_heads_are_not_the_answer() {
    let server = hinting();
    let weir = weir(&[&server], "");
    for (count, bytes, status) in [
        (1, 10, 200),
        (33, 10, 200),
        (500, 20, 200),
        (100, 2_000, 502),
        (3, 100, 200),
    ] {
        let response = weir.once(get(&format!("/{count}/{bytes}")));
        assert_eq!(response.status, status, "{count} of {bytes}");
        if status == 502 {
            let why = response.get("proxy-status").unwrap_or_default();
            assert!(why.contains("http_protocol_error"), "{why}");
        }
    }
}

/// As from a backend of HTTP/1.1, hints go on to a client that can take them.
#[test]
fn hints_pass_on() {
    let server = hinting();
    let weir = weir(&[&server], "");
    let mut client = Client::connect(weir.port);
    client.send(get("/2/5"));
    for _ in 0..2 {
        let hint = client.any_response("GET").expect("a hint");
        assert_eq!((hint.status, hint.get("link")), (103, Some("aaaaa")));
    }
    let last = client.any_response("GET").expect("the answer");
    assert_eq!((last.status, last.text().as_str()), (200, "ok"));
}
