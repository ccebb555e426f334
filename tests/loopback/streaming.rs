//! Bodies flow both ways in pieces, at the pace of whoever reads slowest, and end when either side goes away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Framing;

/// What the proxy may hold beyond its memory at rest while a large body passes: buffers of sockets are the kernel's.
pub(super) const ROOM: u64 = 24 << 20;

/// A body that no buffer on the way would hold by accident.
pub(super) const LARGE: u64 = 256 << 20;

#[test]
fn a_response_arrives_before_its_end_is_written() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::start(move |conn| {
        if conn.request().is_some() {
            conn.reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            let _ = wait.lock().expect("one script at a time").recv();
            conn.send("4\r\nlast\r\n0\r\n\r\n");
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    client.send(get("/"));
    let head = client.wire().head().expect("the head comes at once");
    assert_eq!(head.get("transfer-encoding"), Some("chunked"));
    // The first chunk's size line and data: they are here although the backend waits for us.
    client
        .wire()
        .skip(3 + 5 + 2)
        .expect("the first chunk comes at once");
    go.send(()).expect("the backend waits");
    let rest = client.wire().body(Framing::Chunked);
    assert_eq!(rest, Ok(b"last".to_vec()));
}

#[test]
fn a_request_arrives_before_its_end_is_sent() {
    let (saw, seen) = mpsc::channel();
    let saw = Mutex::new(saw);
    let backend = Backend::start(move |conn| {
        if conn.head().is_some() {
            let framing = conn.wire().body(Framing::Length(5));
            let _ = saw.lock().expect("one script at a time").send(framing);
            let _ = conn.wire().body(Framing::Length(4));
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    client.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nfirst");
    assert_eq!(seen.recv(), Ok(Ok(b"first".to_vec())));
    client.send("last");
    assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
}

/// Waits until a counter has stood still for a while: whoever counts is blocked.
pub(super) fn stands_still(counter: &AtomicU64) {
    let mut last = 0;
    let mut same = 0;
    eventually("the writer is held back", || {
        std::thread::sleep(Duration::from_millis(20));
        let now = counter.load(Ordering::SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        now > 0 && same > 20
    });
}

#[test]
fn a_slow_reader_holds_the_backend_back_and_fills_no_memory() {
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    let backend = Backend::start(move |conn| {
        if conn.request().is_some() {
            conn.reply(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
            ));
            let piece = vec![b'a'; 1 << 20];
            while counter.load(Ordering::SeqCst) < LARGE && conn.send(&piece) {
                counter.fetch_add(1 << 20, Ordering::SeqCst);
            }
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let rest = weir.resident();
    let mut client = Client::connect(weir.port);
    client.send(get("/"));
    client.wire().head().expect("the head comes");
    stands_still(&written);
    let now = written.load(Ordering::SeqCst);
    assert!(now < LARGE / 2, "{now} bytes were taken that nobody read");
    let grown = weir.resident().saturating_sub(rest);
    assert!(grown < ROOM, "the proxy grew by {grown} bytes");
    client.wire().skip(LARGE).expect("then all of it comes");
    let grown = weir.resident().saturating_sub(rest);
    assert!(grown < ROOM, "the proxy grew by {grown} bytes");
}

#[test]
fn a_slow_backend_holds_the_client_back_and_fills_no_memory() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::start(move |conn| {
        if conn.head().is_some() {
            let _ = wait.lock().expect("one script at a time").recv();
            if conn.wire().skip(LARGE).is_ok() {
                conn.reply(reply(200, "", "ok"));
            }
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let rest = weir.resident();
    let mut client = Client::connect(weir.port);
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    let stream = client
        .wire()
        .stream()
        .try_clone()
        .expect("a socket can be shared");
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut stream = stream;
        let head = format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("the proxy reads");
        let piece = vec![b'a'; 1 << 20];
        while counter.load(Ordering::SeqCst) < LARGE {
            stream.write_all(&piece).expect("the proxy reads");
            counter.fetch_add(1 << 20, Ordering::SeqCst);
        }
    });
    stands_still(&written);
    let now = written.load(Ordering::SeqCst);
    assert!(now < LARGE / 2, "{now} bytes were taken that nobody read");
    let grown = weir.resident().saturating_sub(rest);
    assert!(grown < ROOM, "the proxy grew by {grown} bytes");
    go.send(()).expect("the backend waits");
    assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
    writer.join().expect("all of it was taken");
}

/// A backend that writes its whole answer before it reads, and a client that does the same: someone must pump both ways.
#[test]
fn both_directions_flow_at_once() {
    const SIZE: u64 = 8 << 20;
    let backend = Backend::start(|conn| {
        if conn.head().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
            let piece = vec![b'a'; 1 << 16];
            for _ in 0..SIZE >> 16 {
                // Echo's pace: as much out as in, so that neither side can finish first.
                if !conn.send(&piece) || conn.wire().skip(1 << 16).is_err() {
                    return;
                }
            }
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    let stream = client
        .wire()
        .stream()
        .try_clone()
        .expect("a socket can be shared");
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut stream = stream;
        let head = format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("the proxy reads");
        let piece = vec![b'a'; SIZE as usize];
        stream.write_all(&piece).expect("the proxy reads");
    });
    let head = client
        .wire()
        .head()
        .expect("the head comes while the body goes");
    assert_eq!(head.start, "HTTP/1.1 200 OK");
    client.wire().skip(SIZE).expect("the whole body comes");
    writer.join().expect("the whole body went");
}

#[test]
fn an_answer_before_the_body_was_read_reaches_the_client() {
    let backend = Backend::start(|conn| {
        if conn.head().is_some() {
            conn.reply(
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
            );
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    for _ in 0..20 {
        let mut client = Client::connect(weir.port);
        let length = 4 << 20;
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.send(vec![b'a'; 1 << 16]);
        let answer = client.response("POST").map(|r| (r.status, r.text()));
        assert_eq!(answer, Ok((403, "no".to_owned())));
    }
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let (saw, seen) = mpsc::channel();
    let saw = Mutex::new(saw);
    let backend = Backend::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.start.contains("/stays") {
                conn.reply(reply(200, "", "ok"));
                continue;
            }
            conn.wait_for_close();
            let _ = saw.lock().expect("nothing panics in it").send(());
            return;
        }
    });
    let extra = Extra {
        upstream: r#""max_in_flight": 1"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for round in 1..=5 {
        let mut client = Client::connect(weir.port);
        client.send(get("/leaves"));
        // Not by what runs there: the last round's end may not have been counted yet.
        eventually("the backend has it", || {
            backend.log().count("GET /leaves") == round
        });
        drop(client);
        assert_eq!(seen.recv(), Ok(()), "the backend's connection ends");
        // And its place is free again.
        assert_eq!(weir.once(get("/stays")).status, 200);
    }
}

#[test]
fn interim_100_lets_the_body_come() {
    let backend = Backend::answering(|request| reply(200, "", &request.text()));
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.any_response("POST").map(|r| r.status), Ok(100));
        client.send("body");
        assert_eq!(
            client.response("POST").map(|r| r.text()),
            Ok("body".to_owned())
        );
    }
    assert!(
        backend.log().broken.is_empty(),
        "{:?}",
        backend.log().broken
    );
}

/// Every length arrives whole, around the sizes of buffers.
#[test]
fn bodies_of_all_sizes_arrive_whole() {
    let backend = Backend::answering(|request| {
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        )
        .into_bytes();
        bytes.extend(&request.body);
        bytes
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    for size in [
        0,
        1,
        4095,
        4096,
        8191,
        8192,
        16_383,
        16_384,
        16_385,
        65_536,
        1 << 20,
    ] {
        let body: Vec<u8> = (0..size).map(|i: usize| (i % 251) as u8).collect();
        let mut raw =
            format!("PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {size}\r\n\r\n")
                .into_bytes();
        raw.extend(&body);
        let answer = client.ask(raw).map(|r| r.message.body == body);
        assert_eq!(answer, Ok(true), "a length of {size}");
        let mut raw =
            b"PUT / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in body.chunks(1000) {
            raw.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            raw.extend(piece);
            raw.extend(b"\r\n");
        }
        raw.extend(b"0\r\n\r\n");
        let answer = client.ask(raw).map(|r| r.message.body == body);
        assert_eq!(answer, Ok(true), "chunks of {size}");
    }
}

/// A response that ends with its connection (HTTP/1.0 backends) reaches the client with an end that it can tell.
#[test]
fn a_response_until_close_is_framed_anew() {
    let backend = Backend::start(|conn| {
        if conn.request().is_some() {
            conn.reply("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil close");
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    for _ in 0..5 {
        let response = client.ask(get("/")).expect("a whole response");
        assert_eq!(response.text(), "until close");
        assert_eq!(response.framing, Framing::Chunked);
    }
}
