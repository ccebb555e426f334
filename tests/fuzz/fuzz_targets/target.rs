//! The target's normal form: no panic, one form for each meaning, nothing above the root.
//! The bytes are a target, and behind the first line break a Host.

#![no_main]

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use libfuzzer_sys::fuzz_target;
use weirkeeper::message::target;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let (Some(uri), host) = (lines.next(), lines.next().unwrap_or(b"h")) else {
        return;
    };
    let (Ok(uri), Ok(host)) = (Uri::try_from(uri), HeaderValue::from_bytes(host)) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, host);
    let Ok(first) = target::parse(&Method::GET, &uri, &headers, Version::HTTP_11) else {
        return;
    };
    assert!(!first.host().is_empty() && !first.host().contains(|c: char| c.is_ascii_uppercase()));
    assert!(first.path().starts_with('/'));
    assert!(
        first
            .path()
            .split('/')
            .all(|part| part != "." && part != "..")
    );
    // A path may be encoded into more bytes than a Uri holds.
    let Ok(normal) = Uri::try_from(first.parts().concat()) else {
        return;
    };
    let second = target::parse(&Method::GET, &normal, &headers, Version::HTTP_11)
        .expect("a normal form is accepted");
    assert_eq!(second.parts(), first.parts());
});
