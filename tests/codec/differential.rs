//! Our decoder of requests beside hyper's server: what we accept, it accepts, and reads in the same way; what we refuse beyond
//! it stands in a list with the section that asks for it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weirkeeper::h1::RequestError;
use weirkeeper::message::class::is_token;
use weirkeeper::message::fields::forbidden_in_trailers;
use weirkeeper::message::path::PathRules;
use weirkeeper::message::target;

use super::properties::{cut, mutated};
use super::request::{Got, REQUEST, Served, serve};

/// What these requests are made of; the mutations cut them, spoil them and spice them.
const SEEDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /a/b?c=d HTTP/1.1\r\nHost: h\r\nCookie: a\r\nCookie: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
    "PUT http://h/p?q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
     3;a=\"b\"\r\nabc\r\nB\r\nhello world\r\n0\r\nX: y\r\n\r\n",
    "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\nGET /3 HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\nHost: h\nConnection: close\n\nGET /2 HTTP/1.1\r\n\r\n",
    "\r\n\r\nBREW /pot HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
];

const SPICES: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "+",
    "0",
    "3",
    "x",
    "\u{b}",
    "\u{7f}",
    "#",
    "?",
    "%",
    "{\"",
    "\u{fc}",
    "\r\n ",
    "\n\t",
    ";x",
    ";x=y",
    " ;x",
    ";",
    "=",
    "\r\n\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 4\r\n",
    "Content-Length : 5\r\n",
    "Content-Length: 9223372036854775808\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "transfer-encoding: identity\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: x\r\n",
    "HTTP/1.0",
    "HTTP/2.0",
    "GET / HTTP/1.1\r\n\r\n",
    "0\r\n\r\n",
    "METHODMETHODMETHODMETHODMETHODMETHOD",
    "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
];

/// A refusal beyond hyper's.
struct Stricter {
    error: RequestError,
    /// What is refused.
    what: &'static str,
    /// Where it is asked for.
    section: &'static str,
    /// Do the bytes hold such a thing?
    witness: fn(&[u8]) -> bool,
}

/// All that there are. Each is seen in a test below.
const STRICTER: &[Stricter] = &[
    Stricter {
        error: RequestError::EmptyLines,
        what: "more than 16 empty lines",
        section: "RFC 9112, 2.2: at least one is ignored",
        witness: |bytes| count(bytes, b"\n") > 16,
    },
    Stricter {
        error: RequestError::MethodTooLong,
        what: "a method of more than 32 bytes",
        section: "RFC 9112, 3: 501 for one that is longer than any known",
        witness: |bytes| longest(bytes, is_token) > 32,
    },
    Stricter {
        error: RequestError::BadFraming,
        what: "a length beside a coding or another length",
        section: "RFC 9112, 6.1 and 6.3",
        witness: |bytes| count(bytes, b"content-length") + count(bytes, b"transfer-encoding") > 1,
    },
    Stricter {
        error: RequestError::UnknownCoding,
        what: "another coding before chunked",
        section: "RFC 9112, 6.1: 501",
        witness: |bytes| count(bytes, b"transfer-encoding") > 1 || bytes.contains(&b','),
    },
    Stricter {
        error: RequestError::BodyTooLarge,
        what: "a length beyond 63 bits",
        section: "RFC 9110, 8.6: overflows are to be expected",
        witness: |bytes| longest(bytes, |byte| byte.is_ascii_digit()) > 18,
    },
    Stricter {
        error: RequestError::BadChunk,
        what: "blanks behind a size, or what is no extension",
        section: "RFC 9112, 7.1 and 7.1.1",
        witness: |bytes| {
            let mut lines = bytes.split(|byte| *byte == b'\n');
            lines.any(|line| {
                line.first().is_some_and(u8::is_ascii_hexdigit)
                    && line.iter().any(|byte| b"; \t".contains(byte))
            })
        },
    },
    Stricter {
        error: RequestError::BadTrailers,
        what: "a bare LF in a trailer section",
        section: "RFC 9112, 7.1.2 has CRLF, and 2.2 speaks of heads",
        witness: |bytes| count(bytes, b"\n") > count(bytes, b"\r\n"),
    },
];

