//! The response decoder: no panic, and the same outcome however the bytes arrive.
//! The first byte chooses the method, the second the length of the reads.

#![no_main]

use bytes::BytesMut;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use weirkeeper::h1::{DecodeError, HeadLimits, Piece, ResponseDecoder};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 4096,
    fields: 20,
};

/// What must not depend on the reads.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    heads: Vec<(u16, HeaderMap, bool)>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    reusable: bool,
    failed: bool,
}

fuzz_target!(|data: &[u8]| {
    let [method, step, bytes @ ..] = data else {
        return;
    };
    let method = match method % 3 {
        0 => Method::GET,
        1 => Method::HEAD,
        _ => Method::CONNECT,
    };
    let whole = run(&method, bytes, bytes.len().max(1));
    let split = run(&method, bytes, usize::from(*step).max(1));
    assert_eq!(whole, split);
});

fn run(method: &Method, bytes: &[u8], step: usize) -> Outcome {
    let mut decoder = ResponseDecoder::new(method, LIMITS);
    let mut outcome = Outcome::default();
    let mut buf = BytesMut::new();
    let result = bytes
        .chunks(step)
        .try_for_each(|read| {
            buf.extend_from_slice(read);
            pump(&mut decoder, &mut buf, &mut outcome)
        })
        .map(|()| outcome.reusable = decoder.reusable(&buf))
        .and_then(|()| decoder.eof());
    outcome.failed = result.is_err();
    outcome
}

fn pump(
    decoder: &mut ResponseDecoder,
    buf: &mut BytesMut,
    outcome: &mut Outcome,
) -> Result<(), DecodeError> {
    while outcome.heads.last().is_none_or(|head| head.2) {
        let Some(head) = decoder.head(buf)? else {
            return Ok(());
        };
        let status = head.status.as_u16();
        outcome.heads.push((status, head.headers.into_map(), head.interim));
    }
    loop {
        match decoder.body(buf)? {
            Piece::Data(data) => outcome.body.extend_from_slice(&data),
            Piece::NeedMore => return Ok(()),
            Piece::End(trailers) => {
                outcome.trailers = trailers.or(outcome.trailers.take());
                return Ok(());
            }
        }
    }
}
