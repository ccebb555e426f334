//! The fields of a head as bytes with spans: whatever is asked of them or done to them, they are the map that they stand for.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use weirkeeper::message::head::Fields;
use weirkeeper::message::known::Known;

use super::get;

const NAMES: &[&str] = &[
    "Host",
    "connection",
    "CONNECTION",
    "Keep-Alive",
    "x-a",
    "X-A",
    "x-b",
    "Via",
    "via",
    "Date",
    "X_Real_IP",
    "x-real-ip",
    "Server",
    "Set-Cookie",
    "Upgrade",
];
const VALUES: &[&str] = &[
    "",
    "a",
    "close, X-A",
    "x-b",
    "keep-alive",
    "a b\tc",
    "\u{e9}",
    "host, via",
];
/// How a line is written: what stands behind its name and its value.
const FORMS: &[(&str, &str)] = &[
    (": ", "\r\n"),
    (": ", "\r\n"),
    (": ", "\r\n"),
    (":", "\r\n"),
    (" : ", "\r\n"),
    (":  ", " \t\r\n"),
    (": ", "\r\n folded\r\n"),
];
const KNOWN: &[Known] = &[
    Known::Host,
    Known::Connection,
    Known::KeepAlive,
    Known::Via,
    Known::Date,
    Known::XRealIp,
    Known::Upgrade,
    Known::Te,
];

/// Lines as they come, and the fields that they are.
fn section() -> impl Strategy<Value = (Fields, HeaderMap)> {
    let line = (0..NAMES.len(), 0..VALUES.len(), 0..FORMS.len());
    prop::collection::vec(line, 0..20).prop_map(|lines| {
        let mut head = String::from("HTTP/1.1 200 OK\r\n");
        let mut map = HeaderMap::new();
        for (name, value, form) in lines {
            let (name, value, (colon, end)) = (NAMES[name], VALUES[value], FORMS[form]);
            head.extend([name, colon, value, end]);
            let value = match (end.trim(), value) {
                ("", _) => value.to_owned(),
                (folded, "") => folded.to_owned(),
                // The line's end and the blank behind it have become blanks.
                (folded, _) => format!("{value}   {folded}"),
            };
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            map.append(name, value);
        }
        head.push_str("\r\n");
        let decoded = get(&head);
        assert_eq!(decoded.error, None, "{head:?}");
        (decoded.head().headers.clone(), map)
    })
}

/// The fields as HTTP/1.1 writes them, read again.
fn written(fields: &Fields, keep: impl Fn(Known, &[u8]) -> bool) -> HeaderMap {
    let mut out = BytesMut::from("HTTP/1.1 200 OK\r\n");
    fields.copy(&mut out, keep);
    out.extend_from_slice(b"\r\n");
    let decoded = get(&out);
    assert_eq!(decoded.error, None, "{out:?}");
    decoded.head().headers.map().clone()
}

fn assert_same(fields: &Fields, map: &HeaderMap) {
    assert_eq!(fields.map(), map);
    assert_eq!(fields.len(), map.len());
    assert_eq!(fields.is_empty(), map.is_empty());
    for known in KNOWN {
        let name = known.name().expect("it has one");
        let all: Vec<_> = map
            .get_all(&name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        assert_eq!(fields.get_all(*known).collect::<Vec<_>>(), all, "{known:?}");
        assert_eq!(fields.named(&name).collect::<Vec<_>>(), all, "{known:?}");
        assert_eq!(fields.has(*known), !all.is_empty(), "{known:?}");
        assert_eq!(fields.get(*known), all.first().copied(), "{known:?}");
        assert_eq!(fields.shared(*known).as_ref(), map.get(&name), "{known:?}");
    }
    for name in ["x-a", "x_real_ip", "x-none"].map(HeaderName::from_static) {
        let all: Vec<_> = map
            .get_all(&name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        assert_eq!(fields.named(&name).collect::<Vec<_>>(), all, "{name}");
    }
    let (mut each, mut shared) = (HeaderMap::new(), HeaderMap::new());
    fields.each(|known, name, value| {
        assert_eq!(known, Known::of(name));
        let name = HeaderName::from_bytes(name).expect("a name");
        each.append(name, HeaderValue::from_bytes(value).expect("a value"));
    });
    fields.each_shared(|_, name, value| {
        shared.append(name, value);
    });
    assert_eq!((&each, &shared), (map, map));
}

proptest! {
    #[test]
    fn fields_are_the_map_that_they_stand_for((fields, map) in section()) {
        assert_same(&fields, &map);
        assert_eq!(&written(&fields, |_, _| true), &map);
        let mut rest = map.clone();
        rest.remove("via");
        rest.remove("x-a");
        let keep = |known, name: &[u8]| known != Known::Via && !name.eq_ignore_ascii_case(b"x-a");
        assert_eq!(written(&fields, keep), rest);
    }

    #[test]
    fn changes_are_the_same_in_either_form(
        (fields, map) in section(),
        changes in prop::collection::vec((0..5, 0..KNOWN.len()), 1..6),
    ) {
        let (mut fields, mut other) = (fields, Fields::from(map));
        for (change, known) in changes {
            let known = KNOWN[known];
            for fields in [&mut fields, &mut other] {
                let value = HeaderValue::from_static("new");
                match change {
                    0 => fields.remove(known),
                    1 => fields.append(known, value),
                    2 => fields.set(known, value),
                    3 => fields.strip_hop_by_hop(),
                    _ => fields.change(|map| { map.append("x-a", value); }),
                }
            }
            assert_same(&fields, other.map());
        }
        assert_eq!(&written(&fields, |_, _| true), other.map());
        assert_eq!(fields.into_map(), other.into_map());
    }
}

#[test]
fn neighbours_are_copied_in_the_case_in_which_they_came() {
    let decoded = get("HTTP/1.1 200 OK\r\nX-Aa: 1\r\nx-bB:2\r\nX-Cc:\r\nDATE: d\r\nVia: v\r\n\r\n");
    let mut out = BytesMut::new();
    let fields = &decoded.head().headers;
    fields.copy(&mut out, |known, _| known != Known::Date);
    assert_eq!(&out[..], b"X-Aa: 1\r\nx-bB: 2\r\nX-Cc: \r\nVia: v\r\n");
}
