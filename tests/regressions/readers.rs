//! Clients that read slowly, but well within their timeout, get whole bodies and nothing else within them. What matters is where
//! the end of a body is when its client stalls: with the backend, in the proxy's own buffers, or in the kernel's.

use super::{Logged, number, pass};
use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::weir::Extra;
use crate::support::wire::Broken;

/// Less than the proxy holds of a body itself, so that some ends are there.
const STEP: usize = 16_000;

/// How far to either side of what a stalled client leaves in buffers, which differs a little from one connection to the next.
const STEPS: usize = 25;

/// Longer than a connection idles before the proxy gives its buffers back, and than the header timeout.
const STALL: u64 = 1_800;

/// Answers `/n` with a body of `n` letters.
fn backend() -> Backend {
    Backend::answering(|request| {
        let size = size(&request.start);
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        bytes.resize(bytes.len() + size, b'a');
        bytes
    })
}

fn size(line: &str) -> usize {
    let target = line.split(' ').nth(1).and_then(|t| t.strip_prefix('/'));
    target.and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// How much of a body is taken from the backend while its client reads nothing.
fn taken(logged: &Logged) -> usize {
    let mut client = Client::connect(logged.weir.port);
    client.send(get("/64000000"));
    client.wire().head().expect("the head comes");
    pass(STALL);
    drop(client);
    number(&logged.line("/64000000"), "bytes_sent") as usize
}

/// A client for each size around `taken`, which sends its request with `behind` behind it, and has read nothing yet.
fn clients(logged: &Logged, taken: usize, behind: &str) -> Vec<(usize, Client)> {
    let first = taken.saturating_sub(STEPS * STEP);
    (0..2 * STEPS)
        .map(|n| {
            let size = first + n * STEP;
            let mut client = Client::connect(logged.weir.port);
            client.send(format!("{}{behind}", get(&format!("/{size}"))));
            (size, client)
        })
        .collect()
}

/// Reads one whole response with a body of `size` letters `a` and nothing among them.
fn reads_whole(client: &mut Client, size: usize) {
    let response = client.response("GET").expect("the whole response comes");
    assert_eq!(response.status, 200);
    assert_eq!(response.message.body.len(), size);
    let odd = response.message.body.iter().position(|b| *b != b'a');
    assert_eq!(odd, None, "a stranger's byte in a body of {size}");
}

#[test]
fn who_reads_nothing_for_a_while_gets_the_whole_body() {
    let backend = backend();
    let extra = Extra {
        listener: r#""timeouts": {"body": "60s"}"#,
        ..Extra::default()
    };
    let logged = Logged::start(&backend, extra);
    let taken = taken(&logged);
    let waiting = clients(&logged, taken, "");
    pass(STALL);
    for (size, mut client) in waiting {
        reads_whole(&mut client, size);
        // The connection is as good as before.
        let next = client.ask(get("/1")).map(|r| r.text());
        assert_eq!(next, Ok("a".to_owned()), "behind a body of {size}");
    }
}

#[test]
fn the_next_head_is_refused_behind_a_body_never_within_it() {
    let backend = backend();
    let extra = Extra {
        listener: r#""timeouts": {"header": "1s", "body": "60s"}"#,
        ..Extra::default()
    };
    let logged = Logged::start(&backend, extra);
    let taken = taken(&logged);
    let long = format!("GET /{}", "b".repeat(20_000));
    let late = "GET /1 HTTP/1.1\r\nHost: test.exa";
    // Of a target that is too long, what came with the first request may be known too late to tell how long it is.
    let cases: [(&str, &[u16]); 2] = [(late, &[408]), (&long, &[408, 414])];
    for (behind, refusals) in cases {
        let mut waiting = clients(&logged, taken, behind);
        pass(STALL);
        for (size, client) in &mut waiting {
            reads_whole(client, *size);
        }
        // Only now, because each of them may take as long as a head.
        for (size, mut client) in waiting {
            match client.response("GET") {
                Ok(next) => assert!(
                    refusals.contains(&next.status),
                    "behind a body of {size}: {next:?}"
                ),
                Err(error) => assert_eq!(error, Broken::Closed, "behind a body of {size}"),
            }
        }
    }
    let log = backend.log();
    assert_eq!(log.count("GET /1 "), 0, "half a head was executed");
    assert!(!log.saw("/bbb"), "a target that is too long was executed");
}
