//! Heads, chunks and ends of responses (RFC 9112, sections 2 to 5, 7 and 9).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use weirkeeper::h1::{DecodeError, HeadLimits, Piece, ResponseDecoder, ResponseFraming};

use super::{LIMITS, decode, get};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn error(bytes: impl AsRef<[u8]>) -> Option<DecodeError> {
    get(bytes).error
}

#[test]
fn a_plain_response_keeps_order_and_duplicates() {
    let decoded = get(
        "HTTP/1.1 200 OK\r\nB: 1\r\nset-cookie: a\r\nA:\t 2 \t\r\nSet-Cookie: b\r\nE:\r\nContent-Length: 3\r\n\r\nabc",
    );
    let head = decoded.head();
    assert_eq!(
        (head.status, head.version),
        (StatusCode::OK, Version::HTTP_11)
    );
    let fields: Vec<_> = head
        .headers
        .map()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(
        fields,
        [
            ("b", &b"1"[..]),
            ("set-cookie", b"a"),
            ("set-cookie", b"b"),
            ("a", b"2"),
            ("e", b""),
            ("content-length", b"3"),
        ]
    );
    assert_eq!(decoded.body, b"abc");
    assert!(decoded.whole && decoded.reusable && decoded.error.is_none());
}

#[test]
fn rfc9112_4_a_status_line_that_is_none_is_refused_at_once() {
    let not_http = Some(DecodeError::NotHttp);
    // None of these waits for a line's end.
    for garbage in [
        "<html>",
        "G",
        "\r\n",
        "\n",
        " HTTP/1.1 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200",
        "HTTP/1.2",
        "HTTP/1x",
        "http/1.1",
        "HTTQ",
        "\0",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_eq!(error(garbage), not_http, "{garbage:?}");
    }
    for bad in [
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/1.1 2\x300x OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
    ] {
        assert_eq!(error(bad), Some(DecodeError::BadHead), "{bad:?}");
    }
}

#[test]
fn rfc9112_4_the_reason_may_be_anything_or_missing() {
    for good in [
        &b"HTTP/1.1 200\r\n\r\n"[..],
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 599 no such thing\r\n\r\n",
        b"HTTP/1.0 404 nicht gefunden \xfc\r\n\r\n",
    ] {
        assert_eq!(error(good), None, "{good:?}");
    }
}

#[test]
fn half_a_head_at_the_end_is_incomplete() {
    for half in [
        "",
        "H",
        "HTTP/1.1",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n\r",
    ] {
        assert_eq!(error(half), Some(DecodeError::Incomplete), "{half:?}");
    }
}

#[test]
fn rfc9112_5_fields_that_readers_could_read_in_two_ways_are_refused() {
    for bad in [
        &b" A: b"[..],
        b"\tA: b",
        b"A: b\0c",
        b"A: b\rc",
        b"A: \rb",
        b"A: b\r\r\n c",
        b"A: b\n",
        b"A: b\x7f",
        b"A: b\x01",
        b": b",
        b" : b",
        b"A",
        b"A ",
        b"A b: c",
        b"A\0: c",
        b"A\xff: c",
        b"(A): c",
        b"A: b\r\n \r\nB: c",
        b"A: b\r\n \n",
    ] {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        bytes.extend_from_slice(bad);
        bytes.extend_from_slice(b"\r\n\r\n");
        assert_eq!(error(&bytes), Some(DecodeError::BadHead), "{bad:?}");
    }
}

#[test]
fn rfc9112_5_1_and_5_2_blanks_go_and_folded_lines_are_put_together() {
    for (lines, value) in [
        ("A : b", "b"),
        ("A \t : b", "b"),
        ("A: b\r\n folded", "b   folded"),
        ("A: b\r\n\tfolded\r\n  twice \t", "b   folded    twice"),
        ("A:\r\n b", "b"),
        ("A: \r\n \tb", "b"),
        ("A: b\n c", "b  c"),
        ("A : b\r\n c", "b   c"),
    ] {
        for (before, behind) in [("", ""), ("B: c\r\n", "D: e\r\n")] {
            let bytes = format!("HTTP/1.1 204 x\r\n{before}{lines}\r\n{behind}\r\n");
            for step in [1, 3, bytes.len()] {
                let decoded = decode(&Method::GET, LIMITS, bytes.as_bytes().chunks(step));
                assert_eq!(decoded.error, None, "{lines:?} by {step}");
                let headers = &decoded.head().headers;
                assert_eq!(headers.map()["a"], value, "{lines:?} by {step}");
                assert_eq!(headers.len(), 1 + 2 * usize::from(!before.is_empty()));
                assert!(decoded.reusable);
            }
        }
    }
}

