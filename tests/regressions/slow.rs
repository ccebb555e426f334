//! Clients that are slow on purpose: a byte now and then is no progress, whichever way, and one that keeps the rate is served.
//! What is stalled holds little.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use http::{Request, Version};
use socket2::{Domain, Socket, Type};

use super::{Logged, nothing_runs, pass};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get, post};
use crate::support::eventually;
use crate::support::secure::{Authority, Folder};
use crate::support::tls::{Meeting, h2};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

/// A kilobyte a second, over a second.
const MINDS: &str =
    r#""limits": {"min_rate": "1KiB"}, "timeouts": {"rate_window": "1s", "body": "1s"}"#;

fn minding<'a>() -> Extra<'a> {
    Extra {
        listener: MINDS,
        upstream: r#""max_in_flight": 1, "buffer_request": "off""#,
        ..Extra::default()
    }
}

/// Answers `/n` with a body of `n` bytes, and everything else with `ok`.
fn large() -> Backend {
    Backend::answering(|request| {
        let target = request.start.split(' ').nth(1).unwrap_or_default();
        let size: usize = target[1..].parse().unwrap_or_default();
        match size {
            0 => reply(200, "", "ok"),
            size => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
                let mut bytes = head.into_bytes();
                bytes.resize(bytes.len() + size, b'a');
                bytes
            }
        }
    })
}

/// A connection whose system takes little of what nobody reads.
fn narrow(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .set_recv_buffer_size(16 << 10)
        .expect("it takes a size");
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&to.into()).expect("the proxy accepts");
    TcpStream::from(socket)
}

#[test]
fn a_body_that_drips_is_given_up_and_one_that_keeps_the_rate_is_not() {
    let backend = Backend::ok();
    let logged = Logged::start(&backend, minding());
    let mut client = Client::connect(logged.weir.port);
    client.send("POST /drip HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let mut drops = 0;
    while drops < 200 && !client.wire().has_more() {
        client.send("x");
        drops += 1;
        pass(50);
        let mut byte = [0];
        client
            .wire()
            .stream()
            .set_nonblocking(true)
            .expect("it is a socket");
        let seen = client.wire().stream().peek(&mut byte);
        client
            .wire()
            .stream()
            .set_nonblocking(false)
            .expect("it is a socket");
        if seen.is_ok() {
            break;
        }
    }
    assert!(drops < 200, "a client that drips is still there");
    assert_eq!(client.response("POST").map(|r| r.status), Ok(408));
    let line = logged.line("/drip");
    assert!(line.contains(r#""cause":"client_slow""#), "{line}");
    let counted = "weir_refused_total{listener=\"web\",cause=\"client_slow\"}";
    assert_eq!(logged.weir.count(counted), 1);
    nothing_runs(&logged.weir);
    // Several times the rate, for longer than the window.
    let mut client = Client::connect(logged.weir.port);
    client.send("POST /keep HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n");
    for _ in 0..20 {
        client.send("y".repeat(1000));
        pass(100);
    }
    assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
}

#[test]
fn the_time_of_a_slow_backend_is_not_the_clients() {
    // It reads the body only after several windows.
    let backend = Backend::start(|conn| {
        while conn.head().is_some() {
            pass(4000);
            if conn.wire().skip(8_000_000).is_err() {
                return;
            }
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], minding()));
    let body = "z".repeat(8_000_000);
    assert_eq!(weir.once(post("/slowly", &body)).status, 200);
}

#[test]
fn an_answer_that_is_hardly_read_is_given_up() {
    let backend = large();
    let logged = Logged::start(&backend, minding());
    let mut stream = narrow(logged.weir.port);
    stream
        .write_all(get("/64000000").as_bytes())
        .expect("it is sent");
    let mut byte = [0];
    eventually("its place is free", || {
        // It reads, though hardly.
        let _ = stream.read(&mut byte);
        logged
            .weir
            .count("weir_upstream_in_flight{upstream=\"app\"}")
            == 0
    });
    let line = logged.line("/64000000");
    let named = ["client_slow", "client_timeout"].map(|c| line.contains(c));
    assert!(named.contains(&true), "{line}");
    assert_eq!(logged.weir.once(get("/")).status, 200);
}

#[test]
fn a_slow_reader_that_keeps_the_rate_gets_all() {
    let backend = large();
    let weir = Weir::start(&config(&[backend.port], minding()));
    // More than the system holds, which wakes who writes only after a large step.
    let size = 5_000_000;
    let mut stream = narrow(weir.port);
    stream
        .write_all(get(&format!("/{size}")).as_bytes())
        .expect("it is sent");
    let (mut read, mut piece) = (0, vec![0; 40_000]);
    while read < size {
        match stream.read(&mut piece).expect("the answer goes on") {
            0 => panic!("it broke off after {read} bytes"),
            n => read += n,
        }
        pass(5);
    }
}

/// What waits in the layer of TLS is the client's to take as well.
#[test]
fn over_tls_an_answer_whose_end_is_not_read_is_given_up() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let served = authority.issue(&["a.example"]);
    let certificate = folder.write("server.pem", &served.pem);
    let key = folder.write("server.key", &served.key_pem);
    let backend = large();
    let tls = format!(
        r#""tls": {{"certificates": [{{"certificate": "{certificate}", "key": "{key}"}}]}}, {MINDS}"#
    );
    let extra = Extra {
        listener: &tls,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let meeting = Meeting::of(&authority, "a.example");
    let mut open = Vec::new();
    // Where the end of a body lies when its client stalls differs: with the backend, in our buffers, in those of TLS.
    for size in (50_000..6_000_000).step_by(250_000) {
        let mut tls = meeting.connect(weir.port).expect("they shake hands");
        write!(
            tls.0,
            "GET /{size} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        )
        .expect("it is sent");
        tls.0.flush().expect("it is sent");
        open.push(tls);
    }
    eventually("every connection has ended", || {
        weir.count("weir_connections{listener=\"web\"}") == 0
    });
    drop(open);
}

fn ask(path: &str) -> Request<()> {
    let request = Request::builder().version(Version::HTTP_2).method("POST");
    let request = request.uri(format!("http://a.example{path}"));
    request.body(()).expect("a request")
}

#[test]
fn over_http_2_a_body_of_single_bytes_is_given_up() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], minding()));
    h2(weir.port, async |mut client| {
        let (response, mut body) = client
            .send_request(ask("/drip"), false)
            .expect("it is sent");
        let mut response = std::pin::pin!(response);
        loop {
            // The stream may be gone already.
            let _ = body.send_data(Bytes::from_static(b"x"), false);
            let pause = tokio::time::sleep(std::time::Duration::from_millis(50));
            tokio::select! {
                biased;
                answer = &mut response => {
                    assert_eq!(answer.expect("an answer").status(), 408);
                    return;
                }
                () = pause => {}
            }
        }
    });
    nothing_runs(&weir);
}

