//! Fields by which proxies speak of their clients, from who is no proxy: each name in each spelling at each place of a head, over
//! both protocols. What the backend received has no word of them.

use http::{Method, Request, Version};

use crate::support::backend::{Backend, Log};
use crate::support::client::get;
use crate::support::tls::h2;
use crate::support::weir::Extra;

use super::Scene;

/// What backends, their frameworks and the networks in front of them are known to believe.
const NAMES: &[&str] = &[
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Ssl",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-By",
    "X-Forwarded-User",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Anything",
    "X-Forwarded",
    "Forwarded",
    "Forwarded-For",
    "X-Forward-For",
    "X-Originally-Forwarded-For",
    "X-Original-Forwarded-For",
    "X-Original-Url",
    "X-Original-Host",
    "X-Original-Remote-Addr",
    "X-Rewrite-Url",
    "X-Override-Url",
    "X-Http-Destinationurl",
    "X-Host",
    "X-Http-Host-Override",
    "X-Host-Override",
    "X-Real-Ip",
    "X-Real-Port",
    "X-Client-Ip",
    "X-Cluster-Client-Ip",
    "X-Remote-Ip",
    "X-Remote-Addr",
    "X-Remote-User",
    "X-Originating-Ip",
    "True-Client-Ip",
    "Client-Ip",
    "Http-Client-Ip",
    "Remote-Addr",
    "Remote-User",
    "Cf-Connecting-Ip",
    "Cf-Connecting-Ipv6",
    "Cf-Visitor",
    "Fastly-Client-Ip",
    "Fastly-Ssl",
    "Proxy-Client-Ip",
    "Wl-Proxy-Client-Ip",
    "Wl-Proxy-Ssl",
    "Front-End-Https",
    "X-Url-Scheme",
    "X-Scheme",
    "X-Https",
    "X-Arr-Ssl",
    "X-Azure-Clientip",
    "X-Appengine-User-Ip",
    "Ali-Cdn-Real-Ip",
    "Cdn-Src-Ip",
    "X-Envoy-External-Address",
    "X-Envoy-Original-Path",
    "X-Envoy-Internal",
    "Proxy",
    "Client-Cert",
    "Client-Cert-Chain",
    "Client-Cert-Subject",
    "X-Client-Cert",
    "X-Ssl-Client-Verify",
    "Ssl-Client-Cert",
    "X-Auth-Request-User",
    "X-Webauth-User",
    "X-Amzn-Oidc-Data",
    "X-Amzn-Mtls-Clientcert",
    "X-Goog-Authenticated-User-Email",
    "X-Ms-Client-Principal",
    "X-Request-Id",
];

/// What each of them says here.
const CLAIM: &str = "6.6.6.6-evil";

/// The spellings of a name that a gateway may make the same variable of.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned(), name.to_lowercase(), name.to_uppercase()];
    if name.contains('-') {
        all.push(name.replace('-', "_"));
        all.push(name.replace('-', "."));
        all.push(name.replacen('-', "_", 1).to_lowercase());
    }
    all
}

fn all_spellings() -> Vec<String> {
    NAMES.iter().flat_map(|name| spellings(name)).collect()
}

#[track_caller]
fn assert_unbelieved(log: &Log, requests: usize, how: &str) {
    assert_eq!(log.requests.len(), requests, "{how}: {:?}", log.broken);
    assert!(log.broken.is_empty(), "{how}: {:?}", log.broken);
    if let Some(seen) = log
        .requests
        .iter()
        .find(|r| r.fields.iter().any(|(_, value)| value.contains(CLAIM)))
    {
        panic!("{how}: {seen:?}");
    }
    assert!(!log.saw(CLAIM), "{how}: not in a field");
    for seen in &log.requests {
        assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"), "{how}");
        assert_eq!(seen.get("x-forwarded-proto"), Some("http"), "{how}");
        assert_eq!(seen.get("x-ordinary"), Some("kept"), "{how}");
    }
}

#[test]
fn no_claim_of_a_stranger_reaches_a_backend() {
    let scene = Scene::new();
    for spelled in all_spellings() {
        scene.backend.forget();
        let claim = format!("{spelled}: {CLAIM}\r\n");
        let raw = |first: &str, middle: &str, last: &str| {
            format!(
                "GET /probe HTTP/1.1\r\n{first}Host: test.example\r\n{middle}X-Ordinary: kept\r\n{last}\r\n"
            )
        };
        let nominated = format!("Connection: {spelled}\r\n{claim}");
        let places = [
            raw(&claim, "", ""),
            raw("", &claim, ""),
            raw("", "", &claim),
            raw(&claim, &claim, &claim),
            raw("", &nominated, ""),
        ];
        let mut client = crate::support::client::Client::connect(scene.weir.port);
        for raw in &places {
            assert_eq!(client.ask(raw).map(|r| r.status), Ok(200), "{spelled}");
        }
        assert_unbelieved(&scene.backend.log(), places.len(), &spelled);
    }
    scene.end();
}

