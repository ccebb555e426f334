//! What is stale: served while it is validated, in the place of an error, or not at all. It becomes stale by the Age that the
//! backend says, so no test waits for time to pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Gate, assert_hit, cached, crowd, get_with};
use crate::support::backend::{Backend, reply};
use crate::support::client::{cache_status, get};
use crate::support::eventually;
use crate::support::wire::Message;

/// Answers with the number of the request; the first answer is stale when it comes, later ones are fresh.
fn numbered(first: &'static str, gate: &Arc<Gate>) -> Backend {
    let held = Arc::clone(gate);
    let count = AtomicUsize::new(0);
    Backend::answering(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            return reply(200, first, "0");
        }
        held.wait();
        reply(200, "Cache-Control: max-age=3600\r\n", &number.to_string())
    })
}

#[test]
fn while_it_is_validated_all_are_served_at_once_and_it_is_fetched_once() {
    let gate = Gate::new();
    let first = "Cache-Control: max-age=10, stale-while-revalidate=600\r\nAge: 20\r\n";
    let backend = numbered(first, &gate);
    let weir = cached(&backend, "", "\"workers\": 2");
    assert_eq!(weir.once(get("/swr")).text(), "0");
    let mut clients = crowd(&weir, 100, &get("/swr"));
    for client in &mut clients {
        let response = client.response("GET").expect("it is answered at once");
        assert_eq!(response.text(), "0");
        let said = cache_status(&response);
        assert!(said.contains("hit; ttl=-"), "{said}");
    }
    eventually("it is fetched", || gate.waiting() == 1);
    gate.open();
    eventually("the new one is served", || {
        weir.once(get("/swr")).text() == "1"
    });
    assert_hit(&weir.once(get("/swr")));
    assert_eq!(backend.log().requests.len(), 2);
}

/// RFC 9111 section 4: the most recent response is the one to use, also when an older one takes longer to come in.
#[test]
fn what_was_asked_for_earlier_does_not_replace_what_is_newer() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let count = AtomicUsize::new(0);
    let fresh = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: 3\r\n\r\n";
    let backend = Backend::start(move |conn| {
        while conn.request().is_some() {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                conn.reply(format!("{fresh}o"));
                held.wait();
                conn.send("ld");
            } else {
                // Dates are told apart by milliseconds.
                std::thread::sleep(std::time::Duration::from_millis(5));
                conn.reply(format!("{fresh}new"));
            }
        }
    });
    let weir = cached(&backend, "", "");
    let mut slow = crowd(&weir, 1, &get("/page"));
    eventually("the older one is on its way", || gate.waiting() == 1);
    let raw = get_with("/page", "Cache-Control: no-cache\r\n");
    assert_eq!(weir.once(raw).text(), "new");
    gate.open();
    let old = slow[0].response("GET").expect("it is answered");
    assert_eq!(old.text(), "old");
    eventually("the older fetch is over", || {
        weir.admin("/cache").text().contains("\"flights\":0")
    });
    let hit = weir.once(get("/page"));
    assert_hit(&hit);
    assert_eq!(hit.text(), "new");
}

#[test]
fn validation_serves_all_who_wait_from_one_answer() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::answering(move |r: &Message| match r.get("if-none-match") {
        None => reply(
            200,
            "Cache-Control: max-age=10\r\nAge: 20\r\nETag: \"v\"\r\nX-Old: 1\r\nContent-Type: a/b\r\n",
            "body",
        ),
        Some(_) => {
            held.wait();
            b"HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\nCache-Control: max-age=3600\r\nX-New: 1\r\n\r\n".to_vec()
        }
    });
    let weir = cached(&backend, "", "\"workers\": 2");
    assert_eq!(weir.once(get("/v")).text(), "body");
    // The first answer was never fresh, so it is remembered as not shared for a while.
    let weir = cached(&backend, r#""uncacheable_for": "0s""#, "\"workers\": 2");
    assert_eq!(weir.once(get("/v")).text(), "body");
    backend.forget();
    let mut clients = crowd(&weir, 50, &get("/v"));
    eventually("it is validated", || gate.waiting() >= 1);
    gate.open();
    for client in &mut clients {
        let response = client.response("GET").expect("it is answered");
        assert_eq!((response.status, response.text().as_str()), (200, "body"));
        assert_eq!(response.get("x-new"), Some("1"));
        assert_eq!(response.get("x-old"), Some("1"));
        assert_eq!(response.get("content-type"), Some("a/b"));
        assert_eq!(response.message.all("via").len(), 1);
    }
    assert_eq!(backend.log().requests.len(), 1);
    assert_hit(&weir.once(get("/v")));
}

