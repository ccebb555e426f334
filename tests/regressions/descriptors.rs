//! Few descriptors and many clients: accepting pauses, and whoever was accepted is served.

use super::pass;
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::weir::{Extra, Weir, config};

const CLIENTS: usize = 1000;

/// A proxy that may open so many.
fn limited(backend: &Backend, descriptors: usize) -> Weir {
    let extra = Extra {
        top: r#""workers": 1, "timeouts": {"backend_idle": "1s"}"#,
        ..Extra::default()
    };
    let limit = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    Weir::start_within(&config(&[backend.port], extra), &["sh", "-c", &limit])
}

#[test]
fn a_thousand_clients_share_few_descriptors() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            pass(20);
            conn.reply(reply(200, "", "ok"));
        }
    });
    for keeps in [false, true] {
        let weir = limited(&backend, 256);
        let close = if keeps { "" } else { "Connection: close\r\n" };
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{close}\r\n");
        let mut clients: Vec<Client> = (0..CLIENTS)
            .map(|_| {
                let mut client = Client::connect(weir.port);
                client.send(&request);
                client
            })
            .collect();
        // Who keeps its connection idles on it until all have their answers.
        for client in &mut clients {
            assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
        }
        // The admin port and the log have theirs.
        assert!(weir.count("weir_accept_pauses_total") > 0);
        let told = weir.stderr();
        let told = told
            .iter()
            .filter(|l| l.contains("accepting pauses"))
            .count();
        assert_eq!(told, 1, "{:?}", weir.stderr());
        drop(clients);
        assert_eq!(weir.once(get("/")).status, 200);
    }
}
