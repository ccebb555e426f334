//! Bodies that break off, are too large, or bring more than a body: what is not whole is never stored, and nobody takes it for
//! whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Gate, assert_hit, cached, crowd};
use crate::support::backend::{Backend, reply};
use crate::support::client::{cache_status, get};
use crate::support::eventually;
use crate::support::wire::{Broken, Framing};

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

#[test]
fn a_body_that_breaks_off_is_whole_for_nobody_and_stored_nowhere() {
    let chunked = "Transfer-Encoding: chunked";
    for (framing, piece, tail) in [
        (chunked, "5\r\nfirst\r\n", ""),
        (chunked, "5\r\nfirst\r\n", "zz\r\n"),
        (chunked, "5\r\nfirst\r\n", "0\r\nX-Trailer"),
        (chunked, "5\r\nfirst\r\n", "4\r\nlast"),
        (chunked, "5\r\nfirst\r\n", "4\r\nlast0\r\n\r\n"),
        ("Content-Length: 9", "first", ""),
        ("Content-Length: 9", "first", "las"),
    ] {
        let gate = Gate::new();
        let held = Arc::clone(&gate);
        let count = Arc::new(AtomicUsize::new(0));
        let backend = Backend::start(move |conn| {
            while conn.request().is_some() {
                if count.fetch_add(1, Ordering::SeqCst) > 0 {
                    conn.reply(reply(200, FRESH, "all of it"));
                    continue;
                }
                conn.reply(format!(
                    "HTTP/1.1 200 OK\r\n{FRESH}{framing}\r\n\r\n{piece}"
                ));
                held.wait();
                conn.send(tail);
                return;
            }
        });
        let weir = cached(&backend, "", "");
        let mut clients = crowd(&weir, 10, &get("/broken"));
        for client in &mut clients {
            client.wire().head().expect("all of them read along");
        }
        gate.open();
        for client in &mut clients {
            let body = client.wire().body(match framing {
                "Content-Length: 9" => Framing::Length(9),
                _ => Framing::Chunked,
            });
            assert_eq!(body, Err(Broken::Truncated), "{piece:?} {tail:?}");
        }
        let next = weir.once(get("/broken"));
        assert_eq!(next.text(), "all of it", "{piece:?} {tail:?}");
        assert!(!cache_status(&next).contains("hit"), "{piece:?} {tail:?}");
        assert_hit(&weir.once(get("/broken")));
    }
}

/// What ends with its connection may have been cut off, and nothing tells.
#[test]
fn a_body_that_ends_with_its_connection_is_not_stored() {
    let backend = Backend::start(move |conn| {
        if conn.request().is_some() {
            conn.reply(format!("HTTP/1.1 200 OK\r\n{FRESH}\r\nwho knows"));
        }
    });
    let weir = cached(&backend, "", "");
    for _ in 0..2 {
        let response = weir.once(get("/open"));
        assert_eq!(response.text(), "who knows");
        assert!(!cache_status(&response).contains("hit"));
    }
    assert_eq!(backend.log().requests.len(), 2);
}

