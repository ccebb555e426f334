//! The client's side of HTTP/1: who ends its side early is answered, interim responses pass, and what is no request is on record.

use std::net::Shutdown;

use super::Logged;
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get, post};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

/// As nc, old health checks and clients of HTTP/1.0 do.
#[test]
fn who_ends_its_side_behind_a_whole_request_is_answered() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            // Long enough for the client's end to be seen before the answer comes.
            super::pass(100);
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let requests = [
        get("/plain"),
        post("/body", "whole"),
        "GET /old HTTP/1.0\r\nHost: t\r\n\r\n".to_owned(),
        "GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".to_owned(),
    ];
    for request in requests {
        let mut client = Client::connect(weir.port);
        client.send(&request);
        let ended = client.wire().stream().shutdown(Shutdown::Write);
        ended.expect("the connection stands");
        let answer = client.response("GET").map(|r| (r.status, r.text()));
        assert_eq!(answer, Ok((200, "ok".to_owned())), "{request:?}");
        assert!(client.is_closed_by_peer(), "{request:?}");
    }
}

/// Half a request behind which nothing more comes is no request, and its client is told so.
#[test]
fn who_ends_its_side_within_a_head_is_told_that_it_is_none() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    client.send("GET /half HTTP/1.1\r\nHost: t\r\n");
    let ended = client.wire().stream().shutdown(Shutdown::Write);
    ended.expect("the connection stands");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(400));
    assert!(backend.log().lines().is_empty());
}

/// RFC 9110 section 15.2: a proxy forwards 1xx, unless its client speaks HTTP/1.0.
#[test]
fn interim_responses_pass_to_clients_that_know_them() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
            super::pass(50);
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    for _ in 0..2 {
        client.send(get("/page"));
        let hints = client.any_response("GET").expect("hints come first");
        assert_eq!(hints.status, 103);
        assert_eq!(hints.get("link"), Some("</a.css>; rel=preload"));
        assert_eq!(client.any_response("GET").map(|r| r.status), Ok(200));
    }
    let mut old = Client::connect(weir.port);
    old.send("GET /page HTTP/1.0\r\nHost: t\r\n\r\n");
    assert_eq!(old.any_response("GET").map(|r| r.status), Ok(200));
}

/// What is refused before it is a request has a line with its cause, its status and what came in its place.
#[test]
fn what_is_no_request_is_in_the_access_log() {
    let backend = Backend::ok();
    let logged = Logged::start(&backend, Extra::default());
    let answer = Client::connect(logged.weir.port).ask("GET /a b HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(answer.map(|r| r.status), Ok(400));
    let line = logged.line("GET /a b HTTP/1.1");
    for part in [r#""status":400"#, r#""cause":"bad_request""#, "127.0.0.1"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// The access log has host and target as the normal form of the target has them, in whichever form the client wrote them.
#[test]
fn the_absolute_form_is_logged_like_any_other() {
    let backend = Backend::ok();
    let logged = Logged::start(&backend, Extra::default());
    let request = "GET http://shop.example/a/../b HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    assert_eq!(logged.weir.once(request).status, 200);
    let line = logged.line("/b");
    assert!(line.contains(r#""host":"shop.example""#), "{line}");
}

/// Two requests in one write are answered in their order, whichever is ready first.
#[test]
fn a_pipelined_pair_is_answered_in_order() {
    let backend = Backend::start(|conn| {
        while let Some(request) = conn.request() {
            let is_first = request.start.contains("/first");
            super::pass(if is_first { 200 } else { 0 });
            conn.reply(reply(200, "", if is_first { "first" } else { "second" }));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    client.send([get("/first"), get("/second")].concat());
    for wanted in ["first", "second"] {
        let answer = client.response("GET").expect("both are answered");
        assert_eq!(answer.text(), wanted);
    }
    eventually("both have run", || backend.log().requests.len() == 2);
}
