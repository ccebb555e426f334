//! Names of fields that only a proxy in front may write, since backends take them for its word: who the client is, what it has
//! shown, how it came, and which target it means. Absent: what becomes of such a field, which depends on who has sent it.

/// Names by their length, with hyphens for whatever parts their words. Those that begin as in [`beginnings`] are not here.
fn names(len: usize) -> &'static [&'static str] {
    match len {
        // CGI makes HTTP_PROXY of it, which many libraries take for the proxy of their own requests (CVE-2016-5385).
        5 => &["proxy"],
        6 => &["x-host"],
        7 => &["x-https"],
        8 => &["x-scheme"],
        9 => &["client-ip", "x-arr-ssl"],
        10 => &["cdn-src-ip", "cf-visitor", "fastly-ssl"],
        11 => &[
            "client-cert",
            "remote-addr",
            "remote-host",
            "remote-name",
            "remote-user",
            "x-client-ip",
            "x-forwarded",
        ],
        12 => &[
            "cf-ipcountry",
            "remote-email",
            "wl-proxy-ssl",
            "x-request-id",
            "x-url-scheme",
        ],
        13 => &[
            "forwarded-for",
            "remote-groups",
            "x-client-addr",
            "x-client-port",
            "x-forward-for",
            "x-rewrite-url",
        ],
        14 => &[
            "cf-pseudo-ipv4",
            "http-client-ip",
            "true-client-ip",
            "x-override-url",
            "x-proxyuser-ip",
        ],
        15 => &[
            "ali-cdn-real-ip",
            "front-end-https",
            "proxy-client-ip",
            "x-forward-proto",
            "x-host-override",
        ],
        16 => &[
            "cf-connecting-ip",
            "fastly-client-ip",
            "forwarded-for-ip",
            "x-arr-clientcert",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-originating-ip",
        ],
        17 => &["client-cert-chain"],
        18 => &["cf-connecting-ipv6", "wl-proxy-client-ip"],
        19 => &[
            "client-cert-subject",
            "x-appengine-user-ip",
            "x-cluster-client-ip",
        ],
        20 => &["http-x-forwarded-for", "x-http-host-override"],
        21 => &["x-http-destinationurl"],
        26 => &["x-originally-forwarded-for"],
        _ => &[],
    }
}

/// What whole families of names begin with, by the first letter of their first and of their second word.
fn beginnings(name: &[u8]) -> &'static [&'static str] {
    match (name[0] | 0x20, name.get(2).map(|letter| letter | 0x20)) {
        (b's', Some(b'l')) => &["ssl-client-"],
        (b'x', Some(b'a')) => &[
            "x-amzn-mtls-",
            "x-amzn-oidc-",
            "x-auth-request-",
            "x-authentik-",
        ],
        (b'x', Some(b'c')) => &["x-client-cert"],
        (b'x', Some(b'e')) => &["x-envoy-"],
        (b'x', Some(b'f')) => &["x-forwarded-"],
        (b'x', Some(b'g')) => &["x-goog-authenticated-user-"],
        (b'x', Some(b'm')) => &["x-ms-client-principal"],
        (b'x', Some(b'o')) => &["x-original-"],
        (b'x', Some(b'r')) => &["x-real-", "x-remote-"],
        (b'x', Some(b's')) => &["x-ssl-"],
        (b'x', Some(b'w')) => &["x-webauth-"],
        _ => &[],
    }
}

/// Is it such a name, in whatever case, with whatever between its words?
pub(super) fn is_claim(name: &[u8]) -> bool {
    const FIRST: u32 = letters(b"acfhprstwx");
    let letter = name.first().map_or(0, |first| first & 0x1f);
    if name.len() < 5 || FIRST >> letter & 1 == 0 {
        return false;
    }
    let begins = |with: &&str| {
        let begin = name.get(..with.len());
        begin.is_some_and(|begin| reads_as(begin, with.as_bytes()))
    };
    let is = |own: &&str| reads_as(name, own.as_bytes());
    names(name.len()).iter().any(is) || beginnings(name).iter().any(begins)
}

/// May a backend take `name` for `own`, which is in lower case? Gateways make variables of names, in which letters have one case
/// and all that is neither letter nor digit is an underscore (RFC 3875 section 4.1.18).
pub fn reads_as(name: &[u8], own: &[u8]) -> bool {
    let same = |(n, o): (&u8, &u8)| {
        n.eq_ignore_ascii_case(o) || !(n.is_ascii_alphanumeric() || o.is_ascii_alphanumeric())
    };
    name.len() == own.len() && name.iter().zip(own).all(same)
}

/// A set of letters.
const fn letters(of: &[u8]) -> u32 {
    let (mut set, mut at) = (0, 0);
    while at < of.len() {
        set |= 1 << (of[at] & 0x1f);
        at += 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All names and beginnings of names.
    fn all() -> Vec<String> {
        let names = (0..40).flat_map(names).map(ToString::to_string);
        let pairs =
            (b'a'..=b'z').flat_map(|first| (b'a'..=b'z').map(move |third| [first, b'-', third]));
        let beginnings = pairs.flat_map(|pair| beginnings(&pair).iter().map(|b| format!("{b}any")));
        names.chain(beginnings).collect()
    }

    #[test]
    fn every_name_is_found_in_every_spelling() {
        let all = all();
        assert!(all.len() > 60);
        for name in all {
            for spelled in [
                name.clone(),
                name.to_uppercase(),
                name.replace('-', "_"),
                name.replace('-', "."),
            ] {
                assert!(is_claim(spelled.as_bytes()), "{spelled}");
            }
            assert!((0..40).all(|len| names(len).iter().all(|n| n.len() == len)));
        }
    }

    #[test]
    fn fields_of_clients_are_none() {
        for name in [
            "",
            "x",
            "x-",
            "x-y",
            "origin",
            "dnt",
            "priority",
            "x-api-key",
            "x-csrf-token",
            "x-requested-with",
            "x-forward",
            "x-hosts",
            "proxies",
            "sec-fetch-mode",
            "sec-ch-ua",
            "traceparent",
            "x-http-method-override",
            "x-custom",
            "via",
            "cdn-loop",
            "remote-control",
            "x-authorization",
            "x-client-version",
            "x-response-time",
            "content-encoding",
        ] {
            assert!(!is_claim(name.as_bytes()), "{name}");
        }
    }
}
