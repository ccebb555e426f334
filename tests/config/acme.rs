//! `acme` of a listener's `tls`: what it means, what is warned of, how it is printed. Errors are in fixtures/configs/bad.

use super::{environment, errors, good};
use crate::support::secure::{Authority, Folder};
use weirkeeper::acme::plan::wanted;
use weirkeeper::config::expand;
use weirkeeper::tls::acme::Challenge;

/// A file with a listener in the clear and these others.
fn file(listeners: &str) -> String {
    format!(
        r#"{{"listeners": {{"web": {{"bind": ":80"}}, {listeners}}}, "upstreams": {{"u": {{"backends": ["http://a"]}}}}}}"#
    )
}

/// A listener's members over TLS.
fn secure(port: u16, acme: &str) -> String {
    format!(
        r#"{{"bind": ":{port}", "tls": {{"acme": {{"agree_to_terms": true, "storage": "s", {acme}}}}}}}"#
    )
}

#[test]
fn the_defaults_are_lets_encrypt_and_the_port_that_is_there_anyway() {
    let config = good(
        r#"{"port": 443, "servers": {"http://a": 1},
            "tls": {"acme": {"domains": ["Example.ORG"], "agree_to_terms": true, "storage": "s"}}}"#,
    );
    let tls = config.listeners[0].tls.as_ref().expect("it is over TLS");
    assert!(tls.identities.is_empty() && tls.own == 0);
    let acme = tls.acme.as_ref().expect("by ACME");
    assert_eq!(acme.domains, ["example.org"]);
    assert_eq!(acme.challenge, Challenge::TlsAlpn01);
    assert_eq!(
        acme.authority.directory,
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn a_section_is_printed_as_it_was_written() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["b.example"]);
    let ca = folder.write("ca.pem", &authority.pem);
    let certificate = folder.write("b.pem", &issued.pem);
    let key = folder.write("b.key", &issued.key_pem);
    let text = file(&format!(
        r#""a": {{"bind": ":443", "tls": {{"certificate": "{certificate}", "key": "{key}", "acme": {{
            "domains": ["a.example"], "agree_to_terms": true, "storage": "state", "email": "a@a.example", "ca": "{ca}",
            "challenge": "http-01", "directory": "https://acme.example:14000/dir",
            "external_account_binding": {{"key_id": "kid", "mac_key_file": "eab.key"}}}}}}}}"#
    ));
    let config = good(&text);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let tls = config.listeners[1].tls.as_ref().expect("it is over TLS");
    assert_eq!((tls.identities.len(), tls.own), (1, 1));
    let once = expand("config.json", &text, &environment).expect("it is fine");
    for part in [
        ca.as_str(),
        &certificate,
        "\"storage\": \"state\"",
        "\"mac_key_file\": \"eab.key\"",
        "\"agree_to_terms\": true",
        "\"email\": \"a@a.example\"",
    ] {
        assert!(once.contains(part), "{part} is not in\n{once}");
    }
    let twice = expand("config.json", &once, &environment).expect("it is fine");
    assert_eq!(once, twice);
}

#[test]
fn a_name_is_wanted_once_however_many_listeners_have_it() {
    let one = secure(
        1,
        r#""domains": ["a.example", "b.example"], "challenge": "http-01""#,
    );
    let two = secure(2, r#""domains": ["c.example", "a.example"]"#);
    let other = secure(
        3,
        r#""domains": ["a.example"], "directory": "https://other.example/d""#,
    );
    let config = good(&file(&format!(
        r#""one": {one}, "two": {two}, "three": {other}"#
    )));
    let wanted = wanted(&config);
    let found: Vec<_> = wanted
        .values()
        .map(|w| {
            let listeners = w.listeners.join("+");
            (
                w.authority.name(),
                w.domain.as_str(),
                w.challenge.name(),
                listeners,
            )
        })
        .collect();
    let le = "acme-v02.api.letsencrypt.org";
    let found: Vec<_> = found
        .iter()
        .map(|(a, d, c, l)| (*a, *d, *c, l.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (le, "a.example", "http-01", "one+two"),
            (le, "b.example", "http-01", "one"),
            (le, "c.example", "tls-alpn-01", "two"),
            ("other.example", "a.example", "tls-alpn-01", "three"),
        ]
    );
}

#[test]
fn http_01_without_a_listener_in_the_clear_is_warned_of() {
    let acme = r#""acme": {"domains": ["a.example"], "agree_to_terms": true, "storage": "s", "challenge": "http-01"}"#;
    let flat = format!(r#"{{"port": 443, "servers": {{"http://a": 1}}, "tls": {{{acme}}}}}"#);
    let full = format!(
        r#"{{"listeners": {{"a": {{"bind": ":443", "tls": {{{acme}}}}}}}, "upstreams": {{"u": {{"backends": ["http://a"]}}}}}}"#
    );
    for text in [flat, full] {
        let warnings = good(&text).warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("no listener here is http without TLS"),
            "{warnings:?}"
        );
    }
    let beside = secure(443, r#""domains": ["a.example"], "challenge": "http-01""#);
    let warnings = good(&file(&format!(r#""a": {beside}"#))).warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_wildcard_is_refused_with_what_it_would_need() {
    let all = errors(&file(&format!(
        r#""a": {}"#,
        secure(1, r#""domains": ["*.example.org"]"#)
    )));
    assert!(
        all.contains("is a wildcard") && all.contains("dns-01") && all.contains("/domains/0"),
        "{all}"
    );
    assert_eq!(all.lines().count(), 1, "{all}");
}

#[test]
fn a_storage_that_others_hold_is_an_error() {
    let folder = Folder::new();
    let taken = folder.write("taken", "");
    for path in [taken.clone(), format!("{taken}/deep/er")] {
        let section =
            secure(1, r#""domains": ["a.example"]"#).replace("\"s\"", &format!("\"{path}\""));
        let all = errors(&file(&format!(r#""a": {section}"#)));
        assert!(
            all.contains("cannot be a folder") && all.contains("acme/storage"),
            "{all}"
        );
    }
}
