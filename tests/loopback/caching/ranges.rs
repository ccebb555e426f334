//! Byte ranges, cut from what is stored and joined out of parts that came one by one.

use std::sync::Arc;

use super::answers::{DIGITS, TAGGED, ask, digits};
use super::{Gate, assert_hit, cached, crowd, get_with, warm};
use crate::support::backend::{Backend, reply};
use crate::support::client::get;
use crate::support::eventually;

#[test]
fn ranges_are_cut_from_what_is_stored() {
    let (backend, weir) = digits();
    for (fields, status, range, body) in [
        ("Range: bytes=2-4\r\n", 206, Some("bytes 2-4/10"), "234"),
        ("Range: bytes=7-\r\n", 206, Some("bytes 7-9/10"), "789"),
        ("Range: bytes=-2\r\n", 206, Some("bytes 8-9/10"), "89"),
        ("Range: bytes=0-99\r\n", 206, Some("bytes 0-9/10"), DIGITS),
        ("Range: bytes=10-\r\n", 416, Some("bytes */10"), ""),
        ("Range: bytes=-0\r\n", 416, Some("bytes */10"), ""),
        ("Range: bytes=4-2\r\n", 200, None, DIGITS),
        ("Range: lines=1-2\r\n", 200, None, DIGITS),
        ("Range: bytes=0-5,3-8\r\n", 200, None, DIGITS),
        (
            "If-Range: \"v1\"\r\nRange: bytes=2-4\r\n",
            206,
            Some("bytes 2-4/10"),
            "234",
        ),
        (
            "If-Range: \"v2\"\r\nRange: bytes=2-4\r\n",
            200,
            None,
            DIGITS,
        ),
        (
            "If-Range: W/\"v1\"\r\nRange: bytes=2-4\r\n",
            200,
            None,
            DIGITS,
        ),
        (
            "If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\nRange: bytes=2-4\r\n",
            206,
            Some("bytes 2-4/10"),
            "234",
        ),
        (
            "If-None-Match: \"v1\"\r\nRange: bytes=2-4\r\n",
            304,
            None,
            "",
        ),
    ] {
        let response = ask(&weir, fields);
        assert_hit(&response);
        assert_eq!(response.status, status, "{fields:?}");
        assert_eq!(response.get("content-range"), range, "{fields:?}");
        assert_eq!(response.text(), body, "{fields:?}");
    }
    let many = ask(&weir, "Range: bytes=0-1,5-6\r\n");
    assert_eq!(many.status, 206);
    assert_eq!(many.get("content-range"), None);
    let kind = many.get("content-type").expect("it has a type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("many parts");
    let part = |range: &str, body: &str| {
        format!(
            "\r\n--{boundary}\r\ncontent-type: text/plain\r\ncontent-range: bytes {range}/10\r\n\r\n{body}"
        )
    };
    let expected = format!(
        "{}{}\r\n--{boundary}--\r\n",
        part("0-1", "01"),
        part("5-6", "56")
    );
    assert_eq!(many.text(), expected);
    assert_eq!(backend.log().requests.len(), 0);
}

/// Parts that were asked for one by one answer for themselves, and at last for the whole.
#[test]
fn parts_are_joined() {
    let backend = Backend::answering(|r| {
        let range = r.get("range").and_then(|v| v.strip_prefix("bytes="));
        let Some((first, last)) = range.and_then(|r| r.split_once('-')) else {
            return reply(200, TAGGED, DIGITS);
        };
        let (first, last): (usize, usize) = (first.parse().unwrap_or(0), last.parse().unwrap_or(9));
        let fields = format!("{TAGGED}Content-Range: bytes {first}-{last}/10\r\n");
        reply(206, &fields, &DIGITS[first..=last])
    });
    let weir = cached(&backend, "", "");
    let part = |range: &str| weir.once(get_with("/digits", &format!("Range: bytes={range}\r\n")));
    assert_eq!(part("0-3").text(), "0123");
    assert_eq!(part("6-9").text(), "6789");
    backend.forget();
    let within = part("1-2");
    assert_hit(&within);
    assert_eq!((within.status, within.text().as_str()), (206, "12"));
    assert_eq!(within.get("content-range"), Some("bytes 1-2/10"));
    assert_eq!(backend.log().requests.len(), 0);
    assert_eq!(part("3-7").text(), "34567");
    backend.forget();
    let whole = weir.once(get("/digits"));
    assert_hit(&whole);
    assert_eq!((whole.status, whole.text().as_str()), (200, DIGITS));
    assert_eq!(whole.get("content-range"), None, "a whole has no range");
    assert_eq!(
        weir.once(get_with("/digits", "Accept: x\r\nPragma: x\r\n"))
            .get("content-range"),
        None
    );
    assert_eq!(backend.log().requests.len(), 0);
}

/// A part that comes late takes nothing away from the whole that came before it.
#[test]
fn a_late_part_does_not_replace_the_whole() {
    let gate = Gate::new();
    let held = Arc::clone(&gate);
    let backend = Backend::answering(move |r| match r.get("range") {
        None => reply(200, TAGGED, DIGITS),
        Some(_) => {
            held.wait();
            reply(
                206,
                &format!("{TAGGED}Content-Range: bytes 0-1/10\r\n"),
                "01",
            )
        }
    });
    let weir = cached(&backend, "", "");
    let mut late = crowd(&weir, 1, &get_with("/digits", "Range: bytes=0-1\r\n"));
    eventually("the part is under way", || gate.waiting() == 1);
    warm(&weir, "/digits");
    gate.open();
    assert_eq!(late[0].response("GET").map(|r| r.text()), Ok("01".into()));
    for _ in 0..20 {
        let whole = weir.once(get("/digits"));
        assert_hit(&whole);
        assert_eq!(whole.text(), DIGITS);
    }
}
