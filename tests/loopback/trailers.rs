//! Trailers over HTTP/2 that hold what only a head may (RFC 9113 section 8.1): the stream is reset, and what came of it is never
//! taken for a whole message, in either direction.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;
use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::streams::{HEADERS, RST_STREAM, SETTINGS, by_hand, frame};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

const DATA: u8 = 0;
const ENDS: u8 = 1;
const WHOLE: u8 = 4;

/// Fields of trailers, and whether they may stand there.
const TRAILERS: &[(bool, &[u8])] = &[
    (true, b"\x00\x05x-sum\x014"),
    (true, b""),
    (false, b"\x04\x06/admin"),
    (false, b"\x00\x05:path\x06/admin\x00\x05x-sum\x014"),
    // The authority, as the head has left it in the table.
    (false, b"\xbe"),
    (false, b"\x82"),
    (false, b"\x00\x05x-sum\x014\x84"),
    (false, b"\x00\x05:what\x01/"),
    (false, b"\x00\x0aconnection\x05x-sum"),
    (false, b"\x00\x11transfer-encoding\x07chunked"),
    (false, b"\x00\x0akeep-alive\x01a"),
    (false, b"\x00\x02te\x04gzip"),
];

/// A client that speaks frames.
struct Speaker(TcpStream);

impl Speaker {
    fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .expect("sent");
        let mut speaker = Speaker(stream);
        speaker.say(&frame(SETTINGS, 0, 0, &[]));
        speaker
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it is sent");
    }

    /// The first frame about this stream that is a head or a reset.
    fn fate(&mut self, stream: u32) -> u8 {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).expect("its payload");
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if of == stream && [HEADERS, RST_STREAM].contains(&head[3]) {
                return head[3];
            }
        }
    }
}

/// `POST /x`, whose authority goes into the table.
const POST: &[u8] = b"\x83\x86\x04\x02/x\x41\x01a";

#[test]
fn what_only_a_head_may_hold_resets_the_stream() {
    let backend = Backend::ok();
    let weir = Weir::start(&config(&[backend.port], Extra::default()));
    for at_once in [true, false] {
        for length in [false, true] {
            for (right, trailers) in TRAILERS {
                let before = backend.log().count("POST /x");
                let mut client = Speaker::connect(weir.port);
                let head = match length {
                    true => [POST, b"\x0f\x0d\x014"].concat(),
                    false => POST.to_vec(),
                };
                let head = frame(HEADERS, WHOLE, 1, &head);
                let body = frame(DATA, 0, 1, b"body");
                let last = frame(HEADERS, WHOLE | ENDS, 1, trailers);
                if at_once {
                    client.say(&[head, body, last].concat());
                } else {
                    for piece in [head, body, last] {
                        for byte in piece {
                            client.say(&[byte]);
                        }
                    }
                }
                let expected = if *right { HEADERS } else { RST_STREAM };
                let told = format!("{trailers:x?} {at_once} {length}");
                assert_eq!(client.fate(1), expected, "{told}");
                // The connection stands.
                client.say(&frame(HEADERS, WHOLE | ENDS, 3, b"\x82\x86\x84\x41\x01a"));
                assert_eq!(client.fate(3), HEADERS, "{told}");
                let whole = backend.log().count("POST /x") - before;
                assert_eq!(whole, usize::from(*right), "{told}");
            }
        }
    }
}

#[test]
fn a_backend_s_trailers_are_held_to_the_same() {
    for (right, trailers) in TRAILERS {
        let server = by_hand(move |_, stream| {
            let head = frame(HEADERS, WHOLE, stream, b"\x48\x03200");
            let body = frame(DATA, 0, stream, b"body");
            let last = frame(HEADERS, WHOLE | ENDS, stream, trailers);
            Some([head, body, last].concat())
        });
        let weir = super::h2_backend::weir(&[&server], "");
        let mut client = Client::connect(weir.port);
        client.send(get("/"));
        let came = client.response("GET");
        match right {
            true => assert_eq!(came.map(|r| r.text()), Ok("body".into()), "{trailers:x?}"),
            false => assert!(
                matches!(&came, Err(Broken::Truncated))
                    || came.as_ref().is_ok_and(|r| r.status == 502),
                "{trailers:x?}: {came:?}"
            ),
        }
    }
}
