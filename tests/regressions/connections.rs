//! What bounds the connections of clients: how many an address may have, how many requests one may carry, how old it may get.

use std::net::{SocketAddr, TcpStream};

use http::{Request, Version};
use socket2::{Domain, Socket, Type};

use super::pass;
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::tls::h2;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::{Broken, Wire};

/// A connection from this address of the loopback network.
fn from(address: &str, port: u16) -> Wire {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let local: SocketAddr = format!("{address}:0").parse().expect("an address");
    socket.bind(&local.into()).expect("it is ours");
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&to.into()).expect("the proxy accepts");
    Wire::new(TcpStream::from(socket), |_| {})
}

/// Sends a request and reads the status line; the body is `ok`.
fn asks(wire: &mut Wire) -> Result<String, Broken> {
    use std::io::Write;
    let _ = wire.stream().write_all(get("/").as_bytes());
    let head = wire.head()?;
    wire.skip(2)?;
    Ok(head.start)
}

const FULL: &str = "weir_refused_total{listener=\"web\",cause=\"address_full\"}";

#[test]
fn an_address_has_so_many_connections_and_others_have_theirs() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""limits": {"connections_per_address": 2}, "trusted_proxies": ["127.0.0.9"]"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut first = from("127.0.0.2", weir.port);
    let mut second = from("127.0.0.2", weir.port);
    assert!(asks(&mut first).is_ok() && asks(&mut second).is_ok());
    let mut third = from("127.0.0.2", weir.port);
    assert_eq!(asks(&mut third), Err(Broken::Closed));
    assert_eq!(weir.count(FULL), 1);
    assert!(asks(&mut from("127.0.0.3", weir.port)).is_ok());
    // Its clients have one address.
    let mut proxied: Vec<Wire> = (0..5).map(|_| from("127.0.0.9", weir.port)).collect();
    assert!(proxied.iter_mut().all(|wire| asks(wire).is_ok()));
    // Those that stand are untouched, and one that ends makes room.
    assert!(asks(&mut first).is_ok());
    drop(second);
    eventually("another connection is served", || {
        asks(&mut from("127.0.0.2", weir.port)).is_ok()
    });
}

const THREE: &str = r#""limits": {"requests_per_connection": 3}"#;

#[test]
fn the_last_answer_of_a_connection_says_so() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: THREE,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    for last in [false, false, true] {
        let response = client.ask(get("/")).expect("an answer");
        let closes = response.get("connection") == Some("close");
        assert_eq!((response.status, closes), (200, last));
    }
    assert!(client.is_closed_by_peer());
    // Whoever sends ahead gets what was promised, and nothing behind it is executed.
    for _ in 0..20 {
        let mut client = Client::connect(weir.port);
        client.send(get("/ahead").repeat(8));
        for last in [false, false, true] {
            let response = client.response("GET").expect("an answer");
            assert_eq!(response.get("connection") == Some("close"), last);
        }
        assert!(client.is_closed_by_peer());
    }
    assert_eq!(backend.log().count("GET /ahead"), 60);
}

#[test]
fn what_the_cache_answers_counts_as_well() {
    let backend = Backend::answering(|_| reply(200, "Cache-Control: max-age=600\r\n", "ok"));
    let extra = Extra {
        listener: THREE,
        top: r#""routes": [{"upstream": "app", "cache": true}]"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    assert_eq!(weir.once(get("/")).status, 200);
    for ahead in [false, true] {
        let mut client = Client::connect(weir.port);
        if ahead {
            client.send(get("/").repeat(8));
        }
        for last in [false, false, true] {
            if !ahead {
                client.send(get("/"));
            }
            let response = client.response("GET").expect("an answer");
            assert!(response.get("age").is_some(), "a hit: {response:?}");
            assert_eq!(response.get("connection") == Some("close"), last);
        }
        assert!(client.is_closed_by_peer());
    }
    assert_eq!(backend.log().requests.len(), 1);
}

#[test]
fn an_old_connection_ends_behind_an_answer() {
    let backend = Backend::ok();
    let extra = Extra {
        listener: r#""timeouts": {"connection_age": "300ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    let mut answers = 0;
    eventually("an answer is the last one", || {
        let response = client.ask(get("/")).expect("every request is answered");
        answers += 1;
        response.get("connection") == Some("close")
    });
    assert!(client.is_closed_by_peer());
    assert!(answers > 1, "it ends at once");
    // One that idles is left to its own time.
    let mut idle = Client::connect(weir.port);
    assert_eq!(idle.ask(get("/")).map(|r| r.status), Ok(200));
    pass(700);
    let last = idle.ask(get("/")).expect("it is open");
    assert_eq!(last.get("connection"), Some("close"));
}

/// Opens streams one after another until the connection takes no more; how many were answered.
async fn until_told(mut client: h2::client::SendRequest<bytes::Bytes>) -> usize {
    let mut answered = 0;
    loop {
        let Ok(ready) = client.ready().await else {
            return answered;
        };
        client = ready;
        let request = Request::builder().version(Version::HTTP_2);
        let request = request.uri("http://a.example/").body(());
        let sent = client.send_request(request.expect("a request"), true);
        let Ok((response, _)) = sent else {
            return answered;
        };
        match response.await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                answered += 1;
            }
            // It crossed the word to go, which says that it was not looked at.
            Err(error) => {
                assert!(error.is_go_away() || error.is_reset(), "{error}");
                return answered;
            }
        }
    }
}

#[test]
fn over_http_2_a_connection_is_told_to_go() {
    let backend = Backend::ok();
    for bound in [THREE, r#""timeouts": {"connection_age": "300ms"}"#] {
        let extra = Extra {
            listener: bound,
            ..Extra::default()
        };
        let weir = Weir::start(&config(&[backend.port], extra));
        let mut answered = 0;
        h2(weir.port, async |client| {
            answered = until_told(client).await
        });
        assert!(answered >= 3, "{answered} answers with {bound}");
        eventually("the connection ends", || {
            weir.count("weir_connections{listener=\"web\"}") == 0
        });
    }
}