#[test]
fn no_claim_of_a_stranger_reaches_a_backend_over_http2() {
    let scene = Scene::new();
    let names: Vec<String> = all_spellings()
        .iter()
        .map(|name| name.to_lowercase())
        .collect();
    h2(scene.weir.port, async |mut client| {
        for name in &names {
            scene.backend.forget();
            for before in [true, false] {
                let mut request = Request::builder()
                    .method(Method::GET)
                    .version(Version::HTTP_2);
                request = request.uri("http://test.example/probe");
                let claim = (name.as_str(), CLAIM);
                let ordinary = ("x-ordinary", "kept");
                let fields = if before {
                    [claim, ordinary]
                } else {
                    [ordinary, claim]
                };
                for (name, value) in fields {
                    request = request.header(name, value);
                }
                let (answer, _) = client
                    .send_request(request.body(()).expect("a request"), true)
                    .expect("it is sent");
                assert_eq!(answer.await.expect("an answer").status(), 200, "{name}");
            }
            assert_unbelieved(&scene.backend.log(), 2, name);
        }
    });
    scene.end();
}

/// Trailers are fields as well, and some servers merge them into those of the head (RFC 9110 section 6.5.1).
#[test]
fn no_claim_hides_in_trailers() {
    let scene = Scene::new();
    for name in NAMES {
        scene.backend.forget();
        let raw = format!(
            "POST /probe HTTP/1.1\r\nHost: test.example\r\nX-Ordinary: kept\r\nTE: trailers\r\nConnection: te\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{name}: {CLAIM}\r\n\r\n"
        );
        assert_eq!(scene.weir.once(raw).status, 200, "{name}");
        assert_unbelieved(&scene.backend.log(), 1, name);
    }
    scene.end();
}

/// A rule that sets or removes a field has the last word in every spelling of it, whoever the client is.
#[test]
fn a_rule_for_a_field_is_not_imitated() {
    let routes = r#""routes": [{"name": "all", "upstream": "app",
        "request_headers": {"set": {"X-User": "alice"}, "remove": ["X-Role"]}}]"#;
    for trusted in ["", r#""trusted_proxies": ["127.0.0.0/8"]"#] {
        let extra = Extra {
            top: routes,
            listener: trusted,
            ..Extra::default()
        };
        let scene = Scene::with(Backend::ok(), extra);
        for name in ["X-User", "x_user", "X_User", "X-Role", "x_role", "x.role"] {
            let raw =
                format!("GET /probe HTTP/1.1\r\nHost: test.example\r\n{name}: mallory\r\n\r\n");
            assert_eq!(scene.weir.once(raw).status, 200, "{name}");
        }
        let log = scene.backend.log();
        assert!(!log.saw("mallory"), "{:?}", log.requests);
        assert!(
            log.requests
                .iter()
                .all(|seen| seen.all("x-user") == ["alice"])
        );
        scene.end();
    }
}

/// What a listener says of its own fields.
#[test]
fn the_list_can_be_changed_for_a_listener() {
    let listener = r#""untrusted_fields": {"drop": ["X-Internal-*", "X-Debug"], "keep": ["X-Request-Id", "CF-Connecting-IP"]}"#;
    let extra = Extra {
        listener,
        ..Extra::default()
    };
    let scene = Scene::with(Backend::ok(), extra);
    let raw = "GET /probe HTTP/1.1\r\nHost: test.example\r\nX-Internal-Role: 6\r\nx_internal_id: 6\r\nX-Debug: 6\r\n\
        X-Request-Id: mine\r\nCF-Connecting-IP: 1.2.3.4\r\nX-Client-Ip: 6\r\nX-Debugger: 7\r\n\r\n";
    assert_eq!(scene.weir.once(raw).status, 200);
    let log = scene.backend.log();
    let seen = &log.requests[0];
    for gone in ["x-internal-role", "x_internal_id", "x-debug", "x-client-ip"] {
        assert_eq!(seen.all(gone), [""; 0], "{gone}");
    }
    assert_eq!(seen.get("x-request-id"), Some("mine"));
    assert_eq!(seen.get("cf-connecting-ip"), Some("1.2.3.4"));
    assert_eq!(seen.get("x-debugger"), Some("7"));
    scene.end();
}

/// A route is not chosen by a claim either.
#[test]
fn a_claim_chooses_no_route() {
    let routes = r#""routes": [
        {"name": "inside", "match": {"headers": {"x-forwarded-user": true}}, "respond": {"status": 418}},
        {"name": "rest", "upstream": "app"}]"#;
    let extra = Extra {
        top: routes,
        ..Extra::default()
    };
    let scene = Scene::with(Backend::ok(), extra);
    let raw = "GET /probe HTTP/1.1\r\nHost: test.example\r\nX-Forwarded-User: root\r\n\r\n";
    assert_eq!(scene.weir.once(raw).status, 200);
    assert_eq!(scene.weir.once(get("/probe")).status, 200);
    scene.end();
}
