//! A kind of request, as its clients write it.

use std::time::Duration;

use super::forgery;
use super::pattern::Whose;
use super::tunnel::Errand;
use crate::scenario::RequestModel;

/// Bodies above this size go in pieces, a millisecond apart.
pub(super) const PIECE: usize = 8 * 1024;

/// A kind of request, ready to be sent.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) model: RequestModel,
    pub(super) method: http::Method,
    /// It asks for a tunnel.
    pub(super) tunnel: bool,
    /// Cookies that it carries.
    cookies: usize,
    /// The head up to the field that carries the id.
    head: Vec<u8>,
}

impl Kind {
    pub(super) fn new(model: &RequestModel, cookies: usize) -> Kind {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\n",
            model.method, model.path, model.host
        );
        for (name, value) in &model.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Kind {
            method: http::Method::from_bytes(model.method.as_bytes())
                .expect("the scenario was checked"),
            model: model.clone(),
            tunnel: model.headers.contains_key("upgrade"),
            cookies,
            head: head.into_bytes(),
        }
    }

    /// The cookies of a request.
    pub(super) fn cookies(&self, id: u64) -> impl Iterator<Item = String> {
        (0..self.cookies).map(move |i| format!("c{i}={id}"))
    }

    /// What passes through the tunnel that it asks for.
    pub(super) fn errand(&self, id: u64, whim: u64) -> Errand {
        Errand {
            id,
            up: self.model.body_bytes as usize,
            greeting: self.model.answer_bytes as usize,
            client_first: whim & 4 == 0,
        }
    }

    /// Between two pieces of what it sends into it.
    pub(super) fn pause(&self, whim: u64) -> Duration {
        Duration::from_millis(whim >> 8 & 63)
    }

    /// The whole request, and whether it is large enough to go in pieces.
    pub(super) fn encode(&self, id: u64) -> (Vec<u8>, bool) {
        let size = match self.tunnel {
            true => 0,
            false => self.model.body_bytes as usize,
        };
        let mut bytes = Vec::with_capacity(self.head.len() + 96 + size);
        bytes.extend_from_slice(&self.head);
        let cookies: Vec<String> = self.cookies(id).collect();
        if !cookies.is_empty() {
            bytes.extend_from_slice(format!("cookie: {}\r\n", cookies.join("; ")).as_bytes());
        }
        let answer = self.model.answer_bytes;
        bytes.extend_from_slice(format!("x-sim: {id} {answer} {size}\r\n").as_bytes());
        bytes.extend_from_slice(forgery::line(id).as_bytes());
        let body = |bytes: &mut Vec<u8>, mut offset: usize, len: usize| {
            let end = offset + len;
            while offset < end {
                let part = Whose::Request(id).slice(offset, end - offset);
                bytes.extend_from_slice(part);
                offset += part.len();
            }
        };
        if self.model.chunked {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            let half = size / 2;
            for (offset, len) in [(0, half), (half, size - half)] {
                if len > 0 {
                    bytes.extend_from_slice(format!("{len:x}\r\n").as_bytes());
                    body(&mut bytes, offset, len);
                    bytes.extend_from_slice(b"\r\n");
                }
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            if size > 0 || !(self.method.is_safe() || self.method == http::Method::DELETE) {
                bytes.extend_from_slice(format!("content-length: {size}\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            body(&mut bytes, 0, size);
        }
        (bytes, size > PIECE)
    }
}
