//! Streams share connections as far as the backend's settings, its bound and its end allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::server::Builder;

use super::weir;
use crate::loopback::https::config;
use crate::support::client::get;
use crate::support::eventually;
use crate::support::secure::Server;
use crate::support::streams::{self, Asked, Barrier, answer, ok, server};
use crate::support::weir::Weir;

/// A server that answers once the barrier is open.
fn gated(builder: Builder, barrier: &Barrier) -> Server {
    let barrier = barrier.clone();
    server(builder, move |(_, respond): Asked| {
        let barrier = barrier.clone();
        async move {
            barrier.pass().await;
            answer(respond, ok(), "ok");
        }
    })
}

/// Asks `count` times at once, sees that `waiting` of them reach the backend, and lets all of them through.
fn together(weir: &Weir, barrier: &Barrier, count: usize, waiting: usize) {
    let port = weir.port;
    let clients: Vec<_> = (0..count)
        .map(|_| std::thread::spawn(move || crate::support::client::once(port, get("/")).status))
        .collect();
    eventually("they wait at the backend", || barrier.waiting() == waiting);
    barrier.open();
    for client in clients {
        assert_eq!(client.join().expect("it does not panic"), 200);
    }
}

#[test]
fn a_hundred_requests_at_once_share_one_connection() {
    let barrier = Barrier::new();
    let server = gated(Builder::new(), &barrier);
    let weir = weir(&[&server], "");
    together(&weir, &barrier, 100, 100);
    assert_eq!(server.connections(), 1);
}

#[test]
fn where_the_backend_takes_no_more_streams_another_connection_opens() {
    let barrier = Barrier::new();
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let server = gated(builder, &barrier);
    let weir = weir(&[&server], "");
    together(&weir, &barrier, 5, 5);
    assert_eq!(server.connections(), 3);
}

#[test]
fn max_in_flight_counts_streams() {
    let barrier = Barrier::new();
    let server = gated(Builder::new(), &barrier);
    let url = format!("http://127.0.0.1:{}", server.port);
    let bounded = format!(r#"{{"url": "{url}", "max_in_flight": 2}}"#);
    let whole = config(std::slice::from_ref(&url), r#""protocol": "http2","#);
    let weir = Weir::start(&whole.replace(&format!("\"{url}\""), &bounded));
    together(&weir, &barrier, 6, 2);
    assert_eq!(barrier.peak(), 2);
    assert_eq!(server.connections(), 1);
}

/// Each core dials for itself, so a place must be taken from a connection that idles on another.
#[test]
fn cores_share_a_bound_of_one_connection() {
    let (open, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, most) = (Arc::clone(&open), Arc::clone(&peak));
    let handle = Arc::new(|(_, respond): Asked| async move { answer(respond, ok(), "ok") });
    let server = Server::start(move |stream| {
        let (now, most, handle) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&handle));
        async move {
            let opened = now.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(opened, Ordering::SeqCst);
            streams::serve(stream, Builder::new(), handle).await;
            now.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let url = format!("http://127.0.0.1:{}", server.port);
    let bounded = format!(r#"{{"url": "{url}", "max_in_flight": 1}}"#);
    let whole = config(std::slice::from_ref(&url), r#""protocol": "http2","#);
    let whole = whole.replace(&format!("\"{url}\""), &bounded);
    let weir = Weir::start(&whole.replace(r#""workers": 1"#, r#""workers": 2"#));
    for _ in 0..50 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    let labels = format!("{{upstream=\"app\",backend=\"127.0.0.1:{}\"}}", server.port);
    let gauge = format!("weir_backend_open_connections{labels}");
    assert_eq!(weir.metric(&gauge), Some(1));
    // A server may hear of a new connection before it hears of the old one's end.
    assert!(peak.load(Ordering::SeqCst) <= 2);
    drop(weir);
    eventually("all are closed", || open.load(Ordering::SeqCst) == 0);
}

#[test]
fn a_connection_without_streams_is_closed_in_time() {
    let handle = Arc::new(|(_, respond): Asked| async move { answer(respond, ok(), "ok") });
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let server = Server::start(move |stream| {
        let (handle, count) = (Arc::clone(&handle), Arc::clone(&count));
        async move {
            streams::serve(stream, Builder::new(), handle).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let weir = weir(&[&server], r#""timeouts": {"idle": "100ms"},"#);
    assert_eq!(weir.once(get("/")).status, 200);
    eventually("it is closed", || ended.load(Ordering::SeqCst) == 1);
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(server.connections(), 2);
}
