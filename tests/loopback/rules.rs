//! What changes on the way: routes, redirects, header rules, and the fields that a proxy owes.

use crate::support::backend::{Backend, is_our_via, reply};
use crate::support::client::{Client, Response, get, post};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Message;

/// The config that the README's tour runs, between these two backends.
fn tour(first: &Backend, second: &Backend) -> Weir {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/configs/good/tour.json"
    );
    let text = std::fs::read_to_string(path).expect("the fixture is there");
    let text = text
        .replace("8081", &first.port.to_string())
        .replace("8082", &second.port.to_string())
        .replace("${WEIR_PORT:-8080}", "${WEIR_TEST_NOT_SET:-0}")
        .replacen('{', r#"{"admin": {"bind": "127.0.0.1:0"},"#, 1);
    Weir::start(&text)
}

/// Answers with what it received, under a Server field that the tour takes away.
fn mirror() -> Backend {
    Backend::answering(|request: &Message| {
        reply(
            200,
            "Server: backend\r\nX-Served-By: backend\r\n",
            &request.start,
        )
    })
}

fn ask(weir: &Weir, method: &str, target: &str, fields: &str) -> Response {
    let host = if fields.contains("Host:") {
        ""
    } else {
        "Host: localhost:8080\r\n"
    };
    weir.once(format!("{method} {target} HTTP/1.1\r\n{host}{fields}\r\n"))
}

#[test]
fn the_tour_of_the_readme_holds() {
    let (first, second) = (mirror(), mirror());
    let weir = tour(&first, &second);

    let api = ask(&weir, "GET", "/api/users?page=2", "Cookie: a=b\r\n");
    assert_eq!(
        (api.status, api.text().as_str()),
        (200, "GET /users?page=2 HTTP/1.1")
    );
    assert_eq!(api.get("x-served-by"), Some("weir"));
    assert_eq!(api.get("server"), None);
    let seen = [first.log().requests, second.log().requests].concat();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].get("x-tour"), Some("yes"));
    assert_eq!(seen[0].get("cookie"), None);
    assert_eq!(seen[0].get("host"), Some("localhost:8080"));

    let www = ask(&weir, "GET", "/page?q=1", "Host: www.localhost\r\n");
    assert_eq!(www.status, 308);
    assert_eq!(www.get("location"), Some("http://localhost:8080/page?q=1"));

    let hello = ask(&weir, "GET", "/hello", "");
    assert_eq!(
        (hello.status, hello.text().as_str()),
        (200, "Hello from weir\n")
    );

    second.forget();
    for _ in 0..10 {
        assert_eq!(
            ask(&weir, "GET", "/api/users", "X-Canary: 1\r\n").status,
            200
        );
    }
    assert_eq!(second.log().count("GET /users "), 10);

    assert_eq!(
        ask(&weir, "GET", "/v2/things", "").text(),
        "GET /v2/things HTTP/1.1"
    );
    assert_eq!(
        ask(&weir, "GET", "/v2/things", "Host: a.example.com\r\n").status,
        200
    );
    for (method, target, fields) in [
        ("DELETE", "/api/users", ""),
        ("GET", "/v2/things", "Host: elsewhere.example\r\n"),
        ("GET", "/vx/things", ""),
        ("GET", "/apix", ""),
        ("GET", "/hello/you", ""),
    ] {
        let response = ask(&weir, method, target, fields);
        assert_eq!(
            response.status, 404,
            "{method} {target} {fields}: {response:?}"
        );
    }
}

/// A path is put in its normal form once, before routes see it, so that no spelling slips past a rule.
#[test]
fn no_spelling_of_a_path_slips_past_a_route() {
    let backend = mirror();
    let routes = r#""routes": [
        {"name": "private", "match": {"path": {"prefix": "/private"}}, "respond": {"status": 403}},
        {"name": "rest", "upstream": "app"}]"#;
    let extra = Extra {
        top: routes,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for target in [
        "/private",
        "/private/keys",
        "/./private/keys",
        "/open/../private/keys",
        "/open/%2e%2e/private/keys",
        "/open/.%2E/private/keys",
        "/%70rivate/keys",
        "/privat%65",
        "http://localhost/private/keys",
    ] {
        let status = ask(&weir, "GET", target, "").status;
        assert!(matches!(status, 400 | 403), "{target}: {status}");
    }
    assert!(!backend.log().saw("keys"), "{:?}", backend.log().lines());
    assert_eq!(ask(&weir, "GET", "/open", "").status, 200);
}

