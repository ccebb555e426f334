//! TLS towards clients: which certificate a name gets, who may connect, and certificates that change under traffic.

use std::io::{Read, Write};
use std::net::Shutdown;

use rustls::HandshakeKind;

use crate::support::backend::{Backend, reply};
use crate::support::client::get;
use crate::support::eventually;
use crate::support::secure::{Authority, Folder, Issued};
use crate::support::tls::Meeting;
use crate::support::weir::Weir;

/// A proxy over TLS in front of `backend`, with these members of `tls`.
pub(super) fn serving(backend: &Backend, tls: &str, top: &str) -> Weir {
    Weir::start(&format!(
        r#"{{"admin": {{"bind": "127.0.0.1:0"}}, "workers": 1, {top}
            "listeners": {{"web": {{"bind": "127.0.0.1:0", "tls": {{{tls}}}}}}},
            "upstreams": {{"app": {{"backends": ["http://127.0.0.1:{}"]}}}}}}"#,
        backend.port
    ))
}

/// Writes a certificate and its key, as members of `tls`.
pub(super) fn files(folder: &Folder, name: &str, issued: &Issued) -> String {
    let certificate = folder.write(&format!("{name}.pem"), &issued.pem);
    let key = folder.write(&format!("{name}.key"), &issued.key_pem);
    format!(r#""certificate": "{certificate}", "key": "{key}""#)
}

#[test]
fn both_versions_serve_and_backends_hear_the_scheme() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let issued = authority.issue(&["a.example"]);
    let weir = serving(&backend, &files(&folder, "a", &issued), "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let meeting = Meeting {
            version,
            ..Meeting::of(&authority, "a.example")
        };
        let mut client = meeting.connect(weir.port).expect("hands are shaken");
        let answer = client.once("a.example").expect("an orderly end");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let log = backend.log();
    assert_eq!(log.requests.len(), 2);
    for request in &log.requests {
        assert_eq!(request.get("x-forwarded-proto"), Some("https"));
    }
}

