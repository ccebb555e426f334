//! Signals: SIGTERM and SIGINT finish what runs and end with 0, SIGHUP does not kill, and the grace time is kept.

use std::sync::{Mutex, mpsc};

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::weir::{Extra, Weir, config};
use crate::support::{eventually, refuses};

/// A backend that answers when it is told to, and the way to tell it.
fn held() -> (Backend, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::start(move |conn| {
        while conn.request().is_some() {
            let _ = wait.lock().expect("nothing panics in it").recv();
            conn.reply(reply(200, "", "ok"));
        }
    });
    (backend, go)
}

#[test]
fn what_runs_finishes_and_readiness_goes_off() {
    for signal in ["TERM", "INT"] {
        let (backend, go) = held();
        let mut weir = Weir::start(&config(&[backend.port], Extra::default()));
        assert_eq!(weir.admin("/readyz").status, 200);
        let mut idle = Client::connect(weir.port);
        let mut client = Client::connect(weir.port);
        client.send(get("/"));
        eventually("it runs", || backend.log().running == 1);
        weir.signal(signal);
        eventually("readiness is off", || weir.admin("/readyz").status == 503);
        assert_eq!(weir.admin("/healthz").status, 200);
        assert!(idle.is_closed_by_peer(), "who waits for nothing is let go");
        assert!(weir.lives(), "it waits for what runs");
        go.send(()).expect("the backend waits");
        let response = client.response("GET").expect("it is answered");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        assert!(client.is_closed_by_peer(), "the connection is not kept");
        assert_eq!(weir.wait().code(), Some(0), "SIG{signal}");
        assert!(refuses(weir.port), "the port is free again");
    }
}

#[test]
fn the_grace_time_ends_what_does_not_finish() {
    let (backend, _go) = held();
    let extra = Extra {
        top: r#""shutdown_grace": "200ms""#,
        ..Extra::default()
    };
    let mut weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    client.send(get("/"));
    eventually("it runs", || backend.log().running == 1);
    weir.signal("TERM");
    weir.wait();
    assert!(client.response("GET").is_err(), "it never got an answer");
}

#[test]
fn a_hangup_does_not_kill() {
    let backend = Backend::ok();
    let mut weir = Weir::start(&config(&[backend.port], Extra::default()));
    for _ in 0..3 {
        weir.signal("HUP");
        assert_eq!(weir.once(get("/")).status, 200);
    }
    assert!(weir.lives());
    weir.signal("TERM");
    assert_eq!(weir.wait().code(), Some(0));
}
