//! Certificates by ACME (RFC 8555), with an authority of the tests' own that really meets the challenges: what is issued is
//! served, kept, renewed, and whatever fails leaves the rest of the proxy alone.

mod trouble;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::pki_types::ServerName;

use crate::support::acme::AcmeServer;
use crate::support::backend::Backend;
use crate::support::client::{self, get};
use crate::support::secure::Folder;
use crate::support::tls::{Meeting, Tls};
use crate::support::weir::Weir;
use crate::support::{SetOnDrop, eventually};

/// What one proxy is told: whom to ask, and where to keep what comes.
struct Site {
    server: AcmeServer,
    folder: Folder,
    backend: Backend,
    ca: String,
}

impl Site {
    fn new() -> Self {
        let (server, folder) = (AcmeServer::start(), Folder::new());
        Site {
            ca: folder.write("directory.pem", &server.own.pem),
            server,
            folder,
            backend: Backend::ok(),
        }
    }

    fn storage(&self) -> PathBuf {
        self.folder.0.join("state/acme")
    }

    /// The one folder in the storage: this authority's.
    fn authority(&self) -> PathBuf {
        let mut entries = std::fs::read_dir(self.storage()).expect("it is there");
        entries.next().expect("one").expect("readable").path()
    }

    /// The section, with further members.
    fn acme(&self, domains: &str, more: &str) -> String {
        format!(
            r#""acme": {{"domains": [{domains}], "agree_to_terms": true, "directory": "{}", "ca": "{}", "storage": "{}"{more}}}"#,
            self.server.directory(),
            self.ca,
            self.storage().display()
        )
    }

    /// A config with these listeners, the first of which is "web", in the clear.
    fn config(&self, listeners: &str) -> String {
        format!(
            r#"{{"admin": {{"bind": "127.0.0.1:0"}}, "workers": 1, "access_log": false,
                "listeners": {{"web": {{"bind": "127.0.0.1:0"}}, {listeners}}},
                "upstreams": {{"app": {{"backends": ["http://127.0.0.1:{}"]}}}}}}"#,
            self.backend.port
        )
    }

    /// The same with one listener over TLS, which has these members of `tls`.
    fn secure(&self, tls: &str) -> String {
        self.config(&format!(
            r#""secure": {{"bind": "127.0.0.1:0", "tls": {{{tls}}}}}"#
        ))
    }

    /// Starts it, and tells the authority where its challenges are met. Returns the ports of the listeners.
    fn start(&self, config: &str) -> (Weir, Vec<u16>) {
        // It waits with its challenges until it knows where this proxy listens.
        self.server.behave(|b| b.ports = None);
        let weir = Weir::start(config);
        let ports = ports(&weir);
        let (http, tls) = (ports[0], *ports.last().expect("one at least"));
        self.server.behave(|b| b.ports = Some((http, tls)));
        (weir, ports)
    }

    fn meeting(&self) -> Meeting<'_> {
        Meeting::of(&self.server.issuer, "a.example")
    }

    /// Waits until `name` is served with a certificate of the authority's.
    #[track_caller]
    fn served(&self, port: u16, name: &str) -> Tls {
        let mut found = None;
        eventually("the certificate is served", || {
            found = Meeting::of(&self.server.issuer, name).connect(port).ok();
            found.is_some()
        });
        found.expect("it has just been found")
    }
}

/// Where the listeners are, in config order.
fn ports(weir: &Weir) -> Vec<u16> {
    let lines = weir.stderr();
    let places = lines
        .iter()
        .filter_map(|line| line.split_once("listening on ")?.1.split(' ').next());
    places
        .filter_map(|place| place.rsplit(':').next()?.parse().ok())
        .collect()
}

fn mode(path: &Path) -> u32 {
    let found = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    found.permissions().mode() & 0o777
}

/// Does a line of its standard error have all of these in it?
fn said(weir: &Weir, parts: &[&str]) -> bool {
    let has_all = |line: &String| parts.iter().all(|part| line.contains(part));
    weir.stderr().iter().any(has_all)
}

