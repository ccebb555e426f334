//! Vary, and what else tells two requests for one URL apart: hosts, schemes, listeners, and what trusted proxies say.

use std::sync::Arc;

use super::{Gate, assert_hit, cached, crowd, get_with};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, cache_status, get, once};
use crate::support::eventually;
use crate::support::weir::{Weir, config};
use crate::support::wire::{Framing, Message};

const BY_LANGUAGE: &str = "Cache-Control: max-age=3600\r\nVary: Accept-Language\r\n";

fn language(request: &Message) -> String {
    request.get("accept-language").unwrap_or("none").to_owned()
}

fn in_language(target: &str, language: &str) -> String {
    get_with(target, &format!("Accept-Language: {language}\r\n"))
}

#[test]
fn each_variant_has_its_own_answer() {
    let backend = Backend::answering(|r| reply(200, BY_LANGUAGE, &language(r)));
    let weir = cached(&backend, "", "");
    for round in 0..3 {
        for tongue in ["de", "en", "fr"] {
            let response = weir.once(in_language("/hello", tongue));
            assert_eq!(response.text(), tongue);
            assert_eq!(
                cache_status(&response).contains("hit"),
                round > 0,
                "{tongue}"
            );
        }
        assert_eq!(weir.once(get("/hello")).text(), "none");
    }
    assert_eq!(backend.log().requests.len(), 4);
}

/// Two crowds for two variants of a cold URL: each of them makes one fetch, and nobody reads the other's.
#[test]
fn two_cold_variants_make_two_fetches() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::answering(move |r| {
        held.wait();
        reply(200, BY_LANGUAGE, &language(r))
    });
    let weir = cached(&backend, "", "\"workers\": 2");
    let mut crowds: Vec<(Client, &str)> = Vec::new();
    for tongue in ["de", "en"].into_iter().cycle().take(100) {
        let mut client = Client::connect(weir.port);
        client.send(in_language("/hello", tongue));
        crowds.push((client, tongue));
    }
    eventually("it is under way", || gate.waiting() >= 1);
    gate.open();
    for (client, tongue) in &mut crowds {
        let response = client.response("GET").expect("all are answered");
        assert_eq!(response.text(), *tongue);
    }
    assert_eq!(backend.log().requests.len(), 2);
}

/// Once the head has come it is known what the response varies by; who comes while the body does still reads along.
#[test]
fn a_variant_on_its_way_is_joined() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::start(move |conn| {
        while let Some(request) = conn.request() {
            let body = language(&request);
            conn.reply(format!(
                "HTTP/1.1 200 OK\r\n{BY_LANGUAGE}Content-Length: 4\r\n\r\n{body}"
            ));
            held.wait();
            conn.send("--");
        }
    });
    let weir = cached(&backend, "", "");
    let mut first = crowd(&weir, 1, &in_language("/hello", "de"));
    first[0].wire().head().expect("the head comes");
    let mut later = crowd(&weir, 20, &in_language("/hello", "de"));
    for client in &mut later {
        client.wire().head().expect("it reads along");
    }
    let mut others = crowd(&weir, 5, &in_language("/hello", "en"));
    for client in &mut others {
        client.wire().head().expect("it reads along");
    }
    eventually("one for each variant", || gate.waiting() == 2);
    gate.open();
    for client in first.iter_mut().chain(&mut later) {
        assert_eq!(client.wire().body(Framing::Length(4)), Ok(b"de--".to_vec()));
    }
    for client in &mut others {
        assert_eq!(client.wire().body(Framing::Length(4)), Ok(b"en--".to_vec()));
    }
    assert_eq!(backend.log().requests.len(), 2);
}

/// What a URL varies by may change. From then on the new fields choose, and nothing old is found by them.
#[test]
fn what_it_varies_by_may_change() {
    let backend = Backend::answering(|r| {
        let vary = if r.get("x-new").is_some() {
            "Cache-Control: max-age=3600\r\nVary: X-User\r\n"
        } else {
            BY_LANGUAGE
        };
        let user = r.get("x-user").unwrap_or("nobody");
        reply(200, vary, &format!("{}/{user}", language(r)))
    });
    let weir = cached(&backend, "", "");
    let ask = |tongue: &str, user: &str, more: &str| {
        let fields = format!("Accept-Language: {tongue}\r\nX-User: {user}\r\n{more}");
        weir.once(get_with("/hello", &fields))
    };
    assert_eq!(ask("de", "ann", "").text(), "de/ann");
    assert_eq!(
        ask("de", "bob", "").text(),
        "de/ann",
        "the user does not matter yet"
    );
    let renew = "X-New: 1\r\nCache-Control: no-cache\r\n";
    assert_eq!(ask("en", "bob", renew).text(), "en/bob");
    assert_eq!(
        ask("fr", "bob", "").text(),
        "en/bob",
        "the language matters no more"
    );
    let other = ask("de", "ann", "X-New: 1\r\n");
    assert_eq!(other.text(), "de/ann");
    assert!(
        !cache_status(&other).contains("hit"),
        "the old one was found by new fields"
    );
    // And a response without Vary answers everybody.
}

