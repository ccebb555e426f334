//! Backends that answer and fail: requests alone take them out, and bring them back by and by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::backend::{Backend, reply};
use crate::support::client::get;
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

/// Answers 200 for as long as it is well, and 500 otherwise.
fn backend(well: &Arc<AtomicBool>) -> Backend {
    let well = Arc::clone(well);
    Backend::answering(move |_| match well.load(Ordering::SeqCst) {
        true => reply(200, "", "ok"),
        false => reply(500, "", "no"),
    })
}

fn metric(weir: &Weir, line: &str) -> bool {
    let metrics = weir.admin("/metrics").text();
    metrics.lines().any(|l| l == line)
}

#[test]
fn who_answers_at_once_and_wrongly_attracts_nobody_for_long() {
    let well = Arc::new(AtomicBool::new(false));
    let bad = backend(&well);
    let good: Vec<Backend> = (0..3)
        .map(|_| backend(&Arc::new(AtomicBool::new(true))))
        .collect();
    let extra = Extra {
        upstream: r#""strategy": "least-request", "ejection": {"base": "300ms", "slow_start": "0s"}"#,
        ..Extra::default()
    };
    let ports = [bad.port, good[0].port, good[1].port, good[2].port];
    let weir = Weir::start(&config(&ports, extra));
    let statuses: Vec<u16> = (0..200).map(|_| weir.once(get("/")).status).collect();
    let failed = statuses.iter().filter(|s| **s == 500).count();
    assert!((5..=20).contains(&failed), "{failed} of 200 failed");
    let name = format!("127.0.0.1:{}", bad.port);
    let line = format!("upstream app: backend {name} is ejected for 0.3 s");
    let told = |what: &str| weir.stderr().iter().any(|l| l.contains(what));
    assert!(told(&line), "{:?}", weir.stderr());
    assert!(told("too many requests in a row failed; 3 of 4 left"));
    well.store(true, Ordering::SeqCst);
    eventually("it is back", || {
        weir.once(get("/"));
        let line = format!("weir_backend_ejected{{upstream=\"app\",backend=\"{name}\"}} 0");
        metric(&weir, &line) && told("is no longer ejected")
    });
    let before = bad.log().requests.len();
    let all = (0..40).all(|_| weir.once(get("/")).status == 200);
    assert!(all && bad.log().requests.len() > before);
}

#[test]
fn what_all_have_in_common_takes_nobody_out() {
    let well = Arc::new(AtomicBool::new(false));
    let backends: Vec<Backend> = (0..3).map(|_| backend(&well)).collect();
    let ports: Vec<u16> = backends.iter().map(|b| b.port).collect();
    let weir = Weir::start(&config(&ports, Extra::default()));
    for _ in 0..60 {
        assert_eq!(weir.once(get("/")).status, 500);
    }
    let metrics = weir.admin("/metrics").text();
    let ejections = metrics
        .lines()
        .filter(|l| l.starts_with("weir_ejections_total"));
    let none: Vec<&str> = ejections.filter(|l| !l.ends_with(" 0")).collect();
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn nothing_is_ejected_where_that_is_off() {
    let bad = backend(&Arc::new(AtomicBool::new(false)));
    let good = backend(&Arc::new(AtomicBool::new(true)));
    let extra = Extra {
        upstream: r#""ejection": "off""#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[bad.port, good.port], extra));
    let statuses: Vec<u16> = (0..40).map(|_| weir.once(get("/")).status).collect();
    assert_eq!(statuses.iter().filter(|s| **s == 500).count(), 20);
}
