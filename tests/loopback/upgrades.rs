//! Upgraded connections: when one is opened and when not, that its bytes are nobody's business, and what ends it.

mod streams;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::tcp::{Peer, connect, is_reset, read, reset, rest};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::secure::{Authority, Folder};
use crate::support::weir::{Extra, Weir, config};

/// The client's half of the handshake that RFC 6455 shows in section 1.2.
pub(super) const ASK: &str = "GET /chat HTTP/1.1\r\nHost: test.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The backend's half.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Reads up to the blank line after a head.
#[track_caller]
pub(super) fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head comes");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("heads here are ASCII")
}

/// Does a head have this line, in whatever case?
pub(super) fn has(head: &str, line: &str) -> bool {
    head.split("\r\n").any(|l| l.eq_ignore_ascii_case(line))
}

/// Opens a tunnel, both ends of it.
#[track_caller]
fn open(weir: &Weir, peer: &Peer) -> (TcpStream, TcpStream) {
    let mut client = connect(weir);
    client.write_all(ASK.as_bytes()).expect("it is taken");
    let mut backend = peer.accept();
    head(&mut backend);
    backend.write_all(SWITCH.as_bytes()).expect("it is taken");
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    (client, backend)
}

pub(super) fn tunnels(weir: &Weir) -> u64 {
    weir.count("weir_upstream_tunnels{upstream=\"app\"}")
}

#[test]
fn what_comes_with_the_handshake_is_in_the_tunnel() {
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    let mut client = connect(&weir);
    let ask = [ASK.as_bytes(), b"early words"].concat();
    client.write_all(&ask).expect("it is taken");
    let mut backend = peer.accept();
    let asked = head(&mut backend);
    assert!(asked.starts_with("GET /chat HTTP/1.1\r\n"), "{asked}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version: 13",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(has(&asked, line), "{line} in {asked}");
    }
    let answer = [SWITCH.as_bytes(), b"and a greeting"].concat();
    backend.write_all(&answer).expect("it is taken");
    let answered = head(&mut client);
    assert!(answered.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "via: 1.1 weir",
    ] {
        assert!(has(&answered, line), "{line} in {answered}");
    }
    for name in ["content-length:", "transfer-encoding:"] {
        assert!(!answered.to_ascii_lowercase().contains(name), "{answered}");
    }
    assert_eq!(read(&mut client, 14), b"and a greeting");
    assert_eq!(read(&mut backend, 11), b"early words");
    for _ in 0..3 {
        client.write_all(b"ping").expect("it is taken");
        assert_eq!(read(&mut backend, 4), b"ping");
        backend.write_all(b"pong").expect("it is taken");
        assert_eq!(read(&mut client, 4), b"pong");
    }
    assert_eq!(tunnels(&weir), 1);
    drop((client, backend));
    eventually("it is over", || tunnels(&weir) == 0);
}

#[test]
fn each_side_ends_by_itself() {
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    for client_first in [true, false] {
        let (mut client, mut backend) = open(&weir, &peer);
        let (first, second) = if client_first {
            (&mut client, &mut backend)
        } else {
            (&mut backend, &mut client)
        };
        first.write_all(b"last words").expect("it is taken");
        first.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(rest(second), b"last words");
        second.write_all(b"and an answer").expect("it is taken");
        second.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(rest(first), b"and an answer");
        eventually("it is over", || tunnels(&weir) == 0);
    }
    let ended = "weir_sessions_ended_total{listener=\"web\",upstream=\"app\",backend=\"127.0.0.1:";
    let ended = format!("{ended}{}\"}}", peer.port);
    eventually("both are counted", || weir.count(&ended) == 2);
    let received = ended.replace("sessions_ended", "session_received_bytes");
    assert_eq!(weir.count(&received), 23);
    let metrics = weir.admin("/metrics").text();
    assert!(!metrics.contains("weir_request_duration_seconds_count{upstream=\"app\""));
}

