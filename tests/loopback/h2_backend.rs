//! HTTP/2 to backends: what they are asked, what a client hears of their answers, and how streams share connections.

mod endings;
mod flow;
mod interim;
mod sharing;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::Builder;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use super::https::{config, url};
use crate::support::backend::is_our_via;
use crate::support::client::{Client, get, post};
use crate::support::secure::{self, Authority, Folder, Secure, Server};
use crate::support::streams::{self, Asked, answer, ok, ok_with, read, server};
use crate::support::weir::Weir;

/// A proxy in front of these servers in the clear, with members of the upstream.
pub(super) fn weir(servers: &[&Server], upstream: &str) -> Weir {
    let ports: Vec<u16> = servers.iter().map(|s| s.port).collect();
    weir_to(&ports, upstream)
}

fn weir_to(ports: &[u16], upstream: &str) -> Weir {
    let urls: Vec<String> = ports
        .iter()
        .map(|port| format!("http://127.0.0.1:{port}"))
        .collect();
    Weir::start(&config(
        &urls,
        &format!(r#""protocol": "http2", {upstream}"#),
    ))
}

/// Heads that a server was asked with.
type Heads = Arc<Mutex<Vec<Request<()>>>>;

/// A server that notes what it is asked and echoes the body, and the trailers behind it.
fn echo() -> (Server, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let server = server(Builder::new(), move |(request, mut respond): Asked| {
        let (parts, body) = request.into_parts();
        let seen = Arc::clone(&seen);
        async move {
            seen.lock()
                .expect("no panic holds it")
                .push(Request::from_parts(parts, ()));
            let Some((body, trailers)) = read(body).await else {
                return;
            };
            let Ok(mut stream) = respond.send_response(ok_with("trailer", "x-sum"), false) else {
                return;
            };
            streams::send(&mut stream, Bytes::from(body)).await;
            let _ = match trailers {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            };
        }
    });
    (server, heads)
}

#[test]
fn a_request_has_the_form_of_http2() {
    let (server, heads) = echo();
    let weir = weir(&[&server], "");
    let request = "POST /a/b?c=d HTTP/1.1\r\nHost: Test.example:81\r\nContent-Length: 4\r\nConnection: X-Hop, TE\r\n\
        X-Hop: 1\r\nTE: trailers, gzip\r\nKeep-Alive: timeout=5\r\nX-Passes: 2\r\nX-Passes: 3\r\n\
        Cookie: a=b; c=d\r\n\r\nbody";
    let response = weir.once(request);
    assert_eq!((response.status, response.text().as_str()), (200, "body"));
    assert_eq!(response.get("via"), Some("2 weir"));
    let heads = heads.lock().expect("no panic holds it");
    let head = &heads[0];
    assert_eq!(head.method(), "POST");
    assert_eq!(head.uri(), "http://Test.example:81/a/b?c=d");
    let all = |name: &str| -> Vec<&str> {
        let values = head.headers().get_all(name).iter();
        values.map(|v| v.to_str().expect("ASCII")).collect()
    };
    assert_eq!(all("te"), ["trailers"]);
    assert_eq!(all("content-length"), ["4"]);
    assert_eq!(all("x-passes"), ["2", "3"]);
    assert_eq!(all("cookie"), ["a=b; c=d"]);
    assert_eq!(all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all("x-forwarded-host"), ["Test.example:81"]);
    assert!(matches!(all("via")[..], [via] if is_our_via(Some(via), "1.1")));
    for name in [
        "host",
        "connection",
        "x-hop",
        "keep-alive",
        "transfer-encoding",
    ] {
        assert_eq!(all(name), [""; 0], "{name}");
    }
}

/// As over HTTP/1.1: bounds on heads, with their reason, and a Via that an upstream can do without.
#[test]
fn bounds_on_heads_and_silence_in_via_hold_on_streams() {
    let vias = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&vias);
    let server = server(Builder::new(), move |(request, respond): Asked| {
        let via = request.headers().get("via").cloned();
        seen.lock().expect("no panic holds it").push(via);
        let mut head = ok();
        let numbers: Vec<usize> = request
            .uri()
            .path()
            .split('/')
            .flat_map(str::parse)
            .collect();
        let value = HeaderValue::try_from("a".repeat(numbers[1])).expect("letters");
        for i in 0..numbers[0] {
            let name = http::HeaderName::try_from(format!("x-{i}")).expect("a name");
            head.headers_mut().insert(name, value.clone());
        }
        async move { answer(respond, head, "ok") }
    });
    let weir = weir(
        &[&server],
        r#""via": "off", "limits": {"head": "100KiB", "fields": 300},"#,
    );
    for (fields, bytes, status) in [
        (290, 10, 200),
        (10, 10_000, 200),
        (310, 10, 502),
        (11, 10_000, 502),
        (19, 10_000, 502),
    ] {
        let response = weir.once(get(&format!("/{fields}/{bytes}")));
        assert_eq!(response.status, status, "{fields} of {bytes}");
        assert_eq!(response.get("via"), None);
        let why = response.get("proxy-status").unwrap_or_default();
        let told = why.contains("http_response_header_section_size");
        assert_eq!(told, status == 502, "{fields} of {bytes}: {why}");
    }
    let vias = vias.lock().expect("no panic holds it");
    assert!(vias.iter().all(Option::is_none), "{vias:?}");
}

