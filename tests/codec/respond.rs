//! Responses as bytes (RFC 9112, sections 4 and 6.3; RFC 9110, sections 8.6 and 15), and that our own reader reads them back.

use bytes::BytesMut;
use http::{Method, StatusCode, Version};
use weirkeeper::h1::{self, ReplyFraming, ResponseFraming};
use weirkeeper::message::head::Fields;

use super::{LIMITS, decode, headers, written};

#[test]
fn rfc9112_4_a_status_line_names_our_version() {
    let line = |code| written(|out| h1::status_line(out, StatusCode::from_u16(code).unwrap()));
    assert_eq!(line(200), "HTTP/1.1 200 OK\r\n");
    assert_eq!(line(404), "HTTP/1.1 404 Not Found\r\n");
    assert_eq!(line(599), "HTTP/1.1 599 \r\n");
}

#[test]
fn rfc9110_15_2_interim_heads_are_whole_and_say_nothing_of_a_body() {
    assert_eq!(written(h1::continue_100), "HTTP/1.1 100 Continue\r\n\r\n");
    let hints = headers(&[
        ("link", "</a>"),
        ("content-length", "3"),
        ("connection", "close"),
        ("link", "</b>"),
        ("transfer-encoding", "chunked"),
    ]);
    assert_eq!(
        written(|out| h1::interim_head(out, StatusCode::EARLY_HINTS, &hints.clone().into())),
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n"
    );
}

#[test]
fn rfc9112_6_3_how_a_reply_is_framed() {
    use ReplyFraming::{Chunked, Close, Length, None as Nothing};
    let (new, old) = (Version::HTTP_11, Version::HTTP_10);
    for (is_head, version, status, length, expected) in [
        (false, new, 200, Some(3), Length(3)),
        (false, new, 200, Some(0), Length(0)),
        (false, new, 200, None, Chunked),
        (false, old, 200, Some(3), Length(3)),
        (false, old, 200, None, Close),
        (false, Version::HTTP_2, 200, None, Chunked),
        (true, new, 200, Some(3), Nothing),
        (true, new, 200, None, Nothing),
        (true, old, 404, None, Nothing),
        (true, new, 205, None, Nothing),
        (false, new, 100, None, Nothing),
        (false, new, 103, Some(3), Nothing),
        (false, new, 101, None, Nothing),
        (false, new, 204, Some(3), Nothing),
        (false, old, 204, None, Nothing),
        (false, new, 304, Some(3), Nothing),
        (false, old, 304, None, Nothing),
        (false, new, 205, Some(3), Length(0)),
        (false, old, 205, None, Length(0)),
        (false, new, 404, Some(3), Length(3)),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(
            h1::reply_framing(is_head, version, status, length),
            expected,
            "{is_head} {version:?} {status} {length:?}"
        );
    }
}

#[test]
fn what_is_written_is_read_back_with_the_same_framing() {
    let fields = headers(&[("a", "b"), ("set-cookie", "1"), ("set-cookie", "2")]);
    let statuses = [200, 204, 205, 304, 404, 599];
    for (status, is_head, version, length) in statuses
        .into_iter()
        .flat_map(|status| [(status, false), (status, true)])
        .flat_map(|(s, h)| [(s, h, Version::HTTP_10), (s, h, Version::HTTP_11)])
        .flat_map(|(s, h, v)| [(s, h, v, None), (s, h, v, Some(0)), (s, h, v, Some(3))])
    {
        let case = format!("{status} {is_head} {version:?} {length:?}");
        let status = StatusCode::from_u16(status).unwrap();
        let framing = h1::reply_framing(is_head, version, status, length);
        let mut wire = BytesMut::new();
        h1::interim_head(&mut wire, StatusCode::PROCESSING, &fields.clone().into());
        h1::status_line(&mut wire, status);
        Fields::from(fields.clone()).copy(&mut wire, |_, _| true);
        h1::reply_framing_field(&mut wire, framing);
        h1::end_of_head(&mut wire);
        let (body, expected) = match framing {
            ReplyFraming::None => (&b""[..], ResponseFraming::None),
            ReplyFraming::Length(0) => (&b""[..], ResponseFraming::Length(0)),
            ReplyFraming::Length(n) => (&b"abc"[..n as usize], ResponseFraming::Length(n)),
            ReplyFraming::Chunked => (&b"abc"[..], ResponseFraming::Chunked),
            ReplyFraming::Close => (&b"abc"[..], ResponseFraming::Close),
        };
        if framing == ReplyFraming::Chunked {
            h1::chunk_head(&mut wire, body.len());
            wire.extend_from_slice(body);
            wire.extend_from_slice(h1::CHUNK_TAIL);
            h1::last_chunk(&mut wire, Some(&fields));
        } else {
            wire.extend_from_slice(body);
        }
        let method = if is_head { Method::HEAD } else { Method::GET };
        let decoded = decode(&method, LIMITS, [&wire[..]]);
        assert_eq!(decoded.error, None, "{case}");
        assert_eq!(decoded.heads.len(), 2, "{case}");
        assert_eq!(*decoded.heads[0].headers.map(), fields, "{case}");
        let mut read = decoded.head().headers.map().clone();
        read.remove("content-length");
        read.remove("transfer-encoding");
        assert_eq!((decoded.head().status, &read), (status, &fields), "{case}");
        assert_eq!(decoded.head().framing, expected, "{case}");
        assert_eq!(decoded.body, body, "{case}");
        assert_eq!(decoded.reusable, framing != ReplyFraming::Close, "{case}");
    }
}
