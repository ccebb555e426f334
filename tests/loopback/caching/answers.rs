//! What a hit looks like: its fields, its conditions, its framing for each kind of client, and its place among
//! pipelined requests.

use super::{assert_hit, cached, get_with, target, warm};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, Response, cache_status, get, post};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::{Broken, Framing};

pub(super) const TAGGED: &str = "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\n\
    Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n";

pub(super) const DIGITS: &str = "0123456789";

pub(super) fn digits() -> (Backend, Weir) {
    let backend = Backend::answering(|r| {
        let start = &r.start;
        match start.starts_with("HEAD") {
            true => format!("HTTP/1.1 200 OK\r\n{TAGGED}Content-Length: 10\r\n\r\n").into_bytes(),
            false => reply(200, TAGGED, DIGITS),
        }
    });
    let weir = cached(&backend, "", "");
    warm(&weir, "/digits");
    backend.forget();
    (backend, weir)
}

pub(super) fn ask(weir: &Weir, fields: &str) -> Response {
    weir.once(get_with("/digits", fields))
}

#[test]
fn conditions_are_answered_from_what_is_stored() {
    let (backend, weir) = digits();
    for (fields, status) in [
        ("If-None-Match: \"v1\"\r\n", 304),
        ("If-None-Match: W/\"v1\"\r\n", 304),
        ("If-None-Match: \"v0\", \"v1\"\r\n", 304),
        ("If-None-Match: *\r\n", 304),
        ("If-None-Match: \"v2\"\r\n", 200),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 200),
        ("If-Modified-Since: yesterday\r\n", 200),
        (
            "If-None-Match: \"v2\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            200,
        ),
    ] {
        let response = ask(&weir, fields);
        assert_hit(&response);
        assert_eq!(response.status, status, "{fields:?}");
        assert_eq!(response.get("etag"), Some("\"v1\""));
        assert!(response.get("date").is_some() && response.get("age").is_some());
        if status == 304 {
            assert_eq!(response.get("content-type"), None);
            assert_eq!(response.get("cache-control"), Some("max-age=3600"));
        } else {
            assert_eq!(response.text(), DIGITS);
        }
    }
    assert_eq!(backend.log().requests.len(), 0);
}

#[test]
fn a_head_is_answered_from_a_stored_get() {
    let (backend, weir) = digits();
    let mut client = Client::connect(weir.port);
    let head = "HEAD /digits HTTP/1.1\r\nHost: test.example\r\n\r\n";
    let response = client.ask(head).expect("it is answered");
    assert_hit(&response);
    assert_eq!(response.get("content-length"), Some("10"));
    assert_eq!(response.get("etag"), Some("\"v1\""));
    // In step: nothing of a body follows.
    assert_eq!(client.ask(get("/digits")).expect("in step").text(), DIGITS);
    assert_eq!(backend.log().requests.len(), 0);
    // A HEAD of what is not there is not stored as a GET's answer.
    let cold = "HEAD /cold HTTP/1.1\r\nHost: test.example\r\n\r\n";
    assert_eq!(weir.once(cold).get("content-length"), Some("10"));
    assert_eq!(weir.once(get("/cold")).text(), DIGITS);
    assert_eq!(backend.log().lines().len(), 2);
}

/// A condition that is for the origin alone is not taken away on the way there.
#[test]
fn a_precondition_is_not_lost_on_a_miss() {
    let backend = Backend::answering(|r| match r.get("if-match") {
        Some("\"v1\"") | None => reply(200, TAGGED, DIGITS),
        Some(_) => reply(412, "", ""),
    });
    let weir = cached(&backend, "", "");
    assert_eq!(
        weir.once(get_with("/cold", "If-Match: \"v0\"\r\n")).status,
        412
    );
    assert_eq!(weir.once(get("/cold")).text(), DIGITS);
    assert_eq!(
        weir.once(get_with("/cold", "If-Match: \"v0\"\r\n")).status,
        412
    );
    assert_eq!(
        weir.once(get_with("/cold", "If-Match: \"v1\"\r\n")).status,
        200
    );
}

#[test]
fn a_conditional_miss_fetches_for_all_and_answers_the_condition() {
    let backend = Backend::answering(|r| match r.get("if-none-match") {
        None => reply(200, TAGGED, DIGITS),
        Some(_) => b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_vec(),
    });
    let weir = cached(&backend, "", "");
    let response = weir.once(get_with("/cold", "If-None-Match: \"v1\"\r\n"));
    assert_eq!(response.status, 304);
    let hit = weir.once(get("/cold"));
    assert_hit(&hit);
    assert_eq!(hit.text(), DIGITS);
    assert_eq!(backend.log().requests.len(), 1);
}