#[test]
fn an_old_version_is_refused_where_the_config_says_so() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = serving(&backend, &format!(r#"{tls}, "min_version": "1.3""#), "");
    let old = Meeting {
        version: &rustls::version::TLS12,
        ..Meeting::of(&authority, "a.example")
    };
    assert!(old.connect(weir.port).is_err());
    assert!(
        Meeting::of(&authority, "a.example")
            .connect(weir.port)
            .is_ok()
    );
}

#[test]
fn each_name_gets_its_certificate_and_other_names_the_first() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let first = authority.issue(&["a.example", "unknown.example"]);
    let second = authority.issue(&["b.example", "*.b.example"]);
    let pairs = [files(&folder, "a", &first), files(&folder, "b", &second)];
    let tls = format!(r#""certificates": [{{{}}}, {{{}}}]"#, pairs[0], pairs[1]);
    let weir = serving(&backend, &tls, "");
    let shown = [
        ("a.example", &first),
        ("b.example", &second),
        ("deep.b.example", &second),
        ("unknown.example", &first),
    ];
    for (name, issued) in shown {
        let client = Meeting::of(&authority, name)
            .connect(weir.port)
            .expect(name);
        assert_eq!(client.shown(), issued.cert.to_vec(), "{name}");
    }
    // Another certificate's host over this connection: RFC 9110 section 15.5.20.
    let mut client = Meeting::of(&authority, "b.example")
        .connect(weir.port)
        .expect("b");
    let answer = client.once("a.example").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let mut client = Meeting::of(&authority, "b.example")
        .connect(weir.port)
        .expect("b");
    assert!(
        client
            .once("x.b.example")
            .expect("an answer")
            .starts_with("HTTP/1.1 200 ")
    );
    assert_eq!(backend.log().requests.len(), 1);
}

#[test]
fn clients_without_a_certificate_are_refused_where_one_is_required() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let (clients, strangers) = (Authority::new(), Authority::new());
    let ca = folder.write("clients.pem", &clients.pem);
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let (own, foreign) = (clients.issue(&["alice"]), strangers.issue(&["mallory"]));
    for (mode, nobody_passes) in [("required", false), ("optional", true)] {
        let auth = format!(r#"{tls}, "client_auth": {{"ca": "{ca}", "mode": "{mode}"}}"#);
        let weir = serving(&backend, &auth, "");
        let ask = |identity| {
            let meeting = Meeting {
                identity,
                ..Meeting::of(&authority, "a.example")
            };
            // A client of TLS 1.3 hears of its refusal when it reads.
            let mut client = meeting.connect(weir.port)?;
            client.once("a.example")
        };
        assert!(
            ask(Some(&own))
                .expect("its own authority's")
                .contains(" 200 ")
        );
        assert!(ask(Some(&foreign)).is_err(), "{mode}");
        assert_eq!(ask(None).is_ok(), nobody_passes, "{mode}");
    }
    let log = backend.log();
    assert_eq!(log.requests.len(), 3);
    let cert = log.requests[0].get("client-cert").expect("RFC 9440");
    assert!(cert.starts_with(':') && cert.ends_with(':'), "{cert}");
    assert!(log.requests[0].get("client-cert-subject").is_some());
    assert_eq!(
        log.requests[2].get("client-cert"),
        None,
        "nobody showed one"
    );
}

#[test]
fn nobody_may_forge_the_certificate_of_a_client() {
    let backend = Backend::ok();
    let weir = Weir::start(&crate::support::weir::config(
        &[backend.port],
        Default::default(),
    ));
    let forged = get("/").replace(
        "\r\n\r\n",
        "\r\nClient-Cert: :Zm9v:\r\nClient-Cert-Subject: CN=root\r\nClient_Cert: x\r\nClient-Cert-Chain: :Zm9v:\r\n\r\n",
    );
    assert_eq!(weir.once(forged).status, 200);
    let log = backend.log();
    let left: Vec<_> = log.requests[0]
        .fields
        .iter()
        .filter(|(name, _)| name.to_ascii_lowercase().starts_with("client"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = serving(&backend, &tls, "");
    let response = weir.once(get("/"));
    assert_eq!(response.status, 400);
    assert!(response.text().contains("HTTPS"), "{}", response.text());
    assert!(backend.log().requests.is_empty());
}

#[test]
fn a_client_that_never_shakes_hands_is_closed() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = serving(&backend, &tls, r#""timeouts": {"header": "200ms"},"#);
    let mut silent = std::net::TcpStream::connect(("127.0.0.1", weir.port)).expect("it listens");
    silent
        .write_all(&[0x16, 3, 1])
        .expect("half a record's head");
    let mut rest = Vec::new();
    // Closed or reset: it ends.
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

/// Connects as somebody with this memory does, asks for something, and says how hands were shaken.
fn comes(weir: &Weir, config: &std::sync::Arc<rustls::ClientConfig>) -> Option<HandshakeKind> {
    let name = rustls::pki_types::ServerName::try_from("a.example").expect("a name");
    let session = rustls::ClientConnection::new(config.clone(), name).expect("a session");
    let socket = std::net::TcpStream::connect(("127.0.0.1", weir.port)).expect("it listens");
    let mut client = crate::support::tls::Tls(rustls::StreamOwned::new(session, socket));
    let answer = client.once("a.example").expect("an answer");
    assert!(answer.contains(" 200 "), "{answer}");
    client.0.conn.handshake_kind()
}

#[test]
fn nobody_comes_again_by_a_ticket_where_none_are_given() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = serving(&backend, &format!(r#"{tls}, "session_tickets": false"#), "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let meeting = Meeting {
            version,
            ..Meeting::of(&authority, "a.example")
        };
        let config = meeting.config();
        for _ in 0..2 {
            assert_eq!(comes(&weir, &config), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn sessions_are_resumed_also_after_the_certificate_has_changed() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = serving(&backend, &tls, "");
    let meeting = Meeting::of(&authority, "a.example");
    let config = meeting.config();
    let connect = || comes(&weir, &config);
    assert_eq!(connect(), Some(HandshakeKind::Full));
    assert_eq!(connect(), Some(HandshakeKind::Resumed));
    files(&folder, "a", &authority.issue(&["a.example"]));
    weir.signal("HUP");
    eventually("the new certificate is told of", || {
        weir.stderr()
            .iter()
            .any(|line| line.contains("new certificates"))
    });
    assert_eq!(connect(), Some(HandshakeKind::Resumed));
}

#[test]
fn a_certificate_changes_under_traffic_and_none_fails() {
    let (backend, authority, folder) = (Backend::ok(), Authority::new(), Folder::new());
    let before = authority.issue(&["a.example"]);
    let after = authority.issue(&["a.example"]);
    let tls = files(&folder, "a", &before);
    let weir = serving(&backend, &tls, "");
    let meeting = Meeting::of(&authority, "a.example");
    // One that stands goes on as it is.
    let mut standing = meeting.connect(weir.port).expect("hands are shaken");
    assert!(standing.ask("a.example", "ok").contains(" 200 "));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut client = meeting.connect(weir.port).expect("hands are shaken");
                    let answer = client.once("a.example").expect("an answer");
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        let _stop = crate::support::SetOnDrop(&stop);
        let some = |n| {
            eventually("connections come and go", || {
                asked.load(std::sync::atomic::Ordering::Relaxed) >= n
            })
        };
        some(20);
        files(&folder, "a", &after);
        weir.signal("HUP");
        eventually("the new one is shown", || {
            let client = meeting.connect(weir.port).expect("hands are shaken");
            client.shown() == after.cert.to_vec()
        });
        some(60);
        // A key that does not fit changes nothing.
        folder.write("a.key", &before.key_pem);
        weir.signal("HUP");
        eventually("what is wrong is told", || {
            weir.stderr()
                .iter()
                .any(|l| l.contains("is not the key of the certificate"))
        });
        let client = meeting.connect(weir.port).expect("hands are shaken");
        assert_eq!(client.shown(), after.cert.to_vec());
    });
    assert!(standing.ask("a.example", "ok").contains(" 200 "));
}

#[test]
fn l4_ends_tls_and_passes_what_was_in_it() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let backend = Backend::start(|conn| {
        let line = conn.head().map(|h| h.start.clone()).unwrap_or_default();
        conn.reply(format!("{line}!"));
    });
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = Weir::start(&format!(
        r#"{{"admin": {{"bind": "127.0.0.1:0"}}, "workers": 1,
            "listeners": {{"raw": {{"bind": "127.0.0.1:0", "protocol": "tcp", "tls": {{{tls}}}}}}},
            "upstreams": {{"app": {{"backends": ["tcp://127.0.0.1:{}"]}}}}}}"#,
        backend.port
    ));
    let mut client = Meeting::of(&authority, "a.example")
        .connect(weir.port)
        .expect("hands");
    let answer = client.once("a.example").expect("an orderly end");
    assert_eq!(answer, "GET /x HTTP/1.1!");
}

/// The socket ends right behind the request, without a word from TLS: its client has left all the same.
#[test]
fn a_client_that_leaves_ends_its_request() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let backend = Backend::start(|conn| {
        if conn.request().is_some() {
            conn.wait_for_close();
        }
    });
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = serving(&backend, &tls, "");
    for length in [0, 1, 16_384, 300_000] {
        let mut client = Meeting::of(&authority, "a.example")
            .connect(weir.port)
            .expect("hands are shaken");
        let head =
            format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n");
        client.0.write_all(head.as_bytes()).expect("it is sent");
        eventually("the backend is asked", || weir.in_flight() == 1);
        client.0.write_all(&vec![b'a'; length]).expect("it is sent");
        let socket = &client.0.sock;
        socket.shutdown(Shutdown::Write).expect("it is connected");
        eventually("its place is free", || weir.in_flight() == 0);
    }
}

