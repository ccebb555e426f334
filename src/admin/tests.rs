//! Health, readiness and metrics over real sockets; what happens when the address is taken.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

struct Fake(AtomicBool);

impl Source for Fake {
    fn ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn metrics(&self, out: &mut String) {
        out.push_str("# TYPE weir_x gauge\nweir_x 1\n");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's client is outside the seam"
)]
fn ask(addr: SocketAddr, head: &str) -> String {
    let mut stream = std::net::TcpStream::connect(addr).expect("connects");
    stream
        .write_all(format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("reads to the end");
    text
}

fn local(port: u16, explicit: bool) -> Admin {
    Admin {
        bind: (Ipv4Addr::LOCALHOST, port).into(),
        explicit,
    }
}

#[test]
fn it_shows_health_readiness_and_metrics() {
    let fake = Arc::new(Fake(AtomicBool::new(false)));
    let addr = start(local(0, true), Arc::clone(&fake) as _).expect("binds");
    assert!(ask(addr, "GET /healthz").starts_with("HTTP/1.1 200 "));
    assert!(ask(addr, "GET /readyz").starts_with("HTTP/1.1 503 "));
    fake.0.store(true, Ordering::Relaxed);
    assert!(ask(addr, "GET /readyz").starts_with("HTTP/1.1 200 "));
    let metrics = ask(addr, "GET /metrics");
    assert!(
        metrics.contains("application/openmetrics-text"),
        "{metrics}"
    );
    assert!(metrics.ends_with("\nweir_x 1\n# EOF\n"), "{metrics}");
    assert!(ask(addr, "GET /").contains("/readyz"));
    assert!(ask(addr, "GET /nowhere").starts_with("HTTP/1.1 404 "));
    let posted = ask(addr, "POST /healthz");
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    assert!(posted.contains("allow: GET, HEAD"), "{posted}");
    assert!(ask(addr, "HEAD /metrics").ends_with("\r\n\r\n"));
}

#[test]
fn a_taken_address_is_an_error_only_if_the_config_names_it() {
    let source = || Arc::new(Fake(AtomicBool::new(true)));
    let first = start(local(0, true), source()).expect("binds");
    let error = start(local(first.port(), true), source()).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&first.to_string()), "{error}");
    let second = start(local(first.port(), false), source()).expect("finds another");
    assert!(second.port() > first.port(), "{second} after {first}");
}