#[test]
fn much_goes_both_ways_at_once() {
    const LENGTH: usize = 20 << 20;
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    let (client, backend) = open(&weir, &peer);
    let text = |seed: usize| -> Vec<u8> { (0..LENGTH).map(|i| (i * seed / 251) as u8).collect() };
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
    let send = |mut stream: TcpStream, bytes: Vec<u8>| {
        thread::spawn(move || {
            stream.write_all(&bytes).expect("it is taken");
            stream.shutdown(Shutdown::Write).expect("it is open");
        })
    };
    let receive = |mut stream: TcpStream| thread::spawn(move || rest(&mut stream));
    let sending = [
        send(clone(&client), text(3)),
        send(clone(&backend), text(7)),
    ];
    let (at_client, at_backend) = (receive(client), receive(backend));
    assert!(at_client.join().expect("it was read") == text(7));
    assert!(at_backend.join().expect("it was read") == text(3));
    sending
        .into_iter()
        .for_each(|s| s.join().expect("all of it was sent"));
}

/// A client that takes its time for the answer before the handshake: neither the end of that answer nor the handshake is lost.
#[test]
fn what_was_answered_before_the_switch_arrives_first() {
    const LENGTH: usize = 12 << 20;
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    let mut client = connect(&weir);
    let asks = [get("/large").as_bytes(), ASK.as_bytes()].concat();
    client.write_all(&asks).expect("they are taken");
    let mut backend = peer.accept();
    head(&mut backend);
    let serving = thread::spawn(move || {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        backend.write_all(answer.as_bytes()).expect("it is taken");
        backend.write_all(&vec![b'a'; LENGTH]).expect("it is taken");
        assert!(head(&mut backend).starts_with("GET /chat "));
        backend.write_all(SWITCH.as_bytes()).expect("it is taken");
        backend.write_all(b"hello").expect("it is taken");
        backend
    });
    head(&mut client);
    let mut left = LENGTH;
    while left > 0 {
        // Slower than the proxy, which then always has more than the client takes.
        if !serving.is_finished() {
            thread::sleep(Duration::from_micros(200));
        }
        let piece = read(&mut client, left.min(16 << 10));
        assert!(piece.iter().all(|b| *b == b'a'));
        left -= piece.len();
    }
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    assert_eq!(read(&mut client, 5), b"hello");
    let mut backend = serving.join().expect("it was served");
    client.write_all(b"back").expect("it is taken");
    assert_eq!(read(&mut backend, 4), b"back");
}

#[test]
fn a_refusal_is_an_answer_like_any_other() {
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    client.send(ASK);
    let mut backend = peer.accept();
    head(&mut backend);
    let no = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    backend.write_all(no).expect("it is taken");
    let answer = client.response("GET").expect("it is answered");
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    assert_eq!(tunnels(&weir), 0);
    // Both connections serve on.
    client.send(get("/next"));
    assert!(head(&mut backend).starts_with("GET /next "));
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    backend.write_all(ok).expect("it is taken");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
}

#[test]
fn a_switch_to_what_was_not_asked_for_is_refused() {
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    let other = SWITCH.replace("Upgrade: websocket", "Upgrade: foo");
    let both = SWITCH.replace("Upgrade: websocket", "Upgrade: websocket, foo");
    let nameless = SWITCH.replace("Upgrade: websocket\r\n", "");
    for (ask, answer) in [
        (get("/"), SWITCH),
        (ASK.to_owned(), &other),
        (ASK.to_owned(), &both),
        (ASK.to_owned(), &nameless),
    ] {
        let mut client = Client::connect(weir.port);
        client.send(ask);
        let mut backend = peer.accept();
        head(&mut backend);
        backend.write_all(answer.as_bytes()).expect("it is taken");
        backend.write_all(b"hi").expect("it is taken");
        let got = client.response("GET").expect("it is answered");
        assert_eq!(got.status, 502, "{answer}");
        let why = got.get("proxy-status").expect("it says why");
        assert!(why.contains("bad_response"), "{why}");
        assert!(!got.text().contains("hi"));
        let mut byte = [0];
        assert!(matches!(backend.read(&mut byte), Ok(0) | Err(_)), "closed");
    }
    assert_eq!(tunnels(&weir), 0);
}