#[test]
fn rfc9112_2_2_a_bare_line_feed_ends_a_line() {
    let decoded = get("HTTP/1.1 200 OK\nA: b\nContent-Length: 3\nC:\n\nabc");
    assert_eq!(decoded.error, None);
    assert_eq!(decoded.head().headers.map()["a"], "b");
    assert_eq!(decoded.head().headers.map()["c"], "");
    assert!(decoded.reusable && decoded.body == b"abc");
    let decoded = get("HTTP/1.1 200 OK\r\nA: b\nC: d\r\nE: f\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(decoded.error, None);
    assert_eq!(decoded.head().headers.map()["c"], "d");
    let mut decoder = ResponseDecoder::new(&Method::GET, LIMITS);
    let mut buf = BytesMut::from("HTTP/1.1 204 OK\nA: b\n");
    assert!(decoder.head(&mut buf).unwrap().is_none());
    buf.extend_from_slice(b"\n");
    assert!(decoder.head(&mut buf).unwrap().is_some());
}

#[test]
fn rfc9112_6_3_nothing_is_forgiven_where_a_length_may_hang_on_it() {
    for bad in [
        "Content-Length : 0\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: 0\r\n 0\r\n",
        "Content-Length:\r\n 0\r\n",
        "A: b\r\n Content-Length: 0\r\n",
        "A: b\r\n\ttransfer-encoding: chunked\r\n",
        "A: b\r\n c\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nA: b\r\n c\r\n",
        "A : b\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nA : b\r\n",
        "A: b\nContent-Length: 0\r\n",
        "Content-Length: 0\nA: b\r\n",
        "Content-Length: 0\r\nA: b\nC: d\r\n",
        "Content-Length: 0\r\n\n",
        "A: b\r\n\n",
        "A: b\n",
    ] {
        let error = error(format!("HTTP/1.1 200 OK\r\n{bad}\r\n"));
        assert_eq!(error, Some(DecodeError::BadHead), "{bad:?}");
    }
    for bad in [
        "\r\n",
        "Content-Length: 0\r\n\r\n",
        "A: b\n\r\n",
        "Content-Length: 0\n\r\n",
    ] {
        let error = error(format!("HTTP/1.1 200 OK\n{bad}"));
        assert_eq!(error, Some(DecodeError::BadHead), "{bad:?}");
    }
}

#[test]
fn limits_count_bytes_and_fields_however_they_arrive() {
    let line = "HTTP/1.1 204 x\r\n";
    let head = |fields: usize| format!("{line}{}\r\n", "A: b\r\n".repeat(fields));
    for fields in [0, 1, 5, 31, 32, 33, 129, 300] {
        let exact = head(fields);
        let limits = |bytes, fields| HeadLimits { bytes, fields };
        let whole = exact.len();
        let cases = [
            (limits(whole, fields), None),
            (limits(whole - 1, fields), Some(DecodeError::HeadTooLarge)),
            (
                limits(whole, fields.saturating_sub(1)),
                (fields > 0).then_some(DecodeError::HeadTooLarge),
            ),
        ];
        for (limits, expected) in cases {
            for step in [1, 7, whole] {
                let decoded = decode(&Method::GET, limits, exact.as_bytes().chunks(step));
                assert_eq!(decoded.error, expected, "{fields} {limits:?} by {step}");
            }
        }
    }
    // A head without an end stops at the limit, not at the end of memory.
    let endless = format!("{line}A: {}", "b".repeat(40_000));
    for step in [1, 1000, endless.len()] {
        let decoded = decode(&Method::GET, LIMITS, endless.as_bytes().chunks(step));
        assert_eq!(decoded.error, Some(DecodeError::HeadTooLarge));
    }
}

#[test]
fn rfc9110_15_2_interim_heads_come_before_the_final_one() {
    let decoded = get("HTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    let statuses: Vec<_> = decoded
        .heads
        .iter()
        .map(|head| (head.status.as_u16(), head.interim))
        .collect();
    assert_eq!(statuses, [(100, true), (103, true), (200, false)]);
    assert_eq!(decoded.heads[1].headers.map()["link"], "</a>");
    assert!(decoded.reusable && decoded.body == b"x");
    assert_eq!(
        error("HTTP/1.1 100 Continue\r\n\r\n"),
        Some(DecodeError::Incomplete)
    );
    // Each head has the limit to itself, so all of them together need one too.
    let head = "HTTP/1.1 102 Processing\r\n\r\n";
    let last = "HTTP/1.1 204 No Content\r\n\r\n";
    let most = 64 * 1024 / head.len();
    assert_eq!(error(head.repeat(most) + last), None);
    let endless = head.repeat(most + 1) + last;
    assert_eq!(error(endless), Some(DecodeError::TooManyInterim));
}

#[test]
fn rfc9110_15_2_2_a_switch_that_nobody_offered_is_refused() {
    assert_eq!(
        error("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n"),
        Some(DecodeError::Unasked)
    );
}

#[test]
fn rfc9112_7_1_chunks_become_one_body() {
    let decoded = get(format!(
        "{CHUNKED}3\r\nabc\r\n\
         00A;name=\"va \\\"lue;\\\\\";x\r\n0123456789\r\n1;\t e \t=\t f;g=h\r\n!\r\n1;i=\"\u{fc}\"\r\n?\r\n0;last\r\n\r\n"
    ));
    assert_eq!(decoded.error, None);
    assert_eq!(decoded.body, b"abc0123456789!?");
    assert!(decoded.reusable && decoded.trailers.is_none());
    assert_eq!(decoded.head().framing, ResponseFraming::Chunked);
}

#[test]
fn rfc9112_7_1_a_broken_chunk_is_refused() {
    for bad in [
        "\r\n",
        ";ext\r\n",
        " 3\r\nabc\r\n",
        "+3\r\nabc\r\n",
        "-1\r\n",
        "0x3\r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\rabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "3\r\nabc\r\r",
        "3\r\nabc0\r\n\r\n",
        "g\r\n",
        "3;a\nb\r\nabc\r\n",
        "3;a\0b\r\nabc\r\n",
        "3 3\r\nabc\r\n",
        "3 \n",
        "3 \r\nabc\r\n",
        "3\t\r\nabc\r\n",
        "3 ;a\r\nabc\r\n",
        "3;\r\nabc\r\n",
        "3; \r\nabc\r\n",
        "3;;\r\nabc\r\n",
        "3;a;\r\nabc\r\n",
        "3;a \r\nabc\r\n",
        "3;a ;b\r\nabc\r\n",
        "3;a b\r\nabc\r\n",
        "3;a=\r\nabc\r\n",
        "3;=b\r\nabc\r\n",
        "3;a=b c\r\nabc\r\n",
        "3;a=b=c\r\nabc\r\n",
        "3;a=(b)\r\nabc\r\n",
        "3;\u{fc}\r\nabc\r\n",
        "3;a=\"b\r\nabc\r\n",
        "3;a=\"b\0\"\r\nabc\r\n",
        "3;a=\"b\\\r\n\"\r\nabc\r\n",
        "3;a=\"b\"c\r\nabc\r\n",
        "3;a=\"b\" \r\nabc\r\n",
        "0\n",
        "0 \r\n\r\n",
        "0;\r\n\r\n",
        "00000000000000003\r\nabc\r\n",
        "10000000000000000\r\n",
    ] {
        let decoded = get(format!("{CHUNKED}{bad}"));
        assert_eq!(decoded.error, Some(DecodeError::BadChunk), "{bad:?}");
    }
    let broken = Some(DecodeError::BadChunk);
    for (bytes, expected) in [(256, None), (257, broken)] {
        let extension = format!(";{}", "x".repeat(bytes - 1));
        let decoded = get(format!("{CHUNKED}1{extension}\r\nx\r\n0\r\n\r\n"));
        assert_eq!(decoded.error, expected, "{bytes}");
    }
    // All extensions together have a bound as well.
    let chunk = format!("1;{}\r\nx\r\n", "x".repeat(255));
    for (chunks, expected) in [(63, None), (64, broken)] {
        let decoded = get(format!("{CHUNKED}{}0\r\n\r\n", chunk.repeat(chunks)));
        assert_eq!(decoded.error, expected, "{chunks}");
    }
}

#[test]
fn rfc9112_7_1_the_largest_size_is_counted_and_never_awaited_in_memory() {
    let decoded = get(format!("{CHUNKED}ffffffffffffffff\r\nabc"));
    assert_eq!(decoded.body, b"abc");
    assert_eq!(decoded.error, Some(DecodeError::Incomplete));
}

#[test]
fn rfc9112_8_a_body_that_breaks_off_is_incomplete() {
    for half in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".to_owned(),
        CHUNKED.to_owned(),
        format!("{CHUNKED}3\r\nab"),
        format!("{CHUNKED}3\r\nabc"),
        format!("{CHUNKED}3\r\nabc\r\n"),
        format!("{CHUNKED}0\r\n"),
        format!("{CHUNKED}0\r\n\r"),
        format!("{CHUNKED}0\r\nA: b\r\n"),
    ] {
        assert_eq!(error(&half), Some(DecodeError::Incomplete), "{half:?}");
    }
}

#[test]
fn rfc9112_7_1_2_trailers_pass_but_for_those_that_change_the_message() {
    let decoded = get(format!(
        "{CHUNKED}1\r\nx\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\nSet-Cookie: a\r\nHost: h\r\nX-Sum: 2\r\n\r\n"
    ));
    let trailers = decoded.trailers.as_ref().unwrap();
    let kept: Vec<_> = trailers.iter().map(|(n, v)| (n.as_str(), v)).collect();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|(name, _)| *name == "x-sum"));
    assert!(decoded.reusable);
    assert!(
        get(format!("{CHUNKED}0\r\nHost: h\r\n\r\n"))
            .trailers
            .is_none()
    );
}

