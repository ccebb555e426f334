//! Simulated datagrams: core loops that share an address, and senders to nobody.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::ReadBuf;
use weirkeeper::env::{Clock, Datagram, Env, Net};
use weirkeeper_sim::env::{Fabric, SimDatagram, SimEnv};
use weirkeeper_sim::turmoil_builder;

async fn receive(socket: &SimDatagram) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut bytes = vec![0; 100];
    poll_fn(|cx| {
        let mut read = ReadBuf::new(&mut bytes);
        let polled = socket.poll_recv(cx, &mut read);
        polled.map(|from| from.map(|from| (read.filled().to_vec(), from)))
    })
    .await
}

async fn send(socket: &SimDatagram, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    poll_fn(|cx| socket.poll_send(cx, bytes, to)).await
}

async fn rest(env: &SimEnv, millis: u64) {
    let clock = env.clock();
    let until = clock.now() + Duration::from_millis(millis);
    clock.sleep_until(until).await;
}

/// What came from each address: the core that received it, and its first byte.
type Heard = BTreeMap<SocketAddr, Vec<(usize, u8)>>;

const JITTER: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(10);

/// Who sends from where has all of it received by one core, and no core has everybody.
#[test]
fn cores_that_share_an_address_share_its_clients() {
    let mut sim = turmoil_builder(7, JITTER, LIMIT).build();
    let to = SocketAddr::new(sim.lookup("cores"), 9000);
    let fabric = Fabric::new(7, 0.0, BTreeMap::new());
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let (env, cores) = (SimEnv::new(&fabric, "cores"), Arc::clone(&heard));
    sim.host("cores", move || {
        let (env, heard) = (env.clone(), Arc::clone(&cores));
        async move {
            let any = SocketAddr::from(([0, 0, 0, 0], 9000));
            for core in 0..3 {
                let (socket, heard) = (env.net().datagram(any)?, Arc::clone(&heard));
                env.spawn("core", async move {
                    while let Ok((bytes, from)) = receive(&socket).await {
                        let mut heard = heard.lock().expect("one thread");
                        heard.entry(from).or_default().push((core, bytes[0]));
                    }
                });
            }
            std::future::pending().await
        }
    });
    let env = SimEnv::new(&fabric, "clients");
    sim.client("clients", async move {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let sockets: io::Result<Vec<_>> = (0..9).map(|_| env.net().datagram(any)).collect();
        let sockets = sockets?;
        for number in 0..20 {
            for socket in &sockets {
                send(socket, &[number], to).await?;
            }
        }
        rest(&env, 100).await;
        Ok(())
    });
    sim.run().expect("the clients end in time");
    let heard = heard.lock().expect("one thread");
    assert_eq!(heard.len(), 9);
    let mut busy = [0; 3];
    for list in heard.values() {
        assert_eq!(list.len(), 20);
        assert!(list.iter().all(|(core, _)| *core == list[0].0));
        busy[list[0].0] += 1;
    }
    assert!(busy.iter().all(|clients| *clients > 0), "{busy:?}");
}

/// As an operating system tells it: with the next thing that the socket is asked for, once.
#[test]
fn an_associated_socket_hears_that_nobody_is_there() {
    let mut sim = turmoil_builder(7, JITTER, LIMIT).build();
    let peer = SocketAddr::new(sim.lookup("somebody"), 9000);
    let fabric = Fabric::new(7, 0.0, BTreeMap::new());
    sim.host("somebody", || async { std::future::pending().await });
    let env = SimEnv::new(&fabric, "clients");
    sim.client("clients", async move {
        let socket = env.net().associate(peer)?;
        env.fabric().receives(peer, false);
        send(&socket, b"a", peer).await?;
        let error = receive(&socket).await.expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        send(&socket, b"b", peer).await?;
        rest(&env, 10).await;
        let error = send(&socket, b"c", peer).await;
        let error = error.expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        env.fabric().receives(peer, true);
        send(&socket, b"d", peer).await?;
        let limit = Duration::from_millis(10);
        let heard = env.clock().timeout(limit, receive(&socket)).await;
        assert!(heard.is_none(), "there is nothing to hear");
        Ok(())
    });
    sim.run().expect("the client ends in time");
}
