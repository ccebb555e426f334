//! What modelled backends say: whole answers in every framing, refusals, and what no proxy may pass on as whole.

use std::time::Duration;

use weirkeeper::rng::Rng;

use super::message::Head;
use super::pattern::Whose;

/// What is written, and whether the connection ends with it.
pub(super) struct Answer {
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// The connection ends with it.
    pub(super) close: bool,
    /// Between its pieces.
    pub(super) pace: Duration,
}

impl Answer {
    /// All at once, and the connection goes on.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Answer {
            bytes,
            close: false,
            pace: Duration::ZERO,
        }
    }
}

/// A good answer, as large as the request asks for.
pub(super) fn whole(
    id: u64,
    head: &Head,
    chunked: Option<&mut Rng>,
    close: bool,
    trailed: bool,
) -> Answer {
    let mut bytes = Vec::with_capacity(96 + head.size);
    bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nx-sim: ");
    bytes.extend_from_slice(id.to_string().as_bytes());
    if close {
        bytes.extend_from_slice(b"\r\nconnection: close");
    }
    let bodiless = head.method == "HEAD";
    match chunked {
        None => {
            bytes.extend_from_slice(b"\r\ncontent-length: ");
            bytes.extend_from_slice(head.size.to_string().as_bytes());
            bytes.extend_from_slice(b"\r\n\r\n");
            if !bodiless {
                body(&mut bytes, id, 0, head.size);
            }
        }
        Some(rng) => {
            if trailed {
                bytes.extend_from_slice(b"\r\nx-trailers: yes");
            }
            bytes.extend_from_slice(b"\r\ntransfer-encoding: chunked\r\n\r\n");
            let mut offset = 0;
            while !bodiless && offset < head.size {
                let left = head.size - offset;
                let size = 1 + usize::try_from(rng.below(left as u64)).unwrap_or(0);
                bytes.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                body(&mut bytes, id, offset, size);
                bytes.extend_from_slice(b"\r\n");
                offset += size;
            }
            if !bodiless {
                bytes.extend_from_slice(b"0\r\n");
                if trailed {
                    bytes.extend_from_slice(format!("x-end: {id}\r\n").as_bytes());
                }
                bytes.extend_from_slice(b"\r\n");
            }
        }
    }
    Answer {
        close,
        ..Answer::of(bytes)
    }
}

fn body(bytes: &mut Vec<u8>, id: u64, offset: usize, len: usize) {
    let end = bytes.len() + len;
    let begin = bytes.len();
    while bytes.len() < end {
        let at = offset + bytes.len() - begin;
        bytes.extend_from_slice(Whose::Answer(id).slice(at, end - bytes.len()));
    }
}

/// Answers that no proxy may pass on as whole ones.
pub(super) fn garbage(rng: &mut Rng, id: u64) -> Answer {
    let text = match rng.below(6) {
        0 => "SMTP ready\r\n\r\n".to_string(),
        1 => format!(
            "HTTP/1.1 200 OK\r\nx-sim: {id}\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"
        ),
        2 => format!("HTTP/1.1 200 OK\r\nx-sim: {id}\r\ncontent-length: 500\r\n\r\n"),
        3 => format!("HTTP/1.1 200 OK\r\nx-sim: {id}\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        4 => format!("HTTP/1.1 200 OK\r\nx-sim: {id}\r\ncontent-"),
        _ => String::new(),
    };
    Answer {
        close: true,
        ..Answer::of(text.into_bytes())
    }
}

/// The backend itself fails the request.
pub(super) fn refusal(id: u64, status: u16) -> Answer {
    let text = format!("HTTP/1.1 {status} Failed\r\nx-sim: {id}\r\ncontent-length: 0\r\n\r\n");
    Answer::of(text.into_bytes())
}

/// The head that opens a tunnel. What a key is answered with is fixed by RFC 6455 section 1.3, whose example the proxy's own
/// tests hold it to.
pub(super) fn switch(id: u64, key: &str) -> String {
    let accept = weirkeeper::message::upgrade::accept(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nx-sim: {id}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )
}