#[test]
fn clients_of_every_kind_are_answered_in_their_own_framing() {
    let (backend, weir) = digits();
    // HTTP/1.0 without and with keep-alive; Connection: close; one after the other on a connection.
    let mut old = Client::connect(weir.port);
    let response = old
        .ask("GET /digits HTTP/1.0\r\nHost: test.example\r\n\r\n")
        .expect("answered");
    assert_hit(&response);
    assert_eq!(
        (response.text().as_str(), response.framing),
        (DIGITS, Framing::Length(10))
    );
    assert!(old.is_closed_by_peer(), "HTTP/1.0 ends with its answer");
    let mut kept = Client::connect(weir.port);
    for _ in 0..2 {
        let raw = "GET /digits HTTP/1.0\r\nHost: test.example\r\nConnection: keep-alive\r\n\r\n";
        let response = kept.ask(raw).expect("answered");
        assert_eq!(
            response
                .get("connection")
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some("keep-alive")
        );
        assert_eq!(response.text(), DIGITS);
    }
    let mut last = Client::connect(weir.port);
    assert_hit(&last.ask(get("/digits")).expect("answered"));
    let closing = last
        .ask(get_with("/digits", "Connection: close\r\n"))
        .expect("answered");
    assert_hit(&closing);
    assert_eq!(closing.get("connection"), Some("close"));
    assert!(last.is_closed_by_peer(), "it asked for that");
    // Half-closed behind its request.
    let mut half = Client::connect(weir.port);
    half.send(get("/digits"));
    let stream = half.wire().stream();
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("it is connected");
    assert_eq!(half.response("GET").expect("answered").text(), DIGITS);
    assert_eq!(backend.log().requests.len(), 0);
}

#[test]
fn pipelined_hits_and_misses_keep_their_order() {
    let backend = Backend::answering(|r| {
        let fresh = if target(r).contains("hot") {
            "Cache-Control: max-age=3600\r\n"
        } else {
            ""
        };
        reply(200, fresh, target(r))
    });
    let weir = cached(&backend, "", "");
    for n in 0..3 {
        warm(&weir, &format!("/hot{n}"));
    }
    let order = [
        "/hot0", "/hot1", "/cold0", "/hot2", "/cold1", "/cold2", "/hot0", "/hot0", "/hot1",
    ];
    let mut client = Client::connect(weir.port);
    // All at once; then in pieces that part heads anywhere.
    let raw: String = order.iter().map(|t| get(t)).collect();
    client.send(&raw);
    for target in order {
        assert_eq!(client.response("GET").expect("answered").text(), target);
    }
    for size in [1, 7, 50] {
        let mut client = Client::connect(weir.port);
        for piece in raw.as_bytes().chunks(size) {
            client.send(piece);
        }
        for target in order {
            assert_eq!(client.response("GET").expect("answered").text(), target);
        }
    }
    // Two hundred hits in one go are more than is gathered at once.
    let mut client = Client::connect(weir.port);
    client.send(get("/hot1").repeat(200));
    for _ in 0..200 {
        assert_hit(&client.response("GET").expect("answered"));
    }
}

/// A body behind a GET is the backend's to read. What follows it is the next request, and nothing else is.
#[test]
fn a_get_with_a_body_and_one_behind_it_are_two() {
    let backend = Backend::answering(|r| {
        let body = String::from_utf8_lossy(&r.body).into_owned();
        reply(
            200,
            "Cache-Control: max-age=3600\r\n",
            &format!("{} {body}", target(r)),
        )
    });
    let weir = cached(&backend, "", "");
    warm(&weir, "/hot");
    for target in ["/hot", "/cold"] {
        for (fields, body) in [
            (
                "Content-Length: 28\r\n",
                "GET /smuggled HTTP/1.1\r\nX: \r\n".to_owned(),
            ),
            (
                "Transfer-Encoding: chunked\r\n",
                "4\r\nbody\r\n0\r\n\r\n".to_owned(),
            ),
        ] {
            backend.forget();
            let mut client = Client::connect(weir.port);
            client.send(format!("{}{body}{}", get_with(target, fields), get("/hot")));
            let first = client.response("GET").expect("answered");
            assert!(first.text().starts_with(&format!("{target} ")) && first.text().len() > 6);
            let second = client.response("GET").expect("answered");
            assert_hit(&second);
            assert_eq!(second.text(), "/hot ", "a request with a body was stored");
            let log = backend.log();
            assert_eq!(log.requests.len(), 1, "{:?}", log.lines());
            assert!(log.broken.is_empty() && log.count("GET /smuggled") == 0);
        }
    }
}

#[test]
fn a_hit_tells_its_age_its_path_and_its_date() {
    let backend = Backend::answering(|_| {
        reply(
            200,
            "Cache-Control: max-age=3600\r\nAge: 100\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Via: 1.1 inner\r\nCache-Status: inner; hit\r\nExpires: 0\r\n",
            "old",
        )
    });
    // The date is long ago, so the apparent age is beyond any lifetime: it is stale at once, and not kept.
    let weir = cached(&backend, "", "");
    let response = weir.once(get("/old"));
    let told = response.message.all("cache-status").join(", ");
    assert!(!told.contains("stored"), "{told}");
    let fresh = Backend::answering(|_| {
        reply(
            200,
            "Cache-Control: max-age=3600\r\nAge: 100\r\nVia: 1.1 inner\r\nCache-Status: inner; hit\r\n",
            "young",
        )
    });
    let weir = cached(&fresh, "", "");
    for round in 0..2 {
        let hit = weir.once(get("/young"));
        let age: Vec<u32> = hit
            .message
            .all("age")
            .iter()
            .filter_map(|a| a.parse().ok())
            .collect();
        assert!(matches!(age[..], [100..400]), "{age:?}");
        assert!(hit.get("date").is_some());
        assert_eq!(hit.message.all("via"), ["1.1 inner", "1.1 weir"]);
        let status = hit.message.all("cache-status");
        assert_eq!(status.len(), 2, "{status:?}");
        assert_eq!(status[0], "inner; hit");
        assert_eq!(
            status[1].starts_with("weir; hit; ttl="),
            round > 0,
            "{status:?}"
        );
    }
}

