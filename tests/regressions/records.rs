//! What the access log and the metrics say of an exchange is what happened: a whole body is no cause, and waiting counts even if
//! it was in vain.

use super::{Gate, Logged, number};
use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::Extra;

const LARGE: usize = 1_000_000;

/// The large body in each framing that a backend may choose, by target.
fn streaming() -> Backend {
    Backend::start(|conn| {
        while let Some(request) = conn.request() {
            let body = "a".repeat(LARGE);
            if request.start.contains("/length") {
                conn.reply(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n{body}"
                ));
                continue;
            }
            if request.start.contains("/close") {
                conn.reply(format!("HTTP/1.0 200 OK\r\n\r\n{body}"));
                return;
            }
            let trailers = request.start.contains("/trailers");
            let (announced, trailers) = if trailers {
                ("Trailer: X-Sum\r\n", "X-Sum: 1\r\n")
            } else {
                ("", "")
            };
            conn.reply(format!(
                "HTTP/1.1 200 OK\r\n{announced}Transfer-Encoding: chunked\r\n\r\n{LARGE:x}\r\n{body}\r\n0\r\n{trailers}\r\n"
            ));
        }
    })
}

#[test]
fn a_whole_response_has_no_cause_however_it_is_framed() {
    let backend = streaming();
    let logged = Logged::start(&backend, Extra::default());
    let mut client = Client::connect(logged.weir.port);
    for target in ["/length", "/chunks", "/trailers", "/close"] {
        let raw = format!(
            "GET {target} HTTP/1.1\r\nHost: test.example\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
        );
        let got = client.ask(raw).map(|r| r.message.body.len());
        assert_eq!(got, Ok(LARGE), "{target}");
        let line = logged.line(target);
        assert!(line.contains(r#""status":200"#), "{line}");
        assert!(line.contains(&format!(r#""bytes_sent":{LARGE}"#)), "{line}");
        assert!(!line.contains(r#""cause""#), "{line}");
    }
    assert_eq!(logged.weir.refused("client_gone"), 0);
}

/// The other side of it: who leaves is still said to have left.
#[test]
fn a_client_that_leaves_within_its_response_is_the_cause() {
    let backend = Backend::start(|conn| {
        if conn.request().is_some() {
            conn.reply("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nearly");
            conn.wait_for_close();
        }
    });
    let logged = Logged::start(&backend, Extra::default());
    let mut client = Client::connect(logged.weir.port);
    client.send(get("/leaves"));
    client.wire().head().expect("the answer begins");
    client.wire().skip(5).expect("its first piece comes");
    drop(client);
    let line = logged.line("/leaves");
    assert!(line.contains(r#""cause":"client_gone""#), "{line}");
    assert_eq!(logged.weir.refused("client_gone"), 1);
}

#[test]
fn who_waits_in_vain_has_waited() {
    let gate = Gate::default();
    let backend = gate.backend();
    let extra = Extra {
        upstream: r#""max_in_flight": 1, "queue": {"timeout": "300ms"}"#,
        ..Extra::default()
    };
    let logged = Logged::start(&backend, extra);
    let mut running = Client::connect(logged.weir.port);
    running.send(get("/running"));
    eventually("it runs", || backend.log().running == 1);
    assert_eq!(logged.weir.once(get("/waits")).status, 503);
    let line = logged.line("/waits");
    assert!(line.contains(r#""cause":"queue_timeout""#), "{line}");
    assert!(number(&line, "queue_wait") >= 0.25, "{line}");
    gate.open();
    assert_eq!(running.response("GET").map(|r| r.status), Ok(200));
    assert!(
        logged.line("/running").contains(r#""queue_wait":0.000000"#),
        "who ran at once did not wait"
    );
}