#[test]
fn a_route_may_name_the_authority() {
    let (server, heads) = echo();
    let url = format!("http://127.0.0.1:{}/base", server.port);
    let routes = r#"[{"upstream": "app", "strip_prefix": "/api", "request_headers": {"set": {"Host": "inner.example"}}}]"#;
    let whole = config(&[url], r#""protocol": "http2","#);
    let weir = Weir::start(&whole.replacen('{', &format!("{{\"routes\": {routes}, "), 1));
    assert_eq!(weir.once(get("/api/x")).status, 200);
    let heads = heads.lock().expect("no panic holds it");
    assert_eq!(heads[0].uri(), "http://inner.example/base/x");
}

#[test]
fn trailers_pass_both_ways() {
    let (server, _) = echo();
    let weir = weir(&[&server], "");
    let mut client = Client::connect(weir.port);
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
         Connection: close\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let mut all = String::new();
    let mut stream = client.wire().stream();
    std::io::Read::read_to_string(&mut stream, &mut all).expect("the proxy closes");
    assert!(all.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
    let end = "4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n";
    assert!(all.ends_with(end), "{all}");
}

#[test]
fn a_response_that_is_trailers_alone_is_its_head() {
    let server = server(Builder::new(), |(_, mut respond): Asked| async move {
        let head = ok_with("grpc-status", "12");
        let _ = respond.send_response(head, true);
    });
    let weir = weir(&[&server], "");
    let response = weir.once(post("/service/method", "body"));
    assert_eq!(response.get("grpc-status"), Some("12"));
    assert_eq!(response.text(), "");
}

/// What a server says of a body that it does not send, or in pieces of its own.
async fn say((request, mut respond): Asked) {
    let length = |n: &'static str| ok_with("content-length", n);
    let status = |code| {
        let mut head = Response::new(());
        *head.status_mut() = code;
        head
    };
    match request.uri().path() {
        // As many servers do: the end comes in a frame of its own.
        "/apart" => {
            if let Ok(mut stream) = respond.send_response(length("4"), false) {
                let _ = stream.send_data(Bytes::from_static(b"body"), false);
                tokio::task::yield_now().await;
                let _ = stream.send_data(Bytes::new(), true);
            }
        }
        "/hints" => {
            let _ = respond.send_informational(status(StatusCode::EARLY_HINTS));
            answer(respond, ok(), "late");
        }
        "/head" => {
            let _ = respond.send_response(length("1000"), true);
        }
        "/not-modified" => {
            let _ = respond.send_response(status(StatusCode::NOT_MODIFIED), true);
        }
        "/no-content" => {
            let _ = respond.send_response(status(StatusCode::NO_CONTENT), true);
        }
        _ => answer(respond, ok(), "small"),
    }
}

#[test]
fn lengths_are_as_the_backend_says_them() {
    let server = server(Builder::new(), say);
    let weir = weir(&[&server], "");
    let apart = weir.once(get("/apart"));
    assert_eq!(apart.get("content-length"), Some("4"));
    assert_eq!(apart.text(), "body");
    assert_eq!(weir.once(get("/hints")).text(), "late");
    assert_eq!(weir.once(get("/small")).text(), "small");
    let head = weir.once("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.get("content-length"), Some("1000"));
    assert_eq!(weir.once(get("/not-modified")).status, 304);
    assert_eq!(weir.once(get("/no-content")).status, 204);
    // None of them cost the connection, or looked like a client that went away.
    assert_eq!(server.connections(), 1);
    let metrics = weir.admin("/metrics").text();
    assert!(!metrics.contains("client_gone"), "{metrics}");
}

/// Serves HTTP/2 over TLS.
fn over_tls(authority: &Authority, alpn: &[&[u8]]) -> Secure {
    let issued = authority.issue(&["127.0.0.1"]);
    let handle = Arc::new(|(_, respond): Asked| async move { answer(respond, ok(), "h2") });
    Secure::start(secure::server(&issued, alpn, None), move |stream| {
        streams::serve(stream, Builder::new(), Arc::clone(&handle))
    })
}

#[test]
fn alpn_decides_where_both_are_welcome() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let tls = format!(
        r#""tls": {{"ca": "{}"}},"#,
        folder.write("ca.pem", &authority.pem)
    );
    let issued = authority.issue(&["127.0.0.1"]);
    let two = over_tls(&authority, &[b"h2", b"http/1.1"]);
    let one = Secure::answering(secure::server(&issued, &[b"http/1.1"], None), "h1", true);
    let deaf = Secure::answering(secure::server(&issued, &[], None), "deaf", true);
    for (protocol, backend, said) in [
        ("auto", &two, "h2"),
        ("http2", &two, "h2"),
        ("auto", &one, "h1"),
        ("auto", &deaf, "deaf"),
        ("http1", &one, "h1"),
    ] {
        let upstream = format!(r#""protocol": "{protocol}", {tls}"#);
        let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], &upstream));
        let before = backend.server.connections();
        for _ in 0..3 {
            assert_eq!(weir.once(get("/")).text(), said, "{protocol}");
        }
        assert_eq!(backend.server.connections(), before + 1, "{protocol}");
    }
    assert_eq!(two.shaken()[0].alpn.as_deref(), Some("h2"));
    assert_eq!(one.shaken()[0].alpn.as_deref(), Some("http/1.1"));
    // What has to be HTTP/2 is refused where it is not, by either side.
    let upstream = format!(r#""protocol": "http2", {tls}"#);
    for (backend, error) in [(&one, "tls_alert_received"), (&deaf, "tls_protocol_error")] {
        let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], &upstream));
        let response = weir.once(get("/"));
        let why = response.get("proxy-status").unwrap_or_default();
        assert_eq!(response.status, 502, "{response:?}");
        assert!(why.contains(error), "{why}");
    }
}

