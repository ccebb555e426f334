//! Hashing on real sockets: who belongs together stays together, and whose backend is gone comes back to it.

use std::collections::BTreeMap;

use crate::support::backend::{Backend, reply};
use crate::support::weir::{Extra, Weir, config};
use crate::support::{eventually, free_port};

/// A backend that answers with its own name, on this port.
fn named(name: &'static str, port: u16) -> Backend {
    Backend::start_on(port, move |conn| {
        while conn.request().is_some() {
            conn.reply(reply(200, "", name));
        }
    })
}

const NAMES: [&str; 3] = ["one", "two", "three"];

fn ask(weir: &Weir, target: &str, fields: &str) -> String {
    let raw = format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n");
    let response = weir.once(raw);
    assert_eq!(response.status, 200);
    response.text()
}

/// Which backend each of sixty users has.
fn owners(weir: &Weir) -> BTreeMap<usize, String> {
    let owner = |user| ask(weir, "/", &format!("Cookie: a=b; sid=user-{user}\r\n"));
    (0..60).map(|user| (user, owner(user))).collect()
}

#[test]
fn a_user_keeps_its_backend_through_the_death_of_another_and_finds_back_to_its_own() {
    let ports: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
    let backends: Vec<Backend> = NAMES
        .iter()
        .zip(&ports)
        .map(|(n, p)| named(n, *p))
        .collect();
    let extra = Extra {
        upstream: r#""strategy": "hash", "hash_by": {"cookie": "sid"}, "back_off": {"base": "50ms", "max": "50ms"},
            "retry": {"budget_per_second": 1000}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&ports, extra));
    let before = owners(&weir);
    for name in NAMES {
        let count = before.values().filter(|owner| *owner == name).count();
        assert!(count >= 6, "{name} has {count} of 60");
    }
    assert_eq!(owners(&weir), before);
    backends[1].stop();
    let meanwhile = owners(&weir);
    for (user, owner) in &meanwhile {
        assert_ne!(owner, "two");
        assert!(before[user] == "two" || before[user] == *owner);
    }
    let _again = named("two", ports[1]);
    eventually("everybody is back", || owners(&weir) == before);
}

#[test]
fn a_restarted_proxy_gives_everybody_the_same_backend() {
    let ports: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
    let _backends: Vec<Backend> = NAMES
        .iter()
        .zip(&ports)
        .map(|(n, p)| named(n, *p))
        .collect();
    let extra = Extra {
        upstream: r#""strategy": "hash", "hash_by": {"cookie": "sid"}"#,
        ..Extra::default()
    };
    let first = owners(&Weir::start(&config(&ports, extra)));
    let turned: Vec<u16> = ports.iter().rev().copied().collect();
    assert_eq!(owners(&Weir::start(&config(&turned, extra))), first);
}

/// What each kind of key goes by, and what it leaves out.
#[test]
fn requests_belong_together_as_the_config_says() {
    let ports: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
    let _backends: Vec<Backend> = NAMES
        .iter()
        .zip(&ports)
        .map(|(n, p)| named(n, *p))
        .collect();
    let spread = |by: &str, request: &dyn Fn(&Weir, usize) -> String| {
        let upstream = format!(r#""strategy": "hash", "hash_by": {by}"#);
        let extra = Extra {
            upstream: &upstream,
            ..Extra::default()
        };
        let weir = Weir::start(&config(&ports, extra));
        let mut seen: Vec<String> = (0..30).map(|i| request(&weir, i)).collect();
        seen.sort();
        seen.dedup();
        seen.len()
    };
    let by_path = |weir: &Weir, i| ask(weir, &format!("/{i}"), "");
    let by_query = |weir: &Weir, i| ask(weir, &format!("/?{i}"), "");
    let by_header = |weir: &Weir, i| ask(weir, "/", &format!("X-User: {i}\r\n"));
    assert_eq!(spread(r#""path""#, &by_path), 3);
    assert_eq!(spread(r#""path""#, &by_query), 1);
    assert_eq!(spread(r#"{"header": "x-user"}"#, &by_header), 3);
    assert_eq!(
        spread(r#"{"header": "x-user"}"#, &by_path),
        1,
        "the address"
    );
    assert_eq!(spread(r#""address""#, &by_header), 1);
}
