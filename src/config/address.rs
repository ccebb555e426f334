//! Addresses as a config writes them: where to bind, where a backend is, host patterns, networks.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::model::{Backend, Cidr, Protocol, Scheme};

/// What is wrong with an address, and what was probably meant.
pub(crate) type Fault = (String, Option<String>);

/// `127.0.0.1:8080`, `[::1]:8080`, or `:8080` for all interfaces, IPv4 and IPv6.
pub(crate) fn parse_bind(text: &str) -> Result<SocketAddr, Fault> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    if let Some(port) = text.strip_prefix(':') {
        return parse_port(port).map(all_interfaces);
    }
    let example = "such as \":8080\", \"127.0.0.1:8080\" or \"[::1]:8080\"";
    let hint = if text.parse::<u16>().is_ok() {
        Some(format!(":{text}"))
    } else if let Some(port) = text.strip_prefix("localhost:") {
        Some(format!("127.0.0.1:{port}"))
    } else {
        text.strip_prefix("*:").map(|port| format!(":{port}"))
    };
    Err((
        format!("\"{text}\" is not an address to bind, {example}"),
        hint,
    ))
}

/// Every interface, IPv4 and IPv6, on this port.
pub(crate) fn all_interfaces(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

/// Digits only, since "+80" is a slip.
pub(crate) fn parse_port(text: &str) -> Result<u16, Fault> {
    match text.parse() {
        Ok(port) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err((format!("\"{text}\" is not a port (0 to 65535)"), None)),
    }
}

/// What the scheme of a backend's URL means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Schemes {
    /// What it says: the full form.
    #[default]
    Any,
    /// Nothing but http: the flat form at L7.
    Http,
    /// Nothing, since the level and the transport say it: the flat form at L4.
    Dropped(Protocol),
}

impl Schemes {
    /// What a URL with this scheme means, or what is wrong.
    fn scheme(self, scheme: &str) -> Result<Scheme, &'static str> {
        let said = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            "tls" => Scheme::Tls,
            "udp" => Scheme::Udp,
            _ => return Err("the scheme must be http, https, tcp, tls or udp"),
        };
        match self {
            Schemes::Any => Ok(said),
            Schemes::Dropped(Protocol::Udp) => Ok(Scheme::Udp),
            Schemes::Dropped(_) => Ok(Scheme::Tcp),
            Schemes::Http if said.protocol() == Protocol::Http => Ok(said),
            Schemes::Http => Err("level L7 is HTTP, so the scheme must be http; or set level L4"),
        }
    }

    /// The scheme that was meant where there is none.
    fn missing(self) -> &'static str {
        match self {
            Schemes::Any | Schemes::Http => "http",
            Schemes::Dropped(protocol) => protocol.name(),
        }
    }
}

/// `http://host[:port][/prefix]`, `tcp://host:port` or `udp://host:port`: a backend that is named `host:port`.
pub(crate) fn parse_url(text: &str, schemes: Schemes) -> Result<Backend, Fault> {
    let bad = |why: &str| {
        Err((
            format!("\"{text}\" is not the URL of a backend: {why}"),
            None,
        ))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        let what = format!("\"{text}\" is not the URL of a backend: it has no scheme");
        return Err((what, Some(format!("{}://{text}", schemes.missing()))));
    };
    let scheme = match schemes.scheme(scheme) {
        Ok(scheme) => scheme,
        Err(why) => return Err((format!("\"{text}\": {why}"), None)),
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if path.contains(['?', '#']) {
        return bad("a query or a fragment has no meaning here");
    }
    if authority.contains('@') {
        return bad("a user name has no meaning here");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
            _ => return bad("the brackets of its address do not close"),
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_host = if authority.starts_with('[') {
        host.parse::<Ipv6Addr>().is_ok()
    } else {
        is_host_name(host)
    };
    if !is_host {
        return bad("its host is not a name or an address");
    }
    let port = match port {
        None => match scheme.port() {
            Some(port) => port,
            None => return bad("it has no port"),
        },
        Some(text) => match parse_port(text)? {
            0 => return bad("port 0 cannot be dialled"),
            port => port,
        },
    };
    let path_prefix = path.trim_end_matches('/');
    if scheme.protocol() != Protocol::Http && !path_prefix.is_empty() {
        return bad("a path is of HTTP, and has no meaning at L4");
    }
    if let Err(why) = check_path(path_prefix) {
        return bad(&why);
    }
    let mut backend = Backend {
        name: String::new(),
        scheme,
        host: host.to_ascii_lowercase(),
        port,
        path_prefix: path_prefix.to_owned(),
    };
    backend.name = backend.authority();
    Ok(backend)
}

/// A DNS name or an IPv4 address: letters, digits, hyphens, underscores (as containers use them), parted by dots.
fn is_host_name(host: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && host.split('.').all(label)
}

/// What a path must not hold, since no normalised request path holds it either.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if path.contains(['?', '#']) {
        return Err("a path has no query and no fragment".into());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(c);
    if let Some(c) = path.chars().find(|c| !plain(*c)) {
        return Err(format!("{c:?} must be percent-encoded in a path"));
    }
    if path.split('/').any(|s| s == "." || s == "..") {
        return Err("a path is given without `.` and `..` segments".into());
    }
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let hex = rest.get(at + 1..at + 3);
        let Some(byte) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) else {
            return Err("`%` must be followed by two hexadecimal digits".into());
        };
        let normal = match char::from(byte) {
            c if c.is_ascii_alphanumeric() || "-._~".contains(c) => c.to_string(),
            _ => format!("%{byte:02X}"),
        };
        if rest[at..at + 3] != normal {
            let found = &rest[at..at + 3];
            return Err(format!(
                "requests have `{normal}` in the place of `{found}`"
            ));
        }
        rest = &rest[at + 3..];
    }
    Ok(())
}