#[test]
fn in_the_place_of_an_error_it_is_better_than_nothing() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let backend = Backend::answering(move |_| {
        if fails.load(Ordering::SeqCst) {
            return reply(503, "", "down");
        }
        reply(
            200,
            "Cache-Control: max-age=10, stale-if-error=600\r\nAge: 20\r\n",
            "good",
        )
    });
    let weir = cached(&backend, "", "");
    assert_eq!(weir.once(get("/sie")).text(), "good");
    failing.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let response = weir.once(get("/sie"));
        assert_eq!((response.status, response.text().as_str()), (200, "good"));
        // Forwarded and so no hit (RFC 9211 section 2.1), with what the backend said of it.
        assert!(
            cache_status(&response).starts_with("weir; fwd=stale; fwd-status=503; ttl=-"),
            "{response:?}"
        );
    }
    // Who wants no such thing gets the error.
    let plain = weir.once(get_with("/sie", "Cache-Control: no-cache\r\n"));
    assert_eq!(plain.status, 503);
    backend.stop();
    let response = weir.once(get("/sie"));
    assert_eq!((response.status, response.text().as_str()), (200, "good"));
    // What was never there cannot be served.
    assert_eq!(weir.once(get("/other")).status, 502);
}

#[test]
fn what_must_be_validated_is_never_served_stale() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let backend = Backend::answering(move |_| {
        if fails.load(Ordering::SeqCst) {
            return reply(503, "", "down");
        }
        reply(
            200,
            "Cache-Control: max-age=10, must-revalidate, stale-if-error=600, stale-while-revalidate=600\r\n\
             Age: 20\r\nETag: \"v\"\r\n",
            "good",
        )
    });
    let weir = cached(&backend, "", "");
    assert_eq!(weir.once(get("/must")).text(), "good");
    failing.store(true, Ordering::SeqCst);
    assert_eq!(weir.once(get("/must")).status, 503);
    backend.stop();
    assert_eq!(weir.once(get("/must")).status, 502);
}

/// Close to its end and slow to fetch, it is fetched anew ahead of time, once, and nobody waits.
#[test]
fn it_is_refreshed_ahead_of_its_end() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let count = AtomicUsize::new(0);
    let backend = Backend::answering(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            // A fetch of a fifth of a second at least, and an hour left of a thousandth of that.
            std::thread::sleep(std::time::Duration::from_millis(200));
            return reply(200, "Cache-Control: max-age=1000\r\nAge: 997\r\n", "0");
        }
        held.wait();
        reply(200, "Cache-Control: max-age=3600\r\n", &number.to_string())
    });
    let weir = cached(
        &backend,
        r#""early_refresh": 10.0, "stale_while_revalidate": "1h""#,
        "",
    );
    assert_eq!(weir.once(get("/hot")).text(), "0");
    eventually("one goes ahead", || {
        assert_eq!(weir.once(get("/hot")).text(), "0");
        gate.waiting() == 1
    });
    for _ in 0..50 {
        assert_eq!(weir.once(get("/hot")).text(), "0");
    }
    assert_eq!(gate.waiting(), 1);
    gate.open();
    eventually("the new one is served", || {
        weir.once(get("/hot")).text() == "1"
    });
    assert_eq!(backend.log().requests.len(), 2);
}
