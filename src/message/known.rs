//! The names of fields that the proxy itself looks at, as numbers: a head's fields are sorted by them once, when it is read, and
//! asked for by them ever after. Absent: all other names, which are passed on as they came.

use http::{HeaderName, header};

use super::claims;

macro_rules! known {
    ($($variant:ident = $name:literal,)+) => {
        /// A name that the proxy knows, in whatever case it is written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
            /// `x_forwarded_for` and the like, which many backends take for `x-forwarded-for`.
            ImitatedForwardedFor,
            /// A name that is for proxies in front to write, but none of these (see `claims`), or one that many backends take for
            /// another, such as `client_cert` and `content_length`.
            Claim,
            /// Any other name.
            Other,
        }

        impl Known {
            /// The name in lower case; empty where it is not one alone.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Known::$variant => $name,)+
                    Known::ImitatedForwardedFor | Known::Claim | Known::Other => "",
                }
            }

            /// How a line of this field begins in HTTP/1.1; empty where it is not one alone.
            pub const fn begins(self) -> &'static str {
                match self {
                    $(Known::$variant => concat!($name, ": "),)+
                    Known::ImitatedForwardedFor | Known::Claim | Known::Other => "",
                }
            }

            /// The name as a header map has it; `None` where it is not one alone.
            pub fn name(self) -> Option<HeaderName> {
                match self {
                    $(Known::$variant => {
                        const NAME: HeaderName = HeaderName::from_static($name);
                        Some(NAME)
                    })+
                    Known::ImitatedForwardedFor | Known::Claim | Known::Other => None,
                }
            }

            #[cfg(test)]
            const ALL: &'static [Known] = &[$(Known::$variant,)+];
        }
    };
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AcceptRanges = "accept-ranges",
    Authorization = "authorization",
    CacheControl = "cache-control",
    CdnLoop = "cdn-loop",
    ClientCert = "client-cert",
    ClientCertChain = "client-cert-chain",
    ClientCertSubject = "client-cert-subject",
    Connection = "connection",
    ContentLength = "content-length",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expect = "expect",
    Forwarded = "forwarded",
    Host = "host",
    Http2Settings = "http2-settings",
    IfMatch = "if-match",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    KeepAlive = "keep-alive",
    LastModified = "last-modified",
    Pragma = "pragma",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthenticationInfo = "proxy-authentication-info",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Range = "range",
    Referer = "referer",
    Server = "server",
    Te = "te",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Via = "via",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedProto = "x-forwarded-proto",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
}

impl Known {
    /// Which one a name is, which is a token or has at least no control in it.
    pub fn of(name: &[u8]) -> Known {
        use Known::*;
        let Some(first) = name.first() else {
            return Other;
        };
        // Most names differ in their length and first letter from all of these, which is quicker to see than to compare each.
        let candidate = match (name.len(), first | 0x20) {
            (2, b't') => Te,
            (3, b'v') => Via,
            (4, b'h') => Host,
            (4, b'd') => Date,
            (4, b'e') => Etag,
            (5, b'r') => Range,
            (6, b'e') => Expect,
            (6, b'a') => Accept,
            (6, b'p') => Pragma,
            (6, b's') => Server,
            (6, b'c') => Cookie,
            (7, b'u') => Upgrade,
            (7, b'r') => Referer,
            (8, b'c') => CdnLoop,
            (8, b'i') if name[3] | 0x20 == b'm' => IfMatch,
            (8, b'i') => IfRange,
            (9, b'f') => Forwarded,
            (9, b'x') => XRealIp,
            (10, b'c') => Connection,
            (10, b'k') => KeepAlive,
            (10, b'u') => UserAgent,
            (11, b'c') => ClientCert,
            (12, b'c') => ContentType,
            (12, b'x') => XRequestId,
            (13, b'a') if name[1] | 0x20 == b'c' => AcceptRanges,
            (13, b'a') => Authorization,
            (13, b'l') => LastModified,
            (13, b'c') => CacheControl,
            (13, b'i') => IfNoneMatch,
            (14, b'c') => ContentLength,
            (14, b'h') => Http2Settings,
            (15, b'a') if name[7] | 0x20 == b'e' => AcceptEncoding,
            (15, b'a') => AcceptLanguage,
            (15, b'x') => XForwardedFor,
            (16, b'p') => ProxyConnection,
            (16, b'x') => XForwardedHost,
            (17, b't') => TransferEncoding,
            (17, b'i') => IfModifiedSince,
            (17, b'x') => XForwardedProto,
            (17, b'c') => ClientCertChain,
            (18, b'p') => ProxyAuthenticate,
            (19, b'p') => ProxyAuthorization,
            (19, b'c') => ClientCertSubject,
            (19, b'i') => IfUnmodifiedSince,
            (25, b'p') => ProxyAuthenticationInfo,
            _ => return Known::of_other(name),
        };
        let own = candidate.text().as_bytes();
        if is_same(name, own) {
            return candidate;
        }
        match (candidate.is_hop_by_hop()
            || candidate == ContentLength
            || candidate == XForwardedFor)
            && claims::reads_as(name, own)
        {
            true if candidate == XForwardedFor => ImitatedForwardedFor,
            true => Claim,
            false => Known::of_other(name),
        }
    }

    /// Of a name that is none of these.
    fn of_other(name: &[u8]) -> Known {
        match claims::is_claim(name) {
            true => Known::Claim,
            false => Known::Other,
        }
    }

    /// Is it one name alone, whose bytes are therefore known?
    pub fn is_one_name(self) -> bool {
        (self as u8) < Known::ImitatedForwardedFor as u8
    }

    /// Is it among [`HOP_BY_HOP`]?
    pub fn is_hop_by_hop(self) -> bool {
        HOP_BY_HOP.has(self)
    }

