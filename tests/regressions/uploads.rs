//! Uploads whose answer begins before their end: whoever stalls or leaves then, the exchange ends and its place is free.

use std::io::Write;

use super::{nothing_runs, pass};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

/// A request whose body never comes whole, and the head of the answer that comes meanwhile.
const UPLOAD: &str =
    "POST /upload HTTP/1.1\r\nHost: test.example\r\nContent-Length: 100000\r\n\r\nthe beginning";

/// Answers an upload from its head alone with the beginning of a body, then reads what comes until its connection ends.
fn early() -> Backend {
    Backend::start(|conn| {
        while let Some(request) = conn.head() {
            if request.start.starts_with("POST /upload ") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nearly");
                conn.wait_for_close();
                return;
            }
            conn.reply(reply(200, "", "ok"));
        }
    })
}

/// Sends the upload's beginning, and reads the beginning of its answer.
fn begun(weir: &Weir) -> Client {
    let mut client = Client::connect(weir.port);
    client.send(UPLOAD);
    let head = client.wire().head().expect("the answer begins");
    assert_eq!(head.start, "HTTP/1.1 200 OK");
    client.wire().skip(5).expect("its first piece comes");
    client
}

/// Waits until the backend has no connection that an upload holds.
fn ends_at(backend: &Backend, weir: &Weir) {
    eventually("the backend sees its connection end", || {
        backend.log().open == 0
    });
    nothing_runs(weir);
}

#[test]
fn an_exchange_in_which_both_sides_stall_ends_by_itself() {
    let backend = early();
    let extra = Extra {
        listener: r#""timeouts": {"body": "1s"}"#,
        upstream: r#""timeouts": {"body_gap": "1s"}, "max_in_flight": 1, "buffer_request": "off""#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = begun(&weir);
    ends_at(&backend, &weir);
    // The answer has begun, so that its end can only be a cut.
    assert_eq!(client.wire().fill(), Err(Broken::Closed));
    assert_eq!(weir.once(get("/next")).status, 200);
}

#[test]
fn a_client_that_leaves_within_its_upload_ends_the_request_that_is_being_answered() {
    let backend = early();
    let extra = Extra {
        // What would end it otherwise is off, or beyond any test's patience.
        listener: r#""timeouts": {"body": "off"}"#,
        upstream: r#""timeouts": {"body_gap": "off"}, "max_in_flight": 1, "buffer_request": "off", "queue": {"timeout": "60s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for _ in 0..5 {
        drop(begun(&weir));
        ends_at(&backend, &weir);
    }
    // The same when it had sent another piece just before.
    for _ in 0..5 {
        let mut client = begun(&weir);
        client.send("a little more");
        drop(client);
        ends_at(&backend, &weir);
    }
    assert_eq!(weir.once(get("/next")).status, 200);
}

/// A peer that has closed answers what is sent to it with a reset; one that lingers reads it.
fn has_gone(client: &mut Client) -> bool {
    client.wire().stream().write_all(b".").is_err()
}

/// Lingering is for bodies that were left unread. It is told by order: one that must linger was there first, and goes last.
#[test]
fn a_chunked_upload_that_was_read_to_its_end_does_not_linger() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""limits": {"body": "1KiB"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut refused = Client::connect(weir.port);
    let large = "POST / HTTP/1.1\r\nHost: test.example\r\nContent-Length: 2000\r\n\r\n";
    assert_eq!(refused.ask(large).map(|r| r.status), Ok(413));
    assert!(refused.is_closed_by_peer());
    // Were it to linger as long, the second one would now be half a second behind.
    pass(500);
    let mut read = Client::connect(weir.port);
    let chunked = "POST / HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nbody\r\n0\r\n\r\n";
    assert_eq!(read.ask(chunked).map(|r| r.status), Ok(200));
    assert!(read.is_closed_by_peer());
    let mut first_gone = false;
    eventually("the second one is closed", || {
        first_gone = first_gone || has_gone(&mut refused);
        let second_gone = has_gone(&mut read);
        assert!(second_gone || !first_gone, "it lingers as well");
        second_gone
    });
}
