//! L4 over UDP: datagrams whole, replies to whom they belong, sessions that end.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::support::weir::{Extra, Weir, config};
use crate::support::{PATIENCE, eventually};

/// The plain config as L4 over UDP.
fn l4(ports: &[u16], extra: Extra<'_>) -> String {
    let listener = match extra.listener {
        "" => r#""protocol": "udp""#.to_owned(),
        more => format!(r#""protocol": "udp", {more}"#),
    };
    config(
        ports,
        Extra {
            listener: &listener,
            ..extra
        },
    )
    .replace("http://127", "udp://127")
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a timeout");
    socket
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().expect("it is bound").port()
}

fn client(weir: &Weir) -> UdpSocket {
    let socket = socket();
    socket
        .connect(("127.0.0.1", weir.port))
        .expect("loopback is there");
    socket
}

#[track_caller]
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_536];
    let (n, from) = socket.recv_from(&mut bytes).expect("a datagram comes");
    bytes.truncate(n);
    (bytes, from)
}

/// Answers every datagram with itself behind a byte of its own, until the test ends.
fn echo(mark: u8) -> u16 {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = port(&socket);
    thread::spawn(move || {
        let mut bytes = vec![mark; 65_536];
        while let Ok((n, from)) = socket.recv_from(&mut bytes[1..]) {
            let _ = socket.send_to(&bytes[..=n], from);
        }
    });
    port
}

fn dropped(weir: &Weir) -> u64 {
    let labels = "{listener=\"web\",upstream=\"app\",backend=\"\"}";
    weir.count(&format!("weir_datagrams_dropped_total{labels}"))
}

#[test]
fn every_size_passes_whole_both_ways_in_the_flat_form() {
    let weir = Weir::start(&format!(
        r#"{{"port": "0", "level": "L4", "proto": "udp", "servers": {{"http://127.0.0.1:{}": 3}}}}"#,
        echo(b'=')
    ));
    assert!(weir.stderr().join("\n").contains("listening on udp://"));
    let client = client(&weir);
    for size in [0, 1, 2, 511, 1472, 1473, 9000, 30_000, 60_000, 65_506] {
        let sent: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        client.send(&sent).expect("it goes out");
        let (got, _) = receive(&client);
        assert!(got[0] == b'=' && got[1..] == sent, "{size}");
    }
}

#[test]
fn many_clients_get_their_own_replies_and_a_session_keeps_its_backend() {
    let weir = Weir::start(&l4(&[echo(b'a'), echo(b'b')], Extra::default()));
    let clients: Vec<UdpSocket> = (0..200).map(|_| client(&weir)).collect();
    let mut backends: Vec<Option<u8>> = vec![None; clients.len()];
    for round in 0..3 {
        // A few at a time, since a socket's buffer drops what is too much.
        for (chunk, (clients, backends)) in
            clients.chunks(20).zip(backends.chunks_mut(20)).enumerate()
        {
            for (i, client) in clients.iter().enumerate() {
                let text = format!("{round}-{chunk}-{i}");
                client.send(text.as_bytes()).expect("it goes out");
            }
            for (i, client) in clients.iter().enumerate() {
                let (got, _) = receive(client);
                assert_eq!(got[1..], *format!("{round}-{chunk}-{i}").as_bytes());
                assert_eq!(*backends[i].get_or_insert(got[0]), got[0]);
            }
        }
    }
    let marks: BTreeSet<_> = backends.iter().flatten().collect();
    assert_eq!(marks.len(), 2, "both backends have sessions");
    assert_eq!(weir.in_flight(), 200);
}

