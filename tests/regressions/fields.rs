//! Heads as backends see them: the whole server has no path to prefix, and a stranger's word on addresses has no spelling that
//! passes.

use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::weir::{Extra, Weir, config};

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
