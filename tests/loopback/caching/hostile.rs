//! What would poison a cache, or leak out of it: responses that are somebody's, and requests that spoil what others get.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Gate, assert_hit, cached, crowd, get_with, warm};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, cache_status, get};
use crate::support::eventually;
use crate::support::wire::Message;

/// What somebody alone may see carries who asked.
fn who(request: &Message) -> String {
    let auth = request.get("authorization").unwrap_or("nobody");
    format!("{auth}/{}", request.get("cookie").unwrap_or("none"))
}

#[test]
fn what_is_somebodys_is_not_shared() {
    for (fields, asked) in [
        (
            "Cache-Control: max-age=60\r\n",
            "Authorization: Basic YQ==\r\n",
        ),
        ("Cache-Control: private\r\n", "Cookie: id=1\r\n"),
        ("Cache-Control: PRIVATE, max-age=60\r\n", "Cookie: id=1\r\n"),
        (
            "Cache-Control: max-age=60\r\nCache-Control: private\r\n",
            "",
        ),
        ("Cache-Control: max-age=60, no-store\r\n", ""),
        ("Cache-Control: max-age=60\r\nSet-Cookie: id=2\r\n", ""),
        ("Cache-Control: max-age=60\r\nVary: *\r\n", ""),
        ("Cache-Control: max-age=60\r\nVary: Accept, *\r\n", ""),
    ] {
        let backend = Backend::answering(move |r| reply(200, fields, &who(r)));
        let weir = cached(&backend, "", "");
        for round in 0..2 {
            let mine = weir.once(get_with("/me", asked));
            // Authorized or not, whoever asks may have what was stored for all (RFC 9111 section 3.5).
            let shared = asked.contains("Authorization") && round > 0;
            assert_eq!(
                cache_status(&mine).contains("hit"),
                shared,
                "{fields:?} {asked:?}"
            );
            let other = weir.once(get("/me"));
            if !asked.contains("Authorization") {
                assert!(
                    !cache_status(&other).contains("hit"),
                    "{fields:?} {asked:?} {round}"
                );
            }
            assert_eq!(other.text(), "nobody/none", "{fields:?} {asked:?}");
        }
    }
    // Shared when the response says so, though it was authorized (RFC 9111 section 3.5).
    let backend =
        Backend::answering(|r| reply(200, "Cache-Control: public, max-age=60\r\n", &who(r)));
    let weir = cached(&backend, "", "");
    weir.once(get_with("/all", "Authorization: x\r\n"));
    assert_hit(&weir.once(get("/all")));
}

/// Who asks with credentials, or wants nothing stored, cannot empty the cache for the others.
#[test]
fn a_validation_for_somebody_leaves_what_lies_there() {
    let fields = "Cache-Control: no-cache\r\nETag: \"v1\"\r\n";
    let backend = Backend::answering(move |r| match r.get("if-none-match") {
        Some(_) => reply(304, fields, ""),
        None => reply(200, fields, "fetched"),
    });
    let weir = cached(&backend, "", "");
    weir.once(get("/page"));
    for asked in [
        "Authorization: Basic YQ==\r\n",
        "Cache-Control: no-store\r\n",
    ] {
        assert_eq!(weir.once(get_with("/page", asked)).status, 200);
        let next = weir.once(get("/page"));
        assert!(
            cache_status(&next).contains("fwd-status=304"),
            "{asked:?}: {}",
            cache_status(&next)
        );
    }
}

/// A request that is wrong in a way that only the backend minds must not leave its refusal to others.
#[test]
fn the_refusal_of_one_range_is_not_everybodys() {
    for status in [416, 400, 403, 404, 413, 500, 501] {
        let backend = Backend::answering(move |r| match r.get("range") {
            Some(_) => reply(status, "Cache-Control: max-age=3600\r\n", "no"),
            None => reply(200, "Cache-Control: max-age=3600\r\n", "yes"),
        });
        let weir = cached(&backend, "", "");
        assert_eq!(
            weir.once(get_with("/r", "Range: bytes=9999-\r\n")).status,
            status
        );
        let good = weir.once(get("/r"));
        assert_eq!((good.status, good.text().as_str()), (200, "yes"));
    }
}

