//! Many who want one thing, whose fetch breaks off: who has read nothing of it yet gets it all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Gate, pass};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Framing;

const MANY: usize = 200;

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

/// A head that promises ten bytes, of which these come.
fn begin(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 10\r\n\r\n{body}")
}

/// The first `broken` fetches break off behind their heads, and the others are whole. None is answered before the gate is open.
fn breaking(broken: usize, gate: &Gate) -> Backend {
    let (gate, fetches) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    Backend::start(move |conn| {
        while conn.request().is_some() {
            let number = fetches.fetch_add(1, Ordering::SeqCst);
            gate.wait();
            if number >= broken {
                conn.reply(reply(200, FRESH, "0123456789"));
                continue;
            }
            conn.reply(begin(""));
            // All who wait have heard of the head.
            pass(300);
            return;
        }
    })
}

fn crowd(backend: &Backend) -> (Weir, Vec<Client>) {
    let extra = Extra {
        top: r#""cache": {}, "workers": 2"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut clients: Vec<Client> = (0..MANY).map(|_| Client::connect(weir.port)).collect();
    clients
        .iter_mut()
        .for_each(|client| client.send(get("/page")));
    eventually("one fetches for all", || backend.log().running == 1);
    pass(300);
    (weir, clients)
}

/// How many were served whole, were told that there is no answer, and were cut.
fn served(clients: &mut [Client]) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for client in clients {
        match client.response("GET") {
            Ok(got) if got.status == 200 => {
                assert_eq!(got.text(), "0123456789");
                counts.0 += 1;
            }
            Ok(got) => {
                assert_eq!(got.status, 502);
                counts.1 += 1;
            }
            Err(_) => counts.2 += 1,
        }
    }
    counts
}

#[test]
fn who_has_read_nothing_of_a_broken_fetch_is_fetched_for_anew() {
    let gate = Gate::default();
    let backend = breaking(1, &gate);
    let (_weir, mut clients) = crowd(&backend);
    gate.open();
    // The one who caused the fetch has the head, as it would have without a cache.
    assert_eq!(served(&mut clients), (MANY - 1, 0, 1));
    assert_eq!(backend.log().requests.len(), 2, "once for all of them");
}

#[test]
fn a_fetch_is_made_anew_once() {
    let gate = Gate::default();
    let backend = breaking(usize::MAX, &gate);
    let (_weir, mut clients) = crowd(&backend);
    gate.open();
    let (whole, refused, cut) = served(&mut clients);
    assert_eq!(whole, 0);
    // Those who caused a fetch have its head.
    assert!(
        cut <= 2 && refused >= MANY - 2,
        "{cut} were cut, {refused} refused"
    );
    assert_eq!(backend.log().requests.len(), 2);
}

#[test]
fn who_has_read_something_of_a_broken_fetch_is_cut() {
    let (gate, end) = (Gate::default(), Gate::default());
    let (first, last) = (gate.clone(), end.clone());
    let backend = Backend::start(move |conn| {
        if conn.request().is_some() {
            first.wait();
            conn.reply(begin("01234"));
            last.wait();
        }
    });
    let (_weir, mut clients) = crowd(&backend);
    gate.open();
    for client in &mut clients {
        client.wire().head().expect("the head comes");
        let read = client.wire().body(Framing::Length(5));
        assert_eq!(read, Ok(b"01234".to_vec()));
    }
    end.open();
    for client in &mut clients {
        assert!(
            client.wire().skip(1).is_err(),
            "nobody can tell it the rest"
        );
    }
    assert_eq!(backend.log().requests.len(), 1);
}
