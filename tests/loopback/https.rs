//! TLS to backends: whom the proxy believes, what it says of itself, and what a client hears when a handshake fails.

use tokio::io::AsyncWriteExt;

use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::secure::{Authority, Folder, Secure, read_head, server};
use crate::support::weir::Weir;
use crate::support::wire::Broken;

/// A config with these backends and members of the upstream.
pub(super) fn config(backends: &[String], upstream: &str) -> String {
    let backends = backends.join("\", \"");
    format!(
        r#"{{"admin": {{"bind": "127.0.0.1:0"}}, "workers": 1, "listeners": {{"web": {{"bind": "127.0.0.1:0"}}}},
            "upstreams": {{"app": {{"phase": "zero", {upstream} "backends": ["{backends}"]}}}}}}"#
    )
}

pub(super) fn url(host: &str, port: u16) -> String {
    format!("https://{host}:{port}")
}

/// Trusting the authority whose file this is.
fn trusting(ca: &str) -> String {
    format!(r#""tls": {{"ca": "{ca}"}},"#)
}

#[track_caller]
fn refused(weir: &Weir, error: &str) {
    let response = weir.once(get("/"));
    assert_eq!(response.status, 502, "{response:?}");
    let why = response.get("proxy-status").unwrap_or_default();
    assert!(why.contains(&format!("error={error}")), "{why:?}");
}

#[test]
fn a_backend_of_an_authority_of_ours() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let issued = authority.issue(&["localhost", "127.0.0.1"]);
    let backend = Secure::answering(server(&issued, &[b"http/1.1"], None), "secret", true);
    let by_name = Weir::start(&config(&[url("localhost", backend.port())], &trusting(&ca)));
    for _ in 0..3 {
        let response = by_name.once(get("/"));
        assert_eq!((response.status, response.text().as_str()), (200, "secret"));
    }
    let seen = backend.shaken();
    assert_eq!(seen.len(), 1, "the connection is kept: {seen:?}");
    assert_eq!(seen[0].sni.as_deref(), Some("localhost"));
    assert_eq!(seen[0].alpn.as_deref(), Some("http/1.1"));
    // An address is verified as one, and is no name to ask for.
    let by_address = Weir::start(&config(&[url("127.0.0.1", backend.port())], &trusting(&ca)));
    assert_eq!(by_address.once(get("/")).status, 200);
    assert_eq!(backend.shaken()[1].sni, None);
}

#[test]
fn files_are_found_from_the_folder_of_the_config() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let issued = authority.issue(&["127.0.0.1"]);
    let backend = Secure::answering(server(&issued, &[], None), "ok", true);
    // The kit writes its configs into the temporary folder.
    let folder = folder
        .0
        .file_name()
        .and_then(|n| n.to_str())
        .expect("ASCII");
    assert!(ca.contains(folder));
    let near = trusting(&format!("{folder}/ca.pem"));
    let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], &near));
    assert_eq!(weir.once(get("/")).status, 200);
}

#[test]
fn a_certificate_that_does_not_verify_is_refused_and_another_backend_tried() {
    let (ours, theirs, folder) = (Authority::new(), Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &ours.pem);
    let unknown = Secure::answering(server(&theirs.issue(&["127.0.0.1"]), &[], None), "no", true);
    let wrong = Secure::answering(
        server(&ours.issue(&["other.example"]), &[], None),
        "no",
        true,
    );
    let right = Secure::answering(server(&ours.issue(&["127.0.0.1"]), &[], None), "yes", true);
    for (backend, said) in [(&unknown, "authority"), (&wrong, "other.example")] {
        let bad = url("127.0.0.1", backend.port());
        let alone = Weir::start(&config(std::slice::from_ref(&bad), &trusting(&ca)));
        refused(&alone, "tls_certificate_error");
        eventually("the log says why, and of whom", || {
            alone.stderr().iter().any(|line| {
                line.contains(said) && line.contains(&format!("127.0.0.1:{}", backend.port()))
            })
        });
        let beside = config(&[bad, url("127.0.0.1", right.port())], &trusting(&ca));
        let weir = Weir::start(&beside);
        for _ in 0..4 {
            let response = weir.once(get("/"));
            assert_eq!((response.status, response.text().as_str()), (200, "yes"));
        }
        assert_eq!(backend.shaken(), []);
    }
}

