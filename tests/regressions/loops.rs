//! A proxy that leads to itself, by HTTP, by a second proxy, by TCP and by UDP: the round is seen and ended the first time.

use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::tls::h2;
use crate::support::weir::{Extra, Weir, config};
use crate::support::{eventually, free_port};

use super::nothing_runs;

/// The plain config on this port.
fn on(port: u16, backends: &[u16], upstream: &str) -> String {
    let extra = Extra {
        upstream,
        ..Extra::default()
    };
    config(backends, extra).replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1)
}

#[track_caller]
fn assert_loop(weir: &Weir, response: &crate::support::client::Response) {
    assert_eq!(response.status, 508, "{response:?}");
    let why = response.get("proxy-status").unwrap_or_default();
    assert!(
        why.contains("error=proxy_loop_detected; details=\"loop\""),
        "{why}"
    );
    nothing_runs(weir);
}

#[test]
fn a_backend_that_is_the_proxy_itself_is_asked_once() {
    for upstream in [
        "",
        r#""via": "off""#,
        r#""max_in_flight": 1"#,
        r#""protocol": "http2""#,
    ] {
        let port = free_port();
        let weir = Weir::start(&on(port, &[port], upstream));
        for _ in 0..3 {
            assert_loop(&weir, &weir.once(get("/")));
        }
        let told = weir
            .stderr()
            .iter()
            .filter(|line| line.contains("comes back to this proxy"))
            .count();
        assert_eq!(told, 1, "{:?}", weir.stderr());
        h2(weir.port, async |mut client| {
            let request = http::Request::get("http://test.example/")
                .body(())
                .expect("a request");
            let (answer, _) = client.send_request(request, true).expect("it is sent");
            assert_eq!(answer.await.expect("an answer").status(), 508);
        });
    }
}

#[test]
fn two_proxies_that_lead_to_each_other_are_a_loop() {
    for upstream in ["", r#""via": "off""#] {
        let (one, other) = (free_port(), free_port());
        let first = Weir::start(&on(one, &[other], upstream));
        let second = Weir::start(&on(other, &[one], upstream));
        assert_loop(&first, &first.once(get("/")));
        assert_loop(&second, &second.once(get("/")));
    }
}

/// A chain that ends is none, also where it passes a proxy twice by different upstreams.
#[test]
fn a_way_that_ends_is_no_loop() {
    let backend = Backend::ok();
    let second = Weir::start(&config(&[backend.port], Extra::default()));
    let first = Weir::start(&config(&[second.port], Extra::default()));
    assert_eq!(first.once(get("/")).status, 200);
    assert_eq!(backend.log().requests[0].all("via").len(), 2);
    let port = free_port();
    let twice = format!(
        r#"{{"listeners": {{"web": {{"bind": "127.0.0.1:{port}"}}}}, "admin": {{"bind": "127.0.0.1:0"}},
        "upstreams": {{"again": {{"backends": ["http://127.0.0.1:{port}"]}}, "app": {{"backends": ["http://127.0.0.1:{}"]}}}},
        "routes": [
            {{"match": {{"path": {{"prefix": "/outer"}}}}, "upstream": "again",
                "replace_prefix": {{"from": "/outer", "to": "/inner"}}}},
            {{"match": {{"path": {{"prefix": "/inner"}}}}, "upstream": "app"}}]}}"#,
        backend.port
    );
    let weir = Weir::start(&twice);
    assert_eq!(weir.once(get("/outer/x")).status, 200);
    assert_eq!(
        backend.log().lines().last().copied(),
        Some("GET /inner/x HTTP/1.1")
    );
}

#[test]
fn a_tcp_listener_that_dials_itself_closes() {
    let port = free_port();
    let text = on(port, &[port], "").replace("http://", "tcp://");
    let text = text.replacen("\"bind\"", "\"protocol\": \"tcp\", \"bind\"", 1);
    let weir = Weir::start(&text);
    let before = weir.descriptors();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream
            .set_read_timeout(Some(crate::support::PATIENCE))
            .expect("a socket takes a timeout");
        let read = stream.read(&mut [0; 16]);
        assert!(
            matches!(read, Err(ref e) if e.kind() == std::io::ErrorKind::ConnectionReset),
            "{read:?}"
        );
    }
    eventually("it has let go of everything", || {
        weir.descriptors() <= before
    });
    assert!(
        weir.stderr()
            .iter()
            .any(|line| line.contains("comes back to this proxy")),
        "{:?}",
        weir.stderr()
    );
}

#[test]
fn a_udp_listener_that_leads_to_itself_is_silent() {
    let port = free_port();
    let text = on(port, &[port], "").replace("http://", "udp://");
    let text = text.replacen("\"bind\"", "\"protocol\": \"udp\", \"bind\"", 1);
    let weir = Weir::start(&text);
    let before = weir.descriptors();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    socket
        .connect(("127.0.0.1", port))
        .expect("loopback is there");
    for _ in 0..20 {
        socket.send(b"ping").expect("it is sent");
    }
    eventually("it is told", || {
        weir.stderr()
            .iter()
            .any(|line| line.contains("comes back to this proxy"))
    });
    super::pass(200);
    eventually("it has let go of everything", || {
        weir.descriptors() <= before + 1
    });
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a socket takes a timeout");
    assert!(socket.recv(&mut [0; 16]).is_err());
}
