//! Many who want one thing: one fetch, from which all read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use super::leaving::in_two_pieces;
use super::{Gate, assert_hit, cached, crowd, get_with};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, cache_status, get};
use crate::support::eventually;
use crate::support::wire::{Framing, Message};

const MANY: usize = 1000;

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

fn workers(count: usize) -> String {
    format!("\"workers\": {count}")
}

#[test]
fn a_thousand_cold_requests_make_one_fetch() {
    for count in [1, 2] {
        let gate = Gate::new();
        let held = Arc::clone(&gate);
        let backend = Backend::answering(move |_| {
            held.wait();
            reply(200, FRESH, "one for all")
        });
        let weir = cached(&backend, "", &workers(count));
        let mut clients = crowd(&weir, MANY, &get("/cold"));
        eventually("the fetch is under way", || gate.waiting() == 1);
        gate.open();
        let mut collapsed = 0;
        for client in &mut clients {
            let response = client.response("GET").expect("everybody is answered");
            assert_eq!(response.text(), "one for all");
            collapsed += usize::from(cache_status(&response).contains("collapsed"));
        }
        assert!(collapsed > 0, "nobody followed");
        assert_eq!(backend.log().lines(), ["GET /cold HTTP/1.1"]);
        assert_hit(&weir.once(get("/cold")));
    }
}

#[test]
fn a_thousand_read_along_while_the_body_comes_in() {
    for count in [1, 2] {
        let gate = Gate::new();
        let held = Arc::clone(&gate);
        let backend = Backend::start(move |conn| {
            while conn.request().is_some() {
                conn.reply(format!(
                    "HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 9\r\n\r\nfirst"
                ));
                held.wait();
                conn.send("last");
            }
        });
        let weir = cached(&backend, "", &workers(count));
        let mut clients = crowd(&weir, MANY, &get("/slow"));
        for client in &mut clients {
            let head = client.wire().head().expect("the head comes at once");
            assert_eq!(head.get("content-length"), Some("9"));
            let first = client.wire().body(Framing::Length(5));
            assert_eq!(first, Ok(b"first".to_vec()), "before the body has ended");
        }
        assert_eq!(gate.waiting(), 1);
        gate.open();
        for client in &mut clients {
            let rest = client.wire().body(Framing::Length(4));
            assert_eq!(rest, Ok(b"last".to_vec()));
        }
        assert_eq!(backend.log().lines(), ["GET /slow HTTP/1.1"]);
    }
}

/// Who looked before a flight landed and joined after it must not fetch again.
#[test]
fn one_fetch_each_however_close_the_flights() {
    const URLS: usize = 400;
    const CLIENTS: usize = 8;
    let backend = Backend::answering(|_| reply(200, FRESH, "quick"));
    let weir = cached(&backend, "", &workers(2));
    let barrier = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(weir.port);
                for url in 0..URLS {
                    let raw = get_with(&format!("/{url}"), "Accept: */*\r\n");
                    barrier.wait();
                    let response = client.ask(raw).expect("it is answered");
                    assert_eq!(response.text(), "quick");
                }
            });
        }
    });
    assert_eq!(backend.log().requests.len(), URLS);
}

/// Requests for what cannot be shared must not run one after the other.
#[test]
fn uncacheable_answers_release_all_who_wait() {
    const CROWD: usize = 100;
    for fields in [
        "Cache-Control: no-store\r\n",
        "Cache-Control: private, max-age=60\r\n",
        "Cache-Control: max-age=60\r\nSet-Cookie: id=1\r\n",
        "Cache-Control: max-age=60\r\nVary: *\r\n",
        "",
    ] {
        let (first, rest) = (Gate::new(), Gate::new());
        let (one, others) = (Arc::clone(&first), Arc::clone(&rest));
        let count = Arc::new(AtomicUsize::new(0));
        let backend = Backend::answering(move |_| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            if number == 0 {
                one.wait();
            } else {
                others.wait();
            }
            reply(200, fields, &number.to_string())
        });
        let weir = cached(&backend, "", &workers(2));
        let mut clients = crowd(&weir, CROWD, &get("/own"));
        eventually("one fetches for all", || first.waiting() == 1);
        first.open();
        eventually("then all fetch at once", || rest.waiting() == CROWD - 1);
        rest.open();
        let mut bodies: Vec<String> = clients
            .iter_mut()
            .map(|c| c.response("GET").expect("all are answered").text())
            .collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), CROWD, "{fields:?}: an answer was shared");
        // It is remembered: nobody waits for another.
        let mut later = crowd(&weir, 3, &get("/own"));
        for client in &mut later {
            let response = client.response("GET").expect("it is answered");
            assert!(!cache_status(&response).contains("hit"), "{fields:?}");
        }
    }
}

