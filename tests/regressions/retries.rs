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
