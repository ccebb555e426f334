//! HTTP/2 written byte by byte: heads and trailers that no library would send. What the backend received, in HTTP/1.1, is a
//! request as it should be or none.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::weir::Weir;
use crate::support::{PATIENCE, eventually};

use super::Scene;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection of HTTP/2, of which every byte is the test's.
struct Raw(TcpStream);

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    /// It was answered with 200.
    Served,
    /// It was answered otherwise.
    Refused,
    /// It, or the connection, was broken off.
    Broken,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Fields as HPACK has them, without an index (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            out.push(u8::try_from(text.len()).expect("a short text"));
            out.extend(text.as_bytes());
        }
    }
    out
}

impl Raw {
    fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a timeout");
        let settings = frame(4, 0, 0, &[]);
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .expect("it is sent");
        stream.write_all(&settings).expect("it is sent");
        Raw(stream)
    }

    /// What has been cut off meanwhile is noticed by the read that follows.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Reads until it is known what became of this stream.
    fn became(&mut self, stream: u32) -> Became {
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).is_err() {
                return Became::Broken;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if self.0.read_exact(&mut payload).is_err() {
                return Became::Broken;
            }
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match head[3] {
                GOAWAY => return Became::Broken,
                RST_STREAM if of == stream => return Became::Broken,
                // `:status: 200` is the eighth of the static table.
                HEADERS if of == stream && payload.contains(&0x88) => return Became::Served,
                HEADERS if of == stream => return Became::Refused,
                _ => {}
            }
        }
    }
}

/// A GET of this target with these fields, and what became of it.
fn ask(weir: &Weir, fields: &[(&str, &str)]) -> Became {
    let mut raw = Raw::connect(weir.port);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields)));
    raw.became(1)
}

const PSEUDO: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "test.example"),
    (":path", "/probe"),
];

/// Fields that are none in HTTP/2 (RFC 9113 sections 8.2 and 8.3).
const BAD: &[(&str, &str)] = &[
    ("X-Upper", "b"),
    ("x a", "b"),
    ("x:a", "b"),
    ("", "b"),
    ("x\0a", "b"),
    ("x\r\ninjected: 1", "b"),
    ("x-a", "b\r\ninjected: 1"),
    ("x-a", "b\ninjected: 1"),
    ("x-a", "b\0c"),
    ("connection", "close"),
    ("connection", "x-ordinary"),
    ("proxy-connection", "close"),
    ("keep-alive", "timeout=1"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("te", "gzip"),
    ("content-length", "3"),
    ("content-length", "x"),
    ("content-length", "+0"),
    ("content-length", "0, 0"),
    ("host", "other.example"),
    ("host", "a b"),
    (":path", "/other"),
    (":method", "POST"),
    (":authority", "other.example"),
    (":scheme", "https"),
    (":status", "200"),
    (":unknown", "b"),
    (":", "b"),
];

#[test]
fn a_field_that_is_none_makes_no_other_request_wherever_it_stands() {
    let scene = Scene::new();
    for bad in BAD {
        for place in [0, 2, 4, 5, 6] {
            scene.backend.forget();
            let mut fields = PSEUDO.to_vec();
            fields.extend([("x-ordinary", "kept"), ("x-other", "kept")]);
            fields.insert(place, *bad);
            let became = ask(&scene.weir, &fields);
            scene.good("a field that is none");
            let log = scene.backend.log();
            let probes = log.count("GET /probe ");
            eprintln!("{bad:?} at {place}: {became:?}");
            assert_eq!(
                probes,
                usize::from(became == Became::Served),
                "{bad:?} at {place}: {:?}",
                log.lines()
            );
            assert_eq!(
                log.requests.len(),
                probes + 1,
                "{bad:?} at {place}: {:?}",
                log.lines()
            );
            assert!(
                log.broken.is_empty(),
                "{bad:?} at {place}: {:?}",
                log.broken
            );
            for seen in log
                .requests
                .iter()
                .filter(|seen| seen.start.contains("/probe"))
            {
                assert_eq!(seen.start, "GET /probe HTTP/1.1", "{bad:?} at {place}");
                assert_eq!(seen.all("host"), ["test.example"], "{bad:?} at {place}");
                assert_eq!(seen.get("x-ordinary"), Some("kept"), "{bad:?} at {place}");
                for gone in [
                    "injected",
                    "transfer-encoding",
                    "upgrade",
                    "keep-alive",
                    "proxy-connection",
                    "te",
                    "X-Upper",
                ] {
                    assert_eq!(seen.get(gone), None, "{bad:?} at {place}");
                }
            }
        }
    }
    scene.end();
}

/// A pseudo-field has no place in trailers (RFC 9113 section 8.1). Whether or not the stream is broken off for it, no backend
/// sees one.
#[test]
fn trailers_change_nothing_of_a_request() {
    let scene = Scene::new();
    for trailer in [
        (":path", "/smuggled"),
        (":method", "DELETE"),
        (":authority", "evil.example"),
        (":status", "200"),
        ("host", "evil.example"),
        ("content-length", "9"),
        ("transfer-encoding", "chunked"),
        ("x-forwarded-for", "6.6.6.6"),
        ("cookie", "evil.example"),
    ] {
        scene.backend.forget();
        let mut fields = PSEUDO.to_vec();
        fields[0] = (":method", "POST");
        fields.push(("te", "trailers"));
        let mut raw = Raw::connect(scene.weir.port);
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
        raw.send(&frame(0, 0, 1, b"body"));
        raw.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            &block(&[trailer]),
        ));
        let became = raw.became(1);
        scene.good("trailers");
        let log = scene.backend.log();
        eprintln!("{trailer:?}: {became:?}");
        assert_eq!(
            log.count("POST /probe "),
            usize::from(became == Became::Served),
            "{trailer:?}: {:?}",
            log.lines()
        );
        // The head may have gone on before.
        let cut = log.broken.iter().all(|broken| broken == "Truncated");
        assert!(
            log.broken.is_empty() || (cut && became == Became::Broken),
            "{trailer:?}: {:?}",
            log.broken
        );
        for evil in ["/smuggled", "evil.example", "6.6.6.6", "DELETE"] {
            assert!(!log.saw(evil), "{trailer:?}");
        }
    }
    scene.end();
}

/// Names that stand for a long value, 300 times in each head, on a hundred streams whose answers are not taken (an HPACK bomb).
#[test]
fn short_references_to_long_fields_hold_little() {
    let scene = Scene::new();
    scene.good("a start");
    let before = scene.weir.resident();
    let mut raw = Raw::connect(scene.weir.port);
    // No window: answers stay.
    raw.send(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let mut first = block(&PSEUDO);
    // With an index (section 6.2.1): a value of 4,000 bytes, whose length takes three bytes.
    first.extend([0x40, 3]);
    first.extend(b"x-a");
    first.extend([0x7f, 0xa1, 0x1e]);
    first.extend(vec![b'a'; 4000]);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &first));
    for stream in 1..100 {
        let mut references = block(&PSEUDO);
        references.extend([0xbe; 300]);
        raw.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            2 * stream + 1,
            &references,
        ));
    }
    // A hundred heads of 1.2 MB would be 120 MB.
    scene.good("the bomb");
    let held = scene.weir.resident().saturating_sub(before);
    assert!(held < 8 << 20, "{held} bytes");
    for seen in &scene.backend.log().requests {
        assert!(
            seen.all("x-a").len() <= 1,
            "{} fields came through",
            seen.all("x-a").len()
        );
    }
    drop(raw);
    let weir = &scene.weir;
    eventually("it is forgotten", || weir.in_flight() == 0);
    scene.end();
}
