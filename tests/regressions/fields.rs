//! Heads as backends see them: the whole server has no path to prefix, and a stranger's word on addresses has no spelling that
//! passes.

use crate::support::backend::{Backend, reply};
use crate::support::client::get;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Message;

/// RFC 9112 section 3.2.4: a target that stands for the server as a whole.
#[test]
fn an_asterisk_reaches_a_backend_with_a_path_prefix_as_it_is() {
    let backend = Backend::ok();
    let plain = format!("\"http://127.0.0.1:{}\"", backend.port);
    let prefixed = format!("\"http://127.0.0.1:{}/base\"", backend.port);
    let text = config(&[backend.port], Extra::default()).replace(&plain, &prefixed);
    let weir = Weir::start(&text);
    let whole = weir.once("OPTIONS * HTTP/1.1\r\nHost: test.example\r\n\r\n");
    assert_eq!(whole.status, 200);
    assert_eq!(weir.once(get("/path")).status, 200);
    let root = weir.once("OPTIONS / HTTP/1.1\r\nHost: test.example\r\n\r\n");
    assert_eq!(root.status, 200);
    assert_eq!(
        backend.log().lines(),
        [
            "OPTIONS * HTTP/1.1",
            "GET /base/path HTTP/1.1",
            "OPTIONS /base/ HTTP/1.1"
        ]
    );
}

/// Many backends read an underscore as a hyphen (CGI's variables cannot tell them apart).
#[test]
fn a_strangers_forwarding_fields_pass_in_no_spelling() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    for name in [
        "X-Forwarded-For",
        "X_Forwarded_For",
        "x_forwarded_for",
        "X_Forwarded-For",
        "X-Real-IP",
        "X_Real_IP",
        "X_REAL-ip",
    ] {
        backend.forget();
        let raw = format!(
            "GET / HTTP/1.1\r\nHost: test.example\r\n{name}: 6.6.6.6\r\nX_Other: stays\r\n\r\n"
        );
        assert_eq!(weir.once(raw).status, 200, "{name}");
        let log = backend.log();
        assert_eq!(log.requests.len(), 1, "{name}");
        assert!(!log.saw("6.6.6.6"), "{name} came through");
        assert_eq!(log.requests[0].get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(log.requests[0].get("x_other"), Some("stays"), "{name}");
    }
}

/// Names are passed on as they were written, in both directions; the proxy's own are in small letters unless the config says
/// otherwise.
#[test]
fn the_case_of_names_is_the_senders_or_the_configs() {
    let backend = Backend::answering(|_: &Message| reply(200, "X-CamelCase: 1\r\n", "body"));
    let names = |title: &str| {
        let upstream = format!(r#""field_case": "{title}""#);
        let extra = Extra {
            upstream: &upstream,
            ..Extra::default()
        };
        let weir = Weir::start(&config(&[backend.port], extra));
        backend.forget();
        let raw = "POST / HTTP/1.1\r\nhost: test.example\r\nx-ALL: a\r\nX-oNe:b\r\nContent-Length: 2\r\n\r\nab";
        let response = weir.once(raw);
        assert_eq!(response.status, 200);
        let camel = response
            .message
            .fields
            .iter()
            .any(|(name, _)| name == "X-CamelCase");
        assert!(camel, "{:?}", response.message.fields);
        let log = backend.log();
        assert_eq!(log.requests[0].get("x-one"), Some("b"));
        let fields = log.requests[0].fields.iter();
        fields.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let own = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-request-id",
        "via",
        "content-length",
    ];
    let received = [&["host", "x-ALL", "X-oNe"][..], &own].concat();
    assert_eq!(names("received"), received);
    let title = names("title");
    assert_eq!(
        title[..5],
        [
            "Host",
            "X-All",
            "X-One",
            "X-Forwarded-For",
            "X-Forwarded-Proto"
        ]
    );
    assert_eq!(title[6..], ["X-Request-Id", "Via", "Content-Length"]);
}

/// What a backend that does not know of the prefix says of its own paths leads the client back through the route.
#[test]
fn paths_in_answers_get_the_prefix_back() {
    let backend = Backend::answering(|request: &Message| {
        let fields = format!(
            "Location: http://{}/login?a=/b\r\nContent-Location: /data\r\nSet-Cookie: a=b; Path=/admin; Secure\r\n\
             Set-Cookie: c=d; Path=/\r\n",
            request.get("host").unwrap_or_default()
        );
        reply(302, &fields, "")
    });
    let routes = |more: &str| {
        let text = config(&[backend.port], Extra::default());
        let route =
            format!(r#"{{"routes": [{{"upstream": "app", "strip_prefix": "/api"{more}}}],"#);
        Weir::start(&text.replacen('{', &route, 1))
    };
    let restored = routes("").once(get("/api/x"));
    assert_eq!(restored.status, 302);
    assert_eq!(
        restored.get("location"),
        Some("http://test.example/api/login?a=/b")
    );
    assert_eq!(restored.get("content-location"), Some("/api/data"));
    assert_eq!(
        restored.message.all("set-cookie"),
        ["a=b; Path=/api/admin; Secure", "c=d; Path=/"]
    );
    let left = routes(r#", "restore_prefix": false"#).once(get("/api/x"));
    assert_eq!(left.get("location"), Some("http://test.example/login?a=/b"));
    assert_eq!(left.get("content-location"), Some("/data"));
    assert_eq!(
        left.message.all("set-cookie"),
        ["a=b; Path=/admin; Secure", "c=d; Path=/"]
    );
}
