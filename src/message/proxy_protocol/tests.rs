//! Headers as they are written, cut, bent and invented.

use proptest::prelude::*;

use super::*;

/// Feeds `bytes` as a socket would, in pieces of at most `step`; says where the header ended and what it said, or that the
/// bytes were too few or no header. It never asks for a byte that is not there unless the header is cut.
fn feed(bytes: &[u8], step: usize) -> Result<Option<(usize, Option<Addresses>)>, Malformed> {
    let mut taken = 0;
    loop {
        match read(&bytes[..taken])? {
            Progress::Done(addresses) => return Ok(Some((taken, addresses))),
            Progress::More(0) => panic!("it asks for nothing after {taken} bytes"),
            Progress::More(_) if taken == bytes.len() => return Ok(None),
            Progress::More(n) => taken = (taken + n.min(step)).min(bytes.len()),
        }
    }
}

fn whole(bytes: &[u8]) -> Result<Option<Addresses>, Malformed> {
    match feed(bytes, usize::MAX)? {
        Some((n, addresses)) if n == bytes.len() => Ok(addresses),
        other => panic!("{other:?} for {} bytes", bytes.len()),
    }
}

fn ends(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A header of version 2 with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    out.extend_from_slice(rest);
    out
}

#[test]
fn lines_as_the_specification_has_them() {
    for (text, said) in [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Some(ends("255.255.255.255:65535", "255.255.255.255:65535")),
        ),
        (
            "PROXY TCP4 1.1.1.1 2.2.2.2 0 1\r\n",
            Some(ends("1.1.1.1:0", "2.2.2.2:1")),
        ),
        (
            "PROXY TCP6 ::1 2001:db8::2 5 6\r\n",
            Some(ends("[::1]:5", "[2001:db8::2]:6")),
        ),
        (
            "PROXY TCP6 ffff:f:f:f:f:f:f:ffff ffff:f:f:f:f:f:f:ffff 65535 65535\r\n",
            Some(ends(
                "[ffff:f:f:f:f:f:f:ffff]:65535",
                "[ffff:f:f:f:f:f:f:ffff]:65535",
            )),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever 1\r\n", None),
    ] {
        assert_eq!(whole(text.as_bytes()), Ok(said), "{text}");
    }
}

#[test]
fn lines_that_are_nearly_right_are_wrong() {
    for text in [
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY  TCP4 1.1.1.1 2.2.2.2 3 4\r\n",
        "PROXY TCP4  1.1.1.1 2.2.2.2 3 4\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 3 4 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 3 4 5\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 3\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 +3 4\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 03 4\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 65536 4\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 3 -4\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 3 \r\n",
        "PROXY TCP4 1.1.1.256 2.2.2.2 3 4\r\n",
        "PROXY TCP4 1.1.1 2.2.2.2 3 4\r\n",
        "PROXY TCP4 01.1.1.1 2.2.2.2 3 4\r\n",
        "PROXY TCP4 ::1 2.2.2.2 3 4\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 3 4\r\n",
        "PROXY TCP6 [::1] ::2 3 4\r\n",
        "PROXY TCP6 ::1%1 ::2 3 4\r\n",
        "PROXY TCP5 1.1.1.1 2.2.2.2 3 4\r\n",
        "PROXY UDP4 1.1.1.1 2.2.2.2 3 4\r\n",
        "PROXY unknown\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN a\rb\r\n",
        "proxy TCP4 1.1.1.1 2.2.2.2 3 4\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 3 4\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\n",
        "\n",
    ] {
        let read = feed(text.as_bytes(), usize::MAX);
        let cut = "\r\n\r\n".starts_with(text) && text.len() > 1;
        assert!(
            read == Err(Malformed) || (cut && read == Ok(None)),
            "{text:?} {read:?}"
        );
    }
}

#[test]
fn a_line_has_an_end_within_107_bytes() {
    let line = |n: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(n - 16));
    assert_eq!(line(107).len(), 107);
    assert_eq!(whole(line(107).as_bytes()), Ok(None));
    assert_eq!(feed(line(108).as_bytes(), 7), Err(Malformed));
    let endless = "PROXY UNKNOWN".to_owned() + &"x".repeat(1000);
    assert_eq!(feed(endless.as_bytes(), usize::MAX), Err(Malformed));
}

#[test]
fn binary_headers_of_every_kind() {
    let four = [1, 1, 1, 1, 2, 2, 2, 2, 0, 80, 1, 0];
    assert_eq!(
        whole(&v2(PROXY, TCP4, &four)),
        Ok(Some(ends("1.1.1.1:80", "2.2.2.2:256")))
    );
    let mut with_tlvs = four.to_vec();
    with_tlvs.extend_from_slice(&[4, 0, 2, 9, 9, 0xE0, 0, 0]);
    assert!(whole(&v2(PROXY, TCP4, &with_tlvs)).is_ok_and(|a| a.is_some()));
    assert_eq!(whole(&v2(PROXY, UNSPECIFIED, &[])), Ok(None));
    assert_eq!(whole(&v2(PROXY, UNIX, &[0; 216])), Ok(None));
    // Under LOCAL nothing behind the length means anything.
    for rest in [&four[..], &[7; 5], &[]] {
        assert_eq!(whole(&v2(LOCAL, TCP4, rest)), Ok(None));
    }
    assert_eq!(whole(&v2(LOCAL, 0xFF, &[0; LONGEST_REST])), Ok(None));
}

