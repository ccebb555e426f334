//! Connections to backends grow old, and sockets ask whether anybody is still there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pass;
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::streams::{Asked, answer, ok, server};
use crate::support::weir::{Extra, Weir, config};

const YOUNG: &str = r#""timeouts": {"connection_age": "300ms", "idle": "10s"}"#;

/// A backend that says which of its connections a request came over.
fn counting() -> Backend {
    let count = AtomicUsize::new(0);
    Backend::start(move |conn| {
        let own = count.fetch_add(1, Ordering::SeqCst);
        while conn.request().is_some() {
            conn.reply(reply(200, "", &own.to_string()));
        }
    })
}

#[test]
fn an_old_connection_to_a_backend_serves_no_other_request() {
    let backend = counting();
    let extra = Extra {
        upstream: YOUNG,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    let mut ask = || client.ask(get("/")).expect("it is answered").text();
    assert_eq!((ask(), ask()), ("0".into(), "0".into()));
    // It idles, is old, and is not taken again though it stands.
    pass(700);
    assert_eq!(ask(), "1");
    // One that is always busy ends as well.
    eventually("another one serves", || ask() == "3");
    eventually("the old ones are gone", || backend.log().open <= 1);
}

#[test]
fn an_old_connection_of_http_2_takes_no_stream() {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&seen);
    let server = server(
        h2::server::Builder::new(),
        move |(request, respond): Asked| {
            let seen = std::sync::Arc::clone(&noted);
            async move {
                let path = request.uri().path().to_owned();
                if path == "/long" {
                    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
                }
                seen.lock().expect("no panic holds it").push(path);
                answer(respond, ok(), "ok");
            }
        },
    );
    let upstream = format!(r#""protocol": "http2", {YOUNG}"#);
    let extra = Extra {
        // Each core has connections of its own.
        top: r#""workers": 1"#,
        upstream: &upstream,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[server.port], extra));
    let mut long = Client::connect(weir.port);
    long.send(get("/long"));
    pass(100);
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(server.connections(), 1);
    pass(600);
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(server.connections(), 2);
    // What is under way on the old one goes on to its end.
    assert_eq!(long.response("GET").map(|r| r.status), Ok(200));
    assert_eq!(seen.lock().expect("no panic holds it").len(), 3);
}

/// The timers of the system's TCP sockets that connect these ports, by /proc/net/tcp: 2 is that of keep-alive.
fn timers(local: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let rows = table
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    let port = format!(":{local:04X}");
    // Established, and one of its ends is there.
    let ours = rows.filter(|r| r[3] == "01" && (r[1].ends_with(&port) || r[2].ends_with(&port)));
    ours.map(|r| r[5].split(':').next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn sockets_of_both_sides_ask_whether_anybody_is_there() {
    let backend = counting();
    for (off, expected) in [(false, 1), (true, 0)] {
        let extra = match off {
            false => Extra::default(),
            true => Extra {
                top: r#""timeouts": {"keepalive": "off", "backend_keepalive": "off", "backend_idle": "10s"}"#,
                ..Extra::default()
            },
        };
        let weir = Weir::start(&config(&[backend.port], extra));
        let mut client = Client::connect(weir.port);
        assert_eq!(client.ask(get("/")).map(|r| r.status), Ok(200));
        for port in [weir.port, backend.port] {
            // Each connection is in the table twice; the proxy's end alone has such a timer.
            let mut asking = Vec::new();
            eventually("the table shows it", || {
                asking = timers(port);
                asking.iter().filter(|t| *t == "02").count() == expected
            });
        }
    }
}
