//! Clients that read slowly, but well within their timeout, get whole bodies and nothing else within them. Where the proxy's own
//! buffers begin depends on the kernel's, so bodies of many sizes are tried at once.

use super::pass;
use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

/// From what fits into the kernel's buffers to what leaves the backend waiting.
const SIZES: std::ops::Range<usize> = 15..45;
const STEP: usize = 100_000;

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

/// A client for each size, which sends its request with `behind` behind it, and has read nothing yet.
fn clients(weir: &Weir, behind: &str) -> Vec<(usize, Client)> {
    SIZES
        .map(|n| n * STEP)
        .map(|size| {
            let mut client = Client::connect(weir.port);
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
    let weir = Weir::start(&config(&[backend.port], extra));
    let waiting = clients(&weir, "");
    pass(2_500);
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
    let weir = Weir::start(&config(&[backend.port], extra));
    let long = format!("GET /{}", "b".repeat(20_000));
    let late = "GET /1 HTTP/1.1\r\nHost: test.exa";
    for (behind, refusal) in [(late, 408), (long.as_str(), 414)] {
        let waiting = clients(&weir, behind);
        pass(2_500);
        for (size, mut client) in waiting {
            reads_whole(&mut client, size);
            match client.response("GET") {
                Ok(next) => assert_eq!(next.status, refusal, "behind a body of {size}"),
                Err(error) => assert_eq!(error, Broken::Closed, "behind a body of {size}"),
            }
        }
    }
    let log = backend.log();
    assert_eq!(log.count("GET /1 "), 0, "half a head was executed");
    assert!(!log.saw("/bbb"), "a target that is too long was executed");
}