#[test]
fn what_a_route_does_not_allow_is_not_asked_for() {
    let peer = Peer::start();
    let routes = r#""routes": [
        {"name": "off", "match": {"path": "/off"}, "upstream": "app", "upgrades": "off"},
        {"name": "tcp", "match": {"path": "/tcp"}, "upstream": "app", "upgrades": ["TCP", "foo/2"]},
        {"name": "rest", "upstream": "app"}]"#;
    let extra = Extra {
        top: routes,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[peer.port], extra));
    let ask = |target: &str, more: &str| {
        format!("{target} HTTP/1.1\r\nHost: test.example\r\nConnection: upgrade\r\n{more}\r\n")
    };
    let mut client = Client::connect(weir.port);
    client.send(get("/"));
    let mut backend = peer.accept();
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    head(&mut backend);
    backend.write_all(ok).expect("it is taken");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    let mut probe = |ask: String| {
        client.send(&ask);
        let seen = head(&mut backend);
        backend.write_all(ok).expect("it is taken");
        assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
        let lines = seen.split("\r\n").filter(|l| {
            let l = l.to_ascii_lowercase();
            l.starts_with("upgrade:") || l.starts_with("connection:")
        });
        lines.collect::<Vec<_>>().join(" and ").to_ascii_lowercase()
    };
    assert_eq!(probe(ask("GET /off", "Upgrade: websocket\r\n")), "");
    assert_eq!(probe(ask("GET /tcp", "Upgrade: websocket\r\n")), "");
    assert_eq!(probe(ask("GET /", "Upgrade: foo\r\n")), "");
    assert_eq!(probe(ask("GET /", "Upgrade: h2c\r\n")), "");
    assert_eq!(probe(ask("POST /", "Upgrade: websocket\r\n")), "");
    let allowed = "upgrade: tcp and connection: upgrade";
    assert_eq!(probe(ask("POST /tcp", "Upgrade: x, tcp\r\n")), allowed);
    let allowed = "upgrade: websocket and connection: te, upgrade";
    let te = "Upgrade: WebSocket\r\nTE: trailers\r\nConnection: te\r\n";
    assert_eq!(probe(ask("GET /", te)), allowed);
    let without = "GET / HTTP/1.1\r\nHost: test.example\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(probe(without.into()), "", "Connection does not say so");
}

