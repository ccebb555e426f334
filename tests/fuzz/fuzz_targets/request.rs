//! The request decoder: no panic, the same outcome however the bytes arrive, and whether bodies are read or dropped.
//! The first byte chooses the length of the reads, the second the requests whose bodies are dropped.

#![no_main]

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use weirkeeper::h1::{Dropped, HeadLimits, Piece, RequestDecoder, RequestError, RequestLimits};
use weirkeeper::message::path::PathRules;
use weirkeeper::message::target;

const LIMITS: RequestLimits = RequestLimits {
    head: HeadLimits {
        bytes: 4096,
        fields: 20,
    },
    uri_bytes: 1024,
};

/// A request, with the body where it is read.
#[derive(Debug, Default, PartialEq)]
struct Request {
    head: String,
    target: Bytes,
    headers: HeaderMap,
    body: Vec<u8>,
    whole: bool,
}

/// What must not depend on the reads.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    requests: Vec<Request>,
    /// The bytes end within a request, or are none. A line without its end may be refused before the end comes, or not yet.
    open: bool,
}

fuzz_target!(|data: &[u8]| {
    let [step, dropped, bytes @ ..] = data else {
        return;
    };
    let whole = run(bytes, bytes.len().max(1), 0);
    let split = run(bytes, usize::from(*step).max(1), 0);
    assert_eq!(whole, split);
    let mixed = run(bytes, usize::from(*step).max(1), *dropped);
    let targets = |outcome: &Outcome| -> Vec<Bytes> {
        let requests = outcome.requests.iter();
        requests.map(|request| request.target.clone()).collect()
    };
    assert_eq!(targets(&mixed), targets(&whole));
});

/// Bit n of `dropped` says that the body of request n is dropped.
fn run(bytes: &[u8], step: usize, dropped: u8) -> Outcome {
    let mut decoder = RequestDecoder::new(LIMITS);
    let mut outcome = Outcome::default();
    let mut buf = BytesMut::new();
    let result = bytes.chunks(step).try_for_each(|read| {
        buf.extend_from_slice(read);
        pump(&mut decoder, &mut buf, &mut outcome, dropped)
    });
    outcome.open = result.is_err() || decoder.has_begun(&buf);
    outcome
}

fn pump(
    decoder: &mut RequestDecoder,
    buf: &mut BytesMut,
    outcome: &mut Outcome,
    dropped: u8,
) -> Result<(), RequestError> {
    loop {
        if outcome.requests.last().is_none_or(|last| last.whole) {
            let Some(head) = decoder.head(buf)? else {
                return Ok(());
            };
            if let Ok(target) =
                target::read(&head.method, &head.target, &head.headers, head.version, &PathRules::KEEP)
            {
                assert!(target.path() == "*" || target.path().starts_with('/'));
            }
            outcome.requests.push(Request {
                head: format!("{} {:?} {:?}", head.method, head.version, head.framing),
                target: head.target,
                headers: head.headers.into_map(),
                ..Request::default()
            });
        }
        let at = outcome.requests.len() - 1;
        let request = &mut outcome.requests[at];
        let mut budget = u64::MAX;
        if at < 8 && dropped >> at & 1 == 1 {
            match decoder.drop_body(buf, &mut budget)? {
                Dropped::All => request.whole = true,
                Dropped::NeedMore => return Ok(()),
                Dropped::TooMuch => unreachable!("the budget has no end"),
            }
            continue;
        }
        match decoder.body(buf)? {
            Piece::Data(data) => request.body.extend_from_slice(&data),
            Piece::NeedMore => return Ok(()),
            Piece::End(_) => request.whole = true,
        }
    }
}