#[test]
fn hosts_and_ports_are_told_apart() {
    let backend = Backend::answering(|r| {
        reply(
            200,
            "Cache-Control: max-age=3600\r\n",
            r.get("host").unwrap_or("none"),
        )
    });
    let weir = cached(&backend, "", "");
    for round in 0..2 {
        for host in ["a.example", "b.example", "a.example:8080"] {
            let raw = format!("GET /same HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let response = weir.once(raw);
            assert_eq!(response.text(), host);
            assert_eq!(cache_status(&response).contains("hit"), round > 0);
        }
    }
    // The same host in another spelling is the same.
    for host in ["A.EXAMPLE", "a.example:80", "a.example."] {
        let response = weir.once(format!("GET /same HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_hit(&response);
        assert_eq!(response.text(), "a.example", "{host}");
    }
}

/// A response that reflects who was asked for: what an untrusted peer says is not passed on, what a trusted one says is part of
/// the key.
#[test]
fn what_proxies_in_front_say_is_not_shared() {
    let backend = Backend::answering(|r| {
        let said = |name: &str| r.all(name).join("+");
        let text = format!(
            "{} {} {}",
            said("x-forwarded-host"),
            said("x-forwarded-proto"),
            said("forwarded")
        );
        reply(200, "Cache-Control: max-age=3600\r\n", &text)
    });
    let evil = [
        "X-Forwarded-Host: evil.example\r\n",
        "X-Forwarded-Host: a.example\r\nX-Forwarded-Host: evil.example\r\n",
        "X-Forwarded-Host: evil.example, a.example\r\n",
        "X-Forwarded-Proto: https\r\n",
        "X-Forwarded-Proto: evil\r\n",
        "X-Forwarded-Proto: http\r\nX-Forwarded-Proto: evil\r\n",
        "X_Forwarded_Host: evil.example\r\n",
        "Forwarded: host=evil.example;proto=https\r\n",
        "Forwarded: for=192.0.2.1, for=192.0.2.2;host=\"evil.example\"\r\n",
    ];
    for trusted in [false, true] {
        let top = if trusted {
            r#""trusted_proxies": ["127.0.0.0/8"]"#
        } else {
            ""
        };
        for fields in evil {
            let weir = cached(&backend, "", top);
            let poison = weir.once(get_with("/links", fields));
            assert_eq!(poison.status, 200);
            let plain = weir.once(get("/links"));
            let text = plain.text();
            assert!(
                !text.contains("evil"),
                "trusted {trusted}: {fields:?} gave {text}"
            );
            assert!(
                !text.contains("https"),
                "trusted {trusted}: {fields:?} gave {text}"
            );
            if !trusted {
                assert_hit(&plain);
            }
            // Nor the other way around.
            let again = weir.once(get_with("/links", fields));
            assert_eq!(again.text(), poison.text(), "{fields:?}");
        }
    }
}

/// Two listeners lead to two upstreams, and a client may name any host to either.
#[test]
fn listeners_that_lead_elsewhere_share_nothing() {
    let one = Backend::answering(|_| reply(200, "Cache-Control: max-age=3600\r\n", "one"));
    let two = Backend::answering(|_| reply(200, "Cache-Control: max-age=3600\r\n", "two"));
    let port = crate::support::free_port();
    let text = format!(
        r#"{{"listeners": {{"a": {{"bind": "127.0.0.1:0"}}, "b": {{"bind": "127.0.0.1:{port}"}}}},
            "routes": [{{"name": "a", "listeners": ["a"], "upstream": "one", "cache": true}},
                       {{"name": "b", "listeners": ["b"], "upstream": "two", "cache": true}}],
            "upstreams": {{"one": {{"backends": ["http://127.0.0.1:{}"]}},
                           "two": {{"backends": ["http://127.0.0.1:{}"]}}}},
            "cache": {{}}, "admin": {{"bind": "127.0.0.1:0"}}, "access_log": false}}"#,
        one.port, two.port
    );
    let weir = Weir::start(&text);
    for _ in 0..2 {
        assert_eq!(weir.once(get("/who")).text(), "one");
        assert_eq!(once(port, get("/who")).text(), "two");
    }
    assert_eq!((one.log().requests.len(), two.log().requests.len()), (1, 1));
}

/// Routes by a field, to different upstreams, on one URL.
#[test]
fn routes_by_a_field_share_nothing() {
    let one = Backend::answering(|_| reply(200, "Cache-Control: max-age=3600\r\n", "one"));
    let two = Backend::answering(|_| reply(200, "Cache-Control: max-age=3600\r\n", "two"));
    let top = r#""cache": {}, "routes": [
        {"name": "beta", "match": {"headers": {"X-Beta": true}}, "upstream": "two", "cache": true},
        {"name": "rest", "upstream": "app", "cache": true}]"#;
    let text = config(
        &[one.port],
        crate::support::weir::Extra {
            top,
            ..Default::default()
        },
    );
    let second = format!(
        r#""upstreams": {{"two": {{"backends": ["http://127.0.0.1:{}"]}}, "#,
        two.port
    );
    let weir = Weir::start(&text.replace("\"upstreams\": {", &second));
    for _ in 0..2 {
        assert_eq!(weir.once(get_with("/who", "X-Beta: 1\r\n")).text(), "two");
        assert_eq!(weir.once(get("/who")).text(), "one");
    }
    assert_eq!((one.log().requests.len(), two.log().requests.len()), (1, 1));
}