#[test]
fn binary_headers_that_are_nearly_right_are_wrong() {
    let four = [0; 12];
    let mut cut_tlv = four.to_vec();
    cut_tlv.extend_from_slice(&[4, 0, 2, 9]);
    let mut short_tlv = four.to_vec();
    short_tlv.extend_from_slice(&[4, 0]);
    for bad in [
        v2(PROXY, TCP4, &four[..11]),
        v2(PROXY, TCP6, &[0; 35]),
        v2(PROXY, UNIX, &[0; 215]),
        v2(PROXY, TCP4, &cut_tlv),
        v2(PROXY, TCP4, &short_tlv),
        v2(PROXY, 0x12, &four),
        v2(PROXY, 0x22, &[0; 36]),
        v2(PROXY, 0x10, &four),
        v2(PROXY, 0x41, &four),
        v2(0x11, TCP4, &four),
        v2(0x22, TCP4, &four),
        v2(0x31, TCP4, &four),
        v2(LOCAL, TCP4, &[0; LONGEST_REST + 1]),
    ] {
        assert_eq!(feed(&bad, usize::MAX), Err(Malformed), "{bad:?}");
    }
}

#[test]
fn two_families_are_written_as_one() {
    let mixed = ends("1.2.3.4:5", "[::9]:6");
    for version in [Version::V1, Version::V2] {
        let read = whole(&write(version, Some(mixed))).unwrap().unwrap();
        assert_eq!(read, ends("[::ffff:1.2.3.4]:5", "[::9]:6"));
        let mapped = ends("[::ffff:1.2.3.4]:5", "[::ffff:5.6.7.8]:6");
        let read = whole(&write(version, Some(mapped))).unwrap().unwrap();
        assert_eq!(read, ends("1.2.3.4:5", "5.6.7.8:6"));
    }
}

fn address() -> impl Strategy<Value = Addresses> {
    let four = any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    // The first bits keep it apart from mapped IPv4.
    let six = any::<([u8; 16], [u8; 16])>().prop_map(|(mut a, mut b)| {
        (a[0], b[0]) = (a[0] | 0x20, b[0] | 0x20);
        (IpAddr::from(a), IpAddr::from(b))
    });
    (prop_oneof![four, six], any::<(u16, u16)>()).prop_map(|((s, d), (from, to))| Addresses {
        source: SocketAddr::new(s, from),
        destination: SocketAddr::new(d, to),
    })
}

fn header() -> impl Strategy<Value = (Vec<u8>, Option<Addresses>)> {
    let version = prop_oneof![Just(Version::V1), Just(Version::V2)];
    (version, prop::option::of(address())).prop_map(|(v, a)| (write(v, a), a))
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_no_byte_behind_it_is_taken(
        (bytes, said) in header(),
        behind in prop::collection::vec(any::<u8>(), 0..40),
        step in 1_usize..20,
    ) {
        let mut stream = bytes.clone();
        stream.extend_from_slice(&behind);
        prop_assert_eq!(feed(&stream, step), Ok(Some((bytes.len(), said))));
        prop_assert_eq!(feed(&stream, usize::MAX), Ok(Some((bytes.len(), said))));
    }

    #[test]
    fn a_header_that_is_cut_is_never_whole((bytes, _) in header(), at in any::<prop::sample::Index>()) {
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(feed(cut, usize::MAX), Ok(None));
    }

    /// Whatever comes, it neither panics nor asks for more than a header may have, and garbage is no header.
    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 1..300), begin in 0_usize..3) {
        let mut stream = [&b""[..], b"PROXY TCP4 ", SIGNATURE][begin].to_vec();
        stream.extend_from_slice(&bytes);
        let read = feed(&stream, usize::MAX);
        if let Ok(Some((n, _))) = read {
            prop_assert!(n <= 16 + LONGEST_REST);
        }
        if begin == 0 && !bytes.starts_with(b"\r") && !bytes.starts_with(b"P") {
            prop_assert_eq!(read, Err(Malformed));
        }
    }

    /// One byte of a header's fixed part that is another makes it another header, or none.
    #[test]
    fn a_bent_byte_is_not_overlooked((bytes, said) in header(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bent = bytes.clone();
        let at = at.index(bent.len());
        bent[at] ^= flip;
        // An address in capital letters is the same one.
        let same = bent.eq_ignore_ascii_case(&bytes);
        if let (Ok(Some((n, read))), false) = (feed(&bent, usize::MAX), same) {
            let unknown = bytes.starts_with(b"PROXY U") || bent.get(12) == Some(&LOCAL);
            let unspecified = said.is_none() || read.is_none();
            prop_assert!(read != said || n != bytes.len() || unknown || unspecified);
        }
    }
}
