//! Frames cut anywhere, with trailers that are right and wrong.

use proptest::prelude::*;

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// All that goes on of `pieces`, shown one after the other.
fn vetted(sender: Sender, pieces: &[&[u8]]) -> Vec<u8> {
    let mut frames = Frames::new(sender, 1 << 16);
    let (mut out, mut held) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let free = frames.vet(&mut held).expect("none is too large");
        out.extend(held.drain(..free));
    }
    out.extend(held);
    out
}

const PREFACE_TEXT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A POST whose authority `x` is kept in the table, and a piece of its body.
fn post(stream: u32) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, b"\x83\x84\x86\x41\x01x");
    [head, frame(DATA, 0, stream, b"body")].concat()
}

/// Trailers that are right, and those that are not, each on stream 1.
fn trailers() -> Vec<(bool, Vec<u8>)> {
    let ends = END_STREAM | END_HEADERS;
    let one = |payload: &[u8]| frame(HEADERS, ends, 1, payload);
    let padded = [&[3][..], &[0, 0, 0, 0, 9], b"\x84\0\0\0"].concat();
    let split = |first: &[u8], then: &[u8]| {
        let head = frame(HEADERS, END_STREAM, 1, first);
        [head, frame(CONTINUATION, END_HEADERS, 1, then)].concat()
    };
    vec![
        (true, one(b"\x00\x05x-sum\x014")),
        (true, one(b"")),
        (true, one(b"\x40\x01x\x01y\xbe\x00\x01x\x01y")),
        (true, split(b"", b"\x00\x01x\x01y")),
        (false, one(b"\x84")),
        (false, one(b"\x04\x02/a")),
        (false, one(b"\x00\x05:path\x02/a")),
        (false, one(b"\x00\x84\xb9\x58\xd3\x3f\x02/a")),
        (false, one(b"\x7e\x01y")),
        (false, one(b"\x00\x05:what\x02/a")),
        // What the head has put into the table, behind a change of its size.
        (false, one(b"\xbe")),
        (false, one(b"\x3f\xe1\x1f\xbe")),
        (false, one(b"\x88")),
        (false, split(b"", b"\x84")),
        (false, split(b"\x00\x05:pa", b"th\x02/a")),
        (false, frame(HEADERS, ends | PADDED | PRIORITY, 1, &padded)),
    ]
}

/// The same without the mark of the stream's end.
fn unmarked(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[4] &= !END_STREAM;
    bytes
}

#[test]
fn trailers_that_begin_with_a_pseudo_field_end_nothing() {
    for (right, last) in trailers() {
        let before = [PREFACE_TEXT, &post(1)].concat();
        let expected = match right {
            true => last.clone(),
            false => unmarked(last.clone()),
        };
        let came = vetted(Sender::Client, &[&before, &last]);
        assert_eq!(came, [before, expected].concat(), "{last:x?}");
    }
}

#[test]
fn a_response_head_behind_interim_ones_is_none_of_trailers() {
    let ends = END_STREAM | END_HEADERS;
    let interim = frame(HEADERS, END_HEADERS, 1, b"\x48\x03103");
    let whole = [&interim[..], &interim, &frame(HEADERS, ends, 1, b"\x88")].concat();
    assert_eq!(vetted(Sender::Server, &[&whole]), whole);
    // An index of the interim status that was kept.
    let again = [&interim[..], &frame(HEADERS, END_HEADERS, 3, b"\xbe")].concat();
    let again = [again, frame(HEADERS, ends, 3, b"\x88")].concat();
    assert_eq!(vetted(Sender::Server, &[&again]), again);
    let head = frame(HEADERS, END_HEADERS, 1, b"\x88");
    let wrong = frame(HEADERS, ends, 1, b"\x88");
    let expected = [head.clone(), unmarked(wrong.clone())].concat();
    assert_eq!(vetted(Sender::Server, &[&head, &wrong]), expected);
    // The stream is over for another reason.
    for over in [
        frame(DATA, END_STREAM, 1, b""),
        frame(RST_STREAM, 0, 1, &[0; 4]),
    ] {
        let all = [&head[..], &over, &wrong].concat();
        assert_eq!(vetted(Sender::Server, &[&all]), all);
    }
}

#[test]
fn a_block_without_end_is_given_up() {
    let mut frames = Frames::new(Sender::Server, 1 << 16);
    let mut block = frame(HEADERS, 0, 1, &[0; 4]);
    while block.len() <= 1 << 16 {
        assert_eq!(frames.vet(&mut block), Ok(0));
        block.extend(frame(CONTINUATION, 0, 1, &[0; 4096]));
    }
    assert_eq!(frames.vet(&mut block), Err(TooLarge));
    // What is broken is the library's to refuse.
    let mut other = Frames::new(Sender::Server, 1 << 16);
    let mut interleaved = [frame(HEADERS, 0, 1, b"\x88"), frame(DATA, 0, 1, b"")].concat();
    let all = interleaved.len();
    assert_eq!(other.vet(&mut interleaved), Ok(all));
}

proptest! {
    /// However the bytes come, the same goes on.
    #[test]
    fn cuts_change_nothing(which in 0..trailers().len(), cuts in proptest::collection::vec(0_usize..200, 0..12)) {
        let (_, last) = trailers().swap_remove(which);
        let mut whole = [PREFACE_TEXT, &frame(4, 0, 0, &[0; 12]), &post(1), &last].concat();
        whole.extend(post(3));
        let at_once = vetted(Sender::Client, &[&whole]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
        prop_assert_eq!(vetted(Sender::Client, &pieces), at_once);
    }
}
