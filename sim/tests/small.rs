//! A proxy in sixty lines over the seam: accept, dial, copy. It runs on real sockets and in simulation, which shows that the
//! seam is wide enough for one and narrow enough for the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use weirkeeper::env::tokio::TokioEnv;
use weirkeeper::env::{Clock, Env, Listener, Net, Stream};

/// Forwards connections to `backends` in turn, for ever.
pub(crate) async fn proxy<E: Env>(
    env: E,
    listener: <E::Net as Net>::Listener,
    backends: Arc<Vec<(String, u16)>>,
    turn: Arc<AtomicUsize>,
) -> io::Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let at = turn.fetch_add(1, Ordering::Relaxed) % backends.len();
        let backends = Arc::clone(&backends);
        let inner = env.clone();
        env.spawn("copy", async move {
            let (host, port) = &backends[at];
            let dial = async {
                let addrs = inner.net().resolve(host, *port).await?;
                inner.net().connect(addrs[0]).await
            };
            let dialled = inner.clock().timeout(Duration::from_secs(1), dial).await;
            let Some(Ok(mut backend)) = dialled else {
                client.set_abort();
                return;
            };
            if copy_bidirectional(&mut client, &mut backend).await.is_err() {
                client.set_abort();
                backend.set_abort();
            }
        });
    }
}

/// Answers each connection with what it sent, in upper case, until it ends.
pub(crate) async fn shouter<E: Env>(env: E, listener: <E::Net as Net>::Listener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        env.spawn("shout", async move {
            let mut buf = [0; 512];
            while let Ok(n) = stream.read(&mut buf).await
                && n > 0
            {
                buf[..n].make_ascii_uppercase();
                if stream.write_all(&buf[..n]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Sends `text` and reads the answer to its end.
pub(crate) async fn ask<E: Env>(env: &E, addr: SocketAddr, text: &str) -> io::Result<String> {
    let mut stream = env.net().connect(addr).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[test]
fn the_small_proxy_forwards_on_real_sockets() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let env = TokioEnv::new().expect("entropy");
        let loopback: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let backend = env.net().listen(loopback).expect("a port");
        let port = backend.local_addr().expect("bound").port();
        let front = env.net().listen(loopback).expect("a port");
        let addr = front.local_addr().expect("bound");
        let (inner, shout) = (env.clone(), env.clone());
        env.spawn("backend", async move {
            shouter(shout, backend).await.expect("accepting");
        });
        env.spawn("proxy", async move {
            let backends = Arc::new(vec![("127.0.0.1".to_string(), port)]);
            proxy(inner, front, backends, Arc::default())
                .await
                .expect("accepting");
        });
        for text in ["one", "two"] {
            let answer = ask(&env, addr, text).await.expect("an answer");
            assert_eq!(answer, text.to_uppercase());
        }
    });
}
