//! The HTTP/1.1 codec of both sides and the rules on messages: RFC 9110 and 9112 by name, and properties.

mod bounds;
mod decode;
mod differential;
mod encode;
mod fields;
mod framing;
mod head;
mod hello;
mod paths;
mod properties;
mod request;
mod respond;
mod target;

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method};
use weirkeeper::h1::{DecodeError, HeadLimits, Piece, ResponseDecoder, ResponseHead};

/// The defaults of the config.
const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 * 1024,
    fields: 100,
};

/// What `write` writes.
fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// These fields in this order.
fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

/// All that came out of a decoder, up to the end of the connection.
#[derive(Debug, Default)]
struct Decoded {
    heads: Vec<ResponseHead>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Was the message whole before the connection ended?
    whole: bool,
    /// Could the connection be used again before it ended?
    reusable: bool,
    error: Option<DecodeError>,
}

impl Decoded {
    /// The final head.
    fn head(&self) -> &ResponseHead {
        self.heads.last().expect("a head was decoded")
    }

    /// What must not depend on how the bytes arrive.
    fn gist(&self) -> String {
        format!(
            "{:?} body {:?} trailers {:?} whole {} reusable {} failed {}",
            self.heads,
            self.body,
            self.trailers,
            self.whole,
            self.reusable,
            self.error.is_some()
        )
    }
}

/// Decodes the response to a GET, whole.
fn get(bytes: impl AsRef<[u8]>) -> Decoded {
    decode(&Method::GET, LIMITS, [bytes.as_ref()])
}

/// Decodes what arrives in these reads, after which the connection ends.
fn decode<'a>(
    method: &Method,
    limits: HeadLimits,
    reads: impl IntoIterator<Item = &'a [u8]>,
) -> Decoded {
    let mut decoder = ResponseDecoder::new(method, limits);
    let mut decoded = Decoded::default();
    let mut buf = BytesMut::new();
    let run = || -> Result<(), DecodeError> {
        let mut over = false;
        for read in reads {
            buf.extend_from_slice(read);
            over = pump(&mut decoder, &mut buf, &mut decoded)?;
        }
        decoded.whole = over;
        decoded.reusable = decoder.reusable(&buf);
        decoder.eof()?;
        assert!(over || pump(&mut decoder, &mut buf, &mut decoded)?);
        assert!(decoder.is_done());
        assert_eq!(decoder.remaining(), Some(0));
        Ok(())
    };
    decoded.error = run().err();
    if let Some(error) = decoded.error {
        let mut rest = BytesMut::from(&b"HTTP/1.1 200 OK\r\n\r\n"[..]);
        assert_eq!(decoder.head(&mut rest).unwrap_err(), error, "errors stay");
        assert_eq!(decoder.body(&mut rest).unwrap_err(), error, "errors stay");
        assert!(!decoder.is_done() && !decoder.reusable(&BytesMut::new()));
    }
    decoded
}

/// Takes all that the buffer holds; true at the end of the message.
fn pump(
    decoder: &mut ResponseDecoder,
    buf: &mut BytesMut,
    decoded: &mut Decoded,
) -> Result<bool, DecodeError> {
    while decoded.heads.last().is_none_or(|head| head.interim) {
        match decoder.head(buf)? {
            Some(head) => decoded.heads.push(head),
            None => return Ok(false),
        }
    }
    loop {
        match decoder.body(buf)? {
            Piece::Data(data) => {
                assert!(!data.is_empty());
                decoded.body.extend_from_slice(&data);
            }
            Piece::NeedMore => return Ok(false),
            Piece::End(trailers) => {
                decoded.trailers = trailers.or(decoded.trailers.take());
                return Ok(true);
            }
        }
    }
}