/// The farewell goes out with the end of the last answer, and behind all of it.
#[test]
fn the_last_answer_is_whole_and_ends_in_order() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let backend = Backend::answering(|request| {
        let length = request.start.split(['/', ' ']).find_map(|w| w.parse().ok());
        reply(200, "", &"a".repeat(length.expect("the path is a number")))
    });
    let weir = serving(
        &backend,
        &files(&folder, "a", &authority.issue(&["a.example"])),
        "",
    );
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for length in [0, 1, 16_384, 65_000, 70_000, 1 << 20] {
            let meeting = Meeting {
                version,
                ..Meeting::of(&authority, "a.example")
            };
            let mut client = meeting.connect(weir.port).expect("hands are shaken");
            let head =
                format!("GET /{length} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
            client.0.write_all(head.as_bytes()).expect("it is sent");
            let mut answer = String::new();
            let end = client.0.read_to_string(&mut answer);
            end.expect("an orderly end");
            let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.len());
            assert_eq!(body, Some(length));
        }
    }
}

/// An orderly end would make it look whole to a client that reads to the end.
#[test]
fn a_last_answer_that_broke_off_has_no_farewell() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let backend = Backend::start(|conn| {
        if conn.request().is_some() {
            conn.reply("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        }
    });
    let tls = files(&folder, "a", &authority.issue(&["a.example"]));
    let weir = serving(&backend, &tls, "");
    let meeting = Meeting::of(&authority, "a.example");
    let mut client = meeting.connect(weir.port).expect("hands are shaken");
    assert!(client.once("a.example").is_err());
}