#[test]
fn unverified_on_request() {
    let theirs = Authority::new();
    let issued = theirs.issue(&["other.example"]);
    let backend = Secure::answering(server(&issued, &[], None), "ok", true);
    let unverified = r#""tls": {"verify": false},"#;
    let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], unverified));
    assert_eq!(weir.once(get("/")).status, 200);
}

#[test]
fn another_name_is_asked_for_and_verified() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let issued = authority.issue(&["inner.example"]);
    let backend = Secure::answering(server(&issued, &[], None), "ok", true);
    let section = format!(r#""tls": {{"ca": "{ca}", "sni": "inner.example"}},"#);
    let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], &section));
    assert_eq!(weir.once(get("/")).status, 200);
    assert_eq!(backend.shaken()[0].sni.as_deref(), Some("inner.example"));
}

#[test]
fn a_certificate_of_ours_where_the_backend_asks_for_one() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let issued = authority.issue(&["127.0.0.1"]);
    let ours = authority.issue(&["weir.example"]);
    let certificate = folder.write("client.pem", &ours.pem);
    let key = folder.write("client.key", &ours.key_pem);
    let backend = Secure::answering(server(&issued, &[], Some(&authority)), "ok", true);
    let backends = [url("127.0.0.1", backend.port())];
    let section =
        format!(r#""tls": {{"ca": "{ca}", "certificate": "{certificate}", "key": "{key}"}},"#);
    let weir = Weir::start(&config(&backends, &section));
    assert_eq!(weir.once(get("/")).status, 200);
    assert!(backend.shaken()[0].client_cert);
    let unknown = Weir::start(&config(&backends, &trusting(&ca)));
    refused(&unknown, "tls_alert_received");
}

#[test]
fn a_peer_without_tls_is_no_backend() {
    let plain = crate::support::backend::Backend::ok();
    let weir = Weir::start(&config(
        &[url("127.0.0.1", plain.port)],
        r#""tls": {"verify": false},"#,
    ));
    refused(&weir, "tls_protocol_error");
    assert_eq!(plain.log().requests.len(), 0);
}

#[test]
fn a_session_is_resumed() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let issued = authority.issue(&["127.0.0.1"]);
    let backend = Secure::answering(server(&issued, &[], None), "ok", false);
    let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], &trusting(&ca)));
    for _ in 0..3 {
        assert_eq!(weir.once(get("/")).status, 200);
    }
    let resumed: Vec<bool> = backend.shaken().iter().map(|s| s.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn an_end_that_tls_did_not_announce_is_no_end() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let issued = authority.issue(&["127.0.0.1"]);
    let backend = Secure::start(server(&issued, &[], None), |mut stream| async move {
        let Some(head) = read_head(&mut stream).await else {
            return;
        };
        let response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it";
        let _ = stream.write_all(response).await;
        let _ = stream.flush().await;
        if head.starts_with("GET /announced ") {
            let _ = stream.shutdown().await;
        }
    });
    let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], &trusting(&ca)));
    let whole = weir.once(get("/announced"));
    assert_eq!(whole.text(), "all of it");
    let cut = Client::connect(weir.port).ask(get("/cut"));
    assert_eq!(cut, Err(Broken::Truncated));
}

#[test]
fn a_large_body_passes_both_ways() {
    use tokio::io::AsyncReadExt;
    const SIZE: usize = 3 << 20;
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let issued = authority.issue(&["127.0.0.1"]);
    let backend = Secure::start(server(&issued, &[], None), |mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            let mut body = vec![0; SIZE];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
            let _ = stream.flush().await;
        }
    });
    let weir = Weir::start(&config(&[url("127.0.0.1", backend.port())], &trusting(&ca)));
    let mut request =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
    let body: Vec<u8> = (0..SIZE).map(|i| (i * 7 / 3) as u8).collect();
    request.extend_from_slice(&body);
    for _ in 0..2 {
        let response = weir.once(&request);
        assert_eq!(response.status, 200);
        assert!(response.message.body == body, "the body came back changed");
    }
}
