//! HTTP/2 towards clients, in the clear by prior knowledge: streams, trailers, limits, and what a backend of HTTP/1.1 sees.

use std::io::{Read, Write};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};

use crate::support::backend::{Backend, is_our_via, reply};
use crate::support::eventually;
use crate::support::tls::{h2, soon};
use crate::support::weir::{Extra, Weir, config};

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .version(Version::HTTP_2)
        .uri(format!("http://a.example{path}"))
}

async fn whole(mut body: h2::RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut data = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        data.extend_from_slice(&piece);
    }
    Ok((data, body.trailers().await?))
}

#[test]
fn a_backend_of_http_1_1_sees_one_honest_request() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        let get = request(Method::GET, "/a?b=c")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let (response, _) = client.send_request(get, true).expect("it is sent");
        let response = response.await.expect("it is answered");
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("connection"));
        let (body, _) = whole(response.into_body()).await.expect("a body");
        assert_eq!(body, b"ok");
    });
    let log = backend.log();
    let seen = &log.requests[0];
    assert_eq!(seen.start, "GET /a?b=c HTTP/1.1");
    assert_eq!(seen.all("host"), ["a.example"]);
    // RFC 9113 section 8.2.3.
    assert_eq!(seen.all("cookie"), ["a=1; b=2"]);
    assert_eq!(seen.all("te"), ["trailers"]);
    assert!(is_our_via(seen.get("via"), "2"), "{seen:?}");
}

/// A body of the proxy's own would break the stream off (RFC 9113 section 8.1.1).
#[test]
fn what_the_proxy_says_by_itself_has_no_body_for_head() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    backend.stop();
    h2(weir.port, async |mut client| {
        let head = request(Method::HEAD, "/").body(()).expect("a request");
        let (response, _) = client.send_request(head, true).expect("it is sent");
        let response = response.await.expect("it is answered");
        assert_eq!(response.status(), 502);
        assert!(response.headers().contains_key("content-length"));
        let (body, _) = whole(response.into_body()).await.expect("an end in order");
        assert!(body.is_empty());
    });
}

#[test]
fn a_host_that_contradicts_the_authority_is_malformed() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        for (host, status) in [("b.example", 400), ("A.example", 200)] {
            let get = request(Method::GET, "/").header("host", host).body(());
            let (response, _) = client
                .send_request(get.expect("a request"), true)
                .expect("sent");
            assert_eq!(
                response.await.expect("an answer").status(),
                status,
                "{host}"
            );
        }
    });
    assert_eq!(backend.log().requests.len(), 1);
}

/// RFC 9113 section 8.1.1: a length that the stream does not keep is malformed, and no backend may take what came of it for a
/// whole request.
#[test]
fn a_length_that_the_stream_does_not_keep_makes_no_request() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(30));
    h2(weir.port, async |mut client| {
        for (length, pieces) in [
            ("0", ["more", ""]),
            ("4", ["body", "more"]),
            ("4", ["body and more", ""]),
            ("8", ["body", ""]),
            ("8", ["", "body"]),
        ] {
            client = client.ready().await.expect("there is room");
            let post = request(Method::POST, "/broken").header("content-length", length);
            let post = post.body(()).expect("a request");
            let (response, mut body) = client.send_request(post, false).expect("it is sent");
            // What the head alone brings about comes about before the body contradicts it.
            pause().await;
            for (index, piece) in pieces.into_iter().enumerate() {
                // The stream may be gone already.
                let _ = body.send_data(piece.into(), index == 1);
                pause().await;
            }
            let error = response.await.expect_err("the stream is reset");
            assert!(error.is_reset(), "{length} {pieces:?}: {error}");
        }
    });
    assert_eq!(backend.log().count("POST /broken"), 0);
}

