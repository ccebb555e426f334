//! L4 over TCP: bytes as they are, both ways, until each side has ended; and the same places, queue and retries as at L7.

use std::hash::{DefaultHasher, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::support::weir::{Extra, Weir, config};
use crate::support::{PATIENCE, eventually, free_port};

/// A backend that hands its connections to the test.
pub(super) struct Peer {
    pub(super) port: u16,
    pub(super) accepted: Receiver<TcpStream>,
}

impl Peer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (send, accepted) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if send.send(patient(stream)).is_err() {
                    return;
                }
            }
        });
        Peer { port, accepted }
    }

    #[track_caller]
    pub(super) fn accept(&self) -> TcpStream {
        self.accepted
            .recv_timeout(PATIENCE)
            .expect("the proxy dials")
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a timeout");
    stream
}

#[track_caller]
pub(super) fn connect(weir: &Weir) -> TcpStream {
    patient(TcpStream::connect(("127.0.0.1", weir.port)).expect("the proxy accepts"))
}

/// The plain config as L4 over TCP.
fn l4(ports: &[u16], extra: Extra<'_>) -> String {
    let listener = match extra.listener {
        "" => r#""protocol": "tcp""#.to_owned(),
        more => format!(r#""protocol": "tcp", {more}"#),
    };
    config(
        ports,
        Extra {
            listener: &listener,
            ..extra
        },
    )
    .replace("http://127", "tcp://127")
}

#[track_caller]
pub(super) fn read(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).expect("the bytes come");
    bytes
}

/// Reads to an end in order.
#[track_caller]
pub(super) fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it ends in order");
    bytes
}

/// Is the next thing to come a reset?
pub(super) fn is_reset(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Err(e) if e.kind() == ErrorKind::ConnectionReset)
}

/// Makes the drop of `stream` a reset.
pub(super) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("a socket takes a linger");
}

#[test]
fn each_side_ends_by_itself_and_the_other_goes_on() {
    let peer = Peer::start();
    let weir = Weir::start(&l4(&[peer.port], Extra::default()));
    for client_first in [true, false] {
        let mut client = connect(&weir);
        let mut backend = peer.accept();
        let (first, second) = if client_first {
            (&mut client, &mut backend)
        } else {
            (&mut backend, &mut client)
        };
        first.write_all(b"all of it").expect("it is taken");
        first.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(rest(second), b"all of it");
        for _ in 0..3 {
            second.write_all(b"and back").expect("it is taken");
            assert_eq!(read(first, 8), b"and back");
        }
        second.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(rest(first), b"");
        eventually("its place is free", || weir.in_flight() == 0);
    }
    assert_eq!(weir.admin("/readyz").status, 200);
    let labels = "{listener=\"web\",upstream=\"app\",backend=\"127.0.0.1";
    let port = peer.port;
    for (name, count) in [
        ("sessions_ended", 2),
        ("session_received_bytes", 9 + 24),
        ("session_sent_bytes", 24 + 9),
    ] {
        let line = format!("weir_{name}_total{labels}:{port}\"}}");
        eventually(name, || weir.count(&line) == count);
    }
}

/// The first user's form; the scheme says nothing there, and caching nothing either.
#[test]
fn the_flat_form_passes_bytes_that_are_no_http() {
    let peer = Peer::start();
    let weir = Weir::start(&format!(
        r#"{{"port": "0", "level": "L4", "proto": "tcp", "caching": "baseline",
            "servers": {{"http://127.0.0.1:{}": 3}}}}"#,
        peer.port
    ));
    let stderr = weir.stderr().join("\n");
    assert!(stderr.contains("listening on tcp://"), "{stderr}");
    assert!(stderr.contains("ignores \"caching\""), "{stderr}");
    let mut client = connect(&weir);
    let mut backend = peer.accept();
    backend.write_all(b"\x00\xffgreeting").expect("it is taken");
    assert_eq!(read(&mut client, 10), b"\x00\xffgreeting");
}

