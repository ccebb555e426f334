//! Whoever has no backend left hears of it, once, and hears when one is back.

use super::pass;
use crate::support::backend::{Backend, reply};
use crate::support::client::get;
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

fn serving(port: u16) -> Backend {
    Backend::start_on(port, |conn| {
        while conn.request().is_some() {
            conn.reply(reply(200, "", "ok"));
        }
    })
}

/// How many lines of the proxy's say so.
fn told(weir: &Weir, what: &str) -> usize {
    let lines = weir.stderr();
    lines.iter().filter(|line| line.contains(what)).count()
}

#[test]
fn that_no_backend_is_sound_is_said_once_and_so_is_its_end() {
    // Nobody listens where these did.
    let ports = [serving(0).port, serving(0).port];
    let extra = Extra {
        upstream: r#""back_off": {"base": "100ms", "max": "100ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&ports, extra));
    for _ in 0..5 {
        assert_eq!(weir.once(get("/")).status, 502);
        pass(50);
    }
    eventually("it is told", || told(&weir, "no backend is sound") > 0);
    let backend = serving(ports[1]);
    eventually("it serves again", || weir.once(get("/")).status == 200);
    eventually("that is told as well", || {
        told(&weir, "upstream app: a backend is sound again") > 0
    });
    assert_eq!(told(&weir, "no backend is sound"), 1, "{:?}", weir.stderr());
    drop(backend);
}
