//! What makes two requests belong together, as one number: requests with the same go to the same backend under hashing.
//! Absent: which backend that is (the engine), and who the client is (the connection).

use std::net::IpAddr;

use http::HeaderName;
use rapidhash::v3::rapidhash_v3;

use super::head::Fields;
use super::known::Known;

/// By what requests belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address, without its port.
    #[default]
    Address,
    /// The normalised path, without the query.
    Path,
    /// This field's value; a request without it goes by the address.
    Header(HeaderName),
    /// This cookie's value; a request without it goes by the address.
    Cookie(String),
}

/// A hash that is the same on every machine, in every version, after every restart. It is no defence against clients who
/// look for values that collide: what they gain is the choice of their backend, and the bound on load holds all the same.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    rapidhash_v3(bytes)
}

impl HashBy {
    /// The key of a request with this path and these fields, from a client at this address. An empty value is none.
    pub fn key(&self, path: &str, headers: &Fields, address: IpAddr) -> u64 {
        let said = match self {
            HashBy::Address => None,
            HashBy::Path => Some(path.as_bytes()),
            HashBy::Header(name) => headers.named(name).next(),
            HashBy::Cookie(name) => cookie(headers, name.as_bytes()),
        };
        match said {
            Some(value) if !value.is_empty() => stable_hash(value),
            _ => address_key(address),
        }
    }
}

/// The key of a client that is known by its address alone. An IPv4-mapped address is the IPv4 address.
pub fn address_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => stable_hash(&v4.octets()),
        IpAddr::V6(v6) => stable_hash(&v6.octets()),
    }
}

/// The first value of the cookie called `name` (RFC 6265 section 5.4): names are compared as they are, blanks around do not
/// count, and several Cookie fields are one list.
fn cookie<'a>(headers: &'a Fields, name: &[u8]) -> Option<&'a [u8]> {
    headers
        .get_all(Known::Cookie)
        .flat_map(|line| line.split(|b| *b == b';'))
        .find_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            (pair[..at].trim_ascii() == name).then(|| pair[at + 1..].trim_ascii())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn headers(fields: &[(&'static str, &str)]) -> Fields {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        let mut map = http::HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            map.append(name, value);
        }
        map.into()
    }

    fn key(by: &HashBy, fields: &[(&'static str, &str)]) -> u64 {
        by.key("/a", &headers(fields), HERE)
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(stable_hash(b""), 0x0338_dc4b_e2ce_cdae);
        assert_eq!(stable_hash(b"localhost:8081"), 0x0c5b_398f_3d5a_063e);
        assert_eq!(stable_hash(&[7; 100]), 0x1b6e_b8a0_e648_b681);
    }

    #[test]
    fn cookies_are_found_where_they_stand() {
        let found = |fields: &[(&'static str, &str)]| {
            cookie(&headers(fields), b"sid").map(|v| String::from_utf8_lossy(v).into_owned())
        };
        for (line, want) in [
            ("sid=1", Some("1")),
            ("a=b; sid=1; c=d", Some("1")),
            ("a=b;sid = 1 ;c=d", Some("1")),
            ("sid=1=2", Some("1=2")),
            ("sid=1; sid=2", Some("1")),
            ("sid=", Some("")),
            ("sid", None),
            ("SID=1; xsid=2; sidx=3; a=sid=4", None),
            ("", None),
        ] {
            assert_eq!(found(&[("cookie", line)]).as_deref(), want, "{line}");
        }
        assert_eq!(
            found(&[("cookie", "a=b"), ("cookie", "sid=2")]).as_deref(),
            Some("2")
        );
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn who_says_nothing_goes_by_its_address() {
        let by = [
            HashBy::Header(HeaderName::from_static("x-user")),
            HashBy::Cookie("sid".into()),
        ];
        for by in &by {
            assert_eq!(key(by, &[]), address_key(HERE));
            assert_eq!(
                key(by, &[("x-user", ""), ("cookie", "sid=")]),
                address_key(HERE)
            );
            let fields = [("x-user", "7"), ("cookie", "sid=7")];
            assert_eq!(key(by, &fields), stable_hash(b"7"));
        }
        assert_eq!(key(&HashBy::Address, &[("x-user", "7")]), address_key(HERE));
        assert_eq!(key(&HashBy::Path, &[]), stable_hash(b"/a"));
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(address_key(mapped), address_key(HERE));
        assert_ne!(address_key("192.0.2.2".parse().unwrap()), address_key(HERE));
    }
}