#[test]
fn over_http_2_a_window_that_opens_by_single_bytes_is_no_progress() {
    let backend = large();
    let weir = Weir::start(&config(&[backend.port], minding()));
    h2(weir.port, async |mut client| {
        let (response, _) = client
            .send_request(ask("/9000000"), true)
            .expect("it is sent");
        let mut body = response.await.expect("an answer").into_body();
        loop {
            let pause = tokio::time::sleep(std::time::Duration::from_millis(50));
            tokio::select! {
                biased;
                piece = body.data() => match piece {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        assert!(error.is_reset(), "{error}");
                        return;
                    }
                    None => panic!("it has all been sent"),
                },
                () = pause => {
                    let _ = body.flow_control().release_capacity(1);
                }
            }
        }
    });
    nothing_runs(&weir);
    assert_eq!(weir.once(get("/")).status, 200);
}

#[test]
fn a_preface_and_nothing_behind_it_is_closed() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""timeouts": {"header": "300ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for start in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PR", "\r\n"] {
        let mut client = Client::connect(weir.port);
        client.send(start);
        let mut end = Ok(());
        eventually("it is closed", || {
            // A line now and then is no request, and neither is the beginning of one.
            if start == "\r\n" {
                client.send(start);
                pass(100);
                client
                    .wire()
                    .stream()
                    .set_nonblocking(true)
                    .expect("it is a socket");
                let mut byte = [0];
                let seen = client.wire().stream().peek(&mut byte);
                return matches!(seen, Ok(0))
                    || seen.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
            }
            end = client.wire().fill();
            end.is_err()
        });
        assert!(
            matches!(end, Ok(()) | Err(Broken::Closed)),
            "{start:?}: {end:?}"
        );
    }
}

/// How much a stalled download holds in the proxy: 100 MB each, of which nobody reads more than the head.
#[test]
fn a_stalled_download_holds_little() {
    const CLIENTS: usize = 60;
    let backend = Backend::start(|conn| {
        while conn.head().is_some() {
            if !conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n") {
                return;
            }
            let piece = vec![b'a'; 1 << 20];
            while conn.send(&piece) {}
        }
    });
    for http2 in [false, true] {
        let weir = Weir::start(&config(&[backend.port], Extra::default()));
        let warm = || {
            let mut stream = narrow(weir.port);
            stream
                .write_all(get("/warm").as_bytes())
                .expect("it is sent");
            stream
        };
        // What a first request brings with it is no part of the others.
        let first: Vec<_> = (0..4).map(|_| warm()).collect();
        pass(500);
        let before = weir.resident();
        let mut stalled = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = narrow(weir.port);
            if http2 {
                // The preface, settings with windows of 1 GiB, the same for the connection, and a GET of `/`.
                stream
                    .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                    .expect("it is sent");
                stream
                    .write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x40, 0, 0, 0])
                    .expect("it is sent");
                stream
                    .write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x3f, 0, 0, 0])
                    .expect("it is sent");
                let block = b"\x82\x86\x84\x41\x01a";
                stream
                    .write_all(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1])
                    .expect("it is sent");
                stream.write_all(block).expect("it is sent");
            } else {
                stream.write_all(get("/").as_bytes()).expect("it is sent");
            }
            stalled.push(stream);
        }
        let wanted = (CLIENTS + first.len()) as u64;
        eventually("all are being answered", || {
            weir.count("weir_upstream_in_flight{upstream=\"app\"}") == wanted
        });
        pass(2000);
        let each = weir.resident().saturating_sub(before) / CLIENTS as u64;
        // The library of HTTP/2 has buffers of its own for each connection.
        let bound = if http2 { 192 << 10 } else { 96 << 10 };
        assert!(each <= bound, "{each} bytes each, HTTP/2: {http2}");
    }
}
