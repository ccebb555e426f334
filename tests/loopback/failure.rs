//! Backends that refuse, die or come back. No GET fails while another backend lives; a POST runs at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get, post};
use crate::support::weir::{Extra, Weir, config};
use crate::support::{eventually, free_port};

#[test]
fn a_refused_connection_is_tried_elsewhere() {
    let backend = Backend::ok();
    let dead = free_port();
    let weir = Weir::start(&config(&[dead, backend.port], Extra::default()));
    for _ in 0..20 {
        assert_eq!(weir.once(get("/")).status, 200);
        // Nothing was sent on the refused connection, so this may go elsewhere as well.
        assert_eq!(weir.once(post("/", "body")).status, 200);
    }
    assert_eq!(backend.log().requests.len(), 40);
}

#[test]
fn without_a_backend_the_answer_says_why() {
    let extra = Extra {
        upstream: r#""back_off": {"base": "0s", "max": "0s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[free_port()], extra));
    for _ in 0..5 {
        let response = weir.once(get("/"));
        assert_eq!(response.status, 502, "{response:?}");
        let why = response.get("proxy-status").unwrap_or_default();
        assert!(why.contains("error=connection_refused"), "{why:?}");
    }
}

#[test]
fn a_silent_backend_is_504() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            conn.wait_for_close();
        }
    });
    let extra = Extra {
        upstream: r#""timeouts": {"first_byte": "200ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let response = weir.once(post("/", "body"));
    assert_eq!(response.status, 504, "{response:?}");
    let why = response.get("proxy-status").unwrap_or_default();
    assert!(why.contains("error=http_response_timeout"), "{why:?}");
    assert_eq!(backend.log().requests.len(), 1, "a POST is not sent again");
}

#[test]
fn a_death_before_the_first_byte_is_tried_elsewhere_if_idempotent() {
    let dies = Backend::start(|conn| {
        conn.request();
    });
    let lives = Backend::ok();
    let extra = Extra {
        upstream: r#""back_off": {"base": "0s", "max": "0s"}, "retry": {"budget_per_second": 1000}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[dies.port, lives.port], extra));
    for i in 0..20 {
        assert_eq!(weir.once(get(&format!("/get/{i}"))).status, 200);
    }
    let mut refused = 0;
    for i in 0..20 {
        let posted = weir.once(post(&format!("/post/{i}"), "body")).status;
        assert!(matches!(posted, 200 | 502), "{posted}");
        refused += usize::from(posted == 502);
    }
    let (dies, lives) = (dies.log(), lives.log());
    assert_eq!(lives.count("GET "), 20);
    assert!(
        dies.count("GET ") > 0,
        "the dying one was never asked: {:?}",
        dies.lines()
    );
    assert_eq!(
        dies.count("POST "),
        refused,
        "each POST that died was answered 502"
    );
    assert_eq!(
        dies.count("POST ") + lives.count("POST "),
        20,
        "each POST ran once"
    );
}

/// Kills and revives one of two backends while clients ask without a pause.
#[test]
fn no_get_fails_while_a_backend_is_killed_under_load() {
    let script = |conn: &mut crate::support::backend::Conn| {
        while conn.request().is_some() {
            std::thread::sleep(Duration::from_millis(1));
            conn.reply(reply(200, "", "ok"));
        }
    };
    let steady = Backend::start(script);
    let mut shaky = Backend::start(script);
    let port = shaky.port;
    let extra = Extra {
        upstream: r#""back_off": {"base": "50ms", "max": "100ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[steady.port, port], extra));
    let stop = Arc::new(AtomicBool::new(false));
    let listen = weir.port;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut client = Client::connect(listen);
                let mut asked = 0;
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.ask(get("/")).map(|r| r.status);
                    assert_eq!(answer, Ok(200), "after {asked}");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for _ in 0..5 {
        eventually("the shaky one is in use", || {
            shaky.log().requests.len() > 20
        });
        shaky.stop();
        std::thread::sleep(Duration::from_millis(100));
        shaky = Backend::start_on(port, script);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.join().expect("no GET failed") > 0);
    }
}
