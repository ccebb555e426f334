//! Health, readiness, metrics and purges over real sockets; who may purge; what happens when the address is taken.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::cache::purge::Selection;
use crate::proxy::Replicas;
use crate::proxy::StoredStatus;

/// Ready or not, and what it was told to forget.
struct Fake(AtomicBool, Mutex<Vec<Purge>>);

impl Fake {
    fn new(ready: bool) -> Arc<Self> {
        Arc::new(Fake(AtomicBool::new(ready), Mutex::default()))
    }

    fn told(&self) -> Vec<Purge> {
        std::mem::take(&mut *self.1.lock().expect("nothing panics while it holds it"))
    }
}

impl Source for Fake {
    fn ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn purge(&self, purge: &Purge) -> Purged {
        let mut told = self.1.lock().expect("nothing panics while it holds it");
        told.push(purge.clone());
        Purged {
            entries: 12,
            replicas: Replicas::Queued,
        }
    }

    fn caching(&self) -> Option<CachingStatus> {
        self.ready().then(CachingStatus::default)
    }

    fn stored(&self, url: &str) -> UrlStatus {
        let stored = StoredStatus {
            status: 200,
            age: 3,
            ttl: -1,
            hits: 7,
            bytes: 900,
            soft: true,
            whole: true,
            tags: vec![url.to_owned()],
        };
        UrlStatus {
            responses: vec![stored],
            count: 1,
            varies_by: vec!["accept".into()],
        }
    }

    fn metrics(&self, out: &mut String) {
        out.push_str("# TYPE weir_x gauge\nweir_x 1\n");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's client is outside the seam"
)]
fn send(addr: SocketAddr, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(addr).expect("connects");
    stream.write_all(request.as_bytes()).expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("reads to the end");
    text
}

fn ask(addr: SocketAddr, head: &str) -> String {
    send(addr, &format!("{head} HTTP/1.1\r\nHost: {addr}\r\n\r\n"))
}

/// The JSON of an answer that must be 200.
fn json_of(answer: &str) -> serde_json::Value {
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head ends");
    serde_json::from_str(body).expect("JSON")
}

fn local(port: u16, explicit: bool) -> Admin {
    Admin {
        bind: (Ipv4Addr::LOCALHOST, port).into(),
        explicit,
    }
}

#[test]
fn it_shows_health_readiness_and_metrics() {
    let fake = Fake::new(false);
    let addr = start(local(0, true), Arc::clone(&fake) as _).expect("binds");
    assert!(ask(addr, "GET /healthz").starts_with("HTTP/1.1 200 "));
    assert!(ask(addr, "GET /readyz").starts_with("HTTP/1.1 503 "));
    fake.0.store(true, Ordering::Relaxed);
    assert!(ask(addr, "GET /readyz").starts_with("HTTP/1.1 200 "));
    let metrics = ask(addr, "GET /metrics");
    assert!(
        metrics.contains("application/openmetrics-text"),
        "{metrics}"
    );
    assert!(metrics.ends_with("\nweir_x 1\n# EOF\n"), "{metrics}");
    assert!(ask(addr, "GET /").contains("/readyz"));
    assert!(ask(addr, "GET /nowhere").starts_with("HTTP/1.1 404 "));
    let posted = ask(addr, "POST /healthz");
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    assert!(posted.contains("allow: GET, HEAD"), "{posted}");
    assert!(ask(addr, "HEAD /metrics").ends_with("\r\n\r\n"));
}

#[test]
fn a_purge_says_what_it_selected_and_what_came_of_it() {
    let fake = Fake::new(true);
    let addr = start(local(0, true), Arc::clone(&fake) as _).expect("binds");
    let url = |url: &str| Selection::Url(url.into());
    for (query, what, soft) in [
        (
            "url=http://Example.com:80",
            url("http://example.com/"),
            false,
        ),
        (
            "soft&url=http%3A%2F%2Fh%3A81%2Fa%2F..%2Fb%3Fc%3Dd+e%26f",
            url("http://h:81/b?c=d+e&f"),
            true,
        ),
        (
            "prefix=https://h/img&soft",
            Selection::Prefix("https://h/img".into()),
            true,
        ),
        ("tag=product%2D7", Selection::Tag("product-7".into()), false),
        ("all", Selection::All, false),
        ("all=", Selection::All, false),
    ] {
        let answer = ask(addr, &format!("POST /cache/purge?{query}"));
        let said = json_of(&answer);
        assert_eq!(fake.told(), [Purge { what, soft }], "{query}");
        assert_eq!(said["purged"], 12, "{answer}");
        assert_eq!(said["soft"], soft, "{answer}");
        assert_eq!(said["replicas"], "queued", "{answer}");
    }
    let answer = ask(addr, "POST /cache/purge?url=HTTP://H/a");
    assert_eq!(json_of(&answer)["url"], "http://h/a");
}

