//! Changes of a connection's protocol (RFC 9110 section 7.8) and WebSocket's handshake (RFC 6455 section 4). Absent: how HTTP/2
//! asks for one (RFC 8441), and the bytes that follow, which are nobody's business here.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, Method, Version, header};

use super::fields::{ConnectionTokens, list_items};
use super::head::Fields;
use super::known::Known;

/// WebSocket's name in an Upgrade field and in HTTP/2's `:protocol`.
pub const WEBSOCKET: &str = "websocket";

/// The client's half of WebSocket's handshake.
pub static KEY: HeaderName = header::SEC_WEBSOCKET_KEY;

/// Is this its name, in whatever case?
pub fn is_key(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(KEY.as_str().as_bytes())
}

/// What is asked of a backend.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The protocol.
    pub token: String,
    /// Our own half of WebSocket's handshake, where the client has none (RFC 8441 section 5).
    pub key: Option<String>,
}

impl Ask {
    /// Do the fields of a 101 say what was asked for?
    pub fn is_answered_by(&self, headers: &Fields) -> bool {
        is_switch_to(headers, &self.token)
            && self.key.as_ref().is_none_or(|key| accepts(headers, key))
    }
}

/// The first of the protocols that a request asks for and that is among `allowed` (in lower case). A request of HTTP/1.0, one
/// whose Connection field does not say so, and WebSocket by another method than GET ask for none.
pub fn asked<'a>(
    method: &Method,
    version: Version,
    headers: &Fields,
    allowed: &'a [String],
) -> Option<&'a str> {
    if version != Version::HTTP_11 || !headers.has(Known::Upgrade) {
        return None;
    }
    if !ConnectionTokens::of(headers.get_all(Known::Connection)).upgrade() {
        return None;
    }
    let wanted = items(headers).find_map(|item| {
        let same = |token: &&String| item.eq_ignore_ascii_case(token.as_bytes());
        allowed.iter().find(same)
    })?;
    (wanted != WEBSOCKET || method == Method::GET).then_some(wanted)
}

/// Do the fields of a 101 say that `token`, and nothing besides, is spoken from here on?
pub fn is_switch_to(headers: &Fields, token: &str) -> bool {
    let mut said = items(headers);
    let first = said.next();
    first.is_some_and(|f| f.eq_ignore_ascii_case(token.as_bytes())) && said.next().is_none()
}

fn items(headers: &Fields) -> impl Iterator<Item = &[u8]> {
    headers.get_all(Known::Upgrade).flat_map(list_items)
}

/// A Sec-WebSocket-Key out of 128 random bits.
pub fn key((high, low): (u64, u64)) -> String {
    let bits = u128::from(high) << 64 | u128::from(low);
    STANDARD.encode(bits.to_be_bytes())
}

/// The Sec-WebSocket-Accept that belongs to a key. SHA-1 proves here that the peer speaks the protocol, and nothing else.
pub fn accept(key: &str) -> String {
    const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let text = [key, SUFFIX].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Do the fields of a 101 answer this key?
pub fn accepts(headers: &Fields, key: &str) -> bool {
    let mut said = headers.named(&header::SEC_WEBSOCKET_ACCEPT);
    said.next().is_some_and(|v| v == accept(key).as_bytes()) && said.next().is_none()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn fields(of: &[(&'static str, &'static str)]) -> Fields {
        let mut map = HeaderMap::new();
        for (name, value) in of {
            map.append(*name, HeaderValue::from_static(value));
        }
        map.into()
    }

    fn ask(method: &Method, version: Version, of: &[(&'static str, &'static str)]) -> String {
        let allowed = ["websocket".to_owned(), "tcp".to_owned()];
        asked(method, version, &fields(of), &allowed)
            .unwrap_or("nothing")
            .to_owned()
    }

    #[test]
    fn only_what_is_allowed_is_asked_for() {
        let get = |of: &[_]| ask(&Method::GET, Version::HTTP_11, of);
        let connection = ("connection", "keep-alive, Upgrade");
        assert_eq!(get(&[connection, ("upgrade", "WebSocket")]), "websocket");
        assert_eq!(get(&[connection, ("upgrade", "foo/2, tcp")]), "tcp");
        assert_eq!(
            get(&[connection, ("upgrade", "foo"), ("upgrade", "tcp")]),
            "tcp"
        );
        assert_eq!(get(&[connection, ("upgrade", "h2c")]), "nothing");
        assert_eq!(get(&[connection, ("upgrade", "websocket/13")]), "nothing");
        assert_eq!(get(&[connection]), "nothing");
        assert_eq!(get(&[("upgrade", "websocket")]), "nothing");
    }

    #[test]
    fn version_and_method_must_fit() {
        let of = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(ask(&Method::GET, Version::HTTP_10, &of), "nothing");
        assert_eq!(ask(&Method::GET, Version::HTTP_2, &of), "nothing");
        assert_eq!(ask(&Method::POST, Version::HTTP_11, &of), "nothing");
        let of = [("connection", "upgrade"), ("upgrade", "tcp")];
        assert_eq!(ask(&Method::POST, Version::HTTP_11, &of), "tcp");
    }

    #[test]
    fn a_switch_names_one_protocol() {
        let is = |of: &[_]| is_switch_to(&fields(of), "websocket");
        assert!(is(&[("upgrade", "WebSocket")]));
        assert!(!is(&[]));
        assert!(!is(&[("upgrade", "foo")]));
        assert!(!is(&[("upgrade", "websocket, foo")]));
        assert!(!is(&[("upgrade", "websocket"), ("upgrade", "foo")]));
    }

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn a_key_has_one_answer() {
        let sample = "dGhlIHNhbXBsZSBub25jZQ==";
        let answer = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(accept(sample), answer);
        assert!(accepts(
            &fields(&[("sec-websocket-accept", answer)]),
            sample
        ));
        assert!(!accepts(
            &fields(&[("sec-websocket-accept", answer)]),
            "other"
        ));
        let twice = [("sec-websocket-accept", answer); 2];
        assert!(!accepts(&fields(&twice), sample));
        assert_eq!(key((0, 1)), "AAAAAAAAAAAAAAAAAAAAAQ==");
    }
}
