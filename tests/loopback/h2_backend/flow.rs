//! Windows end to end: whoever is slow holds the other side back, and no memory fills.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use h2::server::Builder;

use super::weir;
use crate::loopback::streaming::{LARGE, ROOM, stands_still};
use crate::support::client::{Client, get};
use crate::support::streams::{Asked, Barrier, answer, ok, ok_with, read, send, server};

const PIECE: u64 = 1 << 20;

#[test]
fn a_slow_reader_holds_the_stream_back_and_no_other() {
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    let server = server(Builder::new(), move |(request, mut respond): Asked| {
        let counter = Arc::clone(&counter);
        async move {
            if request.uri().path() != "/large" {
                return answer(respond, ok(), "small");
            }
            let length = ok_with("content-length", LARGE.to_string().leak());
            let Ok(mut stream) = respond.send_response(length, false) else {
                return;
            };
            while counter.load(Ordering::SeqCst) < LARGE {
                let piece = Bytes::from(vec![b'a'; PIECE as usize]);
                if !send(&mut stream, piece).await {
                    return;
                }
                counter.fetch_add(PIECE, Ordering::SeqCst);
            }
            let _ = stream.send_data(Bytes::new(), true);
        }
    });
    let weir = weir(&[&server], "");
    let rest = weir.resident();
    let mut client = Client::connect(weir.port);
    client.send(get("/large"));
    client.wire().head().expect("the head comes");
    stands_still(&written);
    let now = written.load(Ordering::SeqCst);
    assert!(now < LARGE / 2, "{now} bytes were taken that nobody read");
    // Its neighbours on the connection go on.
    for _ in 0..20 {
        assert_eq!(weir.once(get("/small")).text(), "small");
    }
    assert_eq!(server.connections(), 1);
    client.wire().skip(LARGE).expect("then all of it comes");
    let grown = weir.resident().saturating_sub(rest);
    assert!(grown < ROOM, "the proxy grew by {grown} bytes");
}

#[test]
fn a_slow_backend_holds_the_client_back() {
    let barrier = Barrier::new();
    let gate = barrier.clone();
    let server = server(Builder::new(), move |(request, respond): Asked| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            if let Some((body, _)) = read(request.into_body()).await {
                answer(respond, ok(), &body.len().to_string());
            }
        }
    });
    let weir = weir(&[&server], "");
    let rest = weir.resident();
    let mut client = Client::connect(weir.port);
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    let stream = client.wire().stream().try_clone();
    let mut stream = stream.expect("a socket can be shared");
    let writer = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("the proxy reads");
        let piece = vec![b'a'; PIECE as usize];
        while counter.load(Ordering::SeqCst) < LARGE {
            stream.write_all(&piece).expect("the proxy reads");
            counter.fetch_add(PIECE, Ordering::SeqCst);
        }
    });
    stands_still(&written);
    let now = written.load(Ordering::SeqCst);
    assert!(now < LARGE / 2, "{now} bytes were taken that nobody read");
    let grown = weir.resident().saturating_sub(rest);
    assert!(grown < ROOM, "the proxy grew by {grown} bytes");
    barrier.open();
    let response = client.response("POST").expect("it is answered");
    assert_eq!(response.text(), LARGE.to_string());
    writer.join().expect("all of it was taken");
}
