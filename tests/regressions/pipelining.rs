//! What a client sends behind a request belongs to its next one: half a head is kept or refused, never lost, and an empty line
//! is nothing.

use super::pass;
use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::weir::{Extra, Weir, config};

/// Longer than a connection idles before the proxy gives its buffers back.
const IDLE: u64 = 1_800;

/// A whole request and the beginning of the next one, in one write.
fn one_and_a_half() -> String {
    format!("{}GET /secret-", get("/hello"))
}

#[test]
fn half_a_pipelined_head_is_kept_until_its_rest_comes() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""timeouts": {"header": "30s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    client.send(one_and_a_half());
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    pass(IDLE);
    client.send("thing HTTP/1.1\r\nHost: test.example\r\n\r\n");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    let log = backend.log();
    assert_eq!(
        log.lines(),
        ["GET /hello HTTP/1.1", "GET /secret-thing HTTP/1.1"]
    );
}

#[test]
fn no_request_begins_in_the_middle_of_a_head() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""timeouts": {"header": "30s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    client.send(one_and_a_half());
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    pass(IDLE);
    // Behind the half head this is "GET /secret-GET /y HTTP/1.1", which is no request line.
    client.send(get("/y"));
    assert_eq!(client.response("GET").map(|r| r.status), Ok(400));
    assert_eq!(backend.log().lines(), ["GET /hello HTTP/1.1"]);
    assert!(!backend.log().saw("/y"));
}

#[test]
fn half_a_pipelined_head_is_408_after_the_header_timeout() {
    let backend = Backend::ok();
    let extra = Extra {
        // Idling for so long would be no error, and no answer.
        listener: r#""timeouts": {"header": "1s", "idle": "4s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    client.send(one_and_a_half());
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    assert_eq!(client.response("GET").map(|r| r.status), Ok(408));
    assert!(client.is_closed_by_peer());
    assert_eq!(backend.log().lines(), ["GET /hello HTTP/1.1"]);
}

/// RFC 9112 section 2.2: an empty line in front of a request is skipped. It does not begin a head.
#[test]
fn an_empty_line_behind_a_request_starts_no_clock() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""timeouts": {"header": "1s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for behind in ["with its request", "behind its response", "after idling"] {
        let mut client = Client::connect(weir.port);
        let with = behind == "with its request";
        let first = format!("{}{}", get("/first"), if with { "\r\n" } else { "" });
        assert_eq!(client.ask(first).map(|r| r.status), Ok(200));
        if behind == "after idling" {
            pass(IDLE);
        }
        if !with {
            client.send("\r\n");
        }
        pass(2_500);
        // What came unasked in the meantime would be read in the place of this answer.
        let next = client.ask(get("/next")).map(|r| r.status);
        assert_eq!(next, Ok(200), "an empty line {behind}");
    }
    assert_eq!(backend.log().count("GET /next "), 3);
}
