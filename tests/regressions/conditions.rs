//! What a client asks of an answer (conditions, ranges) counts at a cached route as it does without a cache, whether or not the
//! answer may be stored.

use super::pass;
use crate::support::backend::{Backend, reply};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Message;

const BODY: &str = "0123456789";

/// What an answer says of itself beside its tag and its date.
const UNSTORABLE: [&str; 4] = [
    "Cache-Control: no-store\r\n",
    "Cache-Control: private, max-age=60\r\n",
    "Cache-Control: max-age=60\r\nSet-Cookie: id=1\r\n",
    "Cache-Control: max-age=60\r\nVary: *\r\n",
];

const TAGGED: &str =
    "ETag: \"v1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n";

/// A server as RFC 9110 has it: conditions first, then the range.
fn answer(request: &Message, says: &str) -> Vec<u8> {
    let fields = format!("{says}{TAGGED}");
    let tag = request.get("if-none-match") == Some("\"v1\"");
    let date = request.get("if-modified-since").is_some() && request.get("if-none-match").is_none();
    if tag || date {
        return format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes();
    }
    match request.get("range") {
        Some("bytes=2-4") => {
            let fields = format!("{fields}Content-Range: bytes 2-4/10\r\n");
            reply(206, &fields, &BODY[2..5])
        }
        _ => reply(200, &fields, BODY),
    }
}

#[track_caller]
fn cached(backend: &Backend, uncacheable_for: &str) -> Weir {
    let top = format!(r#""cache": {{"uncacheable_for": "{uncacheable_for}"}}"#);
    let extra = Extra {
        top: &top,
        ..Extra::default()
    };
    Weir::start(&config(&[backend.port], extra))
}

fn ask(fields: &str) -> String {
    format!("GET /page HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n")
}

/// Status, body, and some fields of the answer to a request with these fields.
#[track_caller]
fn asked(weir: &Weir, fields: &str) -> (u16, String, Vec<Option<String>>) {
    let got = weir.once(ask(fields));
    let names = ["etag", "set-cookie", "content-range", "content-type"];
    let said = names.map(|name| got.get(name).map(str::to_owned));
    (got.status, got.text(), said.to_vec())
}

/// Each request is the first of its kind for the cache, which cannot know yet that nothing will be stored.
#[test]
fn a_condition_holds_at_a_page_that_turns_out_not_to_be_storable() {
    for says in UNSTORABLE {
        let backend = Backend::answering(move |request| answer(request, says));
        let cached = cached(&backend, "0s");
        let plain = Weir::start(&config(&[backend.port], Extra::default()));
        for fields in [
            "If-None-Match: \"v1\"\r\n",
            "If-None-Match: \"v2\"\r\n",
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "If-None-Match: \"v1\"\r\nRange: bytes=2-4\r\n",
            "If-None-Match: \"v2\"\r\nRange: bytes=2-4\r\n",
            "Cache-Control: no-cache\r\nIf-None-Match: \"v1\"\r\n",
        ] {
            let (mut with, mut without) = (asked(&cached, fields), asked(&plain, fields));
            if with.0 == 304 {
                // It may say what type a content has that is not there, and need not.
                with.2.pop();
                without.2.pop();
            }
            assert_eq!(with, without, "{says:?} {fields:?}");
        }
    }
}

/// It is known that nothing will be stored: the backend itself hears all that the client asks.
#[test]
fn a_page_that_is_known_not_to_be_storable_is_asked_for_as_the_client_does() {
    let backend = Backend::answering(|request| answer(request, UNSTORABLE[0]));
    let weir = cached(&backend, "1h");
    assert_eq!(asked(&weir, "").0, 200);
    for fields in [
        "If-None-Match: \"v1\"\r\n",
        "Cache-Control: no-cache\r\nIf-None-Match: \"v1\"\r\n",
        "If-None-Match: \"v1\"\r\nRange: bytes=2-4\r\nIf-Range: \"v1\"\r\n",
    ] {
        backend.forget();
        assert_eq!(asked(&weir, fields).0, 304, "{fields:?}");
        let log = backend.log();
        let [request] = &log.requests[..] else {
            panic!("one request: {:?}", log.lines());
        };
        for line in fields.lines() {
            let (name, value) = line.split_once(": ").expect("a field");
            let name = name.to_ascii_lowercase();
            assert_eq!(request.get(&name), Some(value), "{fields:?}");
        }
    }
}

/// What was stored is replaced by what may not be: the part that the client asked for is all that it gets, though the backend
/// sent the whole.
#[test]
fn a_part_is_cut_from_a_whole_that_is_not_stored() {
    for (fields, status, range, body) in [
        ("Range: bytes=2-4\r\n", 206, Some("bytes 2-4/10"), "234"),
        ("Range: bytes=-1\r\n", 206, Some("bytes 9-9/10"), "9"),
        ("Range: bytes=0-\r\n", 206, Some("bytes 0-9/10"), BODY),
        ("Range: bytes=10-\r\n", 416, Some("bytes */10"), ""),
        (
            "Range: bytes=2-4\r\nIf-Range: \"v2\"\r\n",
            206,
            Some("bytes 2-4/10"),
            "234",
        ),
        ("Range: bytes=2-4\r\nIf-Range: \"v1\"\r\n", 200, None, BODY),
    ] {
        let backend = Backend::start(|conn| {
            while let Some(request) = conn.request() {
                if request.get("if-none-match").is_none() {
                    conn.reply(reply(
                        200,
                        "Cache-Control: max-age=0\r\nETag: \"v1\"\r\n",
                        BODY,
                    ));
                    continue;
                }
                let fields = "Cache-Control: no-store\r\nETag: \"v2\"\r\n";
                conn.reply(format!(
                    "HTTP/1.1 200 OK\r\n{fields}Content-Length: 10\r\n\r\n012"
                ));
                // In pieces, so that a part is cut across them.
                pass(20);
                conn.send("3456");
                pass(20);
                conn.send("789");
            }
        });
        let weir = cached(&backend, "0s");
        assert_eq!(asked(&weir, "").0, 200);
        let (got, text, said) = asked(&weir, fields);
        assert_eq!((got, text.as_str()), (status, body), "{fields:?}");
        assert_eq!(said[2].as_deref(), range, "{fields:?}");
        assert_eq!(backend.log().requests.len(), 2);
    }
}

/// A server that names a range of a whole means something by it, or nothing (RFC 9110 section 14.4). It is passed on either way,
/// and is no part of a part.
#[test]
fn a_range_that_a_whole_names_is_passed_on() {
    let fields = "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\nContent-Range: bytes 0-9/10\r\n";
    let backend = Backend::answering(move |_| reply(200, fields, BODY));
    let weir = cached(&backend, "0s");
    for _ in 0..2 {
        let (status, text, said) = asked(&weir, "");
        assert_eq!((status, text.as_str()), (200, BODY));
        assert_eq!(said[2].as_deref(), Some("bytes 0-9/10"));
    }
    let (status, text, said) = asked(&weir, "Range: bytes=2-4\r\n");
    assert_eq!((status, text.as_str()), (206, "234"));
    assert_eq!(said[2].as_deref(), Some("bytes 2-4/10"));
    let (status, _, said) = asked(&weir, "Range: bytes=0-1,5-6\r\n");
    assert_eq!((status, said[2].as_deref()), (206, None));
    assert_eq!(backend.log().requests.len(), 1);
}
