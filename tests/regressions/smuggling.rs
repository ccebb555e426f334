//! A body that nobody reads never becomes a request, whoever answers, wherever it is cut and however late its rest comes. The
//! listener has a cached route, so that its connections change hands between two readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::pass;
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, Response};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::framing;

/// What the body is: a request, if somebody takes it for one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n";

/// Longer than a connection idles before it is looked at anew.
const IDLE: u64 = 1_500;

/// A backend that answers from the head alone, and whether it was ever asked for what was smuggled.
struct Hasty {
    backend: Backend,
    smuggled: Arc<AtomicBool>,
}

impl Hasty {
    fn start() -> Self {
        let smuggled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&smuggled);
        let backend = Backend::start(move |conn| {
            while let Some(head) = conn.head() {
                let smuggled = head.start.contains("/smuggled");
                seen.fetch_or(smuggled, Ordering::SeqCst);
                conn.reply(reply(200, "", "ok"));
                if !matches!(framing(&head), Ok(None)) {
                    // What follows is a body.
                    conn.wait_for_close();
                    return;
                }
            }
        });
        Hasty { backend, smuggled }
    }

    #[track_caller]
    fn assert_clean(&self) {
        assert!(!self.smuggled.load(Ordering::SeqCst), "a body was executed");
    }
}

fn start(hasty: &Hasty) -> Weir {
    let extra = Extra {
        top: r#""routes": [
            {"match": {"path": "/admin"}, "respond": {"status": 403}},
            {"match": {"path": "/moved"}, "redirect": {"to": "https://else.example/"}},
            {"match": {"path": "/early"}, "upstream": "app"},
            {"match": {"path": {"prefix": "/stored"}}, "upstream": "app", "cache": {"default_ttl": "1h"}},
            {"match": {"path": "/smuggled"}, "upstream": "app"},
            {"match": {"path": "/next"}, "upstream": "app"}
        ]"#,
        listener: r#""limits": {"body": "64"}"#,
        ..Extra::default()
    };
    Weir::start(&config(&[hasty.backend.port], extra))
}

/// Each target, what answers it, and how the body is framed.
fn heads() -> Vec<String> {
    let length = SMUGGLED.len();
    let mut heads = Vec::new();
    for target in ["/admin", "/none", "/moved", "/early", "/stored/a"] {
        for framing in [
            format!("Content-Length: {length}"),
            "Transfer-Encoding: chunked".to_owned(),
            format!("Expect: 100-continue\r\nContent-Length: {length}"),
        ] {
            heads.push(format!(
                "POST {target} HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n"
            ));
        }
        heads.push(format!(
            "POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n"
        ));
        heads.push(format!(
            "GET {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n"
        ));
    }
    heads
}

/// Sends `head` and the body up to `cut`, and the rest after `delay`. Every answer on the connection comes back.
fn drive(port: u16, head: &str, cut: usize, delay: u64) -> Vec<Response> {
    let body = if head.contains("chunked") {
        format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())
    } else {
        SMUGGLED.to_owned()
    };
    let cut = cut.min(body.len());
    let mut client = Client::connect(port);
    client.send([head, &body[..cut]].concat());
    let first = client.response("POST");
    pass(delay);
    client.send(&body[cut..]);
    let mut answers = Vec::from_iter(first);
    // What comes unasked would be the answer to the body.
    let patience = Some(Duration::from_millis(250));
    let set = client.wire().stream().set_read_timeout(patience);
    set.expect("a socket takes a timeout");
    answers.extend(client.response("GET"));
    answers
}

#[test]
fn what_belongs_to_a_body_is_never_a_request() {
    let hasty = Hasty::start();
    let weir = start(&hasty);
    for _ in 0..2 {
        assert_eq!(
            weir.once("GET /stored/b HTTP/1.1\r\nHost: t\r\n\r\n")
                .status,
            200
        );
    }
    let port = weir.port;
    let mut clients = Vec::new();
    for head in heads() {
        let cuts: Vec<usize> = (0..=SMUGGLED.len()).step_by(3).collect();
        clients.push(std::thread::spawn(move || {
            let mut wrong = Vec::new();
            for (i, cut) in cuts.into_iter().enumerate() {
                let delay = [0, 2, 30][i % 3];
                let delay = if i == 0 { IDLE } else { delay };
                let answers = drive(port, &head, cut, delay);
                if answers.len() > 1 {
                    wrong.push(format!(
                        "{head:?} cut at {cut}, rest after {delay} ms: {answers:?}"
                    ));
                }
            }
            wrong
        }));
    }
    let wrong: Vec<String> = clients
        .into_iter()
        .flat_map(|client| client.join().expect("the client ran to its end"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    hasty.assert_clean();
}

/// The other half of the promise: a body that has come whole does not cost the connection.
#[test]
fn a_connection_goes_on_behind_a_body_that_came_whole() {
    let hasty = Hasty::start();
    let weir = start(&hasty);
    for target in ["/admin", "/none", "/moved"] {
        let mut client = Client::connect(weir.port);
        let length = SMUGGLED.len();
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"
        );
        let first = client.ask(request).map(|r| r.status);
        assert!(matches!(first, Ok(200..500)), "{target}: {first:?}");
        pass(50);
        let next = client.ask("GET /next HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(next.map(|r| r.status), Ok(200), "behind {target}");
    }
    hasty.assert_clean();
}
