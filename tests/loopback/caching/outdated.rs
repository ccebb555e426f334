//! Unsafe requests make what is stored outdated (RFC 9111 section 4.4): there, at Location and Content-Location of the same
//! origin, and also what is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Gate, assert_hit, cached, crowd, get_with, target, warm};
use crate::support::backend::{Backend, reply};
use crate::support::client::{cache_status, get, post};
use crate::support::wire::Framing;

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

fn origin(answer_to_post: &'static str, status: u16) -> Backend {
    Backend::answering(move |r| match r.start.starts_with("GET") {
        true => reply(200, FRESH, "state"),
        false => reply(status, answer_to_post, ""),
    })
}

#[test]
fn a_successful_unsafe_request_forgets_what_lies_there() {
    for (status, forgets) in [
        (200, true),
        (201, true),
        (303, true),
        (404, false),
        (500, false),
    ] {
        let backend = origin("", status);
        let weir = cached(&backend, "", "");
        warm(&weir, "/thing?a=1");
        warm(&weir, "/thing");
        assert_eq!(weir.once(post("/thing?a=1", "x")).status, status);
        let after = weir.once(get("/thing?a=1"));
        assert_eq!(cache_status(&after).contains("hit"), !forgets, "{status}");
        assert_hit(&weir.once(get("/thing")));
    }
}

#[test]
fn where_it_points_to_is_forgotten_within_one_origin() {
    for (answer, forgets) in [
        ("Location: /other\r\n", true),
        ("Content-Location: other\r\n", true),
        ("Location: http://test.example/other\r\n", true),
        ("Location: http://test.example/x/../other\r\n", true),
        ("Location: http://evil.example/other\r\n", false),
        ("Location: https://test.example/other\r\n", false),
        ("Location: //test.example.evil/other\r\n", false),
    ] {
        let backend = origin(answer, 201);
        let weir = cached(&backend, "", "");
        warm(&weir, "/other");
        assert_eq!(weir.once(post("/thing", "x")).status, 201);
        assert_eq!(
            cache_status(&weir.once(get("/other"))).contains("hit"),
            !forgets,
            "{answer}"
        );
    }
}

#[test]
fn all_variants_are_forgotten() {
    let backend = Backend::answering(|r| match r.start.starts_with("GET") {
        true => reply(200, "Cache-Control: max-age=3600\r\nVary: X-A\r\n", "state"),
        false => reply(200, "", ""),
    });
    let weir = cached(&backend, "", "");
    let ask = |a: &str| weir.once(get_with("/thing", &format!("X-A: {a}\r\n")));
    for a in ["1", "2"] {
        ask(a);
        assert_hit(&ask(a));
    }
    weir.once(post("/thing", "x"));
    for a in ["1", "2"] {
        assert!(!cache_status(&ask(a)).contains("hit"));
        assert_hit(&ask(a));
    }
}

/// A fetch that began before the change may bring what was before it: whoever waits may have it, nobody later.
#[test]
fn what_is_on_its_way_is_not_stored_past_a_change() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let changes = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&changes);
    let backend = Backend::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.start.starts_with("POST") {
                seen.fetch_add(1, Ordering::SeqCst);
                conn.reply(reply(200, "", ""));
                continue;
            }
            let state = seen.load(Ordering::SeqCst);
            conn.reply(format!(
                "HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 7\r\n\r\nstate"
            ));
            if state == 0 {
                held.wait();
            }
            conn.send(format!("-{state}"));
        }
    });
    let weir = cached(&backend, "", "\"workers\": 2");
    let mut before = crowd(&weir, 3, &get("/thing"));
    for client in &mut before {
        client.wire().head().expect("the head comes");
    }
    assert_eq!(weir.once(post("/thing", "x")).status, 200);
    // Who comes after the change does not join what began before it.
    assert_eq!(weir.once(get("/thing")).text(), "state-1");
    gate.open();
    for client in &mut before {
        let body = client.wire().body(Framing::Length(7));
        assert_eq!(body, Ok(b"state-0".to_vec()));
    }
    for _ in 0..3 {
        let response = weir.once(get("/thing"));
        assert_eq!(
            response.text(),
            "state-1",
            "what was before the change came back"
        );
        assert_hit(&response);
    }
}

#[test]
fn safe_methods_and_other_urls_leave_it_there() {
    let backend = Backend::answering(|r| match r.start.starts_with("HEAD") {
        true => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(),
        false => reply(200, FRESH, target(r)),
    });
    let weir = cached(&backend, "", "");
    warm(&weir, "/a");
    for method in ["OPTIONS", "TRACE"] {
        let raw = format!("{method} /a HTTP/1.1\r\nHost: test.example\r\n\r\n");
        weir.once(raw);
        assert_hit(&weir.once(get("/a")));
    }
    weir.once(post("/b", "x"));
    weir.once("POST /a HTTP/1.1\r\nHost: other.example\r\nContent-Length: 0\r\n\r\n");
    assert_hit(&weir.once(get("/a")));
    for method in ["PUT", "DELETE", "PATCH", "BREW"] {
        let raw =
            format!("{method} /a HTTP/1.1\r\nHost: test.example\r\nContent-Length: 0\r\n\r\n");
        weir.once(raw);
        let after = weir.once(get("/a"));
        assert!(!cache_status(&after).contains("hit"), "{method}");
    }
}
