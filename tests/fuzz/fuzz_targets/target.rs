//! The target's normal form: no panic, one form for each meaning and for both readers, nothing above the root.
//! The bytes are a target, and behind the first line break a Host.

#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use libfuzzer_sys::fuzz_target;
use weirkeeper::message::path::PathRules;
use weirkeeper::message::target::{self, Target};

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let (Some(raw), host) = (lines.next(), lines.next().unwrap_or(b"h")) else {
        return;
    };
    let Ok(host) = HeaderValue::from_bytes(host) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, host);
    let headers = headers.into();
    let read = |raw: &[u8]| {
        let raw = Bytes::copy_from_slice(raw);
        target::read(&Method::GET, &raw, &headers, Version::HTTP_11, &PathRules::KEEP)
    };
    let first = read(raw);
    if let Ok(uri) = Uri::try_from(raw)
        && !raw.contains(&b'#')
    {
        let parsed = target::parse(&Method::GET, &uri, &headers, Version::HTTP_11, &PathRules::KEEP);
        let parts = |target: &Target| target.parts().concat();
        assert_eq!(parsed.as_ref().map(parts), first.as_ref().map(parts));
    }
    let Ok(first) = first else {
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
    let second = read(first.parts().concat().as_bytes()).expect("a normal form is accepted");
    assert_eq!(second.parts(), first.parts());
});