#[test]
fn rfc9112_7_1_2_broken_and_endless_trailers_are_refused() {
    for bad in [
        "A : b\r\n\r\n",
        "A: b\n\r\n",
        "A: b\r\n\n",
        "A: b\n",
        "A: b\r\n c\r\n\r\n",
        "A: b\0\r\n\r\n",
        "A: b\x7f\r\n\r\n",
        "\n",
        "\rx",
        "A\r\n\r\n",
    ] {
        let decoded = get(format!("{CHUNKED}0\r\n{bad}"));
        assert_eq!(decoded.error, Some(DecodeError::BadTrailers), "{bad:?}");
    }
    for large in [
        "A: b\r\n".repeat(101),
        format!("A: {}", "b".repeat(32 * 1024)),
    ] {
        let bytes = format!("{CHUNKED}0\r\n{large}\r\n\r\n");
        for step in [1, 700, bytes.len()] {
            let decoded = decode(&Method::GET, LIMITS, bytes.as_bytes().chunks(step));
            assert_eq!(decoded.error, Some(DecodeError::HeadTooLarge));
        }
    }
}

#[test]
fn rfc9112_9_3_who_keeps_a_connection_alive() {
    for (line, connection, kept) in [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: foo, CLOSE\r\n", false),
        ("HTTP/1.1", "Connection: a\r\nConnection: close\r\n", false),
        ("HTTP/1.1", "Connection: closed\r\n", true),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let decoded = get(format!(
            "{line} 200 OK\r\n{connection}Content-Length: 0\r\n\r\n"
        ));
        assert_eq!(decoded.reusable, kept, "{line} {connection:?}");
        assert_eq!(decoded.head().keep_alive, kept);
    }
}

