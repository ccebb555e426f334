//! Properties of the codec: reads may end anywhere, chunks survive the way there and back, and nothing that could be
//! framed in two ways passes, as judged by a reader of its own that knows nothing of the codec.

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use weirkeeper::h1::{self, ResponseFraming};

use super::{LIMITS, decode, get};

/// Responses that are right or nearly so, for splitting and for mutation.
const SEEDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nb;x=y\r\n hello there\r\n0\r\nX-Sum: 1\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nDate: d\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\nServer: s\nContent-Length: 5\nX-A : b\n\nhello",
    "HTTP/1.1 200 OK\r\nServer : s\r\nX-A: b\r\n c\r\nX-B: c\nX-C: d\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
];

/// Pieces that have confused parsers.
const SPICES: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "+",
    "-",
    "0",
    "3",
    "x",
    "\u{b}",
    "\u{7f}",
    "\r\n ",
    "Content-Length: 3\r\n",
    "Content-Length: 4\r\n",
    "Content-Length : 5\r\n",
    " Content-Length: 6\r\n",
    "\n",
    "\nX: y",
    "\n\t",
    "A : b\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: identity\r\n",
    "\r\n\r\n",
    "chunked",
    "HTTP/1.1 200 OK\r\n\r\n",
    "\u{fc}",
];

#[derive(Clone, Debug)]
enum Mutation {
    Insert(usize, usize),
    Remove(usize, usize),
    Replace(usize, u8),
}

fn mutation(spices: usize) -> impl Strategy<Value = Mutation> {
    prop_oneof![
        3 => (0usize..200, 0..spices).prop_map(|(at, spice)| Mutation::Insert(at, spice)),
        1 => (0usize..200, 1usize..20).prop_map(|(at, len)| Mutation::Remove(at, len)),
        1 => (0usize..200, any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
    ]
}

/// One of the seeds, with up to three mutations.
pub fn mutated(seeds: &'static [&str], spices: &'static [&str]) -> impl Strategy<Value = Vec<u8>> {
    let mutations = prop::collection::vec(mutation(spices.len()), 0..4);
    (0..seeds.len(), mutations).prop_map(|(seed, mutations)| {
        let mut bytes = seeds[seed].as_bytes().to_vec();
        for mutation in mutations {
            let length = bytes.len();
            match mutation {
                Mutation::Insert(at, spice) => {
                    let at = at % (length + 1);
                    bytes.splice(at..at, spices[spice].bytes());
                }
                Mutation::Remove(at, len) if length > 0 => {
                    let at = at % length;
                    bytes.drain(at..(at + len).min(length));
                }
                Mutation::Replace(at, byte) if length > 0 => bytes[at % length] = byte,
                Mutation::Remove(..) | Mutation::Replace(..) => {}
            }
        }
        bytes
    })
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![4 => Just(Method::GET), 1 => Just(Method::HEAD), 1 => Just(Method::CONNECT)]
}

/// Cuts the bytes at the given places, with empty reads here and there.
pub fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|at| at % (bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut reads = Vec::new();
    let mut from = 0;
    for to in places.into_iter().chain([bytes.len()]) {
        reads.push(&bytes[from..to]);
        from = to;
    }
    reads
}

/// How a reader of ours may read a head.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reader {
    /// CRLF ends a line. Lines that are odd are left out.
    Exact,
    /// LF ends a line. Lines that are odd are left out.
    Plain,
    /// LF ends a line, blanks do not matter, and folded lines are put together.
    Folding,
    /// LF ends a line, blanks do not matter, and each line is one of its own.
    Splitting,
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The fields as this reader sees them, and the length of the head; `None` if it sees no end.
fn read(reader: Reader, bytes: &[u8]) -> Option<(Fields, usize)> {
    let mut fields = Fields::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let end = match reader {
            Reader::Exact => rest.windows(2).position(|pair| pair == b"\r\n")? + 2,
            _ => rest.iter().position(|b| *b == b'\n')? + 1,
        };
        let line = rest[..end].strip_suffix(b"\n").unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_first = at == 0;
        at += end;
        if line.is_empty() {
            return Some((fields, at));
        }
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if is_first && line.contains(&b'\n') {
            // Its status line has a line break in it, so this reader sees none.
            return None;
        }
        if is_first {
            continue;
        }
        if is_folded && reader == Reader::Folding {
            let (_, value) = fields.last_mut()?;
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            continue;
        }
        let blanks_matter = matches!(reader, Reader::Exact | Reader::Plain);
        let colon = line.iter().position(|b| *b == b':');
        let Some(colon) = colon.filter(|_| !(is_folded && blanks_matter)) else {
            continue;
        };
        let (mut name, value) = (&line[..colon], &line[colon + 1..]);
        if !blanks_matter {
            name = name.trim_ascii();
        }
        fields.push((name.to_ascii_lowercase(), value.trim_ascii().to_vec()));
    }
}