/// How often the bytes hold these, in whatever case.
fn count(bytes: &[u8], what: &[u8]) -> usize {
    let windows = bytes.windows(what.len());
    windows
        .filter(|window| window.eq_ignore_ascii_case(what))
        .count()
}

/// The longest run of such bytes.
fn longest(bytes: &[u8], is_one: fn(u8) -> bool) -> usize {
    let runs = bytes.split(|byte| !is_one(*byte)).map(<[u8]>::len);
    runs.max().unwrap_or(0)
}

/// What hyper's server made of the bytes of one connection.
async fn hypers(bytes: &[u8]) -> Vec<Theirs> {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, mut body) = request.into_parts();
            let at = seen.borrow().len();
            let none = (Vec::new(), HeaderMap::new(), false);
            seen.borrow_mut().push(Theirs {
                head,
                body: none.0,
                trailers: none.1,
                whole: none.2,
            });
            let whole = loop {
                let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
                match next.map(|frame| frame.map(hyper::body::Frame::into_data)) {
                    None => break true,
                    Some(Err(_)) => break false,
                    Some(Ok(Ok(data))) => seen.borrow_mut()[at].body.extend_from_slice(&data),
                    Some(Ok(Err(frame))) => {
                        let trailers = frame.into_trailers().expect("a frame is one or the other");
                        seen.borrow_mut()[at].trailers = trailers;
                    }
                }
            };
            seen.borrow_mut()[at].whole = whole;
            // A success would make a tunnel of CONNECT.
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(server), service);
    let talking = async {
        client.write_all(bytes).await.expect("the pipe holds it");
        client.shutdown().await.expect("the pipe is open");
        // It may give up before the end.
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let _ = tokio::join!(serving, talking);
    seen.take()
}

#[derive(Debug)]
struct Theirs {
    head: http::request::Parts,
    body: Vec<u8>,
    trailers: HeaderMap,
    whole: bool,
}

/// The same of ours, up to the request after which the connection closes.
fn ours<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Served {
    let mut served = serve(REQUEST, reads);
    if let Some(last) = served.requests.iter().position(|got| !got.head.keep_alive)
        && served.requests[last].whole
    {
        served.requests.truncate(last + 1);
        served.error = None;
    }
    served
}

/// What differs between a request of ours and one of theirs.
fn difference(got: &Got, theirs: &Theirs) -> Option<String> {
    let Ok(uri) = Uri::from_maybe_shared(got.head.target.clone()) else {
        return Some("they read a target that is none".to_owned());
    };
    let mut trailers = HeaderMap::new();
    for (name, value) in &theirs.trailers {
        if !forbidden_in_trailers(name) {
            trailers.append(name, value.clone());
        }
    }
    let head = (
        &got.head.method,
        &uri,
        got.head.version,
        got.head.headers.map(),
    );
    let of_them = &theirs.head;
    let their_head = (
        &of_them.method,
        &of_them.uri,
        of_them.version,
        &of_them.headers,
    );
    let rest = (
        got.whole,
        &got.body,
        got.trailers.clone().unwrap_or_default(),
    );
    let their_rest = (theirs.whole, &theirs.body, trailers);
    (head != their_head || rest != their_rest)
        .then(|| format!("{head:?} {rest:?}\n{their_head:?} {their_rest:?}"))
}

