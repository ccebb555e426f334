//! The directive parsers on arbitrary lines of the fields that they read: nothing may panic, and a plain `no-store` beside
//! whatever junk without quotes is heard.

#![no_main]

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, PRAGMA};
use libfuzzer_sys::fuzz_target;
use weirkeeper::cache::directives::{RequestDirectives, ResponseDirectives};

const NAMES: [HeaderName; 4] = [
    CACHE_CONTROL,
    PRAGMA,
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("weirkeeper-cache-control"),
];

fuzz_target!(|data: &[u8]| {
    let mut fields = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        // The first byte chooses the field.
        if let [first, value @ ..] = line
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            fields.append(&NAMES[usize::from(*first) % NAMES.len()], value);
        }
    }
    let _ = RequestDirectives::of(&fields);
    let _ = ResponseDirectives::of(&fields);

    let plain: Vec<u8> = data.iter().copied().filter(|byte| *byte != b'"').collect();
    let lines = plain.split(|byte| *byte == b'\n');
    for line in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        let line = [b"no-store,", line.as_bytes()].concat();
        let mut fields = HeaderMap::new();
        fields.append(CACHE_CONTROL, HeaderValue::from_bytes(&line).expect("a value, and what goes before it"));
        assert!(ResponseDirectives::of(&fields).no_store);
        assert!(RequestDirectives::of(&fields).no_store);
    }
});