#[test]
fn a_session_ends_by_silence_and_begins_anew() {
    let backend = socket();
    let extra = Extra {
        listener: r#""timeouts": {"session": "300ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&l4(&[port(&backend)], extra));
    let client = client(&weir);
    client.send(b"one").expect("it goes out");
    let (_, first) = receive(&backend);
    eventually("it has ended", || weir.in_flight() == 0);
    backend.send_to(b"too late", first).expect("it goes out");
    client.send(b"two").expect("it goes out");
    let (got, second) = receive(&backend);
    assert_eq!(got, b"two");
    backend.send_to(b"in time", second).expect("it goes out");
    assert_eq!(receive(&client).0, b"in time");
    assert_eq!(weir.refused("session_evicted"), 0);
}

#[test]
fn the_idlest_gives_way_where_the_table_is_full() {
    let backend = socket();
    let extra = Extra {
        top: r#""workers": 1"#,
        listener: r#""limits": {"sessions": 2}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&l4(&[port(&backend)], extra));
    let clients: Vec<UdpSocket> = (0..3).map(|_| client(&weir)).collect();
    let mut sessions = Vec::new();
    for (client, text) in clients.iter().zip(["a", "b"]) {
        client.send(text.as_bytes()).expect("it goes out");
        sessions.push(receive(&backend).1);
    }
    // The first is used again, so the second is the idlest.
    backend.send_to(b"A", sessions[0]).expect("it goes out");
    assert_eq!(receive(&clients[0]).0, b"A");
    clients[2].send(b"c").expect("it goes out");
    receive(&backend);
    eventually("one gave way", || weir.refused("session_evicted") == 1);
    backend.send_to(b"A2", sessions[0]).expect("it goes out");
    assert_eq!(receive(&clients[0]).0, b"A2");
    assert_eq!(weir.in_flight(), 2);
}

#[test]
fn few_datagrams_pass_before_the_first_reply_and_any_number_after_it() {
    let backend = socket();
    let weir = Weir::start(&l4(&[port(&backend)], Extra::default()));
    let client = client(&weir);
    for i in 0..20_u8 {
        client.send(&[i]).expect("it goes out");
    }
    let session = receive(&backend).1;
    for i in 1..8_u8 {
        assert_eq!(receive(&backend), (vec![i], session));
    }
    eventually("the others were dropped", || dropped(&weir) == 12);
    client
        .set_nonblocking(true)
        .expect("a socket can be asked without waiting");
    let nothing = client.recv(&mut [0; 9]);
    assert!(matches!(nothing, Err(e) if e.kind() == ErrorKind::WouldBlock));
    client.set_nonblocking(false).expect("and with");
    backend.send_to(b"yes", session).expect("it goes out");
    assert_eq!(receive(&client).0, b"yes");
    for i in 100..120_u8 {
        client.send(&[i]).expect("it goes out");
        assert_eq!(receive(&backend).0, [i]);
    }
}

#[test]
fn a_session_waits_for_its_place() {
    let backend = socket();
    let extra = Extra {
        listener: r#""timeouts": {"session": "1s"}"#,
        upstream: r#""max_in_flight": 1, "queue": {"timeout": "20s"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&l4(&[port(&backend)], extra));
    let (first, second) = (client(&weir), client(&weir));
    first.send(b"first").expect("it goes out");
    assert_eq!(receive(&backend).0, b"first");
    // Sent until it is its turn, or it would expire in the queue.
    second.send(b"second").expect("it goes out");
    eventually("it waits", || weir.waiting() == 1);
    backend
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a socket takes a timeout");
    let mut bytes = [0; 16];
    let mut n = Err(ErrorKind::WouldBlock.into());
    eventually("the first has ended, and the second follows", || {
        second.send(b"second").expect("it goes out");
        n = backend.recv(&mut bytes);
        n.is_ok()
    });
    assert_eq!(bytes[..n.expect("it is there")], *b"second");
}

#[test]
fn who_was_answered_gives_way_and_who_is_owed_an_answer_does_not() {
    let weir = Weir::start(&format!(
        r#"{{"port": "0", "level": "L4", "proto": "udp", "servers": {{"http://127.0.0.1:{}": 2}}}}"#,
        echo(b'=')
    ));
    // They all stay, and would hold the two places for as long as a session may be silent.
    let clients: Vec<UdpSocket> = (0..30).map(|_| client(&weir)).collect();
    for round in 0..2 {
        for (i, client) in clients.iter().enumerate() {
            let text = format!("={round}-{i}");
            client.send(&text.as_bytes()[1..]).expect("it goes out");
            assert_eq!(receive(client).0, text.as_bytes());
        }
    }
    let backend = socket();
    let extra = Extra {
        listener: r#""timeouts": {"session": "1h"}"#,
        upstream: r#""max_in_flight": 1, "queue": {"timeout": "1h"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&l4(&[port(&backend)], extra));
    let (first, second) = (client(&weir), client(&weir));
    first.send(b"one").expect("it goes out");
    first.send(b"two").expect("it goes out");
    let (_, session) = receive(&backend);
    receive(&backend);
    second.send(b"second").expect("it goes out");
    eventually("it waits", || weir.waiting() == 1);
    backend
        .send_to(b"answer to one", session)
        .expect("it goes out");
    receive(&first);
    assert_eq!(weir.waiting(), 1, "the first is owed another answer");
    backend
        .send_to(b"answer to two", session)
        .expect("it goes out");
    receive(&first);
    assert_eq!(receive(&backend).0, b"second");
}

#[test]
fn a_backend_that_is_away_is_left_for_another_and_found_again() {
    let away = socket();
    let (gone, stays) = (port(&away), echo(b's'));
    drop(away);
    let extra = Extra {
        upstream: r#""back_off": {"base": "100ms", "max": "100ms"}"#,
        ..Extra::default()
    };
    let weir = Weir::start(&l4(&[gone, stays], extra));
    for _ in 0..10 {
        let client = client(&weir);
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a socket takes a timeout");
        let mut bytes = [0; 16];
        eventually("one that is there answers", || {
            client.send(b"x").expect("it goes out");
            client.recv(&mut bytes).is_ok()
        });
        assert_eq!(bytes[..2], *b"sx");
    }
    assert!(weir.refused("connect_refused") >= 1);
    let back = UdpSocket::bind(("127.0.0.1", gone)).expect("the port is still free");
    back.set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a socket takes a timeout");
    eventually("it is found again", || {
        client(&weir).send(b"again").expect("it goes out");
        back.recv(&mut [0; 16]).is_ok()
    });
}

#[test]
fn what_runs_is_let_go_once_it_is_silent() {
    let weir_echo = echo(b'e');
    let mut weir = Weir::start(&l4(&[weir_echo], Extra::default()));
    let client = client(&weir);
    client.send(b"1").expect("it goes out");
    assert_eq!(receive(&client).0, b"e1");
    weir.signal("TERM");
    eventually("it drains", || {
        !weir.lives() || weir.admin("/readyz").status == 503
    });
    client.send(b"2").expect("it goes out");
    assert_eq!(receive(&client).0, b"e2");
    assert_eq!(weir.wait().code(), Some(0));
}
