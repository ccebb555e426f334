//! Few local ports: who finds none towards a backend waits for one, what idles gives way, and in the end the reason is told. In a
//! network of its own, which has fifty.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use super::{Gate, pass};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

const INNER: &str = "regressions::ports::within";

#[test]
fn who_finds_no_port_waits_for_one() {
    let network = |command: &str| {
        let script = format!(
            "ip link set lo up && echo 40000 40049 > /proc/sys/net/ipv4/ip_local_port_range && {command}"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["-rn", "sh", "-c", &script]);
        unshare
    };
    if !network("true").status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: no network of its own can be had here (unshare -rn)");
        return;
    }
    let tests = std::env::current_exe().expect("this is a program");
    let tests = tests.to_str().expect("a plain path");
    assert!(Path::new(tests).exists());
    let run = network(&format!(
        "exec {tests} --exact {INNER} --ignored --nocapture"
    ))
    .output();
    let run = run.expect("it was possible before");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// What the test above runs in that network.
#[test]
#[ignore = "it needs a network with few ports, which another test makes"]
fn within() {
    enough_in_turn();
    too_few_for_all();
    what_idles_elsewhere_gives_way();
}

/// A connection to one of this machine's many names for itself, each of which has all ports once more.
fn client(weir: &Weir, index: u8) -> Client {
    Client::connect_to((Ipv4Addr::new(127, 0, 0, 2 + index / 30), weir.port).into())
}

fn everywhere(text: &str) -> String {
    text.replacen("127.0.0.1:0", "0.0.0.0:0", 1)
}

fn enough_in_turn() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            pass(100);
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&everywhere(&config(&[backend.port], Extra::default())));
    let mut clients: Vec<Client> = (0..150).map(|i| client(&weir, i)).collect();
    for client in &mut clients {
        client.send(get("/"));
    }
    for client in &mut clients {
        assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    }
    let warned = weir.stderr();
    let warned = warned.iter().filter(|l| l.contains("local ports"));
    assert_eq!(warned.count(), 1, "{:?}", weir.stderr());
}

fn too_few_for_all() {
    let gate = Gate::default();
    let backend = gate.backend();
    let extra = Extra {
        top: r#""timeouts": {"connect": "300ms", "backend_idle": "1s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&everywhere(&config(&[backend.port], extra)));
    let mut clients: Vec<Client> = (0..100).map(|i| client(&weir, i)).collect();
    for client in &mut clients {
        client.send(get("/"));
    }
    eventually("those without a port are told", || {
        weir.refused("no_port") + backend.log().running as u64 == 100
    });
    gate.open();
    let mut refused = 0;
    for client in &mut clients {
        let response = client.response("GET").expect("each is answered");
        match response.status {
            200 => {}
            503 => {
                assert!(response.get("retry-after").is_some(), "{response:?}");
                refused += 1;
            }
            other => panic!("{other}: {response:?}"),
        }
    }
    assert!((50..100).contains(&refused), "{refused}");
}

fn what_idles_elsewhere_gives_way() {
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            pass(50);
            conn.reply(reply(200, "", "ok"));
        }
    });
    let port = backend.port;
    let upstream = format!(r#"{{"backends": ["http://127.0.0.1:{port}"]}}"#);
    let weir = Weir::start(&format!(
        r#"{{"listeners": {{"web": {{"bind": "0.0.0.0:0"}}}}, "admin": {{"bind": "127.0.0.1:0"}}, "access_log": false,
        "timeouts": {{"backend_idle": "1m"}}, "upstreams": {{"a": {upstream}, "b": {upstream}}},
        "routes": [{{"match": {{"path": {{"prefix": "/a"}}}}, "upstream": "a"}}, {{"upstream": "b"}}]}}"#
    ));
    let mut clients: Vec<Client> = (0..60).map(|i| client(&weir, i)).collect();
    for client in &mut clients {
        client.send(get("/a"));
    }
    for client in &mut clients {
        assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    }
    // Each port that there is belongs to an idle connection now.
    assert!(backend.log().open > 30, "{}", backend.log().open);
    for client in &mut clients {
        client.send(get("/b"));
    }
    for client in &mut clients {
        assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    }
}
