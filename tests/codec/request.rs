//! Heads and bodies of requests (RFC 9112, sections 2 to 7 and 9.3), and the cause that each error answers for.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use weirkeeper::h1::{
    Piece, RequestDecoder, RequestError, RequestFraming, RequestHead, RequestLimits,
};
use weirkeeper::message::cause::Cause;

use super::LIMITS;

pub const REQUEST: RequestLimits = RequestLimits {
    head: LIMITS,
    uri_bytes: 16 * 1024,
};

/// One request as it came out of a decoder.
#[derive(Clone, Debug)]
pub struct Got {
    pub head: RequestHead,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// Did its body end?
    pub whole: bool,
}

/// All that came out of a decoder.
#[derive(Clone, Debug, Default)]
pub struct Served {
    pub requests: Vec<Got>,
    pub error: Option<RequestError>,
    /// Did the bytes end within a request?
    pub begun: bool,
}

/// Decodes what arrives in these reads as the requests of one connection.
pub fn serve<'a>(limits: RequestLimits, reads: impl IntoIterator<Item = &'a [u8]>) -> Served {
    let mut decoder = RequestDecoder::new(limits);
    let mut served = Served::default();
    let mut buf = BytesMut::new();
    for read in reads {
        buf.extend_from_slice(read);
        if let Err(error) = pump(&mut decoder, &mut buf, &mut served) {
            served.error = Some(error);
            let mut rest = BytesMut::from("GET / HTTP/1.1\r\n\r\n");
            assert_eq!(decoder.head(&mut rest).unwrap_err(), error, "errors stay");
            assert_eq!(decoder.body(&mut rest).unwrap_err(), error, "errors stay");
            break;
        }
    }
    served.begun = decoder.has_begun(&buf);
    served
}

/// Takes all that the buffer holds.
fn pump(
    decoder: &mut RequestDecoder,
    buf: &mut BytesMut,
    served: &mut Served,
) -> Result<(), RequestError> {
    loop {
        if served.requests.last().is_none_or(|got| got.whole) {
            let Some(head) = decoder.head(buf)? else {
                return Ok(());
            };
            served.requests.push(Got {
                head,
                body: Vec::new(),
                trailers: None,
                whole: false,
            });
        }
        let got = served.requests.last_mut().expect("a head came");
        match decoder.body(buf)? {
            Piece::Data(data) => {
                assert!(!data.is_empty());
                got.body.extend_from_slice(&data);
            }
            Piece::NeedMore => return Ok(()),
            Piece::End(trailers) => {
                got.trailers = trailers;
                got.whole = true;
                assert!(decoder.is_body_done() && decoder.remaining() == Some(0));
            }
        }
    }
}

fn whole(bytes: impl AsRef<[u8]>) -> Served {
    serve(REQUEST, [bytes.as_ref()])
}

/// The one request that these bytes hold.
fn one(bytes: impl AsRef<[u8]>) -> Got {
    let served = whole(bytes);
    assert_eq!(served.error, None);
    assert!(!served.begun && served.requests.len() == 1);
    served.requests.into_iter().next().unwrap()
}

fn error(bytes: impl AsRef<[u8]>) -> Option<RequestError> {
    whole(bytes).error
}

fn with_fields(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\n{fields}\r\n")
}

#[test]
fn a_plain_request_keeps_order_and_duplicates() {
    let got = one(
        "POST /a%20b?c=d HTTP/1.1\r\nHost: h\r\nB: 1\r\ncookie: a\r\nA:\t 2 \t\r\nCookie: b\r\n\
         E:\r\nContent-Length: 3\r\n\r\nabc",
    );
    let head = &got.head;
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.target, Bytes::from_static(b"/a%20b?c=d"));
    assert_eq!(head.version, Version::HTTP_11);
    assert_eq!(head.framing, RequestFraming::Length(3));
    assert!(head.keep_alive && !head.expects_continue);
    let fields: Vec<_> = head
        .headers
        .map()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(
        fields,
        [
            ("host", &b"h"[..]),
            ("b", b"1"),
            ("cookie", b"a"),
            ("cookie", b"b"),
            ("a", b"2"),
            ("e", b""),
            ("content-length", b"3"),
        ]
    );
    assert!(got.whole && got.body == b"abc");
}

