//! The name by which a proxy knows again what it has sent to an upstream before: a request that comes back would go round for
//! ever. Absent: when it is asked for, and what becomes of such a request.

use http::Version;

use super::head::Fields;
use super::known::Known;

/// `weir-`, and twelve digits that no other upstream and no other proxy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pseudonym {
    /// As a value of Via for HTTP/1.1.
    via: [u8; 21],
}

impl Pseudonym {
    /// Made of 48 of these bits.
    pub fn of(random: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut via = *b"1.1 weir-............";
        for (at, digit) in via[9..].iter_mut().enumerate() {
            *digit = DIGITS[(random >> (4 * at)) as usize & 15];
        }
        Pseudonym { via }
    }

    /// The name alone, as CDN-Loop has it.
    pub fn name(&self) -> &[u8] {
        &self.via[4..]
    }

    /// Calls `put` with the value of Via for a request that came in this version.
    pub fn via<T>(&self, version: Version, put: impl FnOnce(&[u8]) -> T) -> T {
        let mut via = self.via;
        match version {
            Version::HTTP_10 => {
                via[2] = b'0';
                put(&via)
            }
            Version::HTTP_2 => {
                via[2] = b'2';
                put(&via[2..])
            }
            _ => put(&via),
        }
    }

    /// Do Via (RFC 9110 section 7.6.3) or CDN-Loop (RFC 8586) say that the request has passed here? The digits stand by chance in
    /// no other value.
    pub fn is_in(&self, fields: &Fields) -> bool {
        let name = self.name();
        let holds = |value: &[u8]| value.windows(name.len()).any(|part| part == name);
        fields.get_all(Known::Via).any(holds) || fields.get_all(Known::CdnLoop).any(holds)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn fields(name: &'static str, value: &str) -> Fields {
        let mut map = HeaderMap::new();
        map.append(name, value.parse().unwrap());
        map.into()
    }

    #[test]
    fn it_is_known_again_in_every_form() {
        let own = Pseudonym::of(0x0123_4567_89ab_cdef);
        let mut seen = Vec::new();
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            seen.push(own.via(version, |via| String::from_utf8(via.to_vec()).unwrap()));
        }
        assert_eq!(
            seen,
            [
                "1.0 weir-fedcba987654",
                "1.1 weir-fedcba987654",
                "2 weir-fedcba987654"
            ]
        );
        for via in &seen {
            assert!(own.is_in(&fields("via", via)));
            assert!(own.is_in(&fields(
                "via",
                &format!("1.0 fred, {via} (a comment),1.1 other")
            )));
            assert!(!own.is_in(&fields("x-via", via)));
        }
        assert!(own.is_in(&fields("cdn-loop", "other, weir-fedcba987654; v=1")));
        assert!(!own.is_in(&fields("via", "1.1 weir")));
        assert!(!own.is_in(&fields("via", "1.1 weir-fedcba98765")));
        assert!(!Pseudonym::of(1).is_in(&fields("via", &seen[1])));
        assert!(!own.is_in(&Fields::default()));
    }
}
