//! What bounds the requests of one connection: their heads, their targets, and the bodies that nobody reads.

use bytes::BytesMut;
use weirkeeper::h1::{Dropped, HeadLimits, RequestDecoder, RequestError, RequestLimits};

use super::request::{REQUEST, serve};

#[test]
fn limits_count_bytes_and_fields_however_they_arrive() {
    let line = "GET / HTTP/1.1\r\n";
    for fields in [0, 1, 31, 32, 33, 129] {
        let exact = format!("{line}{}\r\n", "A: b\r\n".repeat(fields));
        let whole = exact.len();
        let limits = |bytes, fields| RequestLimits {
            head: HeadLimits { bytes, fields },
            uri_bytes: 100,
        };
        let too_large = Some(RequestError::HeadTooLarge);
        for (limits, expected) in [
            (limits(whole, fields), None),
            (limits(whole - 1, fields), too_large),
            (
                limits(whole, fields.saturating_sub(1)),
                too_large.filter(|_| fields > 0),
            ),
        ] {
            for step in [1, 7, whole] {
                let served = serve(limits, exact.as_bytes().chunks(step));
                assert_eq!(served.error, expected, "{fields} {limits:?} by {step}");
                assert_eq!(served.requests.len(), usize::from(expected.is_none()));
            }
        }
    }
    let endless = format!("{line}A: {}", "b".repeat(40_000));
    for step in [1, 1000, endless.len()] {
        let served = serve(REQUEST, endless.as_bytes().chunks(step));
        assert_eq!(served.error, Some(RequestError::HeadTooLarge));
    }
}

#[test]
fn a_target_that_is_too_long_is_refused_before_its_end() {
    let limits = RequestLimits {
        uri_bytes: 100,
        ..REQUEST
    };
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(length - 1));
    let too_long = Some(RequestError::UriTooLong);
    let endless = format!("GET /{}", "a".repeat(164 - 5));
    for step in [1, 7, 1000] {
        let of = |bytes: &str| serve(limits, bytes.as_bytes().chunks(step)).error;
        assert_eq!(of(&line(100)), None, "{step}");
        assert_eq!(of(&line(101)), too_long, "{step}");
        assert_eq!(of(&endless[..163]), None, "{step}");
        assert_eq!(of(&endless), too_long, "{step}");
        // Whatever is wrong behind the bound is not looked at.
        assert_eq!(of(&format!("{endless}\0")), too_long, "{step}");
    }
}

#[test]
fn idle_is_told_from_begun() {
    let decoder = RequestDecoder::new(REQUEST);
    for idle in ["", "\r", "\r\n", "\n", "\r\n\r\n\r"] {
        assert!(!decoder.has_begun(idle.as_bytes()), "{idle:?}");
    }
    for begun in ["G", "\r\nG", "\n\nGET", "\rx", "\0"] {
        assert!(decoder.has_begun(begun.as_bytes()), "{begun:?}");
    }
}

#[test]
fn a_body_that_nobody_reads_is_dropped_within_a_bound() {
    let next = "GET /next HTTP/1.1\r\n\r\n";
    let length = "POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nGET / \r\n0\r\n\r\n";
    for (request, body) in [(length, 20), (chunked, 16)] {
        for budget in 0..30 {
            let mut decoder = RequestDecoder::new(REQUEST);
            let mut buf = BytesMut::from(format!("{request}{next}").as_bytes());
            assert!(decoder.head(&mut buf).unwrap().is_some());
            let mut left = budget;
            let dropped = decoder.drop_body(&mut buf, &mut left).unwrap();
            if budget < body {
                assert_eq!(dropped, Dropped::TooMuch, "{budget}");
                let spent = decoder.head(&mut buf).unwrap_err();
                assert_eq!(spent, RequestError::BodyTooLarge);
                continue;
            }
            assert_eq!((dropped, left), (Dropped::All, budget - body));
            let head = decoder.head(&mut buf).unwrap().unwrap();
            assert_eq!(head.target, "/next");
        }
    }
}
