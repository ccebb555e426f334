//! Streams and connections that end before their time: what is tried again, and what a client hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::Builder;

use super::{echo, weir, weir_to};
use crate::support::client::{Client, get, post};
use crate::support::streams::{
    Asked, RST_STREAM, bare_ok, by_hand, frame, go_away, ok, ok_with, send, server,
};
use crate::support::wire::Broken;
use crate::support::{eventually, free_port};

#[test]
fn what_a_leaving_backend_has_not_processed_is_sent_again() {
    // Its first connection leaves with the second stream, and says that it saw the first alone.
    let server = by_hand(|connection, stream| {
        Some(match (connection, stream) {
            (0, 3) => go_away(1),
            _ => bare_ok(stream),
        })
    });
    let weir = weir(&[&server], "");
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(server.connections(), 1);
    let posted = weir.once(post("/", "body"));
    assert_eq!(posted.status, 200, "{posted:?}");
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_backend_that_always_leaves_is_no_endless_loop() {
    let server = by_hand(|_, _| Some(go_away(0)));
    let weir = weir(&[&server], r#""back_off": {"base": "0s", "max": "0s"},"#);
    for _ in 0..3 {
        let response = weir.once(post("/", "body"));
        assert_eq!(response.status, 502, "{response:?}");
    }
    assert!(server.connections() <= 12, "{}", server.connections());
}

#[test]
fn what_was_under_way_when_a_backend_leaves_is_answered() {
    let server = by_hand(|connection, stream| {
        Some(match connection {
            0 => [go_away(stream), bare_ok(stream)].concat(),
            _ => bare_ok(stream),
        })
    });
    let weir = weir(&[&server], "");
    for _ in 0..3 {
        assert_eq!(weir.once(post("/", "body")).status, 200);
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_refused_stream_is_tried_elsewhere_whatever_its_method() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let full = server(Builder::new(), move |(_, mut respond): Asked| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { respond.send_reset(Reason::REFUSED_STREAM) }
    });
    let (other, _) = echo();
    let weir = weir(&[&full, &other], r#""retry": {"budget_per_second": 1000},"#);
    for _ in 0..6 {
        let response = weir.once(post("/", "body"));
        assert_eq!((response.status, response.text().as_str()), (200, "body"));
    }
    // It is asked at every turn: to refuse is not to be dead.
    assert_eq!(refused.load(Ordering::SeqCst), 3);
}

#[test]
fn what_one_backend_refused_is_whole_after_another_could_not_be_reached() {
    let full = server(
        Builder::new(),
        |(mut request, mut respond): Asked| async move {
            // Some of the body was taken from the client by then.
            assert!(request.body_mut().data().await.is_some());
            respond.send_reset(Reason::REFUSED_STREAM);
        },
    );
    let (other, _) = echo();
    let ports = [full.port, free_port(), other.port];
    let upstream = r#""back_off": {"base": "0s", "max": "0s"},
        "retry": {"attempts": 2, "budget_per_second": 1000},"#;
    let weir = weir_to(&ports, upstream);
    for _ in 0..6 {
        let response = weir.once(post("/", "body"));
        assert_eq!((response.status, response.text().as_str()), (200, "body"));
    }
}

#[test]
fn a_stream_that_was_reset_otherwise_is_tried_again_only_if_idempotent() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let broken = by_hand(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let internal_error = 2_u32.to_be_bytes();
        Some(frame(RST_STREAM, 0, stream, &internal_error))
    });
    let (other, heads) = echo();
    let upstream =
        r#""back_off": {"base": "0s", "max": "0s"}, "retry": {"budget_per_second": 1000},"#;
    let weir = weir(&[&broken, &other], upstream);
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let statuses: Vec<u16> = (0..4)
        .map(|_| weir.once(post("/", "body")).status)
        .collect();
    let failed = statuses.iter().filter(|s| **s == 502).count();
    assert_eq!(asked.load(Ordering::SeqCst), 1 + failed, "{statuses:?}");
    assert!(failed > 0, "{statuses:?}");
    assert_eq!(heads.lock().expect("no panic holds it").len(), 5 - failed);
}

#[test]
fn a_stream_reset_within_its_body_breaks_the_response() {
    let server = server(Builder::new(), |(request, mut respond): Asked| async move {
        let known = request.uri().path() == "/known";
        let head = if known {
            ok_with("content-length", "1000")
        } else {
            ok()
        };
        let Ok(mut stream) = respond.send_response(head, false) else {
            return;
        };
        send(&mut stream, Bytes::from_static(b"some")).await;
        // The piece is on its way before the reset overtakes it.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    });
    let weir = weir(&[&server], "");
    for path in ["/known", "/chunked"] {
        let cut = Client::connect(weir.port).ask(get(path));
        assert_eq!(cut, Err(Broken::Truncated), "{path}");
    }
    // The connection is none the worse for it.
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_client_that_leaves_resets_its_stream() {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&gone);
    let server = server(Builder::new(), move |(_, mut respond): Asked| {
        let count = Arc::clone(&count);
        async move {
            if let Ok(mut stream) = respond.send_response(ok(), false) {
                send(&mut stream, Bytes::from_static(b"some")).await;
                let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                let cancelled = matches!(reset, Ok(Reason::CANCEL));
                count.fetch_add(usize::from(cancelled), Ordering::SeqCst);
            }
        }
    });
    let weir = weir(&[&server], "");
    let mut client = Client::connect(weir.port);
    client.send(get("/"));
    client.wire().head().expect("the head comes");
    drop(client);
    eventually("the backend hears of it", || {
        gone.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn an_early_answer_is_relayed() {
    let server = server(Builder::new(), |(_, mut respond): Asked| async move {
        let mut head = ok_with("content-length", "0");
        *head.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
        let _ = respond.send_response(head, true);
    });
    let weir = weir(&[&server], "");
    // More than any window, so that it could not be sent without being read.
    let body = "a".repeat(4 << 20);
    let response = Client::connect(weir.port).ask(post("/", &body));
    assert_eq!(response.map(|r| r.status), Ok(413));
}

#[test]
fn a_silent_backend_is_504_and_its_connection_not_used_again() {
    let server = by_hand(|connection, stream| {
        Some(if connection == 0 {
            Vec::new()
        } else {
            bare_ok(stream)
        })
    });
    let weir = weir(
        &[&server],
        r#""timeouts": {"first_byte": "200ms"}, "back_off": {"base": "0s", "max": "0s"},"#,
    );
    assert_eq!(weir.once(post("/", "body")).status, 504);
    assert_eq!(weir.once(post("/", "body")).status, 200);
    assert_eq!(server.connections(), 2);
}
