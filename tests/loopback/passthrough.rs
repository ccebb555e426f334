//! L4 by the name in a TLS client's hello: who is led where, unopened, and what becomes of everybody else.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::tcp::{Peer, connect, is_reset, read, rest};
use crate::support::secure::{Authority, Folder};
use crate::support::tls::Meeting;
use crate::support::weir::Weir;

/// A server of HTTPS that says who it is.
fn site(authority: &Authority, folder: &Folder, name: &str) -> Weir {
    let issued = authority.issue(&[name, "any.example"]);
    let certificate = folder.write(&format!("{name}.pem"), &issued.pem);
    let key = folder.write(&format!("{name}.key"), &issued.key_pem);
    Weir::start(&format!(
        r#"{{"admin": {{"bind": "127.0.0.1:0"}}, "workers": 1,
            "listeners": {{"web": {{"bind": "127.0.0.1:0", "tls": {{"certificate": "{certificate}", "key": "{key}"}}}}}},
            "upstreams": {{"none": {{"backends": ["http://127.0.0.1:1"]}}}},
            "routes": [{{"match": {{"path": "/none"}}, "upstream": "none"}}, {{"respond": {{"body": "{name}"}}}}]}}"#
    ))
}

/// A proxy at L4 with an upstream for each port, called u0, u1 and so on, and these routes.
fn leading(ports: &[u16], listener: &str, routes: &str) -> Weir {
    let upstream =
        |(i, port): (usize, &u16)| format!(r#""u{i}": {{"backends": ["tcp://127.0.0.1:{port}"]}}"#);
    let upstreams: Vec<String> = ports.iter().enumerate().map(upstream).collect();
    Weir::start(&format!(
        r#"{{"admin": {{"bind": "127.0.0.1:0"}}, "workers": 1,
            "listeners": {{"tls": {{"bind": "127.0.0.1:0", "protocol": "tcp" {listener}}}}},
            "upstreams": {{{}}}, "routes": [{routes}]}}"#,
        upstreams.join(", ")
    ))
}

/// The hello of a client who asks for `name`, as it is sent.
fn hello(authority: &Authority, name: &str) -> Vec<u8> {
    let config = Meeting::of(authority, name).config();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut session = ClientConnection::new(Arc::clone(&config), name).expect("a session");
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).expect("it is written");
    bytes
}

#[test]
fn each_name_is_led_to_its_own_server_unopened() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let a = site(&authority, &folder, "a.example");
    let b = site(&authority, &folder, "x.b.example");
    let routes = r#"{"match": {"sni": "a.example"}, "upstream": "u0"},
        {"match": {"sni": ["b.example", "*.b.example"]}, "upstream": "u1"},
        {"match": {"alpn": ["h2", "postgresql"]}, "upstream": "u1"}"#;
    let weir = leading(&[a.port, b.port], "", routes);
    for (asked, host) in [("a.example", "a.example"), ("x.b.example", "x.b.example")] {
        let mut client = Meeting::of(&authority, asked)
            .connect(weir.port)
            .expect("hands are shaken with its server");
        let answer = client.once(host).expect("an orderly end");
        assert!(answer.ends_with(host), "{answer}");
    }
    let by_protocol = Meeting {
        alpn: &[b"http/1.1", b"h2"],
        ..Meeting::of(&authority, "any.example")
    };
    let client = by_protocol.connect(weir.port).expect("it is led by ALPN");
    let own = std::fs::read_to_string(folder.0.join("x.b.example.pem")).expect("it was written");
    let shown = rustls_pem(&own);
    assert_eq!(client.shown(), shown);
    // Nobody here has this name.
    let refused = Meeting::of(&authority, "any.example").connect(weir.port);
    let error = refused.err().expect("there is no route").to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
}

fn rustls_pem(text: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let cert = CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate");
    cert.to_vec()
}

#[test]
fn a_hello_in_single_bytes_arrives_whole_with_what_came_behind_it() {
    let (named, rest_of) = (Peer::start(), Peer::start());
    let authority = Authority::new();
    let routes = r#"{"match": {"sni": "a.example"}, "upstream": "u0"}, {"upstream": "u1"}"#;
    let weir = leading(&[named.port, rest_of.port], "", routes);
    let mut bytes = hello(&authority, "a.example");
    let mut client = connect(&weir);
    client.set_nodelay(true).expect("a socket takes it");
    for byte in &bytes {
        client.write_all(&[*byte]).expect("it is read");
    }
    client.write_all(b"and more").expect("it is read");
    bytes.extend_from_slice(b"and more");
    let mut backend = named.accept();
    assert_eq!(read(&mut backend, bytes.len()), bytes);
    backend.write_all(b"seen").expect("it is passed on");
    assert_eq!(read(&mut client, 4), b"seen");
    // What is no TLS, and a hello for another name, are the last route's.
    for other in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        hello(&authority, "z.example"),
    ] {
        let mut client = connect(&weir);
        client.write_all(&other).expect("it is read");
        let mut backend = rest_of.accept();
        assert_eq!(read(&mut backend, other.len()), other);
    }
}

#[test]
fn who_waits_to_be_spoken_to_is_led_on_and_half_a_hello_is_not() {
    let (named, rest_of) = (Peer::start(), Peer::start());
    let authority = Authority::new();
    let routes = r#"{"match": {"sni": "a.example"}, "upstream": "u0"}, {"upstream": "u1"}"#;
    let weir = leading(
        &[named.port, rest_of.port],
        r#", "timeouts": {"header": "300ms"}"#,
        routes,
    );
    let mut client = connect(&weir);
    let mut backend = rest_of.accept();
    backend
        .write_all(b"220 ready\r\n")
        .expect("it speaks first");
    assert_eq!(read(&mut client, 11), b"220 ready\r\n");
    let mut half = connect(&weir);
    half.write_all(&hello(&authority, "a.example")[..40])
        .expect("it is read");
    assert!(is_reset(&mut half), "nobody can say whose it is");
    // One who ends without a word is nobody's.
    let mut gone = connect(&weir);
    gone.shutdown(std::net::Shutdown::Write).expect("it ends");
    let mut nothing = Vec::new();
    assert!(gone.read_to_end(&mut nothing).is_err() && nothing.is_empty());
    assert!(named.accepted.try_recv().is_err());
    assert!(rest_of.accepted.try_recv().is_err());
}

#[test]
fn where_tls_ends_here_names_lead_as_well_and_any_protocol_may_be_offered() {
    let (named, rest_of) = (Peer::start(), Peer::start());
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["a.example", "z.example"]);
    let certificate = folder.write("a.pem", &issued.pem);
    let key = folder.write("a.key", &issued.key_pem);
    let tls = format!(r#", "tls": {{"certificate": "{certificate}", "key": "{key}"}}"#);
    let routes = r#"{"match": {"sni": "a.example"}, "upstream": "u0"}, {"upstream": "u1"}"#;
    let weir = leading(&[named.port, rest_of.port], &tls, routes);
    for (name, peer) in [("a.example", &named), ("z.example", &rest_of)] {
        let meeting = Meeting {
            alpn: &[b"postgresql"],
            ..Meeting::of(&authority, name)
        };
        let mut client = meeting.connect(weir.port).expect("hands are shaken");
        client.0.write_all(b"in the clear").expect("it is sent");
        let mut backend = peer.accept();
        assert_eq!(read(&mut backend, 12), b"in the clear");
        client.0.conn.send_close_notify();
        client.0.flush().expect("it is sent");
        assert_eq!(rest(&mut backend), b"");
    }
}
