//! Clients that leave: what goes on for the others, what goes on for the store, and what ends because nobody wants it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Gate, assert_hit, cached, crowd, get_with, target};
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Framing;

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

/// Those who wait in the backend's queue and leave give their places up, and nothing is fetched for nobody.
#[test]
fn a_fetch_that_all_have_left_before_its_head_is_given_up() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::answering(move |_| {
        held.wait();
        reply(200, FRESH, "late")
    });
    let config = format!(
        r#"{{"listeners": {{"web": {{"bind": "127.0.0.1:0"}}}}, "cache": {{}}, "admin": {{"bind": "127.0.0.1:0"}},
            "upstreams": {{"app": {{"backends": [{{"url": "http://127.0.0.1:{}", "max_in_flight": 1}}]}}}}}}"#,
        backend.port
    );
    let weir = Weir::start(&config);
    let mut first = Client::connect(weir.port);
    first.send(get("/first"));
    eventually("the backend is busy", || gate.waiting() == 1);
    let waiting: Vec<_> = (0..20)
        .map(|n| crowd(&weir, 1, &get(&format!("/left/{n}"))))
        .collect();
    eventually("they wait in line", || weir.waiting() == 20);
    drop(waiting);
    eventually("their places are free", || weir.waiting() == 0);
    gate.open();
    assert_eq!(first.response("GET").expect("it waited").text(), "late");
    assert_eq!(weir.once(get("/last")).text(), "late");
    let lines = ["GET /first HTTP/1.1", "GET /last HTTP/1.1"];
    assert_eq!(backend.log().lines(), lines);
}

#[test]
fn a_leader_who_leaves_takes_nothing_along() {
    let gate = Gate::new();
    let backend = in_two_pieces(&gate, FRESH);
    let weir = cached(&backend, "", "");
    let mut leader = Client::connect(weir.port);
    leader.send(get("/left"));
    leader.wire().head().expect("the head comes");
    leader.wire().skip(8).expect("the first chunk comes");
    let mut follower = Client::connect(weir.port);
    follower.send(get("/left"));
    follower.wire().head().expect("it may read along");
    drop(leader);
    gate.open();
    let body = follower.wire().body(Framing::Chunked);
    assert_eq!(body, Ok(b"firstlast".to_vec()));
    let hit = weir.once(get("/left"));
    assert_hit(&hit);
    assert_eq!(hit.text(), "firstlast");
    assert_eq!(backend.log().requests.len(), 1);
}

/// A backend that sends one chunk, and the last one when the gate opens.
pub(super) fn in_two_pieces(gate: &Arc<Gate>, fields: &'static str) -> Backend {
    let held = Arc::clone(gate);
    Backend::start(move |conn| {
        while conn.request().is_some() {
            conn.reply(format!(
                "HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
            ));
            held.wait();
            if !conn.send("4\r\nlast\r\n0\r\n\r\n") {
                return;
            }
        }
    })
}

#[test]
fn what_may_be_stored_is_fetched_to_its_end_though_all_have_left() {
    let gate = Gate::new();
    let backend = in_two_pieces(&gate, FRESH);
    let mut weir = cached(&backend, "", "");
    let mut clients = crowd(&weir, 5, &get("/left"));
    for client in &mut clients {
        client.wire().head().expect("the head comes");
    }
    drop(clients);
    // A request on another connection is answered after the leave-taking has been seen.
    assert_eq!(weir.once("GET / HTTP/1.1\r\n\r\n").status, 400);
    gate.open();
    eventually("it lies there whole", || {
        let only = get_with("/left", "Cache-Control: only-if-cached\r\n");
        let response = weir.once(only);
        response.status == 200 && response.text() == "firstlast"
    });
    assert_eq!(backend.log().requests.len(), 1);
    assert!(weir.lives());
}