#[test]
fn what_is_larger_than_an_object_may_be_passes_through() {
    const SIZE: usize = 3 << 20;
    for chunked in [false, true] {
        let backend = Backend::answering(move |_| {
            if !chunked {
                return reply(200, FRESH, &"c".repeat(SIZE));
            }
            let mut out = format!("HTTP/1.1 200 OK\r\n{FRESH}Transfer-Encoding: chunked\r\n\r\n")
                .into_bytes();
            for _ in 0..SIZE / 0x10000 {
                out.extend_from_slice(b"10000\r\n");
                out.extend_from_slice(&[b'c'; 0x10000]);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
            out
        });
        let weir = cached(&backend, r#""max_object": "1MiB""#, "");
        for round in 1..=2 {
            let mut clients = crowd(&weir, 4, &get("/huge"));
            for client in &mut clients {
                let response = client.response("GET").expect("it comes whole");
                assert_eq!(response.message.body.len(), SIZE);
                assert!(response.message.body.iter().all(|b| *b == b'c'));
                assert!(!cache_status(&response).contains("hit"), "round {round}");
            }
        }
    }
}

#[test]
fn the_largest_object_is_stored_and_one_byte_more_is_not() {
    let backend = Backend::answering(|request| {
        let more = usize::from(request.start.contains("/more"));
        reply(200, FRESH, &"d".repeat(65536 + more))
    });
    let weir = cached(&backend, r#""max_object": "64KiB""#, "");
    for _ in 0..2 {
        assert_eq!(weir.once(get("/just")).message.body.len(), 65536);
        assert_eq!(weir.once(get("/more")).message.body.len(), 65537);
    }
    let log = backend.log();
    assert_eq!((log.count("GET /just "), log.count("GET /more ")), (1, 2));
}

/// Distinct URLs without end: old entries give way, and the process does not grow with them.
#[test]
fn memory_is_bounded_under_urls_without_end() {
    const LIMIT: u64 = 8 << 20;
    const BODY: usize = 64 << 10;
    let backend = Backend::answering(|_| reply(200, FRESH, &"e".repeat(BODY)));
    let weir = cached(&backend, r#""memory": "8MiB""#, "");
    let mut client = crate::support::client::Client::connect(weir.port);
    let mut ask = |from: usize, to: usize| {
        for url in from..to {
            let response = client.ask(get(&format!("/{url}"))).expect("it is answered");
            assert_eq!(response.message.body.len(), BODY);
        }
    };
    ask(0, 400);
    let before = weir.resident();
    ask(400, 2000);
    let grown = weir.resident().saturating_sub(before);
    assert!(grown < LIMIT, "100 MiB of bodies left {grown} bytes behind");
    // The latest are there, the first are gone.
    backend.forget();
    assert_hit(&weir.once(get("/1999")));
    assert!(!cache_status(&weir.once(get("/0"))).contains("hit"));
}

/// Many small pieces are as good as one: what each of them costs is bounded too.
#[test]
fn a_body_in_crumbs_costs_no_more_than_its_share() {
    const CRUMBS: usize = 1_600_000;
    let backend = Backend::start(move |conn| {
        while conn.request().is_some() {
            conn.reply(format!(
                "HTTP/1.1 200 OK\r\n{FRESH}Transfer-Encoding: chunked\r\n\r\n"
            ));
            let some = "1\r\nf\r\n".repeat(1000);
            for _ in 0..CRUMBS / 1000 {
                conn.send(&some);
            }
            conn.send("0\r\n\r\n");
        }
    });
    let weir = cached(&backend, r#""memory": "8MiB""#, "");
    let before = weir.resident();
    for _ in 0..2 {
        let response = weir.once(get("/crumbs"));
        assert_eq!(response.message.body.len(), CRUMBS);
        assert!(
            !cache_status(&response).contains("hit"),
            "it takes more than a quarter of the memory"
        );
    }
    let grown = weir.resident().saturating_sub(before);
    // Held all at once, their handles alone would take 51 MB; the allocator keeps some 28 MB of what it had to give out.
    assert!(grown < 44 << 20, "{CRUMBS} bytes took {grown}");
}

#[test]
fn interim_answers_are_not_the_answer() {
    let backend = Backend::answering(|_| {
        let mut out =
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nCache-Control: no-store\r\n\r\n\
            HTTP/1.1 100 Continue\r\n\r\n"
                .to_vec();
        out.extend(reply(200, FRESH, "final"));
        out
    });
    let weir = cached(&backend, "", "");
    assert_eq!(weir.once(get("/hints")).text(), "final");
    let hit = weir.once(get("/hints"));
    assert_hit(&hit);
    assert_eq!((hit.text().as_str(), hit.get("link")), ("final", None));
}

#[test]
fn trailers_and_connection_fields_are_not_stored() {
    let backend = Backend::answering(|_| {
        format!(
            "HTTP/1.1 200 OK\r\n{FRESH}Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Authenticate: Basic\r\nTrailer: X-Sum\r\nX-Kept: yes\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\nbody\r\n0\r\nX-Sum: 9\r\nSet-Cookie: id=1\r\n\r\n"
        )
        .into_bytes()
    });
    let weir = cached(&backend, "", "");
    assert_eq!(weir.once(get("/fields")).text(), "body");
    let hit = weir.once(get("/fields"));
    assert_hit(&hit);
    assert_eq!(hit.text(), "body");
    assert_eq!(hit.framing, Framing::Length(4));
    assert_eq!(hit.get("x-kept"), Some("yes"));
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "x-sum",
        "set-cookie",
        "transfer-encoding",
    ] {
        assert_eq!(hit.get(name), None, "{name}");
    }
}

#[test]
fn a_part_that_nobody_asked_for_is_not_stored() {
    let backend = Backend::answering(|_| {
        reply(
            206,
            "Cache-Control: max-age=60\r\nETag: \"a\"\r\nContent-Range: bytes 0-3/8\r\n",
            "part",
        )
    });
    let weir = cached(&backend, "", "");
    for _ in 0..2 {
        let response = weir.once(get("/part"));
        assert_eq!((response.status, response.text().as_str()), (206, "part"));
    }
    assert_eq!(backend.log().requests.len(), 2);
}

#[test]
fn a_fill_under_way_is_finished_before_the_proxy_stops() {
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
    let mut weir = cached(&backend, "", "");
    let mut clients = crowd(&weir, 5, &get("/draining"));
    for client in &mut clients {
        client.wire().head().expect("the head comes");
    }
    weir.signal("TERM");
    eventually("it stops listening", || crate::support::refuses(weir.port));
    gate.open();
    for client in &mut clients {
        let body = client.wire().body(Framing::Length(9));
        assert_eq!(body, Ok(b"firstlast".to_vec()));
    }
    assert_eq!(weir.wait().code(), Some(0));
}
