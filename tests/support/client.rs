//! A client that isn't ours: it sends exactly the bytes that it is given and reads responses strictly. One connection each.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use super::wire::{Broken, Framing, Message, Wire, framing};

/// A response, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) message: Message,
    /// How its body was delimited.
    pub(crate) framing: Framing,
}

impl Response {
    /// The value of the one field called `name`.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.message.get(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        self.message.text()
    }
}

/// One connection to a server on this machine.
pub(crate) struct Client {
    wire: Wire,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(port: u16) -> Self {
        Client::connect_to((Ipv4Addr::LOCALHOST, port).into())
    }

    #[track_caller]
    pub(crate) fn connect_to(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the server accepts");
        Client {
            wire: Wire::new(stream, |_| {}),
        }
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Sends these bytes. A peer that has closed already is noticed by the read that follows, so an error is no failure here.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.wire.stream().write_all(bytes.as_ref());
    }

    /// Reads the final response to a request of this method; 1xx are passed over.
    pub(crate) fn response(&mut self, method: &str) -> Result<Response, Broken> {
        loop {
            let response = self.any_response(method)?;
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    /// Reads the next response, be it 1xx.
    pub(crate) fn any_response(&mut self, method: &str) -> Result<Response, Broken> {
        let mut message = self.wire.head()?;
        let status = status(&message.start)?;
        let declared = framing(&message)?;
        let bodiless = method == "HEAD" || status < 200 || matches!(status, 204 | 304);
        if declared.is_some_and(|f| f != Framing::Length(0)) && (status < 200 || status == 204) {
            return Err(Broken::Malformed(format!(
                "{status} with a body: {message:?}"
            )));
        }
        let framing = match declared {
            _ if bodiless => Framing::Length(0),
            Some(framing) => framing,
            None => Framing::UntilClose,
        };
        message.body = self.wire.body(framing)?;
        Ok(Response {
            status,
            message,
            framing,
        })
    }

    /// Sends one request and reads its response.
    pub(crate) fn ask(&mut self, raw: impl AsRef<[u8]>) -> Result<Response, Broken> {
        let raw = raw.as_ref();
        let method = raw.split(|b| *b == b' ').next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(raw);
        self.response(&method)
    }

    /// Breaks off: the peer sees a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(self.wire.stream());
        let set = socket.set_linger(Some(std::time::Duration::ZERO));
        set.expect("a socket takes an option");
    }

    /// Waits until the peer closes; false if it sends anything instead, or nothing for long.
    pub(crate) fn is_closed_by_peer(&mut self) -> bool {
        !self.wire.has_more() && self.wire.fill() == Err(Broken::Closed)
    }
}

/// A GET of `target` with nothing but a Host.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n\r\n")
}

/// A POST of `body` to `target` with its length.
pub(crate) fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: test.example\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// What a response says in Cache-Status.
pub(crate) fn cache_status(response: &Response) -> String {
    response.get("cache-status").unwrap_or("nothing").to_owned()
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn once(port: u16, raw: impl AsRef<[u8]>) -> Response {
    let raw = raw.as_ref();
    match Client::connect(port).ask(raw) {
        Ok(response) => response,
        Err(e) => panic!("{e:?} in answer to {:?}", String::from_utf8_lossy(raw)),
    }
}

fn status(line: &str) -> Result<u16, Broken> {
    let malformed = || Broken::Malformed(format!("status line {line:?}"));
    // To a client that speaks HTTP/1.0 a server may answer in it.
    let rest = line.strip_prefix("HTTP/1.").ok_or_else(malformed)?;
    let rest = rest
        .strip_prefix("1 ")
        .or(rest.strip_prefix("0 "))
        .ok_or_else(malformed)?;
    let (code, _reason) = rest.split_once(' ').ok_or_else(malformed)?;
    let digits = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
    let code = code.parse().ok().filter(|_| digits).ok_or_else(malformed)?;
    if (100..600).contains(&code) {
        Ok(code)
    } else {
        Err(malformed())
    }
}