#[test]
fn a_routes_own_fields_are_on_hits_and_misses_alike() {
    let backend =
        Backend::answering(|_| reply(200, "Cache-Control: max-age=60\r\nServer: x\r\n", "ok"));
    let top = r#""cache": {}, "routes": [{"name": "all", "upstream": "app", "cache": true,
        "response_headers": {"set": {"X-Frame-Options": "DENY"}, "add": {"X-Seen": "1"}, "remove": ["Server"]}}]"#;
    let extra = Extra {
        top,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for round in 0..3 {
        let response = weir.once(get("/fields"));
        assert_eq!(cache_status(&response).contains("hit"), round > 0);
        assert_eq!(response.get("x-frame-options"), Some("DENY"));
        assert_eq!(response.get("x-seen"), Some("1"));
        assert_eq!(response.get("server"), None);
    }
}

#[test]
fn empty_answers_and_other_statuses_are_stored_as_they_are() {
    let backend = Backend::answering(|r| {
        let status: u16 = target(r)[1..4].parse().expect("a status");
        match status {
            204 => b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n".to_vec(),
            _ => reply(status, "Cache-Control: max-age=60\r\nLocation: /x\r\n", ""),
        }
    });
    let weir = cached(&backend, "", "");
    for status in [200, 204, 301, 302, 404, 410, 503] {
        let mut client = Client::connect(weir.port);
        for (round, fields) in ["", "", "Pragma: x\r\n"].iter().enumerate() {
            let response = client
                .ask(get_with(&format!("/{status}"), fields))
                .expect("answered");
            assert_eq!((response.status, response.text().as_str()), (status, ""));
            assert_eq!(
                cache_status(&response).contains("hit"),
                round > 0,
                "{status}"
            );
            if status == 204 {
                assert_eq!(response.get("content-length"), None, "RFC 9110 section 8.6");
            }
        }
        let head = format!("HEAD /{status} HTTP/1.1\r\nHost: test.example\r\n\r\n");
        let response = client.ask(head).expect("answered");
        assert_eq!(response.status, status);
        if status == 204 {
            assert_eq!(response.get("content-length"), None, "RFC 9110 section 8.6");
        }
    }
    assert_eq!(backend.log().requests.len(), 7);
}

#[test]
fn a_large_hit_waits_for_a_slow_reader_and_keeps_its_order() {
    const SIZE: usize = 6 << 20;
    let backend = Backend::answering(|r| match target(r) {
        "/large" => reply(200, "Cache-Control: max-age=60\r\n", &"g".repeat(SIZE)),
        _ => reply(200, "Cache-Control: max-age=60\r\n", "small"),
    });
    let weir = cached(&backend, "", "");
    warm(&weir, "/large");
    warm(&weir, "/small");
    let mut client = Client::connect(weir.port);
    client.send(format!(
        "{}{}{}",
        get("/large"),
        get("/small"),
        get("/cold")
    ));
    // Others are served while this one takes nothing.
    for _ in 0..20 {
        assert_hit(&weir.once(get("/small")));
    }
    let large = client.response("GET").expect("answered");
    assert!(large.message.body.len() == SIZE && large.message.body.iter().all(|b| *b == b'g'));
    assert_eq!(client.response("GET").expect("in step").text(), "small");
    assert_eq!(client.response("GET").expect("in step").text(), "small");
    // One that goes away in the middle leaves nothing behind.
    let before = weir.descriptors();
    let mut gone = Client::connect(weir.port);
    gone.send(get("/large"));
    gone.wire().skip(1 << 16).expect("some of it comes");
    drop(gone);
    crate::support::eventually("its connection is closed", || weir.descriptors() <= before);
}

#[test]
fn nothing_is_asked_of_a_backend_where_the_client_says_so() {
    let (backend, weir) = digits();
    let cold = weir.once(get_with("/cold", "Cache-Control: only-if-cached\r\n"));
    assert_eq!(cold.status, 504);
    let hot = ask(&weir, "Cache-Control: only-if-cached\r\n");
    assert_hit(&hot);
    assert_eq!(backend.log().requests.len(), 0);
    let mut client = Client::connect(weir.port);
    client.send(get("/digits"));
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    client.send(post("/digits", "x"));
    assert_ne!(client.response("POST"), Err(Broken::Closed));
}