/// Whoever sends credentials or cookies gets an answer that may be theirs alone. The others share all the same.
#[test]
fn credentials_keep_nobody_else_from_sharing() {
    for (cache, fields, credentials) in [
        ("", "Cache-Control: max-age=60\r\n", "Authorization: x\r\n"),
        (r#""default_ttl": "30m""#, "", "Cookie: a=b\r\n"),
    ] {
        let gates = [Gate::new(), Gate::new(), Gate::new()];
        let [leader, own, shared] = gates.clone();
        let count = AtomicUsize::new(0);
        let backend = Backend::answering(move |r| {
            let personal = r.get("authorization").or(r.get("cookie")).is_some();
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => leader.wait(),
                _ if personal => own.wait(),
                _ => shared.wait(),
            }
            reply(200, fields, &who(r))
        });
        let weir = cached(&backend, cache, "\"workers\": 2");
        let mut personal = crowd(&weir, 20, &get_with("/page", credentials));
        eventually("one fetches for all", || gates[0].waiting() == 1);
        gates[0].open();
        eventually("then each for itself", || gates[1].waiting() == 19);
        gates[1].open();
        for client in &mut personal {
            let response = client.response("GET").expect("it is answered");
            assert_ne!(response.text(), "nobody/none");
        }
        backend.forget();
        let mut plain = crowd(&weir, 20, &get("/page"));
        eventually("one fetches for all", || gates[2].waiting() >= 1);
        gates[2].open();
        for client in &mut plain {
            let response = client.response("GET").expect("it is answered");
            assert_eq!(response.text(), "nobody/none");
        }
        assert_eq!(backend.log().requests.len(), 1, "{credentials:?}");
        assert_hit(&weir.once(get("/page")));
    }
}

/// Spellings of one path are one entry; what is no path of ours is refused before it is looked up.
#[test]
fn spellings_of_a_path_lead_to_one_entry() {
    let backend = Backend::answering(|r| reply(200, "Cache-Control: max-age=3600\r\n", &r.start));
    let weir = cached(&backend, "", "");
    warm(&weir, "/a/b");
    for target in ["/a/b", "/a/./b", "/a/x/../b", "/%61/b", "/a/%62"] {
        let response = weir.once(get(target));
        assert_hit(&response);
        assert_eq!(response.text(), "GET /a/b HTTP/1.1", "{target}");
    }
    for target in [
        "/a/b?", "/a/b/", "/A/b", "/a%2Fb", "/a/b?x", "//a/b", "/a//b",
    ] {
        let response = weir.once(get(target));
        assert!(!cache_status(&response).contains("hit"), "{target}");
    }
    for target in ["/a/../../b", "/a/%2e%2e/%2e%2e/b", "/%zz", "/a/b%00"] {
        assert_eq!(weir.once(get(target)).status, 400, "{target}");
    }
    // Absolute form: its authority counts, whatever Host says.
    let absolute = "GET http://test.example/a/b HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_hit(&weir.once(absolute));
    let evil = "GET http://evil.example/a/b HTTP/1.1\r\nHost: test.example\r\n\r\n";
    let response = weir.once(evil);
    assert!(!cache_status(&response).contains("hit"));
    assert_hit(&weir.once(get("/a/b")));
}

/// Backends' heads at the edge: what they say is stored as it was, or not at all, and the connection stays in step.
#[test]
fn odd_heads_of_backends_stay_in_their_place() {
    for fields in [
        "X-Empty:\r\n",
        "X-Odd: a\tb\r\n",
        "X-High: \u{e4}\u{f6}\r\n",
        "ETag: unquoted\r\n",
        "ETag: \"a\r\n",
        "Date: yesterday\r\n",
        "Age: -5\r\n",
        "Age: 99999999999999999999\r\n",
        "Expires: 0\r\n",
        "Content-Type: \r\n",
        "Vary: \r\n",
        "Vary: ,,,\r\n",
        "Cache-Control: \"max-age=5\r\n",
        "Surrogate-Key: a b  c\r\n",
        "Cache-Tag: a,,b\r\n",
        "Age: 5\r\nAge: 6\r\n",
        "Content-Length: 2\r\n",
    ] {
        let backend = Backend::answering(move |_| {
            if fields.starts_with("Content-Length") {
                return format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{fields}{fields}\r\nok"
                )
                .into_bytes();
            }
            reply(200, &format!("Cache-Control: max-age=60\r\n{fields}"), "ok")
        });
        let mut weir = cached(&backend, "", "");
        let mut client = Client::connect(weir.port);
        for again in [
            "",
            "",
            "Pragma: x\r\n",
            "If-None-Match: \"x\"\r\n",
            "Range: bytes=0-0\r\n",
        ] {
            let response = client.ask(get_with("/odd", again)).expect("it is answered");
            assert!(
                matches!(response.status, 200 | 206 | 502),
                "{fields:?}: {response:?}"
            );
            if response.status == 200 {
                assert_eq!(response.text(), "ok", "{fields:?}");
            }
        }
        assert!(weir.lives(), "{fields:?}");
    }
}
