//! Simulated connections: how they end.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weirkeeper::env::{Clock, Env, Listener, Net};
use weirkeeper_sim::env::{Fabric, SimEnv, SimStream};
use weirkeeper_sim::turmoil_builder;

const JITTER: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(10);

/// Writes single bytes until no more are taken; how many were.
fn fill(stream: &mut SimStream) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut write = || Pin::new(&mut *stream).poll_write(&mut cx, b".");
    let mut sent = 0;
    while let Poll::Ready(written) = write() {
        sent += written.expect("the other side is there");
    }
    sent
}

/// Whoever leaves while as much is under way as may be is still read to the end, and the end is heard.
#[test]
fn the_end_of_a_full_connection_arrives() {
    let mut sim = turmoil_builder(3, JITTER, LIMIT).build();
    let to = SocketAddr::new(sim.lookup("reader"), 9000);
    let fabric = Fabric::new(3, 0.0, BTreeMap::new());
    let read = Arc::new(AtomicUsize::new(usize::MAX));
    let (env, came) = (SimEnv::new(&fabric, "reader"), Arc::clone(&read));
    sim.host("reader", move || {
        let (env, came) = (env.clone(), Arc::clone(&came));
        async move {
            let listener = env.net().listen(SocketAddr::from(([0, 0, 0, 0], 9000)))?;
            let (mut stream, _) = listener.accept().await?;
            let clock = env.clock();
            clock
                .sleep_until(clock.now() + Duration::from_secs(1))
                .await;
            let mut bytes = Vec::new();
            came.store(stream.read_to_end(&mut bytes).await?, Ordering::Relaxed);
            std::future::pending().await
        }
    });
    let (env, came) = (SimEnv::new(&fabric, "writer"), Arc::clone(&read));
    sim.client("writer", async move {
        let clock = env.clock();
        clock
            .sleep_until(clock.now() + Duration::from_millis(10))
            .await;
        let mut stream = env.net().connect(to).await?;
        let sent = fill(&mut stream);
        drop(stream);
        clock
            .sleep_until(clock.now() + Duration::from_secs(3))
            .await;
        assert!(sent > 1000, "{sent} bytes are no full connection");
        assert_eq!(came.load(Ordering::Relaxed), sent);
        Ok(())
    });
    sim.run().expect("the end was heard");
}

/// Whoever waits to write to somebody who leaves without reading is told so.
#[test]
fn a_writer_does_not_wait_for_somebody_who_has_left() {
    let mut sim = turmoil_builder(3, JITTER, LIMIT).build();
    let to = SocketAddr::new(sim.lookup("leaver"), 9000);
    let fabric = Fabric::new(3, 0.0, BTreeMap::new());
    let env = SimEnv::new(&fabric, "leaver");
    sim.host("leaver", move || {
        let env = env.clone();
        async move {
            let listener = env.net().listen(SocketAddr::from(([0, 0, 0, 0], 9000)))?;
            drop(listener.accept().await?);
            std::future::pending().await
        }
    });
    let env = SimEnv::new(&fabric, "writer");
    sim.client("writer", async move {
        let clock = env.clock();
        clock
            .sleep_until(clock.now() + Duration::from_millis(10))
            .await;
        let mut stream = env.net().connect(to).await?;
        let error = loop {
            if let Err(error) = stream.write(b".").await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        Ok(())
    });
    sim.run().expect("the writer was told");
}

/// Whoever says its end to somebody who has left in order at the same time is not reset, and reads what was said before.
#[test]
fn ends_may_cross() {
    const TIMES: usize = 200;
    let mut sim = turmoil_builder(3, 10 * JITTER, 6 * LIMIT).build();
    let to = SocketAddr::new(sim.lookup("reader"), 9000);
    let fabric = Fabric::new(3, 0.0, BTreeMap::new());
    let env = SimEnv::new(&fabric, "reader");
    let read = Arc::new(AtomicUsize::new(0));
    let came = Arc::clone(&read);
    sim.host("reader", move || {
        let (env, came) = (env.clone(), Arc::clone(&came));
        async move {
            let listener = env.net().listen(SocketAddr::from(([0, 0, 0, 0], 9000)))?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.shutdown().await?;
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await?;
                assert_eq!(bytes, b"the last word");
                came.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let env = SimEnv::new(&fabric, "writer");
    sim.client("writer", async move {
        let clock = env.clock();
        for _ in 0..TIMES {
            clock
                .sleep_until(clock.now() + Duration::from_millis(100))
                .await;
            let mut stream = env.net().connect(to).await?;
            stream.write_all(b"the last word").await?;
        }
        clock
            .sleep_until(clock.now() + Duration::from_millis(500))
            .await;
        assert_eq!(read.load(Ordering::Relaxed), TIMES);
        Ok(())
    });
    sim.run().expect("every end came in order");
}

/// The reset that answers who writes to somebody who has left does not overtake what was said before.
#[test]
fn a_reset_is_behind_the_last_word() {
    const TIMES: usize = 200;
    let mut sim = turmoil_builder(3, JITTER, LIMIT).build();
    let to = SocketAddr::new(sim.lookup("writer"), 9000);
    let fabric = Fabric::new(3, 0.0, BTreeMap::new());
    let env = SimEnv::new(&fabric, "writer");
    sim.host("writer", move || {
        let env = env.clone();
        async move {
            let listener = env.net().listen(SocketAddr::from(([0, 0, 0, 0], 9000)))?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.write_all(b"the last ").await?;
                stream.write_all(b"word").await?;
            }
        }
    });
    let env = SimEnv::new(&fabric, "reader");
    sim.client("reader", async move {
        let clock = env.clock();
        for _ in 0..TIMES {
            clock
                .sleep_until(clock.now() + Duration::from_millis(10))
                .await;
            let mut stream = env.net().connect(to).await?;
            stream.write_all(b"for nobody").await?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await?;
            assert_eq!(bytes, b"the last word");
        }
        Ok(())
    });
    sim.run().expect("every word came");
}
