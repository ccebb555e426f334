//! Second attempts: what was never sent may be sent again, what may have been never is, and a failure is not forgotten because
//! nobody else was free.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Gate, pass};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get, post};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

/// Answers one request a connection, promises to keep it, and closes it 0 to 1.2 ms later.
fn fickle() -> Backend {
    Backend::start(|conn| {
        if conn.request().is_some() {
            conn.reply(reply(200, "Connection: keep-alive\r\n", "ok"));
            let pause = (conn.index as u64 * 170) % 1_200;
            std::thread::sleep(Duration::from_micros(pause));
        }
    })
}

/// How often each target was posted.
fn executed(backend: &Backend) -> BTreeMap<String, usize> {
    let mut executed = BTreeMap::new();
    for request in backend.log().requests {
        let target = request.start.split(' ').nth(1).unwrap_or_default();
        *executed.entry(target.to_owned()).or_default() += 1;
    }
    executed
}

/// With nothing in between: a POST either finds the connection whole, or closed, or closing just then.
#[test]
fn a_post_on_a_connection_that_closes_runs_at_most_once() {
    let backend = fickle();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let port = weir.port;
    let clients: Vec<_> = (0..4)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = Client::connect(port);
                let ask = |i: u64| {
                    std::thread::sleep(Duration::from_micros((i * 53) % 1_200));
                    let target = format!("/{client}/{i}");
                    // Every other body comes in two pieces.
                    let raw = post(&target, "the whole body");
                    let cut = raw.len() - (i as usize % 2) * 10;
                    connection.send(&raw[..cut]);
                    connection.send(&raw[cut..]);
                    let status = connection.response("POST").map(|r| r.status);
                    assert!(matches!(status, Ok(200 | 502)), "{target}: {status:?}");
                    if status == Ok(502) {
                        // The rest of the body was not waited for, so that this connection may be over.
                        connection = Client::connect(port);
                    }
                    (target, status == Ok(200))
                };
                (0..150).map(ask).collect::<Vec<_>>()
            })
        })
        .collect();
    let answered: Vec<_> = clients
        .into_iter()
        .flat_map(|client| client.join().expect("every answer was fit"))
        .collect();
    let executed = executed(&backend);
    for (target, served) in answered {
        let times = executed.get(&target).copied().unwrap_or_default();
        assert!(times <= 1, "{target} ran {times} times");
        assert!(!served || times == 1, "{target} never ran and is 200");
    }
    let log = backend.log();
    assert!(log.broken.is_empty(), "{:?}", log.broken);
}

/// A connection that was closed long ago is seen to be closed before anything is sent on it: any request may go elsewhere.
#[test]
fn a_post_finds_a_fresh_connection_where_the_kept_one_is_closed() {
    let backend = Backend::start(|conn| {
        if conn.request().is_some() {
            conn.reply(reply(200, "Connection: keep-alive\r\n", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    for i in 0..20 {
        let answer = client.ask(post(&format!("/{i}"), "body")).map(|r| r.status);
        assert_eq!(answer, Ok(200), "POST {i}");
        // Its end is here, and nothing else is on its way.
        eventually("the backend has closed", || backend.log().open == 0);
        pass(20);
    }
    assert_eq!(backend.log().requests.len(), 20);
}

/// One backend is full, the other one dies of a request after longer than the queue's patience, and says nothing.
fn dies_late(capacity: &str) {
    let gate = Gate::default();
    let full = gate.backend();
    let dies = Backend::start(|conn| {
        if conn.request().is_some() {
            pass(700);
        }
    });
    let queue = format!(r#""phase": "zero", "queue": {{"timeout": "300ms"{capacity}}}"#);
    let extra = Extra {
        upstream: &queue,
        ..Extra::default()
    };
    let backends = format!(
        r#""backends": [{{"url": "http://127.0.0.1:{}", "max_in_flight": 1}}, "http://127.0.0.1:{}"]"#,
        full.port, dies.port
    );
    let weir = Weir::start(&config(&[], extra).replace(r#""backends": []"#, &backends));
    let mut running = Client::connect(weir.port);
    running.send(get("/running"));
    eventually("the first one is full", || full.log().running == 1);
    let answer = weir.once(get("/dies"));
    let why = answer.get("proxy-status").unwrap_or_default();
    assert_eq!(answer.status, 502, "{why}");
    assert!(why.contains("error=connection_terminated"), "{why}");
    assert_eq!(dies.log().count("GET /dies "), 1);
    gate.open();
    assert_eq!(running.response("GET").map(|r| r.status), Ok(200));
    assert!(!full.log().saw("/dies"), "it was full all the time");
}

#[test]
fn a_retry_that_waits_in_vain_answers_with_the_first_failure() {
    dies_late("");
}

#[test]
fn a_retry_that_finds_the_queue_full_answers_with_the_first_failure() {
    dies_late(r#", "capacity": 0"#);
}

/// Answers one request on its first connection, reads another one there and closes; answers everything elsewhere.
fn closes_over_the_second() -> Backend {
    Backend::start(|conn| {
        while conn.request().is_some() {
            conn.reply(reply(200, "Connection: keep-alive\r\n", "ok"));
            if conn.index == 0 {
                conn.request();
                return;
            }
        }
    })
}

fn with_body(method: &str, body: &str, chunked: bool) -> String {
    let head = format!("{method} /again HTTP/1.1\r\nHost: test.example\r\n");
    match chunked {
        false => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
        true => {
            let (one, two) = body.split_at(body.len() / 2);
            let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            let body = format!("{}{}0\r\n\r\n", chunk(one), chunk(two));
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}")
        }
    }
}

/// A kept connection turns out to be closed when the request has gone out. One that may be repeated, with a body that is at hand,
/// is sent again as a GET is; others are not.
#[test]
fn an_idempotent_request_with_a_small_body_is_sent_again() {
    let (small, large) = ("small ".repeat(2_000), "large ".repeat(40_000));
    for (method, body, chunked, status) in [
        ("PUT", small.as_str(), false, 200),
        ("PUT", small.as_str(), true, 200),
        ("DELETE", small.as_str(), false, 200),
        ("PUT", "", false, 200),
        ("POST", small.as_str(), false, 502),
        ("POST", small.as_str(), true, 502),
        ("PATCH", small.as_str(), false, 502),
        // More than is held of a body.
        ("PUT", large.as_str(), false, 502),
    ] {
        let what = format!("{method} of {} bytes, chunked: {chunked}", body.len());
        let backend = closes_over_the_second();
        let weir = Weir::start(&config(&[backend.port], Extra::default()));
        let mut client = Client::connect(weir.port);
        assert_eq!(client.ask(get("/first")).map(|r| r.status), Ok(200));
        let answer = client.ask(with_body(method, body, chunked));
        assert_eq!(answer.map(|r| r.status), Ok(status), "{what}");
        let log = backend.log();
        let sent: Vec<_> = log
            .requests
            .iter()
            .filter(|r| r.start.contains("/again"))
            .collect();
        assert_eq!(sent.len(), if status == 200 { 2 } else { 1 }, "{what}");
        assert!(sent.iter().all(|r| r.body == body.as_bytes()), "{what}");
        assert!(log.broken.is_empty(), "{what}: {:?}", log.broken);
    }
}