/// Compares both on these bytes. Returns the refusal that hyper does not share.
fn compare(bytes: &[u8], places: &[usize]) -> Result<Option<RequestError>, String> {
    let ours = ours(cut(bytes, places));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let theirs = runtime.expect("a runtime starts").block_on(hypers(bytes));
    let mut theirs = theirs.iter();
    for got in &ours.requests {
        // The library that hyper reads targets with refuses what clients send and other servers take.
        if Uri::from_maybe_shared(got.head.target.clone()).is_err() {
            return match theirs.next() {
                None => Ok(None),
                Some(theirs) => Err(format!("{theirs:?} has a target that is none")),
            };
        }
        let Some(theirs) = theirs.next() else {
            // What lies behind a fragment's mark is not looked at by that library. No target with one passes here either.
            return match target::read(
                &got.head.method,
                &got.head.target,
                &got.head.headers,
                got.head.version,
                &PathRules::KEEP,
            ) {
                Err(_) if got.head.target.contains(&b'#') => Ok(None),
                _ => Err(format!("refused by hyper alone: {got:?}")),
            };
        };
        if let Some(difference) = difference(got, theirs) {
            let stricter = theirs.whole && !got.whole;
            return match ours.error {
                Some(error) if stricter => Ok(Some(error)),
                // What came of a broken body before it broke depends on the pieces.
                _ if !theirs.whole && !got.whole => Ok(None),
                _ => Err(difference),
            };
        }
    }
    match (theirs.next(), ours.error) {
        (None, _) => Ok(None),
        (Some(_), Some(error)) => Ok(Some(error)),
        (Some(theirs), None) => Err(format!("we wait, they read {theirs:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_we_accept_hyper_accepts_and_reads_alike(
        bytes in mutated(SEEDS, SPICES),
        places in prop::collection::vec(0usize..300, 0..6),
    ) {
        let escaped = bytes.escape_ascii().to_string();
        match compare(&bytes, &places) {
            Ok(None) => {}
            Ok(Some(error)) => {
                let listed = STRICTER.iter().find(|stricter| stricter.error == error);
                prop_assert!(listed.is_some(), "{:?} is stricter than hyper: {}", error, escaped);
                let Stricter { what, section, witness, .. } = listed.unwrap();
                prop_assert!(witness(&bytes), "{}: not {} ({})", escaped, what, section);
            }
            Err(difference) => prop_assert!(false, "{}\n{}", escaped, difference),
        }
    }

    #[test]
    fn any_split_of_the_bytes_gives_what_the_whole_gives(
        bytes in mutated(SEEDS, SPICES),
        places in prop::collection::vec(0usize..300, 0..8),
    ) {
        let whole = serve(REQUEST, [&bytes[..]]);
        for split in [serve(REQUEST, cut(&bytes, &places)), serve(REQUEST, bytes.chunks(1))] {
            prop_assert_eq!(format!("{:?}", &split.requests), format!("{:?}", &whole.requests));
            // A line without its end may be refused before the end comes, or not yet.
            prop_assert_eq!(
                split.begun || split.error.is_some(),
                whole.begun || whole.error.is_some()
            );
            if let (Some(of_split), Some(of_whole)) = (split.error, whole.error) {
                prop_assert_eq!(of_split, of_whole);
            }
        }
    }
}

#[test]
fn each_refusal_beyond_hypers_is_one_of_the_list() {
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}").into_bytes()
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let length = "Content-Length: 3\r\n";
    let mut seen = Vec::new();
    for (bytes, expected) in [
        (
            [&b"\r\n".repeat(17)[..], &post("", "")].concat(),
            RequestError::EmptyLines,
        ),
        (
            format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(33)).into_bytes(),
            RequestError::MethodTooLong,
        ),
        (
            post(&[length, length].concat(), "abc"),
            RequestError::BadFraming,
        ),
        (
            post(&[length, chunked].concat(), "0\r\n\r\n"),
            RequestError::BadFraming,
        ),
        (
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            RequestError::UnknownCoding,
        ),
        (
            post("Content-Length: 9223372036854775808\r\n", ""),
            RequestError::BodyTooLarge,
        ),
        (
            post(chunked, "3 \r\nabc\r\n0\r\n\r\n"),
            RequestError::BadChunk,
        ),
        (
            post(chunked, "3;\r\nabc\r\n0\r\n\r\n"),
            RequestError::BadChunk,
        ),
        (
            post(chunked, "0\r\nA: b\n\r\n\r\n"),
            RequestError::BadTrailers,
        ),
    ] {
        let escaped = bytes.escape_ascii().to_string();
        assert_eq!(compare(&bytes, &[]), Ok(Some(expected)), "{escaped}");
        let listed = STRICTER.iter().find(|listed| listed.error == expected);
        assert!((listed.unwrap().witness)(&bytes), "{escaped}");
        seen.push(expected);
    }
    assert!(STRICTER.iter().all(|listed| seen.contains(&listed.error)));
}