#[test]
fn a_length_that_is_kept_passes_wherever_the_stream_ends() {
    let backend = Backend::start(|conn| {
        while let Some(message) = conn.request() {
            let text = format!("{:?} {}", message.get("content-length"), message.text());
            conn.reply(reply(200, "", &text));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        for (length, pieces, said) in [
            ("0", &[""][..], r#"Some("0") "#),
            ("0", &["", "", ""], r#"Some("0") "#),
            ("4", &["body"], r#"Some("4") body"#),
            ("4", &["", "bo", "", "dy", "", ""], r#"Some("4") body"#),
        ] {
            for trailers in [false, true] {
                client = client.ready().await.expect("there is room");
                let post = request(Method::POST, "/").header("content-length", length);
                let post = post.body(()).expect("a request");
                let (response, mut body) = client.send_request(post, false).expect("it is sent");
                for (index, piece) in pieces.iter().enumerate() {
                    let end = !trailers && index + 1 == pieces.len();
                    body.send_data((*piece).into(), end).expect("data");
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                if trailers {
                    let mut sum = HeaderMap::new();
                    sum.insert("x-sum", "4".parse().expect("a value"));
                    body.send_trailers(sum).expect("trailers");
                }
                let response = response.await.expect("it is answered");
                assert_eq!(response.status(), 200, "{length} {pieces:?}");
                let (body, _) = whole(response.into_body()).await.expect("a body");
                assert_eq!(
                    String::from_utf8_lossy(&body),
                    said,
                    "{pieces:?} {trailers}"
                );
            }
        }
    });
}

/// A reset ends a request's stream, and never its body, whatever reason it names.
#[test]
fn a_reset_without_an_error_is_no_end_of_a_body() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        for (path, reason) in [
            ("/half/0", h2::Reason::NO_ERROR),
            ("/half/1", h2::Reason::CANCEL),
        ] {
            client = client.ready().await.expect("there is room");
            let post = request(Method::POST, path).body(()).expect("a request");
            let (_, mut body) = client.send_request(post, false).expect("it is sent");
            body.send_data("half".into(), false).expect("data");
            soon(|| backend.log().saw(path)).await;
            body.send_reset(reason);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        client = client.ready().await.expect("there is room");
        let get = request(Method::GET, "/").body(()).expect("a request");
        let (response, _) = client.send_request(get, true).expect("it is sent");
        assert_eq!(response.await.expect("it is answered").status(), 200);
    });
    assert_eq!(backend.log().count("POST /half"), 0);
}

#[test]
fn streams_run_beside_one_another() {
    let gate = std::sync::Arc::new(std::sync::Barrier::new(20));
    let backend = Backend::start(move |conn| {
        while conn.request().is_some() {
            // Nobody is answered before all have asked.
            gate.wait();
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        let mut responses = Vec::new();
        for _ in 0..20 {
            client = client.ready().await.expect("there is room");
            let get = request(Method::GET, "/").body(()).expect("a request");
            responses.push(client.send_request(get, true).expect("it is sent").0);
        }
        for response in responses {
            assert_eq!(response.await.expect("it is answered").status(), 200);
        }
    });
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let backend = Backend::start(|conn| {
        while let Some(message) = conn.request() {
            let body = message.text();
            conn.reply(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\ngrpc-status: 0\r\n\r\n",
                body.len()
            ));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        let post = request(Method::POST, "/").body(()).expect("a request");
        let (response, mut body) = client.send_request(post, false).expect("it is sent");
        body.send_data(Bytes::from_static(b"hello "), false)
            .expect("data");
        body.send_data(Bytes::from_static(b"there"), false)
            .expect("data");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "11".parse().expect("a value"));
        body.send_trailers(trailers).expect("trailers");
        let response = response.await.expect("it is answered");
        let (data, trailers) = whole(response.into_body()).await.expect("a body");
        assert_eq!(data, b"hello there");
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
    });
    let raw = backend.log().received.concat();
    let raw = String::from_utf8_lossy(&raw).to_ascii_lowercase();
    assert!(raw.contains("0\r\nx-sum: 11\r\n\r\n"), "{raw}");
}

#[test]
fn a_client_that_resets_a_stream_frees_its_backend_alone() {
    let backend = Backend::start(|conn| {
        while let Some(message) = conn.request() {
            if message.start.contains("/held") {
                conn.wait_for_close();
                return;
            }
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        let held = request(Method::GET, "/held").body(()).expect("a request");
        let (response, mut stream) = client.send_request(held, true).expect("it is sent");
        soon(|| backend.log().open == 1).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        client = client.ready().await.expect("the connection stands");
        let get = request(Method::GET, "/").body(()).expect("a request");
        let (response, _) = client.send_request(get, true).expect("it is sent");
        assert_eq!(response.await.expect("it is answered").status(), 200);
    });
    eventually("nothing is held any more", || backend.log().open <= 1);
}

#[test]
fn what_a_client_does_not_take_is_not_taken_from_the_backend() {
    let backend = Backend::start(|conn| {
        if conn.request().is_some() {
            let piece = vec![b'x'; 64 << 10];
            conn.reply("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
            for _ in 0..1024 {
                if !conn.send(&piece) {
                    return;
                }
            }
        }
    });
    let extra = Extra {
        listener: r#""timeouts": {"body": "1s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let before = weir.resident();
    h2(weir.port, async |mut client| {
        let get = request(Method::GET, "/").body(()).expect("a request");
        let (response, _) = client.send_request(get, true).expect("it is sent");
        let mut body = response.await.expect("it is answered").into_body();
        // It takes nothing: after its time the stream is reset, and nothing was held for it meanwhile but windows.
        let mut taken = 0;
        let end = loop {
            match body.data().await {
                Some(Ok(piece)) => taken += piece.len(),
                Some(Err(error)) => break error,
                None => panic!("it cannot be whole"),
            }
        };
        assert!(end.is_reset(), "{end}");
        assert!(taken <= 1 << 20, "{taken}");
    });
    assert!(weir.resident() < before + (16 << 20));
    eventually("the backend is let go", || backend.log().open == 0);
}

#[test]
fn heads_beyond_the_limits_are_431() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        let mut many = request(Method::GET, "/");
        for i in 0..120 {
            many = many.header(format!("x-{i}"), "v");
        }
        let (response, _) = client
            .send_request(many.body(()).expect("a request"), true)
            .expect("it is sent");
        assert_eq!(response.await.expect("it is answered").status(), 431);
    });
    assert!(backend.log().requests.is_empty());
}

#[test]
fn a_flood_of_resets_ends_the_connection() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            conn.wait_for_close();
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    // CVE-2023-44487: the connection ends, or the resets are taken one by one; the proxy serves on in either case.
    h2(weir.port, async |mut client| {
        for _ in 0..5000 {
            let Ok(ready) = client.ready().await else {
                break;
            };
            client = ready;
            let get = request(Method::GET, "/").body(()).expect("a request");
            let Ok((_, mut stream)) = client.send_request(get, true) else {
                break;
            };
            stream.send_reset(h2::Reason::CANCEL);
        }
    });
    eventually("nothing of it is left", || backend.log().open == 0);
    let mut weir = weir;
    assert!(weir.lives());
}

#[test]
fn off_means_that_the_preface_is_no_request() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""http2": {"cleartext": false}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = std::net::TcpStream::connect(("127.0.0.1", weir.port)).expect("it listens");
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("it is sent");
    let mut answer = Vec::new();
    // Refused with words or without.
    let _ = client.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 "),
        "{answer:?}"
    );
    assert!(backend.log().requests.is_empty());
}

#[test]
fn a_preface_in_pieces_is_one() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut client = std::net::TcpStream::connect(("127.0.0.1", weir.port)).expect("it listens");
    client.set_nodelay(true).expect("a socket");
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.write_all(&[*byte]).expect("it takes it");
    }
    client
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .expect("SETTINGS");
    let mut head = [0; 9];
    client.read_exact(&mut head).expect("its SETTINGS come");
    assert_eq!(head[3], 4, "{head:?}");
}

#[test]
fn a_stopping_proxy_finishes_its_streams_and_says_goodbye() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(300));
            conn.reply(reply(200, "", "ok"));
        }
    });
    let mut weir = Weir::start(&config(&[backend.port], Extra::default()));
    h2(weir.port, async |mut client| {
        let get = request(Method::GET, "/").body(()).expect("a request");
        let (response, _) = client.send_request(get, true).expect("it is sent");
        soon(|| backend.log().requests.len() == 1).await;
        weir.signal("TERM");
        assert_eq!(response.await.expect("it is answered").status(), 200);
    });
    assert!(weir.wait().success());
}