/// A later part of a body must not be asked of one reader's pace: each has its own.
#[test]
fn a_reader_that_takes_nothing_holds_up_nobody_of_a_stored_body() {
    const SIZE: usize = 6 << 20;
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::answering(move |_| {
        held.wait();
        reply(200, FRESH, &"b".repeat(SIZE))
    });
    let weir = cached(&backend, "", "");
    let mut slow = crowd(&weir, 1, &get("/large"));
    let mut quick = crowd(&weir, 3, &get("/large"));
    eventually("it is under way", || gate.waiting() == 1);
    gate.open();
    for client in &mut quick {
        let response = client.response("GET").expect("it comes whole");
        assert_eq!(response.message.body.len(), SIZE);
    }
    let response = slow[0].response("GET").expect("it comes late and whole");
    assert_eq!(response.message.body.len(), SIZE);
    assert_eq!(backend.log().requests.len(), 1);
}

/// The client's pace is not the backend's: while a backend is slow, nobody can blame its reader.
#[test]
fn a_slow_backend_is_not_a_slow_reader() {
    let gate = Gate::new();
    let backend = in_two_pieces(&gate, FRESH);
    let weir = cached(
        &backend,
        "",
        r#""timeouts": {"body": "200ms", "body_gap": "30s"}"#,
    );
    let mut clients = crowd(&weir, 3, &get("/slow"));
    for client in &mut clients {
        client.wire().head().expect("the head comes");
        client.wire().skip(8 + 2).expect("the first chunk comes");
    }
    // Longer than a client may leave what it was sent: only by this can the defect be seen.
    std::thread::sleep(std::time::Duration::from_millis(900));
    gate.open();
    for client in &mut clients {
        let rest = client.wire().body(Framing::Chunked);
        assert_eq!(rest, Ok(b"last".to_vec()));
    }
}

/// An error is one for all who waited, and nobody stays behind it.
#[test]
fn a_dead_backend_answers_all_who_wait() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::start(move |conn| {
        if conn.request().is_some() {
            held.wait();
        }
    });
    let weir = cached(&backend, "", "");
    let mut clients = crowd(&weir, 50, &get("/dead"));
    eventually("it is under way", || gate.waiting() >= 1);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").map(|r| r.status), Ok(502));
    }
}

/// A cold URL asked for in parts first: those who want all of it still share one fetch.
#[test]
fn a_part_before_does_not_part_the_crowd() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let ranged = |request: &Message| request.get("range").map(str::to_owned);
    let backend = Backend::answering(move |request| match ranged(request).as_deref() {
        Some("bytes=0-1") => reply(
            206,
            "Cache-Control: max-age=3600\r\nETag: \"v\"\r\nContent-Range: bytes 0-1/4\r\n",
            "ab",
        ),
        Some(_) => reply(
            416,
            "Cache-Control: max-age=3600\r\nContent-Range: bytes */4\r\n",
            "",
        ),
        None => {
            held.wait();
            reply(
                200,
                "Cache-Control: max-age=3600\r\nETag: \"v\"\r\n",
                "abcd",
            )
        }
    });
    let weir = cached(&backend, "", "");
    let part = weir.once(get_with("/parts", "Range: bytes=0-1\r\n"));
    assert_eq!((part.status, part.text().as_str()), (206, "ab"));
    let none = weir.once(get_with("/parts", "Range: bytes=100-\r\n"));
    assert_eq!(none.status, 416);
    backend.forget();
    let mut clients = crowd(&weir, 20, &get("/parts"));
    eventually("it is under way", || gate.waiting() >= 1);
    gate.open();
    for client in &mut clients {
        let response = client.response("GET").expect("it is answered");
        assert_eq!((response.status, response.text().as_str()), (200, "abcd"));
        assert_eq!(response.get("content-range"), None);
    }
    assert_eq!(backend.log().requests.len(), 1);
}