#[test]
fn a_backend_that_speaks_something_else_is_told_apart_and_another_tried() {
    let other = crate::support::backend::Backend::start(|conn| {
        conn.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        // To close with its peer's preface unread would reset the connection, and could take these words with it.
        conn.wait_for_close();
    });
    let other_url = format!("http://127.0.0.1:{}", other.port);
    let alone = Weir::start(&config(
        std::slice::from_ref(&other_url),
        r#""protocol": "http2","#,
    ));
    let response = alone.once(get("/"));
    let why = response.get("proxy-status").unwrap_or_default();
    assert!(why.contains("http_protocol_error"), "{why}");
    let (server, _) = echo();
    let urls = [other_url, format!("http://127.0.0.1:{}", server.port)];
    let weir = Weir::start(&config(&urls, r#""protocol": "http2","#));
    // Nothing was asked of it, so even a POST goes elsewhere.
    for _ in 0..4 {
        assert_eq!(weir.once(post("/", "body")).text(), "body");
    }
}

#[test]
fn a_cached_route_is_filled_from_streams() {
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let server = server(Builder::new(), move |(_, mut respond): Asked| {
        *count.lock().expect("no panic holds it") += 1;
        async move {
            let head = ok_with("cache-control", "max-age=60");
            if let Ok(mut stream) = respond.send_response(head, false) {
                for _ in 0..10 {
                    streams::send(&mut stream, Bytes::from(vec![b'a'; 50_000])).await;
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("7"));
                let _ = stream.send_trailers(trailers);
            }
        }
    });
    let url = format!("http://127.0.0.1:{}", server.port);
    let whole = config(&[url], r#""protocol": "http2","#);
    let cached =
        r#"{"cache": {"memory": "16MiB"}, "routes": [{"upstream": "app", "cache": true}], "#;
    let weir = Weir::start(&whole.replacen('{', cached, 1));
    for _ in 0..3 {
        let response = weir.once(get("/"));
        assert_eq!(response.message.body, vec![b'a'; 500_000]);
    }
    assert_eq!(*asked.lock().expect("no panic holds it"), 1);
}
