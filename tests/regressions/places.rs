//! Bodies that drip hold no place: small ones are read before a place is asked for.

use super::pass;
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get, post};
use crate::support::weir::{Extra, Weir, config};

/// The flat file's five places.
fn flat(backend: &Backend, more: &str) -> Weir {
    let port = backend.port;
    Weir::start(&format!(
        r#"{{"port": {}, "servers": {{"http://127.0.0.1:{port}": 5}}, "admin": {{"bind": "127.0.0.1:0"}},
            "access_log": false{more}}}"#,
        crate::support::free_port()
    ))
}

/// Begins a request and sends a byte of its body.
fn dripping(weir: &Weir, head: &str) -> Client {
    let mut client = Client::connect(weir.port);
    client.send(format!("POST /drip HTTP/1.1\r\nHost: a\r\n{head}\r\n"));
    client.send("x");
    client
}

#[test]
fn five_bodies_that_drip_hold_no_place() {
    let backend = Backend::ok();
    let weir = flat(&backend, "");
    let heads = ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"];
    let mut clients: Vec<Client> = (0..10).map(|i| dripping(&weir, heads[i % 2])).collect();
    for _ in 0..5 {
        clients.iter_mut().step_by(2).for_each(|c| c.send("x"));
        pass(100);
        assert_eq!(weir.once(get("/others")).status, 200);
        assert_eq!(weir.once(post("/others", "body")).status, 200);
    }
    assert!(!backend.log().saw("/drip"), "a backend has half a request");
    // Whoever sends all is answered, with every byte where it was.
    for client in clients.iter_mut().step_by(2) {
        client.send("y".repeat(94));
        assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
    }
    let log = backend.log();
    let whole = format!("{}{}", "x".repeat(6), "y".repeat(94));
    let bodies = log.requests.iter().filter(|r| r.start.contains("/drip"));
    assert!(bodies.clone().count() == 5 && bodies.clone().all(|r| r.text() == whole));
}

#[test]
fn a_larger_body_streams_once_its_beginning_is_there() {
    let backend = Backend::mirror();
    let weir = flat(&backend, "");
    let body = "b".repeat(300_000);
    let answer = weir.once(post("/large", &body)).text();
    assert!(answer.contains("content-length: 300000"), "{answer}");
    let log = backend.log();
    assert_eq!(log.requests[0].text(), body);
    // Chunks go on as chunks, with what was read ahead in front.
    let mut client = Client::connect(weir.port);
    client.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..200 {
        client.send("3e8\r\n");
        client.send("c".repeat(1000));
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
    let log = backend.log();
    assert_eq!(log.requests[1].text(), "c".repeat(200_000));
}

#[test]
fn who_waits_to_be_told_is_told_and_early_answers_come() {
    let backend = Backend::start(|conn| {
        while let Some(head) = conn.head() {
            if head.start.contains("/early") {
                conn.reply(reply(401, "Connection: close\r\n", "no"));
                return;
            }
            let length = head.get("content-length").and_then(|l| l.parse().ok());
            if conn.wire().skip(length.unwrap_or(0)).is_err() {
                return;
            }
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = flat(&backend, "");
    let mut client = Client::connect(weir.port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.any_response("POST").map(|r| r.status), Ok(100));
    client.send("body");
    assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
    // More than is read ahead: the backend answers before all of it is there.
    let mut client = Client::connect(weir.port);
    client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send("e".repeat(100_000));
    assert_eq!(client.response("POST").map(|r| r.status), Ok(401));
}

#[test]
fn where_it_is_off_bodies_go_on_as_they_come() {
    let backend = Backend::start(|conn| {
        if conn.head().is_some() {
            conn.reply(reply(401, "Connection: close\r\n", "no"));
        }
    });
    let extra = Extra {
        upstream: r#""max_in_flight": 5, "buffer_request": "off""#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = dripping(&weir, "Content-Length: 100\r\n");
    assert_eq!(client.response("POST").map(|r| r.status), Ok(401));
}