    /// Is it among [`CLAIMS`]?
    pub fn is_claim(self) -> bool {
        CLAIMS.has(self)
    }
}

/// Is a token this name, which has as many bytes: letters in lower case, digits and hyphens? The bit that tells a letter's cases
/// apart is set in all of those, and every other byte but a control that would become one of them by it is one of them.
fn is_same(token: &[u8], name: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let differ = |word: &[u8; 8], own: &[u8; 8]| {
        (u64::from_le_bytes(*word) | CASE) ^ u64::from_le_bytes(*own)
    };
    let half = |half: &[u8; 4]| u32::from_le_bytes(*half);
    if let (Some(last), Some(own_last)) = (token.last_chunk(), name.last_chunk()) {
        // The last word may have bytes of the one before, which are compared twice then.
        let pairs = token.as_chunks().0.iter().zip(name.as_chunks().0);
        let words = pairs.fold(0, |differs, (word, own)| differs | differ(word, own));
        return words | differ(last, own_last) == 0;
    }
    if let (Some(first), Some(own_first), Some(last), Some(own_last)) = (
        token.first_chunk(),
        name.first_chunk(),
        token.last_chunk(),
        name.last_chunk(),
    ) {
        let differs = (half(first) | CASE as u32) ^ half(own_first);
        return differs | (half(last) | CASE as u32) ^ half(own_last) == 0;
    }
    token.iter().zip(name).all(|(a, b)| a | 0x20 == *b)
}

/// A set of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u64);

impl Set {
    /// Of these.
    pub const fn of(all: &[Known]) -> Set {
        let (mut set, mut at) = (0, 0);
        while at < all.len() {
            set |= 1 << all[at] as u8;
            at += 1;
        }
        Set(set)
    }

    /// With this one.
    pub fn with(self, known: Known) -> Set {
        Set(self.0 | 1 << known as u8)
    }

    /// Without these.
    pub fn without(self, others: Set) -> Set {
        Set(self.0 & !others.0)
    }

    /// Is this one among them?
    pub fn has(self, known: Known) -> bool {
        self.0 >> known as u8 & 1 == 1
    }

    /// Is any of these among them?
    pub fn has_any(self, others: Set) -> bool {
        self.0 & others.0 != 0
    }
}

/// Fields that always end at the next hop (RFC 9110, section 7.6.1). Trailer is not among them: it goes with the trailers that it
/// announces.
pub const HOP_BY_HOP: Set = Set::of(&[
    Known::Connection,
    Known::Http2Settings,
    Known::KeepAlive,
    Known::ProxyAuthenticate,
    Known::ProxyAuthenticationInfo,
    Known::ProxyAuthorization,
    Known::ProxyConnection,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// Fields that backends take for the word of a proxy in front, so that no other client may write them.
pub const CLAIMS: Set = Set::of(&[
    Known::Claim,
    Known::ClientCert,
    Known::ClientCertChain,
    Known::ClientCertSubject,
    Known::Forwarded,
    Known::ImitatedForwardedFor,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedProto,
    Known::XRealIp,
    Known::XRequestId,
]);

/// A field's name as a header map has it, `None` if it is none. The usual ones in their usual spelling are found without
/// lowering each letter.
pub fn header_name(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"Age" | b"age" => header::AGE,
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Host" | b"host" => header::HOST,
        b"Vary" | b"vary" => header::VARY,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Origin" | b"origin" => header::ORIGIN,
        b"Server" | b"server" => header::SERVER,
        b"Expires" | b"expires" => header::EXPIRES,
        b"Referer" | b"referer" => header::REFERER,
        b"Location" | b"location" => header::LOCATION,
        b"Connection" | b"connection" => header::CONNECTION,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Accept-Ranges" | b"accept-ranges" => header::ACCEPT_RANGES,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"If-None-Match" | b"if-none-match" => header::IF_NONE_MATCH,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        b"Content-Encoding" | b"content-encoding" => header::CONTENT_ENCODING,
        b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
        _ => return HeaderName::from_bytes(name).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_every_case() {
        for known in Known::ALL {
            let name = known.text().as_bytes();
            assert_eq!(Known::of(name), *known);
            assert_eq!(Known::of(&name.to_ascii_uppercase()), *known);
            for other in [&name[1..], &[name, b"s"].concat()] {
                assert!(!Known::of(other).is_one_name(), "{known:?}");
            }
            assert!(known.is_one_name());
            assert!((*known as u8) < 64, "it fits into a set");
        }
    }

    #[test]
    fn imitations_are_told_from_the_names_and_from_others() {
        for claim in [
            "X_Real_IP",
            "x-real_ip",
            "x-real~ip",
            "client_cert_chain",
            "X_Request_ID",
            "x_forwarded_proto",
            "X-Forwarded-Port",
            "x-forwarded",
            "True-Client-IP",
            "Front-End-Https",
            "X_Original_URL",
            "proxy",
            "content_length",
            "Transfer_Encoding",
        ] {
            assert_eq!(Known::of(claim.as_bytes()), Known::Claim, "{claim}");
        }
        assert_eq!(Known::of(b"X_Forwarded-For"), Known::ImitatedForwardedFor);
        assert_eq!(Known::of(b"x.forwarded.for"), Known::ImitatedForwardedFor);
        for other in ["content_type", "user_agent", "accept-charset", ""] {
            assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
        }
        assert!(
            Known::ALL
                .iter()
                .all(|known| known.is_claim() == claims_by_name(known.text()))
        );
        assert!((Known::Other as u8) < 64, "it fits into a set");
    }

    /// What only a proxy may write, by its name.
    fn claims_by_name(name: &str) -> bool {
        name == "forwarded" || name == "x-forwarded-for" || claims::is_claim(name.as_bytes())
    }
}
