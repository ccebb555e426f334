//! Simulated connections: how they end.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weirkeeper::env::{Clock, Env, Listener, Net};
use weirkeeper_sim::env::{Fabric, SimEnv, SimListener, SimStream};
use weirkeeper_sim::turmoil_builder;

const JITTER: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(10);

/// What a host comes to.
type Ended = Result<(), Box<dyn std::error::Error>>;

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

/// Runs somebody who listens, and somebody who may dial once that is so.
fn meet<L, D>(
    jitter: Duration,
    limit: Duration,
    listens: impl Fn(SimEnv, SimListener) -> L + Clone + 'static,
    dials: impl FnOnce(SimEnv, SocketAddr) -> D + 'static,
) where
    L: Future<Output = Ended> + 'static,
    D: Future<Output = Ended> + 'static,
{
    let mut sim = turmoil_builder(3, jitter, limit).build();
    let to = SocketAddr::new(sim.lookup("listener"), 9000);
    let fabric = Fabric::new(3, 0.0, BTreeMap::new());
    let env = SimEnv::new(&fabric, "listener");
    sim.host("listener", move || {
        let (env, listens) = (env.clone(), listens.clone());
        async move {
            let listener = env.net().listen(SocketAddr::from(([0, 0, 0, 0], 9000)))?;
            listens(env, listener).await
        }
    });
    let env = SimEnv::new(&fabric, "dialler");
    sim.client("dialler", async move {
        pass(&env, 10).await;
        dials(env, to).await
    });
    sim.run().expect("both came to their ends");
}

/// Waits for this many milliseconds.
async fn pass(env: &SimEnv, millis: u64) {
    let clock = env.clock();
    clock
        .sleep_until(clock.now() + Duration::from_millis(millis))
        .await;
}

/// Whoever leaves while as much is under way as may be is still read to the end, and the end is heard.
#[test]
fn the_end_of_a_full_connection_arrives() {
    let read = Arc::new(AtomicUsize::new(usize::MAX));
    let came = Arc::clone(&read);
    let reader = move |env: SimEnv, listener: SimListener| {
        let came = Arc::clone(&came);
        async move {
            let (mut stream, _) = listener.accept().await?;
            pass(&env, 1000).await;
            let mut bytes = Vec::new();
            came.store(stream.read_to_end(&mut bytes).await?, Ordering::Relaxed);
            pending().await
        }
    };
    meet(JITTER, LIMIT, reader, |env, to| async move {
        let mut stream = env.net().connect(to).await?;
        let sent = fill(&mut stream);
        drop(stream);
        pass(&env, 3000).await;
        assert!(sent > 1000, "{sent} bytes are no full connection");
        assert_eq!(read.load(Ordering::Relaxed), sent);
        Ok(())
    });
}

/// Whoever waits to write to somebody who leaves without reading is told so.
#[test]
fn a_writer_does_not_wait_for_somebody_who_has_left() {
    let leaver = |_, listener: SimListener| async move {
        drop(listener.accept().await?);
        pending().await
    };
    meet(JITTER, LIMIT, leaver, |env, to| async move {
        let mut stream = env.net().connect(to).await?;
        let error = loop {
            if let Err(error) = stream.write(b".").await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        Ok(())
    });
}

/// Whoever says its end to somebody who has left in order at the same time is not reset, and reads what was said before.
#[test]
fn ends_may_cross() {
    const TIMES: usize = 200;
    let read = Arc::new(AtomicUsize::new(0));
    let came = Arc::clone(&read);
    let reader = move |_, listener: SimListener| {
        let came = Arc::clone(&came);
        async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.shutdown().await?;
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await?;
                assert_eq!(bytes, b"the last word");
                came.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    meet(10 * JITTER, 6 * LIMIT, reader, |env, to| async move {
        for _ in 0..TIMES {
            pass(&env, 100).await;
            let mut stream = env.net().connect(to).await?;
            stream.write_all(b"the last word").await?;
        }
        pass(&env, 500).await;
        assert_eq!(read.load(Ordering::Relaxed), TIMES);
        Ok(())
    });
}

/// The reset that answers who writes to somebody who has left does not overtake what was said before.
#[test]
fn a_reset_is_behind_the_last_word() {
    const TIMES: usize = 200;
    let writer = |_, listener: SimListener| async move {
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(b"the last ").await?;
            stream.write_all(b"word").await?;
        }
    };
    meet(JITTER, LIMIT, writer, |env, to| async move {
        for _ in 0..TIMES {
            pass(&env, 10).await;
            let mut stream = env.net().connect(to).await?;
            stream.write_all(b"for nobody").await?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await?;
            assert_eq!(bytes, b"the last word");
        }
        Ok(())
    });
}
