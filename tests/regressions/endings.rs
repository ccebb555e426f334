//! Ends that a client can tell apart: a body that broke off is no whole one, and a request that was sent before the proxy was
//! told to stop is answered.

use std::io::{ErrorKind, Read};

use super::{Gate, pass};
use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

/// Sends half a body; then, once told, its rest to `/whole`, and the end of the connection to others.
fn chunks(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::start(move |conn| {
        if let Some(request) = conn.request() {
            conn.reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n");
            gate.wait();
            if request.start.contains("/whole") {
                conn.send("0\r\n\r\n");
            }
        }
    })
}

/// To HTTP/1.0 the end of the connection is the end of the body, so that only a reset says that it isn't (RFC 9112 section 8).
#[test]
fn to_an_http_10_client_a_body_that_breaks_off_ends_in_a_reset() {
    for target in ["/whole", "/broken"] {
        let gate = Gate::default();
        let backend = chunks(&gate);
        let weir = Weir::start(&config(&[backend.port], Extra::default()));
        let mut client = Client::connect(weir.port);
        let raw = format!("GET {target} HTTP/1.0\r\nHost: test.example\r\n\r\n");
        client.send(raw);
        // The kit does not tell an orderly end from a reset.
        let mut stream = client.wire().stream();
        let mut got = Vec::new();
        let mut piece = [0; 4096];
        // The head and the first piece are here before the backend breaks off, so that no 502 can tell of it.
        while !got.ends_with(b"\r\n\r\nshort") {
            let read = stream.read(&mut piece).expect("the first half comes");
            assert!(read > 0, "ended early: {:?}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&piece[..read]);
        }
        gate.open();
        let end = stream.read(&mut piece).map_err(|e| e.kind());
        if target == "/whole" {
            assert_eq!(end, Ok(0), "a whole body ends in order");
        } else {
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "it looks whole");
        }
    }
}

/// The proxy is halted while requests arrive and it is told to stop, so that it finds all of that at once when it goes on.
#[test]
fn a_request_that_came_before_the_signal_is_answered() {
    let backend = Backend::ok();
    let mut weir = Weir::start(&config(&[backend.port], Extra::default()));
    let connect = || Client::connect(weir.port);
    let used = || {
        let mut client = connect();
        assert_eq!(client.ask(get("/first")).map(|r| r.status), Ok(200));
        client
    };
    let mut clients: Vec<(&str, Client)> = Vec::new();
    clients.extend((0..4).map(|_| ("kept for a while", used())));
    pass(1_800);
    clients.extend((0..4).map(|_| ("just used", used())));
    clients.extend((0..4).map(|_| ("fresh", connect())));
    let all = clients.len() as u64;
    eventually("every connection is accepted", || {
        weir.metric("weir_connections{listener=\"web\"}") == Some(all)
    });
    weir.signal("STOP");
    for (_, client) in &mut clients {
        client.send(get("/last"));
    }
    weir.signal("TERM");
    weir.signal("CONT");
    for (kind, client) in &mut clients {
        let answer = client.response("GET").map(|r| r.status);
        assert_eq!(answer, Ok(200), "a connection that was {kind}");
        assert!(client.is_closed_by_peer(), "it is not kept: {kind}");
    }
    assert_eq!(weir.wait().code(), Some(0));
    assert_eq!(backend.log().count("GET /last "), clients.len());
}