const HTTP: &str = r#", "challenge": "http-01", "email": "admin@a.example""#;

#[test]
fn http_01_brings_a_certificate_and_keeps_it_to_itself() {
    let site = Site::new();
    let config = site.secure(&site.acme(r#""A.example""#, HTTP));
    let (weir, ports) = site.start(&config);
    let mut client = site.served(ports[1], "a.example");
    assert!(
        client
            .once("a.example")
            .expect("an answer")
            .contains(" 200 ")
    );
    assert_eq!(site.server.orders(), ["a.example"]);
    assert_eq!(
        site.server.requests("contact "),
        ["contact mailto:admin@a.example"]
    );
    let validated = site.server.requests("validated ");
    assert_eq!(validated, ["validated a.example by http-01: Ok(())"]);
    site.server.found_no_fault();
    // Nothing of it has come to a backend, and what is no token of ours goes there.
    assert_eq!(site.backend.log().requests.len(), 1);
    let answer = weir.once(get("/.well-known/acme-challenge/of-another"));
    assert_eq!(answer.status, 200);
    assert_eq!(site.backend.log().requests.len(), 2);
    // Not for others' eyes, and nothing is left lying about.
    let folder = site.authority();
    assert_eq!((mode(&site.storage()), mode(&folder)), (0o700, 0o700));
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("it is there")
        .map(|e| {
            e.expect("readable")
                .file_name()
                .into_string()
                .expect("ASCII")
        })
        .collect();
    names.sort();
    assert_eq!(names, ["a.example.pem", "account.json"]);
    for name in names {
        assert_eq!(mode(&folder.join(&name)), 0o600, "{name}");
    }
    assert!(said(&weir, &["a.example", "no certificate so far"]));
    assert!(said(
        &weir,
        &["a.example: a certificate from 127.0.0.1", "valid until"]
    ));
    let issued = format!(
        r#"weir_acme_certificates_total{{authority="127.0.0.1:{}",name="a.example"}}"#,
        site.server.port()
    );
    assert_eq!(weir.metric(&issued), Some(1));
    let end = r#"weir_certificate_not_after_timestamp_seconds{listener="secure",name="a.example"}"#;
    assert!(weir.metric(end) > Some(1_700_000_000));
}

#[test]
fn tls_alpn_01_brings_a_certificate_in_the_flat_form() {
    let site = Site::new();
    let config = format!(
        r#"{{"port": 0, "servers": {{"http://127.0.0.1:{}": 3}}, "admin": {{"bind": "127.0.0.1:0"}}, "tls": {{{}}}}}"#,
        site.backend.port,
        site.acme(r#""a.example""#, "")
    );
    let (weir, ports) = site.start(&config);
    let mut client = site.served(ports[0], "a.example");
    assert!(
        client
            .once("a.example")
            .expect("an answer")
            .contains(" 200 ")
    );
    let validated = site.server.requests("validated ");
    assert_eq!(validated, ["validated a.example by tls-alpn-01: Ok(())"]);
    site.server.found_no_fault();
    // Who asks for that protocol when nothing waits gets none, and HTTP is not spoken under its name.
    let late = Meeting {
        alpn: &[b"acme-tls/1"],
        ..site.meeting()
    };
    assert!(late.connect(weir.port).is_err());
}

#[test]
fn challenges_are_met_where_clients_need_a_certificate_and_before_another_listener() {
    let site = Site::new();
    let clients = site.folder.write("clients.pem", &site.server.issuer.pem);
    let auth = format!(r#", "client_auth": {{"ca": "{clients}"}}, "min_version": "1.3""#);
    let acme = site.acme(r#""a.example""#, "") + &auth;
    let config = site.config(&format!(
        r#""raw": {{"bind": "127.0.0.1:0", "tls": {{{acme}}}}}"#
    ));
    let (_weir, ports) = site.start(&config);
    eventually("it is issued", || site.server.issued() == 1);
    let own = site.server.issuer.issue(&["alice"]);
    let mut text = None;
    eventually("it is served", || {
        let meeting = Meeting {
            identity: Some(&own),
            ..site.meeting()
        };
        let client = meeting.connect(ports[1]);
        text = client.and_then(|mut c| c.once("a.example")).ok();
        text.is_some()
    });
    assert!(text.expect("an answer").contains(" 200 "));
}

#[test]
fn a_restart_serves_what_is_stored_and_asks_nobody() {
    let site = Site::new();
    let config = site.secure(&site.acme(r#""a.example", "b.example""#, ""));
    let (weir, ports) = site.start(&config);
    let shown = site.served(ports[1], "a.example").shown();
    site.served(ports[1], "b.example");
    assert_eq!(site.server.accounts(), 1);
    drop(weir);
    let asked = site.server.requests("").len();
    let (weir, ports) = site.start(&config);
    let client = site
        .meeting()
        .connect(ports[1])
        .expect("it is there at once");
    assert_eq!(client.shown(), shown);
    // What nobody asked for in all this time was not asked for.
    for _ in 0..20 {
        site.meeting().connect(ports[1]).expect("hands are shaken");
    }
    assert_eq!(site.server.requests("").len(), asked);
    assert!(!said(&weir, &["so far"]));
}

#[test]
fn one_name_on_several_listeners_is_one_order() {
    let site = Site::new();
    let config = site.config(&format!(
        r#""one": {{"bind": "127.0.0.1:0", "tls": {{{}}}}}, "two": {{"bind": "127.0.0.1:0", "tls": {{{}}}}}"#,
        site.acme(r#""a.example", "b.example""#, HTTP),
        site.acme(r#""c.example", "a.example""#, HTTP),
    ));
    let (_weir, ports) = site.start(&config);
    let one = site.served(ports[1], "a.example").shown();
    let two = site.served(ports[2], "a.example").shown();
    assert_eq!(one, two);
    site.served(ports[1], "b.example");
    site.served(ports[2], "c.example");
    let mut orders = site.server.orders();
    orders.sort();
    assert_eq!(orders, ["a.example", "b.example", "c.example"]);
    assert_eq!(site.server.accounts(), 1);
}

#[test]
fn a_certificate_is_renewed_under_traffic_and_none_fails() {
    let site = Site::new();
    // Six seconds are two thirds of its life.
    site.server.behave(|b| b.validity = (0, 9));
    let config = site.secure(&site.acme(r#""a.example""#, ""));
    let (_weir, ports) = site.start(&config);
    let mut standing = site.served(ports[1], "a.example");
    let first = standing.shown();
    assert!(standing.ask("a.example", "ok").contains(" 200 "));
    // Whoever comes later does not ask for it again within this test.
    site.server.behave(|b| b.validity = (0, 90 * 24 * 3600));
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = site.meeting().connect(ports[1]).expect("hands are shaken");
                    let answer = client.once("a.example").expect("an answer");
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = SetOnDrop(&stop);
        eventually("another one is shown", || {
            let client = site.meeting().connect(ports[1]).expect("hands are shaken");
            client.shown() != first
        });
        let so_far = asked.load(Ordering::Relaxed);
        eventually("connections come and go", || {
            asked.load(Ordering::Relaxed) > so_far + 20
        });
    });
    assert!(standing.ask("a.example", "ok").contains(" 200 "));
    assert_eq!(site.server.orders(), ["a.example", "a.example"]);
    assert_eq!(site.server.accounts(), 1);
    site.server.found_no_fault();
}

#[test]
fn an_account_is_bound_to_one_that_exists_elsewhere() {
    let site = Site::new();
    let key = b"a key that the authority has given".to_vec();
    let file = site.folder.write(
        "eab.key",
        "YSBrZXkgdGhhdCB0aGUgYXV0aG9yaXR5IGhhcyBnaXZlbg\n",
    );
    site.server
        .behave(|b| b.binding = Some(("customer-7", key)));
    let binding = format!(
        r#", "external_account_binding": {{"key_id": "customer-7", "mac_key_file": "{file}"}}"#
    );
    let config = site.secure(&site.acme(r#""a.example""#, &binding));
    let (_weir, ports) = site.start(&config);
    site.served(ports[1], "a.example");
    site.server.found_no_fault();
}

#[test]
fn a_name_without_its_certificate_yet_falls_to_another_that_covers_it() {
    let site = Site::new();
    let other = site.server.issuer.issue(&["*.b.example"]);
    let certificate = site.folder.write("wild.pem", &other.pem);
    let key = site.folder.write("wild.key", &other.key_pem);
    let own = format!(r#""certificate": "{certificate}", "key": "{key}", "#);
    let acme = site.acme(r#""a.b.example", "c.example""#, "");
    let weir = Weir::start(&site.secure(&(own + &acme)));
    let ports = ports(&weir);
    let meet = |name| Meeting::of(&site.server.issuer, name).connect(ports[1]);
    let shown = meet("a.b.example").expect("covered").shown();
    assert_eq!(shown, other.cert.to_vec());
    // This one is not covered, and the first certificate is for other names.
    assert!(meet("c.example").is_err());
    site.server.behave(|b| b.ports = Some((ports[0], ports[1])));
    site.served(ports[1], "c.example");
}

#[test]
fn what_a_config_wants_can_change() {
    use std::sync::Arc;
    use weirkeeper::env::tokio::TokioEnv;
    use weirkeeper::telemetry::{Layout, Telemetry};
    let site = Site::new();
    let compiled = |domain: &str| {
        let text = site.secure(&site.acme(domain, ""));
        let config = weirkeeper::config::load_str("c.json", &text, &|_| None);
        Arc::new(config.unwrap_or_else(|e| panic!("{e}")))
    };
    // Nobody listens, so every challenge fails: what counts here is who is ordered for.
    let nobody = crate::support::free_port();
    site.server.behave(|b| b.ports = Some((nobody, nobody)));
    let (first, second) = (
        compiled(r#""a.example""#),
        compiled(r#""a.example", "b.example""#),
    );
    let layout = Layout {
        listeners: vec!["web".into(), "secure".into()],
        upstreams: vec![("app".into(), vec!["one".into()])],
    };
    let telemetry = Arc::new(Telemetry::new(layout, 1, None));
    let env = TokioEnv::new().expect("there is entropy");
    let proxy = weirkeeper::proxy::Proxy::new(&env, Arc::clone(&first), telemetry);
    let proxy = proxy.expect("it is fine");
    let acme = weirkeeper::acme::start(&first, &proxy, Box::new(|_| {})).expect("it starts");
    let acme = acme.expect("something is wanted");
    let failed = |name: &str| {
        let status = acme.status();
        status.iter().any(|s| s.name == name && s.failures == 1)
    };
    eventually("the first is tried", || failed("a.example"));
    acme.apply(&second).expect("it is fine");
    eventually("the second is tried", || failed("b.example"));
    // The back-off of the first one outlives the change.
    assert_eq!(site.server.orders(), ["a.example", "b.example"]);
    acme.apply(&compiled(r#""b.example""#)).expect("it is fine");
    eventually("the first is forgotten", || acme.status().len() == 1);
    assert_eq!(site.server.orders(), ["a.example", "b.example"]);
}

/// A client that offers nothing and names nobody, as old monitors do.
#[test]
fn a_client_that_names_nobody_gets_what_there_is() {
    let site = Site::new();
    let config = site.secure(&site.acme(r#""a.example""#, ""));
    let (_weir, ports) = site.start(&config);
    let shown = site.served(ports[1], "a.example").shown();
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", ports[1])).expect("it listens");
    let config = Meeting {
        alpn: &[],
        ..site.meeting()
    }
    .config();
    // By its address there is no name in the hello; the certificate is not for it.
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut session = rustls::ClientConnection::new(config, name).expect("a session");
    while session.is_handshaking() && session.complete_io(&mut socket).is_ok() {}
    let seen = session.peer_certificates().map(|certs| certs[0].to_vec());
    assert!(seen.is_none_or(|seen| seen == shown));
    assert_eq!(client::once(ports[0], get("/")).status, 200);
}
