//! A backend that closes a kept connection silently, just when the next request may be on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get, post};
use crate::support::weir::{Extra, Weir, config};

/// Answers one request a connection, promises to keep it, and closes it after 0 to 3 ms.
fn backend() -> Backend {
    Backend::start(|conn| {
        if conn.request().is_some() {
            conn.reply(reply(200, "Connection: keep-alive\r\n", "ok"));
            let pause = [0, 300, 700, 1_000, 1_500, 2_000, 3_000][conn.index % 7];
            std::thread::sleep(Duration::from_micros(pause));
        }
    })
}

#[test]
fn no_get_fails_and_no_post_runs_twice() {
    let backend = backend();
    let mut weir = Weir::start(&config(&[backend.port], Extra::default()));
    let port = weir.port;
    let clients: Vec<_> = (0..4)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = Client::connect(port);
                let mut posts = Vec::new();
                for i in 0..150 {
                    // Between 0 and 3 ms, so that reuse and close meet at every distance.
                    std::thread::sleep(Duration::from_micros((i * 37) % 3_000));
                    let id = format!("{client}-{i}");
                    let got = connection.ask(get(&format!("/get/{id}"))).map(|r| r.status);
                    assert_eq!(got, Ok(200), "GET {id}");
                    let posted = connection.ask(post(&format!("/post/{id}"), "x"));
                    let status = posted.map(|r| r.status);
                    assert!(matches!(status, Ok(200 | 502)), "POST {id}: {status:?}");
                    posts.push((id, status == Ok(200)));
                }
                posts
            })
        })
        .collect();
    let mut executed: BTreeMap<String, usize> = BTreeMap::new();
    let mut answered = Vec::new();
    for client in clients {
        answered.extend(client.join().expect("the client found nothing wrong"));
    }
    let log = backend.log();
    for request in &log.requests {
        if let Some(id) = request.start.strip_prefix("POST /post/") {
            let id = id.split(' ').next().unwrap_or_default();
            *executed.entry(id.to_owned()).or_default() += 1;
        }
    }
    for (id, ok) in &answered {
        let times = executed.get(id).copied().unwrap_or_default();
        assert!(times <= 1, "POST {id} ran {times} times");
        assert!(
            !ok || times == 1,
            "POST {id} was answered 200 and never ran"
        );
    }
    assert!(log.broken.is_empty(), "{:?}", log.broken);
    assert!(weir.lives());
}
