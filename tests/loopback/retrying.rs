//! Another backend after a status, after a timeout, and for methods that are not idempotent where that is allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::backend::{Backend, reply};
use crate::support::client::{get, post};
use crate::support::weir::{Extra, Weir, config};

fn always(status: u16, fields: &'static str, body: &'static str) -> Backend {
    Backend::answering(move |_| reply(status, fields, body))
}

fn weir(backends: &[&Backend], retry: &'static str) -> Weir {
    let ports: Vec<u16> = backends.iter().map(|b| b.port).collect();
    let extra = Extra {
        upstream: retry,
        ..Extra::default()
    };
    Weir::start(&config(&ports, extra))
}

#[test]
fn a_status_that_is_named_is_tried_elsewhere() {
    let (bad, good) = (always(503, "", "no"), always(200, "", "ok"));
    let weir = weir(
        &[&bad, &good],
        r#""ejection": "off", "retry": {"on": ["connect", 503]}"#,
    );
    for _ in 0..20 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    assert!(bad.log().requests.len() >= 5, "it was tried first at times");
    // What may not be done twice is not, and its client hears what the backend said.
    let statuses: Vec<u16> = (0..10).map(|_| weir.once(post("/", "x")).status).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
    assert_eq!(bad.log().count("POST") + good.log().count("POST"), 10);
}

#[test]
fn a_status_that_is_not_named_is_passed_on() {
    let (bad, good) = (always(503, "", "no"), always(200, "", "ok"));
    let weir = weir(&[&bad, &good], r#""ejection": "off""#);
    let statuses: Vec<u16> = (0..20).map(|_| weir.once(get("/")).status).collect();
    assert_eq!(statuses.iter().filter(|s| **s == 503).count(), 10);
}

#[test]
fn the_last_answer_is_passed_on_when_every_backend_says_no() {
    let backends = [
        always(503, "x-who: a\r\n", "no"),
        always(502, "x-who: b\r\n", "nor I"),
    ];
    let weir = weir(
        &[&backends[0], &backends[1]],
        r#""ejection": "off", "retry": {"attempts": 3, "on": ["502-503"]}"#,
    );
    for _ in 0..6 {
        let response = weir.once(get("/"));
        assert!([502, 503].contains(&response.status), "{response:?}");
        assert!(response.get("x-who").is_some(), "it is a backend's own");
    }
    let seen: usize = backends.iter().map(|b| b.log().requests.len()).sum();
    assert_eq!(seen, 12);
}

#[test]
fn a_request_with_a_key_or_on_a_marked_route_is_sent_again() {
    for (methods, keyed, expected) in [
        ("idempotent", true, 503),
        ("keyed", false, 503),
        ("keyed", true, 200),
        ("all", false, 200),
    ] {
        let (bad, good) = (always(503, "", "no"), always(200, "", "ok"));
        let retry = format!(
            r#""ejection": "off", "strategy": "round-robin", "phase": "zero",
            "retry": {{"on": [503], "methods": "{methods}"}}"#
        );
        let weir = self::weir(&[&bad, &good], Box::leak(retry.into_boxed_str()));
        let fields = if keyed { "Idempotency-Key: 7\r\n" } else { "" };
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n{fields}Connection: close\r\n\r\nbody"
        );
        let response = weir.once(request);
        assert_eq!(response.status, expected, "{methods} {keyed}");
        let bodies: Vec<Vec<u8>> = good.log().requests.iter().map(|r| r.body.clone()).collect();
        assert!(bodies.iter().all(|b| b == b"body"), "{bodies:?}");
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_made_elsewhere() {
    let silent = Backend::start(|conn| {
        while conn.request().is_some() {
            conn.wait_for_close();
        }
    });
    let good = always(200, "", "ok");
    let weir = weir(
        &[&silent, &good],
        r#""phase": "zero", "strategy": "round-robin", "retry": {"on": ["timeout"], "per_try": "150ms"}"#,
    );
    for _ in 0..4 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    assert!(!silent.log().requests.is_empty());
}

#[test]
fn a_backend_that_asks_for_rest_is_left_alone() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let tired = Backend::answering(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        reply(503, "Retry-After: 20\r\n", "later")
    });
    let good = always(200, "", "ok");
    let weir = weir(
        &[&tired, &good],
        r#""ejection": "off", "retry": {"on": [503]}"#,
    );
    for _ in 0..20 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
