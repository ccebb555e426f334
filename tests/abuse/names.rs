//! Who a request says it is for and from: Host, absolute targets, CONNECT, Upgrade, and forged forwarding fields.

use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::weir::Extra;

use super::{Scene, Want, probe};

#[test]
fn a_request_has_exactly_one_valid_host() {
    let bad = Want::Refused(&[400]);
    let case = |name, fields: &str, want| {
        probe(name, format!("GET /probe HTTP/1.1\r\n{fields}\r\n"), want)
    };
    Scene::new().run(vec![
        case("none", "X-A: b\r\n", bad),
        case("two", "Host: a.example\r\nHost: b.example\r\n", bad),
        case(
            "the same twice",
            "Host: a.example\r\nHost: a.example\r\n",
            bad,
        ),
        case("empty", "Host: \r\n", bad),
        case("a blank within", "Host: a b\r\n", bad),
        case("a slash", "Host: a/b\r\n", bad),
        case("a user", "Host: user@a.example\r\n", bad),
        case("a list", "Host: a.example, b.example\r\n", bad),
        case("a port that is no number", "Host: a.example:b\r\n", bad),
        case("a port past 65535", "Host: a.example:99999\r\n", bad),
        case("a query", "Host: a.example?b\r\n", bad),
        case("a fragment", "Host: a.example#b\r\n", bad),
        case("a backslash", "Host: a.example\\b\r\n", bad),
        case("an open bracket", "Host: [::1\r\n", bad),
        case("a name", "Host: a.example\r\n", Want::One),
        case("a name and a port", "Host: a.example:8080\r\n", Want::One),
        case("an IPv6 address", "Host: [::1]:8080\r\n", Want::One),
        probe(
            "none, in HTTP/1.0",
            "GET /probe HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            Want::RefusedOrOne(&[400, 404]),
        ),
    ]);
}

/// The address that a target names is never dialled: requests go to routes.
#[test]
fn a_target_does_not_choose_the_address() {
    let decoy = Backend::ok();
    let scene = Scene::with(Backend::mirror(), Extra::default());
    let port = decoy.port;
    for line in [
        format!("CONNECT 127.0.0.1:{port}"),
        "CONNECT 127.0.0.1:22".into(),
        "CONNECT 169.254.169.254:80".into(),
        format!("CONNECT http://127.0.0.1:{port}/"),
        format!("GET 127.0.0.1:{port}"),
        format!("GET http://user@127.0.0.1:{port}/"),
        format!("GET ftp://127.0.0.1:{port}/"),
        format!("GET @127.0.0.1:{port}/"),
    ] {
        let mut client = Client::connect(scene.weir.port);
        let answer = client.ask(format!("{line} HTTP/1.1\r\nHost: test.example\r\n\r\n"));
        let status = answer.map(|r| r.status);
        assert!(matches!(status, Ok(400..=499 | 501)), "{line}: {status:?}");
    }
    assert!(
        scene.backend.log().requests.is_empty(),
        "{:?}",
        scene.backend.log().lines()
    );

    for host in [format!("127.0.0.1:{port}"), "169.254.169.254".into()] {
        scene.backend.forget();
        let raw = format!("GET http://{host}/probe?q=1 HTTP/1.1\r\nHost: other.example\r\n\r\n");
        let answer = scene.weir.once(raw);
        if answer.status == 200 {
            // The target's host wins over the field (RFC 9112 section 3.2.2).
            let log = scene.backend.log();
            assert_eq!(log.lines(), ["GET /probe?q=1 HTTP/1.1"]);
            assert_eq!(log.requests[0].get("host"), Some(host.as_str()));
        } else {
            assert!((400..500).contains(&answer.status), "{host}: {answer:?}");
        }
    }
    assert!(decoy.log().received.is_empty(), "the decoy was dialled");
    let backend = scene.end();
    assert!(backend.broken.is_empty(), "{:?}", backend.broken);
}

/// Unless the backend switches, what follows an Upgrade is a request like any other and meets the routes.
#[test]
fn an_upgrade_opens_no_tunnel() {
    let routes = r#""routes": [
        {"name": "private", "match": {"path": {"prefix": "/private"}}, "respond": {"status": 403}},
        {"name": "rest", "upstream": "app"}]"#;
    let extra = Extra {
        top: routes,
        ..Extra::default()
    };
    let scene = Scene::with(Backend::ok(), extra);
    for fields in [
        "Connection: upgrade\r\nUpgrade: foo\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Upgrade: foo\r\n",
    ] {
        scene.backend.forget();
        let mut client = Client::connect(scene.weir.port);
        let first = format!("GET /probe HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n");
        client.send(format!("{first}{}", get("/private/keys")));
        assert_eq!(
            client.response("GET").map(|r| r.status),
            Ok(200),
            "{fields}"
        );
        assert_eq!(
            client.response("GET").map(|r| r.status),
            Ok(403),
            "{fields}"
        );
        let log = scene.backend.log();
        assert_eq!(log.lines(), ["GET /probe HTTP/1.1"], "{fields}");
        assert!(!log.saw("/private"), "{fields}");
        let asked = fields.contains("websocket").then_some("websocket");
        assert_eq!(log.requests[0].get("upgrade"), asked, "{fields}");
        assert_eq!(log.requests[0].get("http2-settings"), None, "{fields}");
    }
    scene.end();
}

/// What a client claims about where it came from.
const FORGED: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: evil.example\r\nForwarded: for=6.6.6.6;host=evil.example;proto=https\r\nX-Real-IP: 6.6.6.6\r\n";

#[test]
fn forwarding_fields_of_a_stranger_are_overwritten() {
    let scene = Scene::with(Backend::mirror(), Extra::default());
    for (name, more) in [
        ("plain", ""),
        (
            "named as hop-by-hop",
            "Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host\r\n",
        ),
    ] {
        scene.backend.forget();
        let raw = format!("GET /probe HTTP/1.1\r\nHost: test.example\r\n{FORGED}{more}\r\n");
        assert_eq!(scene.weir.once(raw).status, 200, "{name}");
        let log = scene.backend.log();
        let seen = &log.requests[0];
        assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"), "{name}");
        assert_eq!(seen.get("x-forwarded-proto"), Some("http"), "{name}");
        assert_eq!(seen.get("x-forwarded-host"), Some("test.example"), "{name}");
        for claim in ["6.6.6.6", "7.7.7.7", "evil.example"] {
            assert!(
                !log.saw(claim),
                "{name}: {claim} reached the backend: {seen:?}"
            );
        }
    }
    scene.end();
}

#[test]
fn forwarding_fields_of_a_trusted_peer_are_appended_to() {
    let extra = Extra {
        listener: r#""trusted_proxies": ["127.0.0.0/8"]"#,
        ..Extra::default()
    };
    let scene = Scene::with(Backend::mirror(), extra);
    let raw = format!("GET /probe HTTP/1.1\r\nHost: test.example\r\n{FORGED}\r\n");
    assert_eq!(scene.weir.once(raw).status, 200);
    let log = scene.backend.log();
    let seen = &log.requests[0];
    let chain = seen.all("x-forwarded-for").join(", ");
    let chain: Vec<&str> = chain.split(',').map(str::trim).collect();
    assert_eq!(chain, ["6.6.6.6", "7.7.7.7", "127.0.0.1"]);
    assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.get("x-forwarded-host"), Some("evil.example"));
    scene.end();
}