#[test]
fn rules_remove_set_and_add() {
    let backend = Backend::answering(|_| {
        reply(
            200,
            "X-Gone: a\r\nX-Gone: b\r\nX-Set: a\r\nX-Set: b\r\nX-Add: a\r\n",
            "ok",
        )
    });
    let rules = r#"{"remove": ["x-gone"], "set": {"x-set": "c"}, "add": {"x-add": "d"}}"#;
    let routes = format!(
        r#""routes": [
            {{"name": "moved", "match": {{"path": {{"prefix": "/old"}}}}, "upstream": "app",
              "replace_prefix": {{"from": "/old", "to": "/new"}}}},
            {{"name": "all", "upstream": "app", "request_headers": {rules}, "response_headers": {rules}}}]"#
    );
    let extra = Extra {
        top: &routes,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let fields = "X-Gone: a\r\nX-Gone: b\r\nX-Set: a\r\nX-Set: b\r\nX-Add: a\r\n";
    let response = ask(&weir, "GET", "/", fields);
    let log = backend.log();
    for message in [&response.message, &log.requests[0]] {
        assert!(message.all("x-gone").is_empty(), "{message:?}");
        assert_eq!(message.all("x-set"), ["c"]);
        assert_eq!(message.all("x-add"), ["a", "d"]);
    }
    assert_eq!(ask(&weir, "GET", "/old/page?q", "").status, 200);
    assert_eq!(backend.log().count("GET /new/page?q "), 1);
}

/// A client of HTTP/1.0 may name no host. A redirect that speaks of one has then nowhere to lead to.
#[test]
fn a_redirect_to_the_host_that_was_asked_for_needs_one() {
    let backend = Backend::ok();
    let routes = r#""routes": [
        {"match": {"path": "/named"}, "redirect": {"to": "https://shop.example{path}{query}"}},
        {"match": {"path": "/own"}, "redirect": {"to": "/other{query}"}},
        {"match": {"path": {"prefix": "/hello"}}, "upstream": "app"},
        {"redirect": {"to": "https://{host}{path}{query}"}}]"#;
    let extra = Extra {
        top: routes,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let old =
        |target: &str, fields: &str| weir.once(format!("GET {target} HTTP/1.0\r\n{fields}\r\n"));
    let refused = old("/a", "");
    assert_eq!((refused.status, refused.get("location")), (400, None));
    for (target, fields, location) in [
        ("/a?b", "Host: a.example:81\r\n", "https://a.example/a?b"),
        ("http://a.example/a", "", "https://a.example/a"),
        ("/named?q", "", "https://shop.example/named?q"),
        ("/own?q", "", "/other?q"),
    ] {
        let moved = old(target, fields);
        assert_eq!(
            (moved.status, moved.get("location")),
            (308, Some(location)),
            "{target}"
        );
    }
    // Whatever leads nowhere else goes on as it is.
    assert_eq!(old("/hello", "").status, 200);
}

#[test]
fn both_sides_get_the_fields_that_a_proxy_owes() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let response = weir.once(get("/"));
    assert!(
        response.get("date").is_some_and(|d| d.ends_with(" GMT")),
        "{response:?}"
    );
    assert!(
        response.get("via").is_some_and(|v| v.starts_with("1.1 ")),
        "{response:?}"
    );
    let log = backend.log();
    let seen = &log.requests[0];
    assert!(
        seen.get("via").is_some_and(|v| v.starts_with("1.1 ")),
        "{seen:?}"
    );
    assert_eq!(seen.get("host"), Some("test.example"));
    assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"));
    let first = seen
        .get("x-request-id")
        .expect("each request has an id")
        .to_owned();
    assert!(first.len() >= 16, "{first}");
    weir.once(get("/"));
    let log = backend.log();
    let second = log.requests[1]
        .get("x-request-id")
        .expect("each request has an id");
    assert_ne!(first, second);
}

