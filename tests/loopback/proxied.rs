//! The PROXY protocol on real sockets, both ways. The headers are written here byte by byte, and not by the proxy's own code.

#![expect(
    clippy::disallowed_methods,
    reason = "tests on real sockets stand outside the seam: they are the world that it looks at"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::weir::{Extra, Weir, config};
use crate::support::{PATIENCE, eventually};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[command, family, 0, rest.len() as u8]);
    out.extend_from_slice(rest);
    out
}

/// 192.0.2.7:4000 to 198.51.100.1:80, and a TLV.
fn v2_of_ipv4() -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[192, 0, 2, 7, 198, 51, 100, 1, 15, 160, 0, 80, 4, 0, 1, 0],
    )
}

/// 2001:db8::7 to ::1.
fn v2_of_ipv6() -> Vec<u8> {
    let mut rest = [0; 36];
    (rest[..4]).copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    (rest[15], rest[31], rest[35]) = (7, 1, 80);
    v2(0x21, 0x21, &rest)
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\n";

/// A proxy behind a balancer on loopback, in front of a backend that tells what it was sent.
fn behind(extra: &str) -> (Backend, Weir) {
    let backend = Backend::mirror();
    let listener = format!(r#""proxy_protocol": {{"trusted": ["127.0.0.0/8"]}}{extra}"#);
    let extra = Extra {
        listener: &listener,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    (backend, weir)
}

/// What the backend was told of the client after this header.
#[track_caller]
fn forwarded_for(weir: &Weir, header: &[u8]) -> String {
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(get("/").as_bytes());
    let mut client = Client::connect(weir.port);
    client.send(bytes);
    let told = client.response("GET").expect("an answer").text();
    let line = told
        .lines()
        .find_map(|l| l.strip_prefix("x-forwarded-for: "));
    line.expect("the backend is told").to_owned()
}

#[test]
fn the_client_is_whom_the_header_names() {
    let (_backend, weir) = behind("");
    // The header and the request in one segment: not a byte of it is lost.
    for (header, named) in [
        (V1.to_vec(), "192.0.2.7"),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4000 80\r\n".to_vec(),
            "2001:db8::7",
        ),
        (v2_of_ipv4(), "192.0.2.7"),
        (v2_of_ipv6(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x20, 0, &[]), "127.0.0.1"),
        (v2(0x20, 0x11, &[9; 12]), "127.0.0.1"),
        (v2(0x21, 0, &[]), "127.0.0.1"),
    ] {
        assert_eq!(forwarded_for(&weir, &header), named, "{header:?}");
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let (_backend, weir) = behind("");
    for header in [V1.to_vec(), v2_of_ipv4()] {
        let mut client = Client::connect(weir.port);
        for byte in header {
            client.send([byte]);
            std::thread::yield_now();
        }
        let told = client.ask(get("/")).expect("an answer").text();
        assert!(told.contains("x-forwarded-for: 192.0.2.7\n"), "{told}");
        // It was the connection's header, not the request's.
        let told = client.ask(get("/")).expect("an answer").text();
        assert!(told.contains("x-forwarded-for: 192.0.2.7\n"), "{told}");
    }
}

/// As nginx and HAProxy have it: whom the header names is the peer, and the balancer's own address is trusted with no more.
#[test]
fn trusted_proxies_are_judged_by_the_named_address() {
    let (_backend, weir) = behind(r#", "trusted_proxies": ["192.0.2.0/24"]"#);
    let told = |header: &[u8]| {
        let mut client = Client::connect(weir.port);
        client.send(header);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
        let told = client.response("GET").expect("an answer").text();
        let line = told
            .lines()
            .find_map(|l| l.strip_prefix("x-forwarded-for: "));
        line.expect("the backend is told").to_owned()
    };
    assert_eq!(told(V1), "203.0.113.9, 192.0.2.7");
    assert_eq!(told(b"PROXY UNKNOWN\r\n"), "127.0.0.1");
}

#[test]
fn whoever_sends_no_header_is_closed_and_served_nothing() {
    let (backend, weir) = behind("");
    let mut doubled = V1.to_vec();
    doubled.extend_from_slice(V1);
    for bytes in [
        get("/").into_bytes(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4000\r\n".to_vec(),
        v2(0x21, 0x12, &[9; 12]),
        v2(0x22, 0x11, &[9; 12]),
        vec![0; 200],
    ] {
        let mut client = Client::connect(weir.port);
        client.send(&bytes);
        assert!(client.is_closed_by_peer(), "{bytes:?}");
    }
    // A second header is no request.
    let mut client = Client::connect(weir.port);
    client.send(&doubled);
    client.send(get("/"));
    assert_eq!(client.response("GET").map(|r| r.status), Ok(400));
    assert!(backend.log().requests.is_empty());
}

#[test]
fn whoever_is_not_trusted_is_closed_with_a_header_or_without() {
    let backend = Backend::mirror();
    let extra = Extra {
        listener: r#""proxy_protocol": {"trusted": ["192.0.2.0/24", "::1"]}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for bytes in [V1.to_vec(), get("/").into_bytes()] {
        let mut client = Client::connect(weir.port);
        client.send(&bytes);
        assert!(client.is_closed_by_peer());
    }
    assert!(backend.log().requests.is_empty());
}

#[test]
fn a_header_that_does_not_come_ends_the_connection() {
    let (_backend, weir) = behind(r#", "timeouts": {"header": "100ms"}"#);
    for begun in [
        &b""[..],
        b"PROXY TCP4 192.0",
        &SIGNATURE[..5],
        &v2_of_ipv4()[..20],
    ] {
        let mut client = Client::connect(weir.port);
        client.send(begun);
        assert!(client.is_closed_by_peer());
    }
    // And it holds no place for ever.
    assert_eq!(forwarded_for(&weir, V1), "192.0.2.7");
}

#[test]
fn a_proxy_that_stops_does_not_wait_for_headers() {
    let (_backend, mut weir) = behind("");
    let mut client = Client::connect(weir.port);
    client.send(&V1[..9]);
    weir.signal("TERM");
    assert!(weir.wait().success());
    assert!(client.is_closed_by_peer());
}

/// A backend that answers every connection's first request, and the bytes that it was sent.
fn raw_backend(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().expect("the proxy connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    while !seen.ends_with(b"\r\n\r\n") || seen.len() <= 16 {
        let n = stream.read(&mut chunk).expect("it sends");
        assert!(n > 0, "it closed after {seen:?}");
        seen.extend_from_slice(&chunk[..n]);
    }
    stream.write_all(&reply(200, "", "ok")).expect("it reads");
    // The proxy closes, though the response would let it keep the connection.
    assert_eq!(stream.read(&mut chunk).ok(), Some(0));
    seen
}

/// Two requests of one client: what a backend saw of each, and the ports of both ends.
fn outgoing(version: &str) -> ([Vec<u8>; 2], u16, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let upstream = format!(r#""proxy_protocol": "{version}", "timeouts": {{"idle": "60s"}}"#);
    let extra = Extra {
        upstream: &upstream,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[port], extra));
    let backend = std::thread::spawn(move || [raw_backend(&listener), raw_backend(&listener)]);
    let mut client = Client::connect(weir.port);
    for _ in 0..2 {
        assert_eq!(client.ask(get("/")).map(|r| r.status), Ok(200));
    }
    let own: &TcpStream = client.wire().stream();
    let from = own.local_addr().expect("connected").port();
    (backend.join().expect("both came"), from, weir.port)
}

#[test]
fn a_backend_is_told_of_the_client_by_a_line() {
    let (seen, from, to) = outgoing("v1");
    for seen in seen {
        let text = String::from_utf8(seen).expect("text");
        let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n");
        let request = text.strip_prefix(&line).expect("it begins so");
        assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{text}");
        assert!(
            request
                .to_ascii_lowercase()
                .contains("\r\nconnection: close\r\n"),
            "{text}"
        );
    }
}

#[test]
fn a_backend_is_told_of_the_client_in_binary() {
    let (seen, from, to) = outgoing("v2");
    for seen in seen {
        let mut rest = vec![127, 0, 0, 1, 127, 0, 0, 1];
        rest.extend_from_slice(&from.to_be_bytes());
        rest.extend_from_slice(&to.to_be_bytes());
        let request = seen.strip_prefix(&v2(0x21, 0x11, &rest)[..]);
        assert!(
            request
                .expect("it begins so")
                .starts_with(b"GET / HTTP/1.1\r\n")
        );
    }
}

/// What a balancer in front named goes on to the backend behind.
#[test]
fn what_was_named_is_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let extra = Extra {
        listener: r#""proxy_protocol": {"trusted": ["127.0.0.1"]}"#,
        upstream: r#""proxy_protocol": "v1""#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[port], extra));
    let backend = std::thread::spawn(move || raw_backend(&listener));
    let mut client = Client::connect(weir.port);
    client.send(v2_of_ipv4());
    assert_eq!(client.ask(get("/")).map(|r| r.status), Ok(200));
    assert!(backend.join().expect("it came").starts_with(V1));
}

/// With one place in flight, each request has a connection of its own, and never two at once.
#[test]
fn connections_that_are_not_kept_stay_within_the_backends_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let text = config(
        &[],
        Extra {
            upstream: r#""proxy_protocol": "v2""#,
            ..Extra::default()
        },
    )
    .replace(
        "\"backends\": []",
        &format!(r#""backends": [{{"url": "http://127.0.0.1:{port}", "max_in_flight": 1}}]"#),
    );
    let weir = Weir::start(&text);
    let backend = std::thread::spawn(move || {
        for _ in 0..20 {
            raw_backend(&listener);
        }
    });
    let port = weir.port;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                for _ in 0..5 {
                    assert_eq!(client.ask(get("/")).map(|r| r.status), Ok(200));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("all answered");
    }
    backend.join().expect("one after another");
    eventually("all are closed", || {
        let metrics = weir.admin("/metrics").text();
        let open = metrics
            .lines()
            .find(|l| l.starts_with("weir_backend_open_connections{"));
        open.is_some_and(|l| l.ends_with(" 0"))
    });
}
