//! Bodies and times that a listener bounds: 413 and 408, and the places that they give back.

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get, post};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

const SMALL: &str = r#""limits": {"body": "1KiB"}"#;

#[test]
fn a_body_over_the_limit_is_413() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: SMALL,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let fits = "a".repeat(1024);
    assert_eq!(weir.once(post("/fits", &fits)).status, 200);
    assert_eq!(weir.once(post("/large", &format!("{fits}a"))).status, 413);
    assert!(
        !backend.log().saw("/large"),
        "its length alone says that it is too large"
    );

    // Chunks say it only on the way: the head may have gone on, the request must not become whole.
    let chunk = format!("401\r\n{fits}a\r\n0\r\n\r\n");
    let mut client = Client::connect(weir.port);
    let answer = client.ask(format!(
        "POST /chunks HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    ));
    assert_eq!(answer.map(|r| r.status), Ok(413));
    assert_eq!(backend.log().count("POST /chunks"), 0);
    assert_eq!(weir.once(get("/")).status, 200);
}

#[test]
fn who_asks_first_is_told_before_sending() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: SMALL,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    client.send("POST /large HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1025\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.any_response("POST").map(|r| r.status), Ok(413));
    assert!(!backend.log().saw("/large"));
}

/// Many cookies and long policies make large heads. They pass up to bounds that can be set, and beyond them the reason is told.
#[test]
fn large_heads_of_responses_pass_up_to_a_bound() {
    // `GET /FIELDS/BYTES` is answered with so many fields of so many bytes.
    let backend = Backend::answering(|request| {
        let path = request.start.split(' ').nth(1).unwrap_or_default();
        let numbers: Vec<usize> = path.split('/').flat_map(str::parse).collect();
        let value = "a".repeat(numbers[1]);
        let fields: String = (0..numbers[0])
            .map(|i| format!("X-{i}: {value}\r\n"))
            .collect();
        reply(200, &fields, "ok")
    });
    let higher = Extra {
        upstream: r#""limits": {"head": "256KiB", "fields": 2000}"#,
        ..Extra::default()
    };
    let lower = Extra {
        top: r#""limits": {"backend_head": "16KiB", "backend_fields": 20}"#,
        ..Extra::default()
    };
    for (extra, heads) in [
        (
            Extra::default(),
            [
                (250, 10, 200),
                (12, 10_000, 200),
                (260, 10, 502),
                (14, 10_000, 502),
            ],
        ),
        (
            higher,
            [
                (1000, 100, 200),
                (25, 10_000, 200),
                (2100, 10, 502),
                (27, 10_000, 502),
            ],
        ),
        (
            lower,
            [
                (15, 10, 200),
                (1, 10_000, 200),
                (25, 10, 502),
                (2, 10_000, 502),
            ],
        ),
    ] {
        let weir = Weir::start(&config(&[backend.port], extra));
        for (fields, bytes, status) in heads {
            let response = weir.once(get(&format!("/{fields}/{bytes}")));
            let what = format!("{fields} fields of {bytes} bytes, {extra:?}");
            assert_eq!(response.status, status, "{what}");
            let why = response.get("proxy-status").unwrap_or_default();
            let told = why.contains("http_response_header_section_size");
            assert_eq!(told, status == 502, "{what}: {why}");
        }
    }
}

#[test]
fn half_a_head_is_408() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""timeouts": {"header": "200ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    for start in [
        "",
        "GET",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nX-A:",
    ] {
        let mut client = Client::connect(weir.port);
        client.send(start);
        match client.response("GET") {
            Ok(response) => assert_eq!(response.status, 408, "{start:?}"),
            Err(e) => assert_eq!(e, Broken::Closed, "{start:?}"),
        }
    }
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(backend.log().requests.len(), 1);
}

#[test]
fn a_stalled_body_is_given_up_and_its_place_is_free() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            conn.reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let extra = Extra {
        listener: r#""timeouts": {"body": "200ms"}"#,
        upstream: r#""max_in_flight": 1"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    client.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nhalf");
    match client.response("POST") {
        Ok(response) => assert_eq!(response.status, 408),
        Err(e) => assert_eq!(e, Broken::Closed),
    }
    assert_eq!(weir.once(get("/")).status, 200);
}

#[test]
fn an_idle_connection_is_closed() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""timeouts": {"idle": "200ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let before = weir.descriptors();
    let mut client = Client::connect(weir.port);
    assert_eq!(client.ask(get("/")).map(|r| r.status), Ok(200));
    assert!(client.is_closed_by_peer());
    drop(client);
    eventually("descriptors return", || weir.descriptors() <= before);
}
