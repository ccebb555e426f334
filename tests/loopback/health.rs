//! Health checks: who fails them gets nothing until they pass, who is full is not checked, and a check speaks what its upstream
//! speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::streams::{Asked, answer, ok, server};
use crate::support::weir::{Extra, Weir, config};
use crate::support::{eventually, free_port};

const QUICK: &str = r#""health": {"path": "/up?full=1", "host": "app.internal", "status": 204, "interval": "60ms",
    "fast_interval": "20ms", "unhealthy": 2, "healthy": 2}"#;

/// Answers checks with 204 for as long as it is well, and everything else with 200.
fn checked(well: &Arc<AtomicBool>) -> Backend {
    let well = Arc::clone(well);
    Backend::answering(move |request| {
        let is_check = request.start.contains("/up");
        match (is_check, well.load(Ordering::SeqCst)) {
            (true, true) => reply(204, "", ""),
            (true, false) => reply(503, "", "no"),
            (false, _) => reply(200, "", "ok"),
        }
    })
}

fn told(weir: &Weir, what: &str) -> bool {
    weir.stderr().iter().any(|line| line.contains(what))
}

/// How many backends are down.
fn down(weir: &Weir) -> usize {
    let metrics = weir.admin("/metrics").text();
    let lines = metrics
        .lines()
        .filter(|l| l.starts_with("weir_backend_down{"));
    lines.filter(|line| line.ends_with(" 1")).count()
}

#[test]
fn who_fails_its_checks_gets_nothing_until_they_pass() {
    let well = Arc::new(AtomicBool::new(true));
    let (doubtful, sound) = (checked(&well), checked(&Arc::new(AtomicBool::new(true))));
    let extra = Extra {
        upstream: QUICK,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[doubtful.port, sound.port], extra));
    eventually("it is checked", || {
        doubtful.log().count("GET /up?full=1 ") > 3
    });
    let log = doubtful.log();
    let check = log.requests.iter().find(|r| r.start.contains("/up"));
    let check = check.expect("it was checked");
    assert_eq!(check.start, "GET /up?full=1 HTTP/1.1");
    let field = |name: &str| {
        let mut fields = check.fields.iter();
        fields
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.clone())
    };
    assert_eq!(field("host").as_deref(), Some("app.internal"));
    assert_eq!(field("user-agent").as_deref(), Some("weir-health"));
    assert_eq!(field("x-forwarded-for"), None);
    assert_eq!(down(&weir), 0);

    well.store(false, Ordering::SeqCst);
    eventually("it is down", || down(&weir) == 1);
    let line = format!(
        "upstream app: backend 127.0.0.1:{} is down: 2 checks failed, last: status 503; 1 of 2 left",
        doubtful.port
    );
    eventually("that is told", || told(&weir, &line));
    let before = doubtful.log().count("GET / ");
    for _ in 0..20 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    assert_eq!(doubtful.log().count("GET / "), before);

    well.store(true, Ordering::SeqCst);
    eventually("it is up again", || down(&weir) == 0);
    eventually("that is told", || told(&weir, "is up; 2 of 2 are"));
    for _ in 0..4 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    assert!(doubtful.log().count("GET / ") > before);
    // Checks are no requests.
    let requests =
        weir.metric(r#"weir_request_duration_seconds_count{listener="web",upstream="app"}"#);
    assert!(requests.is_none_or(|n| n <= 24), "{requests:?}");
}

#[test]
fn when_all_are_down_all_are_tried() {
    let unwell = Arc::new(AtomicBool::new(false));
    let backends = [checked(&unwell), checked(&unwell)];
    let extra = Extra {
        upstream: QUICK,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backends[0].port, backends[1].port], extra));
    eventually("both are down", || down(&weir) == 2);
    eventually("that is told", || {
        told(&weir, "upstream app: every backend is down")
    });
    for _ in 0..4 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    assert!(backends.iter().all(|b| b.log().count("GET / ") > 0));
}

#[test]
fn a_backend_that_is_full_is_not_checked() {
    let held = Arc::new(AtomicBool::new(true));
    let hold = Arc::clone(&held);
    let backend = Backend::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.start.contains("/slow") {
                eventually("it may answer", || !hold.load(Ordering::SeqCst));
            }
            conn.reply(reply(200, "", "ok"));
        }
    });
    let text = format!(
        r#"{{"listeners": {{"web": {{"bind": "127.0.0.1:0"}}}}, "admin": {{"bind": "127.0.0.1:0"}},
            "upstreams": {{"app": {{"health": {{"interval": "30ms", "fast_interval": "30ms", "timeout": "200ms"}},
                "backends": [{{"url": "http://127.0.0.1:{}", "max_in_flight": 1, "name": "b"}}]}}}}}}"#,
        backend.port
    );
    let weir = Weir::start(&text);
    let skipped = r#"weir_health_checks_total{upstream="app",backend="b",result="skipped"}"#;
    let failed = r#"weir_health_checks_total{upstream="app",backend="b",result="failed"}"#;
    let mut slow = Client::connect(weir.port);
    slow.send(get("/slow"));
    eventually("checks are skipped", || weir.count(skipped) > 5);
    assert_eq!(weir.count(failed), 0);
    held.store(false, Ordering::SeqCst);
    assert_eq!(slow.response("GET").map(|r| r.status), Ok(200));
}

#[test]
fn a_check_speaks_what_the_upstream_speaks() {
    let server = server(
        h2::server::Builder::new(),
        |(request, respond): Asked| async move {
            let is_right = request.uri().path() == "/grpc/up"
                && request.headers()["user-agent"] == "weir-health";
            let mut head = ok();
            if !is_right {
                *head.status_mut() = http::StatusCode::NOT_FOUND;
            }
            answer(respond, head, "ok");
        },
    );
    let dead = free_port();
    let text = format!(
        r#"{{"listeners": {{"web": {{"bind": "127.0.0.1:0"}}, "raw": {{"bind": "127.0.0.1:0", "protocol": "tcp"}}}},
            "routes": [{{"upstream": "streams"}}, {{"listeners": ["raw"], "upstream": "bytes"}}],
            "admin": {{"bind": "127.0.0.1:0"}},
            "health": {{"interval": "30ms", "fast_interval": "30ms", "initial": "down", "unhealthy": 1}},
            "upstreams": {{
                "streams": {{"protocol": "http2", "health": {{"path": "/up"}},
                    "backends": [{{"url": "http://127.0.0.1:{0}/grpc", "name": "s"}}]}},
                "bytes": {{"backends": [{{"url": "tcp://127.0.0.1:{0}", "name": "b"}},
                    {{"url": "tcp://127.0.0.1:{dead}", "name": "dead"}}]}}}}}}"#,
        server.port
    );
    let weir = Weir::start(&text);
    let down = |upstream, backend| {
        weir.metric(&format!(
            "weir_backend_down{{upstream=\"{upstream}\",backend=\"{backend}\"}}"
        ))
    };
    eventually("who answers is up", || {
        down("streams", "s") == Some(0) && down("bytes", "b") == Some(0)
    });
    let failed = r#"weir_health_checks_total{upstream="bytes",backend="dead",result="failed"}"#;
    eventually("who is dead is checked", || weir.count(failed) > 2);
    assert_eq!(down("bytes", "dead"), Some(1));
}