#[test]
fn a_purge_that_makes_no_sense_is_told_what_would() {
    let fake = Fake::new(true);
    let addr = start(local(0, true), Arc::clone(&fake) as _).expect("binds");
    for (query, said) in [
        ("", "nothing to purge; give one of ?url="),
        ("soft", "nothing to purge"),
        ("url=", "\"url\" is empty"),
        (
            "url=/a",
            "\"url\" is not a URL here: it is not absolute, as http://localhost:8080/a is",
        ),
        ("url=ftp://h/a", "its scheme is not http or https"),
        ("url=http://h/%25zz", "no request can have it"),
        ("url=http://h/a%2", "two hexadecimal digits"),
        ("url=http://h/a%2%41", "two hexadecimal digits"),
        ("prefix=example", "\"prefix\" is not a URL here"),
        (
            "url=http://h/a?b=1&c=2",
            "\"c\" is not known here; within a URL, & is written %26",
        ),
        ("url=http://h/a&all", "more than one thing to purge"),
        ("tag=a&tag=b", "more than one thing to purge"),
        ("tag=a,b", "one tag, without commas"),
        ("tag=%20", "one tag"),
        ("tag=%ff", "not UTF-8"),
        ("all=false", "\"all\" has no value"),
        ("all&soft=no", "\"soft\" has no value"),
        ("everything", "\"everything\" is not known here"),
    ] {
        let answer = ask(addr, &format!("POST /cache/purge?{query}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{query}: {answer}");
        assert!(answer.contains(said), "{query}: {answer}");
    }
    let answer = ask(addr, "GET /cache/purge?all");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: POST\r\n"), "{answer}");
    assert_eq!(fake.told(), []);
}

#[test]
fn web_pages_of_other_sites_cannot_purge() {
    let fake = Fake::new(true);
    let addr = start(local(0, true), Arc::clone(&fake) as _).expect("binds");
    let post = |fields: &str| {
        send(
            addr,
            &format!("POST /cache/purge?all HTTP/1.1\r\n{fields}\r\n"),
        )
    };
    let port = addr.port();
    for fields in [
        // A page posts here, in an old browser, in a new one, from a sandbox, from another port.
        format!("Host: {addr}\r\nOrigin: https://evil.example\r\n"),
        format!("Host: {addr}\r\nSec-Fetch-Site: cross-site\r\n"),
        format!("Host: {addr}\r\nSec-Fetch-Site: same-site\r\n"),
        format!("Host: {addr}\r\nOrigin: null\r\n"),
        format!("Host: {addr}\r\nOrigin: http://127.0.0.1:1\r\n"),
        format!("Host: {addr}\r\nOrigin: https://{addr}\r\n"),
        format!("Host: {addr}\r\nOrigin: http://{addr}\r\nOrigin: http://evil.example\r\n"),
        // A name that leads here is of the same origin as its page.
        format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n"),
        format!("Host: evil.example:{port}\r\nSec-Fetch-Site: same-origin\r\n"),
        format!("Host: localhost.evil.example:{port}\r\n"),
        format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
        "Host: evil.example\r\n".to_string(),
        "Host: \r\n".to_string(),
        String::new(),
    ] {
        let answer = post(&fields);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{fields}: {answer}");
        assert!(answer.contains("\r\n\r\nrefused: "), "{fields}: {answer}");
    }
    assert_eq!(fake.told(), []);
    for fields in [
        format!("Host: {addr}\r\n"),
        format!("Host: localhost:{port}\r\n"),
        format!("Host: LOCALHOST:{port}\r\n"),
        format!("Host: [::1]:{port}\r\n"),
        "Host: 192.0.2.7\r\n".to_string(),
        format!("Host: {addr}\r\nSec-Fetch-Site: none\r\n"),
        format!("Host: {addr}\r\nOrigin: http://{addr}\r\nSec-Fetch-Site: same-origin\r\n"),
    ] {
        let answer = post(&fields);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{fields}: {answer}");
    }
    assert_eq!(fake.told().len(), 7);
}

#[test]
fn the_cache_is_shown_as_a_whole_and_by_url() {
    let fake = Fake::new(false);
    let addr = start(local(0, true), Arc::clone(&fake) as _).expect("binds");
    assert_eq!(json_of(&ask(addr, "GET /cache"))["cached"], false);
    fake.0.store(true, Ordering::Relaxed);
    let all = json_of(&ask(addr, "GET /cache"));
    assert_eq!(all["cached"], true);
    for key in [
        "entries",
        "bytes",
        "limit",
        "evictions",
        "flights",
        "filling",
    ] {
        assert_eq!(all[key], 0, "{key} of {all}");
    }
    assert!(all.get("redis").is_none(), "{all}");
    let one = json_of(&ask(addr, "GET /cache?url=http://h:80/a"));
    assert_eq!(one["url"], "http://h/a");
    assert_eq!(
        (&one["count"], &one["varies_by"][0]),
        (&1.into(), &"accept".into())
    );
    let response = &one["responses"][0];
    assert_eq!(
        response["tags"][0], "http://h/a",
        "the source is asked in normal form"
    );
    assert_eq!(
        (&response["age"], &response["ttl"]),
        (&3.into(), &(-1).into())
    );
    assert_eq!(
        (&response["hits"], &response["bytes"]),
        (&7.into(), &900.into())
    );
    for bad in [
        "url=",
        "url=x",
        "urls=http://h/",
        "url=http://h/&url=http://h/",
    ] {
        let answer = ask(addr, &format!("GET /cache?{bad}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad}: {answer}");
    }
    assert!(ask(addr, "HEAD /cache").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_taken_address_is_an_error_only_if_the_config_names_it() {
    let source = || Fake::new(true);
    let first = start(local(0, true), source()).expect("binds");
    let error = start(local(first.port(), true), source()).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&first.to_string()), "{error}");
    let second = start(local(first.port(), false), source()).expect("finds another");
    assert!(second.port() > first.port(), "{second} after {first}");
}