#[test]
fn much_goes_both_ways_at_once_and_arrives_as_it_was() {
    const LENGTH: usize = 40 << 20;
    let peer = Peer::start();
    let weir = Weir::start(&l4(&[peer.port], Extra::default()));
    let client = connect(&weir);
    let backend = peer.accept();
    let send = |mut stream: TcpStream, seed: u8| {
        thread::spawn(move || {
            let mut hash = DefaultHasher::new();
            let mut piece = vec![0; 100_003];
            let mut left = LENGTH;
            let mut state = u32::from(seed) + 1;
            while left > 0 {
                for byte in &mut piece {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 24) as u8;
                }
                let piece = &piece[..left.min(100_003)];
                hash.write(piece);
                stream.write_all(piece).expect("it is taken");
                left -= piece.len();
            }
            stream.shutdown(Shutdown::Write).expect("it is open");
            hash.finish()
        })
    };
    let receive = |mut stream: TcpStream| {
        thread::spawn(move || {
            let all = rest(&mut stream);
            let mut hash = DefaultHasher::new();
            all.chunks(100_003).for_each(|piece| hash.write(piece));
            (all.len(), hash.finish())
        })
    };
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
    let (up, down) = (send(clone(&client), 1), send(clone(&backend), 2));
    let (at_backend, at_client) = (receive(backend), receive(client));
    for (sent, received) in [(up, at_backend), (down, at_client)] {
        let sent = sent.join().expect("all of it was sent");
        assert_eq!(received.join().expect("it was read"), (LENGTH, sent));
    }
}

#[test]
fn where_a_backend_is_down_another_is_dialled() {
    let peer = Peer::start();
    let weir = Weir::start(&l4(
        &[free_port(), peer.port],
        Extra {
            top: r#""back_off": {"base": "0s", "max": "0s"}"#,
            ..Extra::default()
        },
    ));
    for _ in 0..4 {
        let mut client = connect(&weir);
        client.write_all(b"once").expect("it is taken");
        assert_eq!(read(&mut peer.accept(), 4), b"once");
    }
    assert!(weir.count("weir_retries_total{upstream=\"app\"}") >= 1);
}

#[test]
fn where_all_are_down_the_client_is_let_go() {
    let weir = Weir::start(&l4(&[free_port(), free_port()], Extra::default()));
    let mut client = connect(&weir);
    assert!(is_reset(&mut client));
    eventually("it is counted", || weir.refused("connect_refused") == 1);
}

/// One place on the only backend.
const ONE_PLACE: Extra<'_> = Extra {
    top: "",
    listener: "",
    upstream: r#""max_in_flight": 1"#,
};

#[test]
fn a_connection_waits_for_its_place_and_loses_nothing_meanwhile() {
    let peer = Peer::start();
    let weir = Weir::start(&l4(&[peer.port], ONE_PLACE));
    let first = connect(&weir);
    let held = peer.accept();
    let mut second = connect(&weir);
    // More than is read of a client while it waits.
    let words = vec![b'w'; 100_000];
    let sent = words.clone();
    let sending = thread::spawn(move || {
        second.write_all(&sent).expect("it is taken");
        second.shutdown(Shutdown::Write).expect("it is open");
        second
    });
    eventually("the second waits", || weir.waiting() == 1);
    assert!(peer.accepted.try_recv().is_err());
    drop((first, held));
    let mut backend = peer.accept();
    assert!(rest(&mut backend) == words);
    backend.write_all(b"got it").expect("it is taken");
    drop(backend);
    assert_eq!(rest(&mut sending.join().expect("it was sent")), b"got it");
}

#[test]
fn who_waits_too_long_or_leaves_is_out_of_the_queue() {
    let peer = Peer::start();
    let weir = Weir::start(&l4(
        &[peer.port],
        Extra {
            top: r#""queue": {"capacity": 1, "timeout": "300ms"}"#,
            ..ONE_PLACE
        },
    ));
    let _first = connect(&weir);
    let _held = peer.accept();
    let mut late = connect(&weir);
    assert!(is_reset(&mut late));
    eventually("it is counted", || weir.refused("queue_timeout") == 1);

    let weir = Weir::start(&l4(
        &[peer.port],
        Extra {
            top: r#""queue": {"capacity": 1, "timeout": "1h"}"#,
            ..ONE_PLACE
        },
    ));
    let _first = connect(&weir);
    let _held = peer.accept();
    for leave in [reset, drop::<TcpStream>] {
        let client = connect(&weir);
        eventually("it waits", || weir.waiting() == 1);
        let mut beyond = connect(&weir);
        assert!(is_reset(&mut beyond), "the queue is full");
        leave(client);
        eventually("its place is another's", || weir.waiting() == 0);
    }
}

