//! When certificates do not come: the proxy serves what it can, says why, and does not ask without end.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::{HTTP, Site, ports, said};
use crate::support::client::{self, get};
use crate::support::tls::Meeting;
use crate::support::weir::Weir;
use crate::support::{eventually, free_port};

#[test]
fn a_bad_nonce_is_tried_again_at_once() {
    let site = Site::new();
    site.server.behave(|b| b.bad_nonces = 2);
    let config = site.secure(&site.acme(r#""a.example""#, HTTP));
    let (weir, ports) = site.start(&config);
    site.served(ports[1], "a.example");
    assert_eq!(site.server.requests("bad nonce").len(), 2);
    assert!(!said(&weir, &["no certificate from"]));
}

#[test]
fn a_failed_validation_backs_off_and_the_rest_serves_on() {
    let site = Site::new();
    let config = site.secure(&site.acme(r#""a.example""#, HTTP));
    let weir = Weir::start(&config);
    let ports = ports(&weir);
    let nobody = free_port();
    site.server.behave(|b| b.ports = Some((nobody, nobody)));
    eventually("it is told", || {
        let parts = [
            "a.example: no certificate from 127.0.0.1",
            "http-01",
            "port 80",
            "refused",
            "(unauthorized)",
            "tried again in 1m",
        ];
        said(&weir, &parts)
    });
    assert_eq!(client::once(ports[0], get("/")).status, 200);
    // Hands are not shaken with a certificate for nobody, and the process is none the worse for it.
    for _ in 0..20 {
        assert!(site.meeting().connect(ports[1]).is_err());
    }
    assert_eq!(client::once(ports[0], get("/")).status, 200);
    assert_eq!(site.server.orders(), ["a.example"]);
    let failures = format!(
        r#"weir_acme_failures_total{{authority="127.0.0.1:{}",name="a.example"}}"#,
        site.server.port()
    );
    assert_eq!(weir.metric(&failures), Some(1));
    // The token is taken back.
    let token = site.server.requests("POST /challenge/");
    assert_eq!(token.len(), 1);
}

#[test]
fn one_name_that_fails_does_not_keep_the_others() {
    let site = Site::new();
    // It is asked for by a name that TLS does not have here.
    let config = site.config(&format!(
        r#""secure": {{"bind": "127.0.0.1:0", "tls": {{{}}}}}"#,
        site.acme(r#""a.example", "b.example""#, "")
    ));
    site.server.behave(|b| b.issues_for = Some("b.example"));
    let (weir, ports) = site.start(&config);
    site.served(ports[1], "b.example");
    eventually("it is told", || {
        said(
            &weir,
            &[
                "a.example: no certificate",
                "for b.example and not for a.example",
            ],
        )
    });
    assert!(site.meeting().connect(ports[1]).is_err());
}

#[test]
fn an_authority_that_limits_rates_is_left_alone_for_as_long_as_it_asks() {
    let site = Site::new();
    site.server.behave(|b| b.rate_limited = Some("7200"));
    let config = site.secure(&site.acme(r#""a.example""#, HTTP));
    let (weir, _) = site.start(&config);
    eventually("it is told", || {
        said(
            &weir,
            &[
                "too many new orders recently (rateLimited)",
                "tried again in 2h",
            ],
        )
    });
    assert_eq!(site.server.requests("POST /order").len(), 1);
}

#[test]
fn a_challenge_that_is_not_offered_is_told_of() {
    let site = Site::new();
    site.server.behave(|b| b.only = Some("dns-01"));
    let config = site.secure(&site.acme(r#""a.example""#, HTTP));
    let (weir, _) = site.start(&config);
    eventually("it is told", || {
        said(&weir, &["no challenge \"http-01\"", "only dns-01"])
    });
}

#[test]
fn a_directory_that_is_away_or_not_believed_costs_nothing_else() {
    let site = Site::new();
    // Its own certificate comes from nobody whom the config trusts.
    let config = site.secure(&site.acme(r#""a.example""#, ""));
    let stranger = config.replace(
        &site.ca,
        &site.folder.write("other.pem", &site.server.issuer.pem),
    );
    let away = config.replace(
        &site.server.directory(),
        &format!("https://127.0.0.1:{}/directory", free_port()),
    );
    for (config, why) in [(away, "refused"), (stranger, "not among the trusted ones")] {
        let weir = Weir::start(&config);
        eventually("it is told", || {
            said(
                &weir,
                &["a.example: no certificate", why, "tried again in 1m"],
            )
        });
        assert_eq!(weir.once(get("/")).status, 200);
        assert_eq!(weir.admin("/readyz").status, 200);
        assert!(site.meeting().connect(ports(&weir)[1]).is_err());
    }
    assert_eq!(site.server.requests(""), Vec::<String>::new());
}

#[test]
fn what_is_stored_and_cannot_be_used_is_told_of_and_had_anew() {
    let site = Site::new();
    let config = site.secure(&site.acme(r#""a.example""#, ""));
    let (weir, listeners) = site.start(&config);
    site.served(listeners[1], "a.example");
    drop(weir);
    let file = site.authority().join("a.example.pem");
    let good = std::fs::read_to_string(&file).expect("it is stored");
    let another = site.server.issuer.issue(&["b.example"]);
    let of_another = format!("{}{}", another.key_pem, another.pem);
    for (text, what) in [
        (
            good.replace("CERTIFICATE", "NOTHING"),
            "holds no certificate",
        ),
        (good.chars().take(good.len() / 3).collect(), "a.example.pem"),
        (of_another, "for b.example and not for a.example"),
    ] {
        std::fs::write(&file, text).expect("it is ours");
        let orders = site.server.orders().len();
        let (weir, listeners) = site.start(&config);
        site.served(listeners[1], "a.example");
        assert!(
            said(
                &weir,
                &[
                    "a.example.pem",
                    what,
                    "another certificate for a.example is ordered"
                ]
            ),
            "{what}: {:?}",
            weir.stderr()
        );
        assert_eq!(site.server.orders().len(), orders + 1);
    }
    // An account that cannot be read is made anew, too.
    let account = site.authority().join("account.json");
    std::fs::write(&account, "{").expect("it is ours");
    std::fs::remove_file(&file).expect("it is ours");
    let (weir, listeners) = site.start(&config);
    site.served(listeners[1], "a.example");
    assert!(said(&weir, &["account.json", "a new account will be made"]));
    assert_eq!(site.server.accounts(), 2);
}

#[test]
fn a_certificate_that_has_ended_is_replaced_at_once_and_never_stored() {
    let site = Site::new();
    let config = site.secure(&site.acme(r#""a.example""#, ""));
    site.server.behave(|b| b.validity = (100, 0));
    let (weir, listeners) = site.start(&config);
    eventually("it is told", || {
        said(&weir, &["has ended already", "tried again in"])
    });
    assert!(site.meeting().connect(listeners[1]).is_err());
    drop(weir);
    let file = site.authority().join("a.example.pem");
    assert!(!file.exists());
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
    params.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
    let key = KeyPair::generate().expect("a key");
    let ended = site.server.issuer.sign(&params, &key).pem();
    std::fs::write(&file, key.serialize_pem() + &ended).expect("it is ours");
    site.server.behave(|b| b.validity = (100, 3600));
    let (weir, listeners) = site.start(&config);
    site.served(listeners[1], "a.example");
    assert!(said(
        &weir,
        &["a.example has an expired certificate so far"]
    ));
}

#[test]
fn a_storage_that_cannot_be_written_to_is_an_error_before_anything_is_served() {
    let site = Site::new();
    let file = site.folder.write("file", "");
    let tls = site.acme(r#""a.example""#, HTTP);
    let tls = tls.replace(
        &site.storage().display().to_string(),
        &format!("{file}/acme"),
    );
    let config = site.folder.write("config.json", &site.secure(&tls));
    for command in ["check", "run"] {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args([command, "-c", &config])
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built beside the tests");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {text}");
        assert!(
            text.contains("cannot be a folder")
                && text.contains("/listeners/secure/tls/acme/storage"),
            "{command}: {text}"
        );
    }
}

#[test]
fn check_says_what_would_be_ordered() {
    let site = Site::new();
    let text = site.secure(&site.acme(r#""a.example", "b.example""#, HTTP));
    let config = site.folder.write("config.json", &text);
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["check", "-c", &config])
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built beside the tests");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = check();
    let line = format!(
        "a.example: from 127.0.0.1:{}, which comes to port 80 for http-01; for secure",
        site.server.port()
    );
    assert!(before.contains(&line), "{before}");
    assert_eq!(
        before.matches("nothing yet, so one is ordered").count(),
        2,
        "{before}"
    );
    assert!(!site.storage().exists(), "a check makes nothing");
    let (_weir, listeners) = site.start(&text);
    site.served(listeners[1], "a.example");
    site.served(listeners[1], "b.example");
    let after = check();
    assert_eq!(after.matches("valid until").count(), 2, "{after}");
    assert_eq!(after.matches("renewed by").count(), 2, "{after}");
    assert_eq!(site.server.orders().len(), 2);
}

/// An account that the authority has forgotten is not used again.
#[test]
fn an_account_that_is_unknown_is_forgotten() {
    let site = Site::new();
    let config = site.secure(&site.acme(r#""a.example""#, HTTP));
    let (weir, listeners) = site.start(&config);
    site.served(listeners[1], "a.example");
    drop(weir);
    let folder = site.authority();
    std::fs::remove_file(folder.join("a.example.pem")).expect("it is ours");
    site.server.forget_accounts();
    let (weir, listeners) = site.start(&config);
    eventually("it is told", || {
        said(&weir, &["account.json", "knows this account no more"])
            && said(&weir, &["accountDoesNotExist", "tried again in"])
    });
    assert!(!folder.join("account.json").exists());
    let client = Meeting::of(&site.server.issuer, "a.example").connect(listeners[1]);
    assert!(client.is_err());
}