#[test]
fn rfc9112_9_3_2_requests_follow_each_other_on_one_connection() {
    let served = whole(
        "GET /1 HTTP/1.1\r\n\r\n\r\n\nPOST /2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n\
         POST /3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n\
         BREW /4 HTTP/1.0\nConnection: keep-alive\n\nPUT /5 HTTP/1.1\r\ncontent-length:1\r\n\r\nx\r\n\r",
    );
    assert_eq!(served.error, None);
    assert!(!served.begun, "empty lines alone begin nothing");
    let requests: Vec<_> = served
        .requests
        .iter()
        .map(|got| (&got.head.target[..], got.head.framing, &got.body[..]))
        .collect();
    assert_eq!(
        requests,
        [
            (&b"/1"[..], RequestFraming::None, &b""[..]),
            (b"/2", RequestFraming::Length(0), b""),
            (b"/3", RequestFraming::Chunked, b"ab"),
            (b"/4", RequestFraming::None, b""),
            (b"/5", RequestFraming::Length(1), b"x"),
        ]
    );
    assert!(
        served
            .requests
            .iter()
            .all(|got| got.whole && got.head.keep_alive)
    );
    let trailers = served.requests[2].trailers.as_ref().unwrap();
    assert_eq!(trailers["x"], "y");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn each_error_answers_for_its_cause() {
    use RequestError::*;
    for (bytes, expected, cause) in [
        ("\u{16}\u{3}\u{1}", Tls, Cause::TlsInClear),
        ("\u{16}", Tls, Cause::TlsInClear),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Http2Preface,
            Cause::VersionUnsupported,
        ),
        (
            "GET / HTTP/2.0\r\n",
            UnknownVersion,
            Cause::VersionUnsupported,
        ),
        (
            "GET / HTTP/1.2\r\n",
            UnknownVersion,
            Cause::VersionUnsupported,
        ),
        (
            "GET / HTTP/0.9\r\n",
            UnknownVersion,
            Cause::VersionUnsupported,
        ),
        (&"\r\n".repeat(17), EmptyLines, Cause::BadRequest),
        ("\rG", BadLine, Cause::BadRequest),
        (" GET / HTTP/1.1\r\n", BadLine, Cause::BadRequest),
        ("\0", BadLine, Cause::BadRequest),
        ("G\0", BadLine, Cause::BadRequest),
        ("{}", BadLine, Cause::BadRequest),
        ("GET\t/ HTTP/1.1\r\n", BadLine, Cause::BadRequest),
        ("GET  / HTTP/1.1\r\n", BadLine, Cause::BadRequest),
        ("GET\r\n", BadLine, Cause::BadRequest),
        ("GET /\r\n", BadLine, Cause::BadRequest),
        ("GET /  HTTP/1.1\r\n", BadLine, Cause::BadRequest),
        ("GET / HTTP/1.1 \r\n", BadLine, Cause::BadRequest),
        ("GET / HTTP/1.1\rX", BadLine, Cause::BadRequest),
        ("GET / HTTP/1.10\r\n", BadLine, Cause::BadRequest),
        ("GET / HTTP/11\r\n", BadLine, Cause::BadRequest),
        ("GET / http/1.1\r\n", BadLine, Cause::BadRequest),
        ("GET / x\r\n", BadLine, Cause::BadRequest),
        ("GET /a b HTTP/1.1\r\n", BadLine, Cause::BadRequest),
        (&"X".repeat(33), MethodTooLong, Cause::NotImplemented),
        (
            &format!("{} / HTTP/1.1\r\n", "X".repeat(33)),
            MethodTooLong,
            Cause::NotImplemented,
        ),
        ("GET /a\0 HTTP/1.1\r\n", BadTarget, Cause::BadRequest),
        ("GET /a\u{7f} HTTP/1.1\r\n", BadTarget, Cause::BadRequest),
        ("GET /a\tb HTTP/1.1\r\n", BadTarget, Cause::BadRequest),
        ("GET / HTTP/1.1\r\nA b\r\n", BadField, Cause::BadRequest),
        (
            &with_fields("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            BadFraming,
            Cause::BadRequest,
        ),
        (
            &with_fields("Transfer-Encoding: gzip, chunked\r\n"),
            UnknownCoding,
            Cause::NotImplemented,
        ),
        (
            &with_fields("Content-Length: 9223372036854775808\r\n"),
            BodyTooLarge,
            Cause::BodyTooLarge,
        ),
        (
            &(with_fields("Transfer-Encoding: chunked\r\n") + "x"),
            BadChunk,
            Cause::BadRequestBody,
        ),
        (
            &(with_fields("Transfer-Encoding: chunked\r\n") + "0\r\nA : b\r\n"),
            BadTrailers,
            Cause::BadRequestBody,
        ),
    ] {
        let served = whole(bytes);
        assert_eq!(served.error, Some(expected), "{bytes:?}");
        assert_eq!(expected.cause(), cause, "{bytes:?}");
    }
    let mut decoder = RequestDecoder::new(REQUEST);
    let early = decoder.body(&mut BytesMut::new()).unwrap_err();
    assert_eq!((early, early.cause()), (OutOfOrder, Cause::Panic));
}

#[test]
fn rfc9112_5_fields_that_readers_could_read_in_two_ways_are_refused() {
    for bad in [
        &b"Content-Length : 3"[..],
        b"A\t: b",
        b" A: b",
        b"A: b\r\n folded",
        b"A: b\r\n\tfolded",
        b"A: b\0c",
        b"A: b\rc",
        b"A: b\r\rc: d",
        b"A: b\r",
        b"A: b\x7f",
        b"A: b\x01",
        b": b",
        b"A",
        b"A b: c",
        b"A\0: c",
        b"A\xff: c",
        b"(A): c",
        b"\rA: b",
    ] {
        let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
        bytes.extend_from_slice(bad);
        bytes.extend_from_slice(b"\r\n\r\n");
        assert_eq!(error(&bytes), Some(RequestError::BadField), "{bad:?}");
        // Nor is the end of such a head awaited.
        bytes.truncate(bytes.len() - 2);
        bytes.extend_from_slice(b"B: c\r\n");
        assert_eq!(error(&bytes), Some(RequestError::BadField), "{bad:?}");
    }
}

#[test]
fn rfc9112_2_2_a_bare_line_feed_ends_a_line_of_a_head() {
    let got = one("GET / HTTP/1.1\nA: b\nC: d\r\nE:\n\n");
    assert_eq!(got.head.headers.len(), 3);
    assert_eq!(got.head.headers.map()["a"], "b");
    assert_eq!(got.head.headers.map()["e"], "");
}

#[test]
fn rfc9112_6_framing_is_certain_or_refused() {
    use RequestFraming as F;
    for (fields, framing) in [
        ("", F::None),
        ("Content-Length: 0\r\n", F::Length(0)),
        ("Content-Length: 03\r\n", F::Length(3)),
        ("content-length:\t3 \r\n", F::Length(3)),
        (
            "Content-Length: 9223372036854775807\r\n",
            F::Length(i64::MAX as u64),
        ),
        ("Transfer-Encoding: chunked\r\n", F::Chunked),
        ("transfer-encoding:CHUNKED \r\n", F::Chunked),
    ] {
        let served = whole(with_fields(fields));
        assert_eq!(served.error, None, "{fields:?}");
        assert_eq!(served.requests[0].head.framing, framing, "{fields:?}");
        assert_eq!(served.requests[0].whole, !framing.has_body());
        assert_eq!(served.begun, framing.has_body());
    }
    let (bad, unknown, large) = (
        RequestError::BadFraming,
        RequestError::UnknownCoding,
        RequestError::BodyTooLarge,
    );
    for (fields, expected) in [
        ("Content-Length: 3\r\nContent-Length: 4\r\n", bad),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", bad),
        ("Content-Length: 3, 3\r\n", bad),
        ("Content-Length: 3,\r\n", bad),
        ("Content-Length: +3\r\n", bad),
        ("Content-Length: -3\r\n", bad),
        ("Content-Length: 3 3\r\n", bad),
        ("Content-Length: 0x3\r\n", bad),
        ("Content-Length: \"3\"\r\n", bad),
        ("Content-Length:\r\n", bad),
        ("Content-Length: 18446744073709551616\r\n", large),
        ("Content-Length: 99999999999999999999999\r\n", large),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", bad),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", bad),
        ("Transfer-Encoding: gzip\r\n", bad),
        ("Transfer-Encoding: identity\r\n", bad),
        ("Transfer-Encoding: chunked, gzip\r\n", bad),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            bad,
        ),
        ("Transfer-Encoding: chunked;a=b\r\n", bad),
        ("Transfer-Encoding: \"chunked\"\r\n", bad),
        ("Transfer-Encoding: xchunked\r\n", bad),
        ("Transfer-Encoding: chunked,\r\n", bad),
        ("Transfer-Encoding:\r\n", bad),
        ("Transfer-Encoding: gzip, chunked\r\n", unknown),
        ("Transfer-Encoding: identity,chunked\r\n", unknown),
        ("Transfer-Encoding: chunked, chunked\r\n", unknown),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            unknown,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            unknown,
        ),
    ] {
        let served = whole(with_fields(fields) + "0\r\n\r\n");
        assert_eq!(served.error, Some(expected), "{fields:?}");
        assert!(served.requests.is_empty());
    }
    // HTTP/1.0 does not know the coding, so that its end is anyone's guess.
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(error(old), Some(bad));
}

#[test]
fn rfc9112_9_3_who_keeps_a_connection_alive() {
    for (version, connection, kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: foo, CLOSE\r\n", false),
        (
            "1.1",
            "Connection: close\r\nConnection: keep-alive\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let got = one(format!("GET / HTTP/{version}\r\n{connection}\r\n"));
        assert_eq!(got.head.keep_alive, kept, "{version} {connection:?}");
    }
}

#[test]
fn rfc9110_10_1_1_who_waits_for_a_100() {
    for (version, fields, waits) in [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", true),
        (
            "1.1",
            "expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n",
            true,
        ),
        (
            "1.1",
            "Expect: 100-continue\r\nContent-Length: 0\r\n",
            false,
        ),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.1", "Expect: other\r\nContent-Length: 1\r\n", false),
        ("1.1", "Content-Length: 1\r\n", false),
        (
            "1.0",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            false,
        ),
    ] {
        let served = whole(format!("PUT / HTTP/{version}\r\n{fields}\r\n"));
        let head = &served.requests[0].head;
        assert_eq!(head.expects_continue, waits, "{version} {fields:?}");
    }
}