#[test]
fn silence_ends_a_connection_and_a_byte_either_way_is_none() {
    let peer = Peer::start();
    let weir = Weir::start(&l4(
        &[peer.port],
        Extra {
            listener: r#""timeouts": {"tunnel": "500ms"}"#,
            ..Extra::default()
        },
    ));
    let mut client = connect(&weir);
    let mut backend = peer.accept();
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(2) {
        backend.write_all(b".").expect("it is taken");
        assert_eq!(read(&mut client, 1), b".");
        thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(is_reset(&mut client) && is_reset(&mut backend));
    eventually("its place is free", || weir.in_flight() == 0);
    assert_eq!(weir.refused("tunnel_idle"), 1);
}

#[test]
fn a_reset_goes_through() {
    let peer = Peer::start();
    let weir = Weir::start(&l4(&[peer.port], Extra::default()));
    for by_client in [true, false] {
        let mut client = connect(&weir);
        let mut backend = peer.accept();
        client.write_all(b"x").expect("it is taken");
        assert_eq!(read(&mut backend, 1), b"x");
        let (gone, mut left) = if by_client {
            (client, backend)
        } else {
            (backend, client)
        };
        reset(gone);
        assert!(is_reset(&mut left), "by the client: {by_client}");
        eventually("its place is free", || weir.in_flight() == 0);
    }
}

/// Has the side at `local` of a connection said that nothing more comes from it? Linux knows, whether or not the other side
/// has taken all that came before.
fn has_ended(local: u16, remote: u16) -> bool {
    // FIN_WAIT1, FIN_WAIT2.
    const ENDED: [&str; 2] = ["04", "05"];
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists its connections");
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        words.len() == 4
            && words[1].ends_with(&local)
            && words[2].ends_with(&remote)
            && ENDED.contains(&words[3])
    })
}

/// A backend that has said all and closed while the client still sends: what it said arrives whole, and ends in order.
#[test]
fn an_answer_before_the_end_of_the_question_arrives_whole() {
    const LENGTH: usize = 200_000;
    let peer = Peer::start();
    let weir = Weir::start(&l4(&[peer.port], Extra::default()));
    let mut client = connect(&weir);
    let mut backend = peer.accept();
    client.write_all(b"ask").expect("it is taken");
    assert_eq!(read(&mut backend, 3), b"ask");
    backend.write_all(&vec![b'a'; LENGTH]).expect("it is taken");
    let line =
        "weir_session_sent_bytes_total{listener=\"web\",upstream=\"app\",backend=\"127.0.0.1:";
    let line = format!("{line}{}\"}}", peer.port);
    eventually("the answer has passed", || {
        weir.count(&line) == LENGTH as u64
    });
    drop(backend);
    // Before it has seen the end, a word would be answered by a reset, and there would have been no end.
    let from = client.local_addr().expect("it is connected").port();
    eventually("the proxy has passed the end on", || {
        has_ended(weir.port, from)
    });
    // The first word that nobody takes resets the connection to the backend; those after it find that out.
    let begun = std::time::Instant::now();
    while weir.in_flight() > 0 && begun.elapsed() < PATIENCE {
        client.write_all(b"and a word").expect("it is taken");
    }
    assert!(rest(&mut client) == vec![b'a'; LENGTH]);
}

#[test]
fn what_runs_has_the_grace_and_is_cut_after_it() {
    let peer = Peer::start();
    for (grace, code) in [("1h", 0), ("300ms", 1)] {
        let top = format!(r#""shutdown_grace": "{grace}""#);
        let extra = Extra {
            top: &top,
            ..Extra::default()
        };
        let mut weir = Weir::start(&l4(&[peer.port], extra));
        let mut client = connect(&weir);
        let mut backend = peer.accept();
        client.write_all(b"x").expect("it is taken");
        assert_eq!(read(&mut backend, 1), b"x");
        weir.signal("TERM");
        eventually("it drains", || {
            !weir.lives() || weir.admin("/readyz").status == 503
        });
        if code == 0 {
            backend.write_all(b"still").expect("it is taken");
            assert_eq!(read(&mut client, 5), b"still");
            drop((client, backend));
        }
        assert_eq!(weir.wait().code(), Some(code), "{grace}");
    }
}

#[test]
fn the_access_log_tells_of_a_connection() {
    let peer = Peer::start();
    let log = std::env::temp_dir().join(format!("weir-tcp-{}.log", std::process::id()));
    let place = log.display().to_string().replace('\\', "/");
    let text = l4(&[peer.port], Extra::default());
    let json = format!(r#""access_log": {{"path": "{place}", "format": "json"}}"#);
    let weir = Weir::start(&text.replace(r#""access_log": false"#, &json));
    let mut client = connect(&weir);
    let mut backend = peer.accept();
    client.write_all(b"four").expect("it is taken");
    assert_eq!(read(&mut backend, 4), b"four");
    drop((client, backend));
    let mut line = String::new();
    eventually("the line is written", || {
        line = std::fs::read_to_string(&log).unwrap_or_default();
        line.ends_with('\n')
    });
    let _ = std::fs::remove_file(&log);
    for part in [
        r#""listener":"web","upstream":"app","backend":"127.0.0.1:"#,
        r#""protocol":"tcp","bytes_sent":0,"bytes_received":4,"duration":"#,
        r#""attempts":1}"#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}
