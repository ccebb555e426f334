//! What follows a head (RFC 9112, sections 6.1 to 6.3).

use http::Method;
use weirkeeper::h1::{DecodeError, ResponseFraming};

use super::{Decoded, LIMITS, decode, get};

fn framed(fields: &str, body: &str) -> Decoded {
    get(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"))
}

#[test]
fn rfc9112_6_3_a_length_is_digits_and_all_lengths_agree() {
    for (fields, length) in [
        ("Content-Length: 3\r\n", 3),
        ("content-length:3\r\n", 3),
        ("Content-Length: 03\r\n", 3),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", 3),
        ("Content-Length: 3, 3\r\n", 3),
        ("Content-Length: 3,3\r\nContent-Length: 3\r\n", 3),
        ("Content-Length: 0\r\n", 0),
    ] {
        let decoded = framed(fields, &"x".repeat(length));
        assert_eq!(decoded.error, None, "{fields:?}");
        assert!(decoded.reusable, "{fields:?}");
        assert_eq!(
            decoded.head().framing,
            ResponseFraming::Length(length as u64)
        );
        let lengths: Vec<_> = decoded
            .head()
            .headers
            .map()
            .get_all("content-length")
            .iter()
            .collect();
        assert_eq!(lengths, [&length.to_string()], "one is passed on");
    }
    let largest = framed("Content-Length: 18446744073709551615\r\n", "");
    assert_eq!(largest.head().framing, ResponseFraming::Length(u64::MAX));
    for bad in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 4\r\n",
        "Content-Length: 3,\r\n",
        "Content-Length: ,3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3.0\r\n",
        "Content-Length: \"3\"\r\n",
        "Content-Length: three\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999\r\n",
    ] {
        let decoded = framed(bad, "xxx");
        assert_eq!(decoded.error, Some(DecodeError::BadFraming), "{bad:?}");
        assert!(decoded.body.is_empty() && decoded.heads.is_empty());
    }
}

#[test]
fn rfc9112_6_1_the_coding_is_chunked_and_alone() {
    for bad in [
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
    ] {
        let decoded = framed(bad, "0\r\n\r\n");
        let error = decoded.error;
        assert!(
            error == Some(DecodeError::BadFraming)
                || bad.contains('\u{b}') && error == Some(DecodeError::BadHead),
            "{bad:?} {error:?}"
        );
        assert!(decoded.heads.is_empty());
    }
    let decoded = framed("transfer-encoding:CHUNKED\r\n", "1\r\nx\r\n0\r\n\r\n");
    assert!(decoded.reusable && decoded.body == b"x");
    // HTTP/1.0 does not know the coding, so that its end is anyone's guess.
    let decoded = get("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(decoded.error, Some(DecodeError::BadFraming));
}

#[test]
fn rfc9112_6_3_without_a_length_the_body_lasts_until_the_end() {
    let decoded = framed("Connection: keep-alive\r\n", "abc\r\n\r\n");
    assert_eq!(decoded.head().framing, ResponseFraming::Close);
    assert_eq!(decoded.body, b"abc\r\n\r\n");
    assert!(!decoded.whole && !decoded.reusable && decoded.error.is_none());
    assert!(!decoded.head().keep_alive);
    assert_eq!(framed("", "").error, None);
}

#[test]
fn rfc9112_6_3_answers_to_head_end_with_the_head() {
    for fields in [
        "Content-Length: 30\r\n",
        "Transfer-Encoding: chunked\r\n",
        "",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let decoded = decode(&Method::HEAD, LIMITS, [bytes.as_bytes()]);
        assert_eq!(decoded.head().framing, ResponseFraming::None);
        assert!(decoded.whole && decoded.reusable, "{fields:?}");
    }
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n";
    let decoded = decode(&Method::HEAD, LIMITS, [&bytes[..]]);
    assert_eq!(decoded.head().headers.map()["content-length"], "30");
    // A backend that sends the body all the same has lost its connection.
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let decoded = decode(&Method::HEAD, LIMITS, [&bytes[..]]);
    assert!(decoded.whole && !decoded.reusable && decoded.body.is_empty());
}

#[test]
fn rfc9112_6_3_some_statuses_have_no_body_whatever_they_claim() {
    for (status, fields, reusable, length) in [
        (204, "", true, None),
        (204, "Content-Length: 0\r\n", true, None),
        (204, "Content-Length: 5\r\n", false, None),
        (204, "Transfer-Encoding: chunked\r\n", false, None),
        (304, "", true, None),
        (304, "Content-Length: 5\r\n", true, Some("5")),
        (304, "Transfer-Encoding: chunked\r\n", false, None),
        (205, "Content-Length: 0\r\n", true, None),
        (205, "Content-Length: 5\r\n", false, None),
        (205, "Transfer-Encoding: chunked\r\n", false, None),
        (205, "", false, None),
    ] {
        let decoded = get(format!("HTTP/1.1 {status} x\r\n{fields}\r\n"));
        let what = format!("{status} {fields:?}");
        assert!(decoded.error.is_none() && decoded.whole, "{what}");
        assert_eq!(decoded.reusable, reusable, "{what}");
        let passed_on = decoded.head().headers.map().get("content-length");
        assert_eq!(passed_on.map(|v| v.to_str().unwrap()), length, "{what}");
        let expected = match status {
            205 => ResponseFraming::Length(0),
            _ => ResponseFraming::None,
        };
        assert_eq!(decoded.head().framing, expected, "{what}");
    }
    // Where a body may not be, an ambiguous one may not be either.
    let decoded = get("HTTP/1.1 204 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(decoded.error, Some(DecodeError::BadFraming));
}

#[test]
fn rfc9112_6_3_an_interim_head_that_claims_a_body_spoils_the_connection() {
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let claimed = get(format!(
        "HTTP/1.1 103 x\r\nContent-Length: 38\r\n\r\n{last}"
    ));
    assert!(claimed.whole && !claimed.reusable);
    assert!(get(format!("HTTP/1.1 103 x\r\n\r\n{last}")).reusable);
}

#[test]
fn rfc9112_6_3_a_tunnel_has_no_body() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    let decoded = decode(&Method::CONNECT, LIMITS, [&bytes[..]]);
    assert_eq!(decoded.head().framing, ResponseFraming::None);
    assert!(decoded.whole && !decoded.reusable);
    let bytes = b"HTTP/1.1 403 no\r\nContent-Length: 3\r\n\r\nabc";
    let decoded = decode(&Method::CONNECT, LIMITS, [&bytes[..]]);
    assert!(decoded.reusable && decoded.body == b"abc");
}