/// Some servers do not compress for whoever says Via. An upstream can have this proxy be silent; what others have said passes.
#[test]
fn an_upstream_may_have_no_via_of_ours() {
    let backend = Backend::answering(|_| reply(200, "Via: 1.1 inner\r\n", "ok"));
    for (top, upstream, says) in [
        ("", "", true),
        ("", r#""via": "off""#, false),
        (r#""via": false"#, "", false),
        (r#""via": "off""#, r#""via": true"#, true),
    ] {
        backend.forget();
        let extra = Extra {
            top,
            upstream,
            ..Extra::default()
        };
        let weir = Weir::start(&config(&[backend.port], extra));
        let response = ask(&weir, "GET", "/", "Via: 1.0 outer\r\n");
        let log = backend.log();
        let (asked, answered) = (log.requests[0].all("via"), response.message.all("via"));
        assert_eq!((asked[0], answered[0]), ("1.0 outer", "1.1 inner"));
        let ours = is_our_via(asked.get(1).copied(), "1.1");
        assert_eq!(
            (ours, asked.len()),
            (says, 1 + usize::from(says)),
            "{top} {upstream}: {asked:?}"
        );
        assert_eq!(
            answered.get(1),
            says.then_some(&"1.1 weir"),
            "{top} {upstream}"
        );
        // A loop is seen all the same.
        let mark = log.requests[0].get("cdn-loop");
        assert_eq!(
            mark.is_some_and(|mark| mark.starts_with("weir-")),
            !says,
            "{top} {upstream}: {mark:?}"
        );
    }
}

/// Hop-by-hop fields, and those that Connection names, end at the proxy (RFC 9110 section 7.6.1).
#[test]
fn what_concerns_one_hop_stays_on_it() {
    let own = "Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\n";
    let backend = Backend::answering(move |_| reply(200, own, "ok"));
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let request = format!("{own}TE: trailers\r\nProxy-Authorization: Basic eA==\r\nX-Kept: 1\r\n");
    let response = ask(&weir, "GET", "/", &request);
    let log = backend.log();
    for message in [&response.message, &log.requests[0]] {
        for name in ["x-secret", "keep-alive", "proxy-connection"] {
            assert_eq!(message.get(name), None, "{message:?}");
        }
    }
    assert_eq!(log.requests[0].get("x-kept"), Some("1"));
}

#[test]
fn connections_are_kept_on_both_sides() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(
        &[backend.port],
        Extra {
            top: r#""workers": 1"#,
            ..Extra::default()
        },
    ));
    let mut client = Client::connect(weir.port);
    for i in 0..50 {
        let raw = if i % 2 == 0 {
            get("/")
        } else {
            post("/", "body")
        };
        assert_eq!(client.ask(raw).map(|r| r.status), Ok(200));
    }
    let log = backend.log();
    assert_eq!(log.requests.len(), 50);
    assert_eq!(
        log.open_peak, 1,
        "one request at a time needs one connection"
    );
    assert_eq!(log.received.len(), 1, "and the same one each time");

    // Until the client says otherwise, or speaks HTTP/1.0.
    for raw in [
        "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n",
    ] {
        let mut client = Client::connect(weir.port);
        assert_eq!(client.ask(raw).map(|r| r.status), Ok(200));
        assert!(client.is_closed_by_peer(), "{raw}");
    }
}

#[test]
fn health_readiness_and_metrics_are_on_the_admin_port_alone() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(weir.admin("/healthz").status, 200);
    assert_eq!(weir.admin("/readyz").status, 200);
    let metrics = weir.admin("/metrics");
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    let requests = text
        .lines()
        .find(|l| !l.starts_with('#') && l.contains("requests") && l.ends_with(" 1"));
    assert!(requests.is_some(), "{text}");
    // On the listener they are paths like any other.
    weir.once(get("/metrics"));
    assert_eq!(backend.log().count("GET /metrics "), 1);
}
