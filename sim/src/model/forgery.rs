//! What clients claim that only a proxy may say, and ways that are closed to them: written by every client, and looked for by
//! every backend with a reading of its own.

use super::message::Head;
use crate::ledger::Ledger;

/// Below this path nothing is for backends, however it is spelled.
pub const CLOSED: &str = "closed";

/// Spellings of paths below it.
pub(super) const WAYS: [&str; 12] = [
    "/closed",
    "/closed/x?y",
    "//closed",
    "/.//closed/x",
    "/%63losed",
    "/x/../closed",
    "/closed;v=1/x",
    "/;/closed",
    "/closed%2fx",
    "/closed%5Cx",
    "/%2F/closed",
    "/closed%3bv",
];

/// What every claim says.
const CLAIM: &str = "forged";

/// Names of claims, in spellings that gateways make the same variable of.
const NAMES: [&str; 16] = [
    "x-forwarded-for",
    "x-forwarded-port",
    "X_Forwarded_For",
    "x_forwarded_proto",
    "X-Forwarded-User",
    "forwarded",
    "x-real-ip",
    "X_Real_IP",
    "true-client-ip",
    "CF-Connecting-IP",
    "x-original-url",
    "X.Rewrite.Url",
    "front-end-https",
    "remote-user",
    "proxy",
    "x-request-id",
];

/// The claim that a request makes; two of three make none.
pub(super) fn claim(id: u64) -> Option<(&'static str, &'static str)> {
    let number = id / 3 % NAMES.len() as u64;
    let name = NAMES[usize::try_from(number).unwrap_or(0)];
    id.is_multiple_of(3).then_some((name, CLAIM))
}

/// The same as a line of HTTP/1.1; empty where there is none.
pub(super) fn line(id: u64) -> String {
    claim(id).map_or(String::new(), |(name, value)| {
        format!("{name}: {value}\r\n")
    })
}

/// A backend has received a head.
pub(super) fn hear(ledger: &Ledger, name: &str, head: &Head, target: &str) {
    let mut book = ledger.book();
    book.hear(name, head.id, &head.method, target);
    if let Some((field, _)) = head.fields.iter().find(|(_, value)| value.contains(CLAIM)) {
        let what = format!("{name} was told \"{field}: {CLAIM}\" by a client who is no proxy");
        book.violation("forgery", what);
    } else if head.id.is_some_and(|id| claim(id).is_some()) {
        book.reach("a claim was kept from a backend");
    }
    if names(target).first().is_some_and(|first| first == CLOSED) {
        let what = format!("{target} came to {name}, and what lies below /{CLOSED} is not for it");
        book.violation("forgery", what);
    }
}

/// The names of a path as a server sees them that decodes first, takes every slash for one and cuts parameters off.
fn names(target: &str) -> Vec<String> {
    let path = target.split('?').next().unwrap_or_default();
    let mut decoded = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |b: Option<u8>| (b? as char).to_digit(16);
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(0));
                bytes = ahead;
            }
            (b'\\', ..) => decoded.push(b'/'),
            _ => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut names: Vec<String> = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name.to_string()),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_leads_below_what_is_closed() {
        for way in WAYS {
            assert_eq!(names(way)[0], CLOSED, "{way}");
        }
        assert_eq!(names("/a%20b/c;d?/closed"), ["a b", "c"]);
    }
}