#[test]
fn the_keep_alive_timeout_is_read() {
    for (value, seconds) in [
        ("timeout=5, max=100", Some(5)),
        ("max=100,Timeout=7", Some(7)),
        ("timeout=x", None),
        ("timeout=", None),
        ("timeout=99999999999999999999", None),
        ("max=1", None),
    ] {
        let decoded = get(format!(
            "HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\nContent-Length: 0\r\n\r\n"
        ));
        let expected = seconds.map(Duration::from_secs);
        assert_eq!(decoded.head().keep_alive_timeout, expected, "{value}");
    }
}

#[test]
fn rfc9112_9_2_bytes_behind_the_message_spoil_the_connection() {
    let decoded = get("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n");
    assert!(decoded.whole && !decoded.reusable);
    assert_eq!(decoded.body, b"x");
    let decoded = get(format!("{CHUNKED}0\r\n\r\n\r\n"));
    assert!(decoded.whole && !decoded.reusable);
}

#[test]
fn data_is_split_off_without_a_copy() {
    let mut buf = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
    let end = buf.as_ptr_range().end;
    let mut decoder = ResponseDecoder::new(&Method::GET, LIMITS);
    assert_eq!(
        decoder.body(&mut BytesMut::new()).unwrap_err(),
        DecodeError::OutOfOrder
    );
    let mut decoder = ResponseDecoder::new(&Method::GET, LIMITS);
    assert_eq!(decoder.remaining(), None);
    assert!(decoder.head(&mut buf).unwrap().is_some());
    assert_eq!(decoder.remaining(), Some(6));
    let Piece::Data(data) = decoder.body(&mut buf).unwrap() else {
        panic!("there is data");
    };
    assert_eq!(data, Bytes::from_static(b"abc"));
    assert_eq!(data.as_ptr_range().end, end);
    assert_eq!(decoder.remaining(), Some(3));
    assert_eq!(decoder.body(&mut buf).unwrap(), Piece::NeedMore);
    assert!(!decoder.is_done() && !decoder.reusable(&buf));
}