/// Where the head ends and what the fields say of the body, if all readers agree on both. Those to whom a head has no end
/// cannot take its body for anything.
fn agreed(bytes: &[u8]) -> Option<(usize, ResponseFraming)> {
    let readers = [
        Reader::Exact,
        Reader::Plain,
        Reader::Folding,
        Reader::Splitting,
    ];
    let mut agreed = None;
    for (fields, end) in readers.into_iter().filter_map(|reader| read(reader, bytes)) {
        let seen = (end, certain_framing(&fields)?);
        if agreed.is_some_and(|agreed| agreed != seen) {
            return None;
        }
        agreed = Some(seen);
    }
    agreed
}

/// What the fields say of the body if all readers agree on it.
fn certain_framing(fields: &[(Vec<u8>, Vec<u8>)]) -> Option<ResponseFraming> {
    let all = |wanted: &[u8]| -> Vec<&[u8]> {
        let fields = fields.iter().filter(|(name, _)| name == wanted);
        fields.map(|(_, value)| value.as_slice()).collect()
    };
    let lengths: Vec<_> = all(b"content-length")
        .into_iter()
        .flat_map(|value| value.split(|b| *b == b','))
        .map(|item| std::str::from_utf8(item.trim_ascii()).unwrap_or("?"))
        .collect();
    match (lengths.as_slice(), all(b"transfer-encoding").as_slice()) {
        ([], []) => Some(ResponseFraming::Close),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(ResponseFraming::Chunked),
        ([first, others @ ..], []) => {
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            let length: u64 = first.parse().ok()?;
            let agree = |other: &&str| digits(other) && other.parse() == Ok(length);
            (digits(first) && others.iter().all(agree)).then_some(ResponseFraming::Length(length))
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_of_the_bytes_gives_what_the_whole_gives(
        bytes in mutated(SEEDS, SPICES),
        method in method(),
        places in prop::collection::vec(0usize..300, 0..8),
    ) {
        let whole = decode(&method, LIMITS, [&bytes[..]]);
        let split = decode(&method, LIMITS, cut(&bytes, &places));
        prop_assert_eq!(split.gist(), whole.gist());
        let single = decode(&method, LIMITS, bytes.chunks(1));
        prop_assert_eq!(single.gist(), whole.gist());
    }

    #[test]
    fn nothing_ambiguous_is_accepted(bytes in mutated(SEEDS, SPICES)) {
        let decoded = get(&bytes);
        let Some(head) = decoded.heads.first() else { return Ok(()) };
        let agreed = agreed(&bytes);
        prop_assert!(agreed.is_some(), "{:?}", bytes.escape_ascii().to_string());
        let (end, framing) = agreed.unwrap();
        match (head.status.as_u16(), framing) {
            (100..=199 | 204 | 304, _) => prop_assert_eq!(head.framing, ResponseFraming::None),
            (205, _) => prop_assert_eq!(head.framing, ResponseFraming::Length(0)),
            (_, framing) => prop_assert_eq!(head.framing, framing),
        }
        if let (ResponseFraming::Length(length), None) = (head.framing, decoded.error) {
            prop_assert_eq!(decoded.body.len() as u64, length);
            prop_assert_eq!(&decoded.body[..], &bytes[end..end + decoded.body.len()]);
        }
    }

    #[test]
    fn chunks_and_trailers_survive_the_way(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..700), 0..8),
        trailers in prop::collection::vec("[ -~]{0,20}", 0..4),
        step in 1usize..400,
    ) {
        let mut sent = HeaderMap::new();
        for value in &trailers {
            sent.append("x-trailer", HeaderValue::from_str(value.trim()).unwrap());
        }
        let mut wire = BytesMut::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in &chunks {
            h1::chunk_head(&mut wire, chunk.len());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(h1::CHUNK_TAIL);
        }
        h1::last_chunk(&mut wire, Some(&sent));
        let decoded = decode(&Method::GET, LIMITS, wire.chunks(step));
        prop_assert_eq!(decoded.error, None);
        prop_assert!(decoded.reusable);
        prop_assert_eq!(decoded.body, chunks.concat());
        prop_assert_eq!(decoded.trailers.unwrap_or_default(), sent);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), tail in any::<bool>()) {
        let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        wire.truncate(if tail { wire.len() } else { 0 });
        wire.extend_from_slice(&bytes);
        let decoded = get(&wire);
        prop_assert!(decoded.body.len() <= bytes.len());
    }
}