#[test]
fn hyper_refuses_targets_that_we_pass_on() {
    for target in ["/?a=\"b\"", "/?{<>}", "/\u{fc}"] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let served = serve(REQUEST, [bytes.as_bytes()]);
        assert_eq!(served.requests[0].head.target, Bytes::from(target));
        assert_eq!(compare(bytes.as_bytes(), &[]), Ok(None));
    }
    let latin = [&b"GET /?\xfc HTTP/1.1\r\nHost: h\r\n\r\n"[..]].concat();
    assert_eq!(serve(REQUEST, [&latin[..]]).requests.len(), 1);
    assert_eq!(compare(&latin, &[]), Ok(None));
}

/// The bytes of a body look like requests here, and its reader leaves at each of its bytes.
#[test]
fn nothing_of_a_body_is_ever_read_as_a_head() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n0\r\n\r\n";
    let length = format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    let chunk = format!("{:x}\r\n{smuggled}\r\n", smuggled.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\nA: b\r\n\r\n");
    for framed in [length, chunked] {
        let head = "POST /first HTTP/1.1\r\nHost: h\r\n";
        let bytes = format!("{head}{framed}GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        for read_before in 0..bytes.len() {
            for step in [1, 5, bytes.len()] {
                let targets = targets_dropping(bytes.as_bytes(), step, read_before);
                assert_eq!(targets, ["/first", "/next"], "{read_before} by {step}");
            }
        }
    }
}

/// The targets of all heads, if bodies are read until so many bytes have come and dropped from then on.
fn targets_dropping(bytes: &[u8], step: usize, read_before: usize) -> Vec<Bytes> {
    use weirkeeper::h1::{Dropped, Piece, RequestDecoder};
    let mut decoder = RequestDecoder::new(REQUEST);
    let (mut buf, mut came, mut budget) = (bytes::BytesMut::new(), 0, 10_000);
    let mut targets = Vec::new();
    for read in bytes.chunks(step) {
        buf.extend_from_slice(read);
        came += read.len();
        loop {
            if !decoder.is_body_done() {
                let ended = match came < read_before {
                    true => loop {
                        match decoder.body(&mut buf).unwrap() {
                            Piece::Data(_) => {}
                            Piece::NeedMore => break false,
                            Piece::End(_) => break true,
                        }
                    },
                    false => {
                        let dropped = decoder.drop_body(&mut buf, &mut budget).unwrap();
                        assert_ne!(dropped, Dropped::TooMuch);
                        dropped == Dropped::All
                    }
                };
                if !ended {
                    break;
                }
            }
            match decoder.head(&mut buf).unwrap() {
                Some(head) => targets.push(head.target),
                None => break,
            }
        }
    }
    targets
}

#[test]
fn both_agree_on_what_is_plain() {
    for seed in SEEDS {
        assert_eq!(compare(seed.as_bytes(), &[]), Ok(None), "{seed:?}");
        let served = ours([seed.as_bytes()]);
        assert!(served.error.is_none() && !served.requests.is_empty());
        let last = served.requests.last().unwrap();
        assert!(last.whole, "{seed:?}");
    }
}