#[test]
fn what_may_not_be_stored_ends_with_its_last_reader() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let backend = Backend::start(move |conn| {
        while let Some(request) = conn.request() {
            if target(&request) != "/endless" {
                conn.reply(reply(200, "", "ok"));
                continue;
            }
            conn.reply(
                "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
            while conn.send(&chunk) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let extra = Extra {
        top: r#""cache": {}"#,
        upstream: r#""max_in_flight": 1"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut client = Client::connect(weir.port);
    client.send(get("/endless"));
    client.wire().head().expect("the head comes");
    client.wire().skip(1 << 20).expect("the body flows");
    drop(client);
    // The only place in flight is free again.
    assert_eq!(weir.once(get("/next")).status, 200);
    eventually("the endless connection is closed", || {
        backend.log().open <= 1
    });
}

#[test]
fn a_leader_who_leaves_before_the_head_takes_nothing_along() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::answering(move |_| {
        held.wait();
        reply(200, FRESH, "for others")
    });
    let mut weir = cached(&backend, "", "");
    let leader = crowd(&weir, 1, &get("/left"));
    eventually("it is under way", || gate.waiting() == 1);
    let mut others = crowd(&weir, 2, &get("/left"));
    drop(leader);
    gate.open();
    for client in &mut others {
        let response = client.response("GET").expect("it is answered");
        assert_eq!(response.text(), "for others");
    }
    assert_eq!(backend.log().requests.len(), 1);
    assert!(weir.lives());
}

/// Who waits in the queue for a fetch that nobody wants any more would only delay those who do.
#[test]
fn who_leaves_the_queue_frees_its_place() {
    const CROWD: usize = 50;
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::answering(move |r| {
        if target(r) == "/first" {
            held.wait();
        }
        reply(200, FRESH, target(r))
    });
    let extra = Extra {
        top: r#""cache": {}"#,
        upstream: r#""max_in_flight": 1"#,
        ..Extra::default()
    };
    let weir = Weir::start(&config(&[backend.port], extra));
    let mut first = crowd(&weir, 1, &get("/first"));
    eventually("it runs", || gate.waiting() == 1);
    let queued: Vec<Client> = (0..CROWD)
        .flat_map(|n| crowd(&weir, 1, &get(&format!("/{n}"))))
        .collect();
    eventually("all wait", || weir.waiting() == CROWD as u64);
    let mut patient = crowd(&weir, 2, &get("/0"));
    drop(queued);
    eventually("one is still wanted", || weir.waiting() == 1);
    gate.open();
    for client in &mut patient {
        assert_eq!(client.response("GET").map(|r| r.text()), Ok("/0".into()));
    }
    assert_eq!(
        first[0].response("GET").map(|r| r.text()),
        Ok("/first".into())
    );
    assert_eq!(backend.log().requests.len(), 2);
}

/// Where a lifetime is only supposed, a stream without an end is nobody's but its reader's, and ends with that one.
#[test]
fn a_stream_of_events_is_each_readers_own() {
    for kind in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
        let count = AtomicUsize::new(0);
        let backend = Backend::start(move |conn| {
            if conn.request().is_some() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                conn.reply(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n\
                     6\r\ndata:{number}\r\n"
                ));
                conn.wait_for_close();
            }
        });
        let weir = cached(&backend, r#""default_ttl": "30m""#, "");
        let mut clients = Vec::new();
        for number in 0..3 {
            let mut client = crowd(&weir, 1, &get("/events")).remove(0);
            client.wire().head().expect("the head comes");
            client.wire().skip(3 + 5).expect("the first event comes");
            let body = client.wire().body(Framing::Length(1));
            assert_eq!(body, Ok(number.to_string().into_bytes()));
            clients.push(client);
        }
        drop(clients);
        eventually("no stream is left open", || backend.log().open == 0);
    }
}

#[test]
fn a_body_that_may_have_no_end_ends_with_its_last_reader() {
    let backend = Backend::start(move |conn| {
        if conn.request().is_some() {
            conn.reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            conn.wait_for_close();
        }
    });
    let weir = cached(&backend, r#""default_ttl": "30m""#, "");
    for round in 1..=2 {
        let mut clients = crowd(&weir, 3, &get("/trickle"));
        for client in &mut clients {
            client.wire().head().expect("the head comes");
        }
        let stays = clients.pop();
        drop(clients);
        assert_eq!(backend.log().open, 1, "somebody reads it");
        drop(stays);
        eventually("it is given up", || backend.log().open == 0);
        assert_eq!(backend.log().requests.len(), round);
    }
}

/// A failure is told to whoever led. Those who joined a fetch whose leader has left have a try of their own.
#[test]
fn the_failure_of_a_fetch_without_its_leader_is_nobodys() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let count = AtomicUsize::new(0);
    let backend = Backend::start(move |conn| {
        while conn.request().is_some() {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                held.wait();
                return;
            }
            conn.reply(reply(200, FRESH, "own"));
        }
    });
    let weir = cached(&backend, "", "\"retry\": {\"attempts\": 0}");
    let mut leader = crowd(&weir, 1, &get("/page"));
    eventually("the fetch is under way", || gate.waiting() == 1);
    let mut followers = crowd(&weir, 5, &get("/page"));
    // By a reset: whoever ends its side in order may be waiting for its answer.
    leader.remove(0).reset();
    // Nothing shows that a follower has joined or that a leader's leaving was seen; one that is late finds what it wants as well.
    std::thread::sleep(std::time::Duration::from_millis(200));
    gate.open();
    for follower in &mut followers {
        let response = follower.response("GET").expect("it is answered");
        assert_eq!((response.status, response.text().as_str()), (200, "own"));
    }
    // One that joined late may have led a fetch of its own before or after that of the others: never more than one each.
    let fetches = backend.log().requests.len();
    assert!((2..=6).contains(&fetches), "{fetches} fetches");
}