#[test]
fn a_request_with_a_body_asks_for_nothing() {
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    let mut client = Client::connect(weir.port);
    client.send(ASK.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody"));
    let mut backend = peer.accept();
    assert!(!has(&head(&mut backend), "upgrade: websocket"));
    assert_eq!(read(&mut backend, 4), b"body");
}

#[test]
fn tunnels_have_a_bound_of_their_own() {
    let peer = Peer::start();
    let extra = Extra {
        upstream: r#""max_in_flight": 1, "max_tunnels": 2"#,
        ..Extra::default()
    };
    let text = config(&[peer.port], extra);
    let url = format!("\"http://127.0.0.1:{}\"", peer.port);
    let bounded = format!("{{\"url\": {url}, \"max_in_flight\": 1}}");
    let weir = Weir::start(&text.replace(&url, &bounded));
    let first = open(&weir, &peer);
    let second = open(&weir, &peer);
    assert_eq!((tunnels(&weir), weir.in_flight()), (2, 0));
    // A worker of one place has two chats, and a request still finds it.
    let mut client = Client::connect(weir.port);
    client.send(get("/plain"));
    let mut backend = peer.accept();
    assert!(head(&mut backend).starts_with("GET /plain "));
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    backend.write_all(ok).expect("it is taken");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    client.send(ASK);
    let answer = client.response("GET").expect("it is answered");
    assert_eq!(answer.status, 503);
    let why = answer.get("proxy-status").expect("it says why");
    assert!(why.contains("tunnels_full"), "{why}");
    assert_eq!(weir.refused("tunnels_full"), 1);
    drop(first);
    eventually("a place is free", || tunnels(&weir) == 1);
    client.send(ASK);
    let asked = head(&mut backend);
    assert!(asked.starts_with("GET /chat "), "{asked}");
    backend.write_all(SWITCH.as_bytes()).expect("it is taken");
    assert!(head(&mut client.wire().stream()).starts_with("HTTP/1.1 101 "));
    drop(second);
}

#[test]
fn silence_ends_a_tunnel_and_a_byte_is_none() {
    let peer = Peer::start();
    let extra = Extra {
        listener: r#""timeouts": {"tunnel": "500ms", "idle": "200ms", "body": "200ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[peer.port], extra));
    let (mut client, mut backend) = open(&weir, &peer);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        backend.write_all(b".").expect("it is taken");
        assert_eq!(read(&mut client, 1), b".");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(is_reset(&mut client) && is_reset(&mut backend));
    eventually("its place is free", || tunnels(&weir) == 0);
    assert_eq!(weir.refused("tunnel_idle"), 1);
}

#[test]
fn a_reset_goes_through() {
    let peer = Peer::start();
    let weir = Weir::start(&config(&[peer.port], Extra::default()));
    for (by_client, cause) in [(true, "client_gone"), (false, "backend_closed")] {
        let (client, backend) = open(&weir, &peer);
        let (gone, mut left) = if by_client {
            (client, backend)
        } else {
            (backend, client)
        };
        reset(gone);
        assert!(is_reset(&mut left), "by the client: {by_client}");
        eventually("it is over", || tunnels(&weir) == 0);
        assert_eq!(weir.refused(cause), 1);
    }
}

#[test]
fn a_tunnel_has_the_grace_and_is_cut_after_it() {
    let peer = Peer::start();
    for (grace, code) in [("1h", 0), ("300ms", 1)] {
        let top = format!(r#""shutdown_grace": "{grace}""#);
        let extra = Extra {
            top: &top,
            ..Extra::default()
        };
        let mut weir = Weir::start(&config(&[peer.port], extra));
        let (mut client, mut backend) = open(&weir, &peer);
        weir.signal("TERM");
        eventually("it drains", || {
            !weir.lives() || weir.admin("/readyz").status == 503
        });
        if code == 0 {
            backend.write_all(b"still").expect("it is taken");
            assert_eq!(read(&mut client, 5), b"still");
            drop((client, backend));
        }
        assert_eq!(weir.wait().code(), Some(code), "{grace}");
    }
}

#[test]
fn the_access_log_tells_of_a_tunnel_at_its_end() {
    let peer = Peer::start();
    let log = std::env::temp_dir().join(format!("weir-upgrades-{}.log", std::process::id()));
    let place = log.display().to_string();
    let text = config(&[peer.port], Extra::default());
    let json = format!(r#""access_log": {{"path": "{place}", "format": "json"}}"#);
    let weir = Weir::start(&text.replace(r#""access_log": false"#, &json));
    let (mut client, mut backend) = open(&weir, &peer);
    client.write_all(b"four").expect("it is taken");
    assert_eq!(read(&mut backend, 4), b"four");
    backend.write_all(b"hello").expect("it is taken");
    assert_eq!(read(&mut client, 5), b"hello");
    assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "");
    drop((client, backend));
    let mut line = String::new();
    eventually("the line is written", || {
        line = std::fs::read_to_string(&log).unwrap_or_default();
        line.ends_with('\n')
    });
    let _ = std::fs::remove_file(&log);
    for part in [
        r#""method":"GET","host":"test.example","target":"/chat","version":"HTTP/1.1","status":101,"#,
        r#""bytes_sent":5,"bytes_received":4,"#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn over_tls() {
    let (authority, folder, peer) = (Authority::new(), Folder::new(), Peer::start());
    let issued = authority.issue(&["test.example"]);
    let (pem, key) = (
        folder.write("cert.pem", &issued.pem),
        folder.write("key.pem", &issued.key_pem),
    );
    let tls = format!(r#""tls": {{"certificates": [{{"certificate": "{pem}", "key": "{key}"}}]}}"#);
    let extra = Extra {
        listener: &tls,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[peer.port], extra));
    let mut roots = RootCertStore::empty();
    roots.add(authority.cert.clone()).expect("our own");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("test.example").expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a config");
    let mut client = StreamOwned::new(tls, connect(&weir));
    let ask = [ASK.as_bytes(), b"early"].concat();
    client.write_all(&ask).expect("it is taken");
    let mut backend = peer.accept();
    head(&mut backend);
    backend.write_all(SWITCH.as_bytes()).expect("it is taken");
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    assert_eq!(read(&mut backend, 5), b"early");
    let much: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    backend.write_all(&much).expect("it is taken");
    backend.shutdown(Shutdown::Write).expect("it is open");
    let mut got = Vec::new();
    client.read_to_end(&mut got).expect("TLS ends in order");
    assert!(got == much);
    client.write_all(b"and back").expect("it is taken");
    client.conn.send_close_notify();
    client.flush().expect("it is taken");
    drop(client);
    assert_eq!(rest(&mut backend), b"and back");
    eventually("it is over", || tunnels(&weir) == 0);
}