/// A host that a route matches: lower case, without port; `*.example.com` is any name below.
pub(crate) fn parse_host(text: &str) -> Result<String, Fault> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    if is_host_name(name) {
        return Ok(lower.strip_suffix('.').unwrap_or(&lower).to_owned());
    }
    if let Some(inner) = lower.strip_prefix('[').and_then(|l| l.strip_suffix(']'))
        && inner.parse::<Ipv6Addr>().is_ok()
    {
        return Ok(lower);
    }
    let what = format!("\"{text}\" is not a host name, nor \"*.\" before one");
    let hint = match lower.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && is_host_name(host) => {
            Some(host.into())
        }
        _ => None,
    };
    Err((what, hint))
}

/// `10.0.0.0/8`, or a bare address.
pub(crate) fn parse_cidr(text: &str) -> Result<Cidr, Fault> {
    let bad = || {
        (
            format!("\"{text}\" is not a network such as \"10.0.0.0/8\""),
            None,
        )
    };
    let (addr, prefix) = match text.split_once('/') {
        Some((addr, prefix)) => (addr, Some(prefix)),
        None => (text, None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| bad())?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => width,
        Some(p) => match p.parse::<u8>() {
            Ok(p) if p <= width => p,
            _ => return Err(bad()),
        },
    };
    Ok(Cidr { addr, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds() {
        assert_eq!(parse_bind(":8080"), Ok("[::]:8080".parse().unwrap()));
        assert_eq!(
            parse_bind("127.0.0.1:0"),
            Ok("127.0.0.1:0".parse().unwrap())
        );
        assert_eq!(parse_bind("8080").unwrap_err().1.as_deref(), Some(":8080"));
        assert_eq!(
            parse_bind("localhost:1").unwrap_err().1.as_deref(),
            Some("127.0.0.1:1")
        );
        assert!(parse_bind(":70000").is_err());
    }

    #[test]
    fn urls() {
        let parse_url = |text| parse_url(text, Schemes::Any);
        let url = parse_url("http://LocalHost:8081/api/").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.path_prefix.as_str()),
            ("localhost", 8081, "/api")
        );
        let url = parse_url("http://[::1]").unwrap();
        assert_eq!(
            (url.name.as_str(), url.path_prefix.as_str()),
            ("[::1]:80", "")
        );
        let url = parse_url("HTTPS://a.example").unwrap();
        assert_eq!(url.url(), "https://a.example:443");
        for text in [
            "localhost:8081",
            "https://",
            "ftp://a",
            "tcp://a",
            "tcp://a:1/b",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://a b",
            "http://u@a",
            "http://a/?q",
            "http://[::1",
            "http://::1",
            "http://a/../b",
            "http://a/%zz",
            "http://a/%7Eb",
            "http://a/%c3",
            "http://a/[",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn schemes() {
        let url = |text, schemes| parse_url(text, schemes).map(|b| b.url());
        assert_eq!(
            url("udp://[::1]:53/", Schemes::Any).as_deref(),
            Ok("udp://[::1]:53")
        );
        let dropped = Schemes::Dropped(Protocol::Tcp);
        for text in ["http://a:1", "tcp://a:1", "udp://a:1"] {
            assert_eq!(url(text, dropped).as_deref(), Ok("tcp://a:1"), "{text}");
        }
        assert!(url("http://a:1/b", dropped).is_err() && url("ftp://a:1", dropped).is_err());
        assert!(url("tcp://a:1", Schemes::Http).is_err());
        let hint = url("a:1", dropped).unwrap_err().1;
        assert_eq!(hint.as_deref(), Some("tcp://a:1"));
    }

    #[test]
    fn hosts_and_networks() {
        assert_eq!(parse_host("*.Example.com").as_deref(), Ok("*.example.com"));
        assert_eq!(
            parse_host("a.example:80").unwrap_err().1.as_deref(),
            Some("a.example")
        );
        assert!(
            parse_host("*").is_err() && parse_host("a.*.b").is_err() && parse_host("").is_err()
        );
        assert_eq!(parse_cidr("::1").unwrap().prefix, 128);
        assert!(parse_cidr("10.0.0.0/33").is_err() && parse_cidr("10.0.0/8").is_err());
    }
}
