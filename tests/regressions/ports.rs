//! Few local ports: who finds none towards a backend waits for one, what idles gives way, and in the end the reason is told. In a
//! network of its own, which has fifty.

use std::process::Command;

use super::{Gate, pass};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

/// Set where the test runs itself within a network of its own.
const WITHIN: &str = "WEIR_TESTS_OWN_NETWORK";

#[test]
fn who_finds_no_port_waits_for_one() {
    if std::env::var_os(WITHIN).is_some() {
        enough_in_turn();
        too_few_for_all();
        what_idles_elsewhere_gives_way();
        return;
    }
    let network = |command: &str| {
        let script = format!("ip link set lo up && {command}");
        let mut unshare = Command::new("unshare");
        unshare.args(["-rn", "sh", "-c", &script]);
        unshare
    };
    let try_it = format!("echo '{FEW}' > {RANGE}");
    if !network(&try_it).status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: no network of its own can be had here (unshare -rn)");
        return;
    }
    let tests = std::env::current_exe().expect("this is a program");
    let tests = tests.display();
    let name = "regressions::ports::who_finds_no_port_waits_for_one";
    let run = network(&format!("exec {tests} --exact {name} --nocapture"))
        .env(WITHIN, "1")
        .output()
        .expect("it was possible before");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// The ports that the system may choose, and how many there are: many while servers and clients find theirs, few for the proxy.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const MANY: &str = "20000 59999";
const FEW: &str = "60000 60049";

fn set_ports(range: &str) {
    std::fs::write(RANGE, range).expect("the network is its own");
}

/// So many clients, connected. From then on the proxy has few ports.
fn clients(weir: &Weir, count: usize) -> Vec<Client> {
    let clients = (0..count).map(|_| Client::connect(weir.port)).collect();
    set_ports(FEW);
    clients
}

fn enough_in_turn() {
    set_ports(MANY);
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            pass(100);
            conn.reply(reply(200, "", "ok"));
        }
    });
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    let mut clients = clients(&weir, 150);
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
    set_ports(MANY);
    let gate = Gate::default();
    let backend = gate.backend();
    let extra = Extra {
        top: r#""timeouts": {"connect": "300ms", "backend_idle": "1s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut clients = clients(&weir, 100);
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
    set_ports(MANY);
    let backend = Backend::start(|conn| {
        while conn.request().is_some() {
            pass(50);
            conn.reply(reply(200, "", "ok"));
        }
    });
    let port = backend.port;
    let upstream = format!(r#"{{"backends": ["http://127.0.0.1:{port}"]}}"#);
    let weir = Weir::start(&format!(
        r#"{{"listeners": {{"web": {{"bind": "127.0.0.1:0"}}}}, "admin": {{"bind": "127.0.0.1:0"}}, "access_log": false,
        "timeouts": {{"backend_idle": "1m"}}, "upstreams": {{"a": {upstream}, "b": {upstream}}},
        "routes": [{{"match": {{"path": {{"prefix": "/a"}}}}, "upstream": "a"}}, {{"upstream": "b"}}]}}"#
    ));
    let mut clients = clients(&weir, 40);
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
