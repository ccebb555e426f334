//! What a backend takes at once is never exceeded, by requests or by connections; the rest waits, or is refused with a reason.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::weir::{Extra, Weir, config};
use crate::support::{eventually, free_port};

/// Backends wait at a gate until the test opens it.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().expect("nothing panics at the gate") = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let mut open = self.0.lock().expect("nothing panics at the gate");
        while !*open {
            open = self.1.wait(open).expect("nothing panics at the gate");
        }
    }
}

/// A backend that answers once the gate is open.
fn gated(gate: &Arc<Gate>) -> Backend {
    let gate = Arc::clone(gate);
    Backend::start(move |conn| {
        while conn.request().is_some() {
            gate.wait();
            conn.reply(reply(200, "", "ok"));
        }
    })
}

/// The first user's file, with its ports replaced.
#[test]
fn the_flat_file_fills_three_and_two_places_and_no_more() {
    let backend = || {
        Backend::start(|conn| {
            while conn.request().is_some() {
                std::thread::sleep(Duration::from_millis(2));
                conn.reply(reply(200, "Cache-Control: no-store\r\n", "ok"));
            }
        })
    };
    let (three, two) = (backend(), backend());
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/configs/good/first-user.json"
    );
    let flat = std::fs::read_to_string(path).expect("the fixture is there");
    let flat = flat
        .replace("8080", &free_port().to_string())
        .replace("8081", &three.port.to_string())
        .replace("8082", &two.port.to_string());
    let weir = Weir::start(&flat);
    let port = weir.port;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                for _ in 0..25 {
                    assert_eq!(client.ask(get("/")).map(|r| r.status), Ok(200));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request was answered");
    }
    let (three, two) = (three.log(), two.log());
    assert_eq!((three.peak, two.peak), (3, 2));
    assert!(
        three.open_peak <= 3,
        "{} connections for 3 places",
        three.open_peak
    );
    assert!(
        two.open_peak <= 2,
        "{} connections for 2 places",
        two.open_peak
    );
    assert_eq!(three.requests.len() + two.requests.len(), 500);
}

/// With one client every prefix of a weighted round robin splits 3:2 within one.
#[test]
fn one_client_sees_the_weights_in_every_prefix() {
    let (three, two) = (Backend::ok(), Backend::ok());
    let flat = format!(
        r#"{{"port":"0","strategy":"weighted-round-robin","servers":{{"http://127.0.0.1:{}":3,"http://127.0.0.1:{}":2}}}}"#,
        three.port, two.port
    );
    let weir = Weir::start(&flat);
    let mut client = Client::connect(weir.port);
    for n in 1..=100 {
        assert_eq!(client.ask(get("/")).map(|r| r.status), Ok(200));
        let (a, b) = (three.log().requests.len(), two.log().requests.len());
        assert_eq!(a + b, n);
        let lag = (a as f64 - n as f64 * 0.6).abs();
        assert!(lag <= 1.0, "after {n}: {a} and {b}");
    }
}

#[test]
fn a_full_queue_refuses_at_once_and_says_why() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let extra = Extra {
        upstream: r#""max_in_flight": 1, "queue": {"capacity": 1, "timeout": "60s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let port = weir.port;
    let mut running = Client::connect(port);
    running.send(get("/running"));
    eventually("it runs", || backend.log().running == 1);
    // Of two more, one finds the queue's only place and the other none.
    let others: Vec<_> = (0..2)
        .map(|_| std::thread::spawn(move || Client::connect(port).ask(get("/other"))))
        .collect();
    eventually("one of them is refused", || {
        others.iter().any(|o| o.is_finished())
    });
    gate.open();
    assert_eq!(running.response("GET").map(|r| r.status), Ok(200));
    let mut answers: Vec<_> = others
        .into_iter()
        .map(|o| o.join().expect("it asked").expect("it was answered"))
        .collect();
    answers.sort_by_key(|r| r.status);
    assert_eq!((answers[0].status, answers[1].status), (200, 503));
    let refused = &answers[1];
    assert!(
        refused
            .get("retry-after")
            .is_some_and(|s| s.parse::<u32>().is_ok()),
        "{refused:?}"
    );
    assert!(
        refused
            .get("proxy-status")
            .is_some_and(|s| s.contains("queue_full") || s.contains("error=")),
        "{refused:?}"
    );
    let metrics = weir.admin("/metrics").text();
    let shed = metrics
        .lines()
        .find(|l| l.contains("queue_full") && l.ends_with(" 1"));
    assert!(shed.is_some(), "{metrics}");
}

#[test]
fn waiting_ends_with_the_queue_timeout() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let extra = Extra {
        upstream: r#""max_in_flight": 1, "queue": {"timeout": "100ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut running = Client::connect(weir.port);
    running.send(get("/running"));
    eventually("it runs", || backend.log().running == 1);
    let refused = weir.once(get("/waits"));
    assert_eq!(refused.status, 503);
    assert!(refused.get("retry-after").is_some(), "{refused:?}");
    gate.open();
    assert_eq!(running.response("GET").map(|r| r.status), Ok(200));
    assert!(
        !backend.log().saw("/waits"),
        "who was refused is not sent on"
    );
}

#[test]
fn a_waiter_that_leaves_frees_its_place() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let extra = Extra {
        upstream: r#""max_in_flight": 1, "queue": {"capacity": 1, "timeout": "60s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut running = Client::connect(weir.port);
    running.send(get("/running"));
    eventually("it runs", || backend.log().running == 1);
    let mut leaves = Client::connect(weir.port);
    leaves.send(get("/leaves"));
    eventually("it waits", || weir.waiting() == 1);
    drop(leaves);
    eventually("its place is free", || weir.waiting() == 0);
    let mut waits = Client::connect(weir.port);
    waits.send(get("/waits"));
    eventually("the next one has it", || weir.waiting() == 1);
    gate.open();
    assert_eq!(running.response("GET").map(|r| r.status), Ok(200));
    assert_eq!(waits.response("GET").map(|r| r.status), Ok(200));
    assert!(!backend.log().saw("/leaves"), "who left is not sent on");
}

/// `max_in_flight` of one backend bounds its connections over all cores, idle ones included.
#[test]
fn idle_connections_never_fill_a_backend() {
    let backend = Backend::ok();
    let text = config(
        &[],
        Extra {
            top: r#""workers": 2"#,
            ..Extra::default()
        },
    )
    .replace(
        "\"backends\": []",
        &format!(
            r#""backends": [{{"url": "http://127.0.0.1:{}", "max_in_flight": 2}}]"#,
            backend.port
        ),
    );
    let weir = Weir::start(&text);
    // New connections land on either core; each core would like to keep its own.
    for _ in 0..200 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    let log = backend.log();
    assert!(
        log.open_peak <= 2,
        "{} connections for 2 places",
        log.open_peak
    );
}
