//! `tls` of an upstream: files that are as they should be are read, and what is wrong with others is said at their place.

use super::{environment, errors, good};
use crate::support::secure::{Authority, Folder};
use weirkeeper::config::expand;
use weirkeeper::config::model::Scheme;

/// A file with this upstream member and these backends.
fn file(member: &str, backends: &str) -> String {
    format!(
        r#"{{"listeners": {{"a": {{"bind": ":80"}}}},
  "upstreams": {{"u": {{{member} "backends": [{backends}]}}}}}}"#
    )
}

#[test]
fn a_section_is_read_loaded_and_printed_as_it_was_written() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["weir.example"]);
    let ca = folder.write("ca.pem", &authority.pem);
    let certificate = folder.write("client.pem", &issued.pem);
    let key = folder.write("client.key", &issued.key_pem);
    let section = format!(
        r#""tls": {{"ca": "{ca}", "sni": "b.example", "certificate": "{certificate}", "key": "{key}"}},"#
    );
    let text = file(&section, r#""https://a.example", "http://b.example:1""#);
    let config = good(&text);
    let upstream = &config.upstreams[0];
    let schemes: Vec<_> = upstream
        .backends
        .iter()
        .map(|b| (b.scheme, b.port))
        .collect();
    assert_eq!(schemes, [(Scheme::Https, 443), (Scheme::Http, 1)]);
    let tls = upstream.tls.as_ref().expect("one of them needs it");
    assert!(tls.verify && tls.identity.is_some());
    assert_eq!(tls.sni.as_deref(), Some("b.example"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let once = expand("config.json", &text, &environment).expect("it is fine");
    for file in [&ca, &certificate, &key] {
        assert!(once.contains(file.as_str()), "{file} is not in\n{once}");
    }
    assert!(once.contains(r#""https://a.example:443""#), "{once}");
    let twice = expand("config.json", &once, &environment).expect("it is fine");
    assert_eq!(once, twice);
}

#[test]
fn what_hides_nothing_or_has_no_effect_is_warned_of() {
    let warned = |member: &str, backends: &str, said: &str| {
        let warnings = good(&file(member, backends)).warnings;
        let found = warnings.iter().filter(|w| w.contains(said)).count();
        assert_eq!(found, 1, "{said:?} in {warnings:?}");
    };
    let unverified = r#""tls": {"verify": false},"#;
    warned(unverified, r#""https://a""#, "are not verified");
    warned(unverified, r#""http://a""#, "\"tls\" has no effect");
    let both = r#""tls": {"verify": false, "ca": "ca.pem"},"#;
    warned(both, r#""https://a""#, "\"ca\" has no effect");
    assert!(good(&file("", r#""http://a""#)).upstreams[0].tls.is_none());
}

/// Editors and shells of Windows write a mark before the text, or the text in UTF-16.
#[test]
fn a_mark_of_the_byte_order_is_passed_over_and_another_encoding_is_named() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["weir.example"]);
    let marked = |name: &str, text: &str| folder.write(name, &format!("\u{feff}{text}"));
    let (ca, certificate, key) = (
        marked("ca.pem", &authority.pem),
        marked("a.pem", &issued.pem),
        marked("a.key", &issued.key_pem),
    );
    let section =
        format!(r#""tls": {{"ca": "{ca}", "certificate": "{certificate}", "key": "{key}"}},"#);
    let config = good(&file(&section, r#""https://a""#));
    assert!(
        config.upstreams[0]
            .tls
            .as_ref()
            .is_some_and(|t| t.identity.is_some())
    );

    let to_bytes: [fn(u16) -> [u8; 2]; 2] = [u16::to_le_bytes, u16::to_be_bytes];
    for bytes in to_bytes {
        let text = format!("\u{feff}{}", authority.pem);
        let wide: Vec<u8> = text.encode_utf16().flat_map(bytes).collect();
        std::fs::write(folder.0.join("wide.pem"), wide).expect("the folder is writable");
        let wide = folder.0.join("wide.pem").display().to_string();
        let all = errors(&file(
            &format!(r#""tls": {{"ca": "{wide}"}},"#),
            r#""https://a""#,
        ));
        assert!(all.contains("is written in UTF-16"), "{all}");
    }
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (issued, other) = (authority.issue(&["a"]), authority.issue(&["a"]));
    let certificate = folder.write("a.pem", &issued.pem);
    let key = folder.write("a.key", &issued.key_pem);
    let wrong = folder.write("b.key", &other.key_pem);
    let none = folder.write("none.pem", "no PEM\n");
    let pair = |c: &str, k: &str| {
        format!(r#""tls": {{"verify": false, "certificate": "{c}", "key": "{k}"}},"#)
    };
    let ca = |path: &str| format!(r#""tls": {{"ca": "{path}"}},"#);
    for (member, place, said) in [
        (ca("missing.pem"), "/tls/ca)", "missing.pem: cannot be read"),
        (ca(&none), "/tls/ca)", "holds no certificate"),
        (
            ca(&key),
            "/tls/ca)",
            "holds no certificate but a PRIVATE KEY",
        ),
        (
            pair(&certificate, &wrong),
            "/tls/key)",
            "is not the key of the certificate",
        ),
        (
            pair(&certificate, &certificate),
            "/tls/key)",
            "holds no private key but a CERTIFICATE",
        ),
        (
            pair(&none, &key),
            "/tls/certificate)",
            "holds no certificate",
        ),
        (
            format!(r#""tls": {{"verify": false, "certificate": "{certificate}"}},"#),
            "/tls/certificate)",
            "\"key\" is missing",
        ),
        (
            format!(r#""tls": {{"verify": false, "key": "{key}"}},"#),
            "/tls/key)",
            "\"certificate\" is missing",
        ),
        (
            r#""tls": {"verify": false, "sni": "127.0.0.1:1"},"#.into(),
            "/tls/sni)",
            "not a host name",
        ),
        (
            r#""tls": {"verfy": false},"#.into(),
            "/tls/verfy)",
            "did you mean \"verify\"",
        ),
        (r#""tls": true,"#.into(), "/tls)", "expected an object"),
    ] {
        let all = errors(&file(&member, r#""https://a""#));
        assert!(
            all.contains(said) && all.contains(place),
            "{member}:\n{all}"
        );
        assert_eq!(all.lines().count(), 1, "{member}:\n{all}");
    }
}
