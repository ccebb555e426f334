//! Rules for paths and the spellings by which they could be walked around, over both protocols: what the backend received was
//! never a way below the rule.

use http::{Method, Request, Version};

use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::tls::h2;
use crate::support::weir::Extra;

use super::Scene;

/// `/admin` is refused, and the rest goes to the backend.
const ROUTES: &str = r#""routes": [
    {"name": "closed", "match": {"path": {"prefix": "/admin"}}, "respond": {"status": 403}},
    {"name": "rest", "upstream": "app"}]"#;

/// What stands before, within and behind the rule's only segment.
const BEFORE: &[&str] = &[
    "/",
    "//",
    "///",
    "/./",
    "/x/../",
    "/.//",
    "/;/",
    "/;a=b/",
    "/.;/",
    "/%2f",
    "/%2F/",
    "/%5c",
    "/%2e/",
    "/x/%2e%2e/",
];
const NAMES: &[&str] = &[
    "admin",
    "%61dmin",
    "admi%6E",
    "admin;x",
    "admin;x=1;y",
    "admin%3bx",
];
const BEHIND: &[&str] = &[
    "",
    "/",
    "//",
    "/x",
    "%2f",
    "%2Fx",
    "%5c",
    "%5Cx",
    "/..;/admin",
    "/.",
    "?a",
    "?/../x",
];

fn ways() -> Vec<String> {
    let mut all = Vec::new();
    for before in BEFORE {
        for name in NAMES {
            all.extend(
                BEHIND
                    .iter()
                    .map(|behind| format!("{before}{name}{behind}")),
            );
        }
    }
    all.extend(
        [
            "/\\admin",
            "/admin\\x",
            "/x\\..\\admin",
            "\\admin",
            "/%c0%afadmin",
            "/%00admin",
            "/admin%00",
        ]
        .map(str::to_owned),
    );
    all
}

#[test]
fn no_spelling_leads_around_a_prefix() {
    for path in [
        "",
        r#""path": {"merge_slashes": true}"#,
        r#""path": {"encoded_slashes": "decode", "backslashes": "slash", "parameters": "strip"}"#,
    ] {
        let extra = Extra {
            top: ROUTES,
            listener: path,
            ..Extra::default()
        };
        let scene = Scene::with(Backend::ok(), extra);
        for way in ways() {
            let raw = format!("GET {way} HTTP/1.1\r\nHost: test.example\r\n\r\n");
            let status = scene.weir.once(raw).status;
            assert!(matches!(status, 400 | 403), "{way} with {path}: {status}");
        }
        assert_eq!(scene.backend.log().lines(), [""; 0], "{path}");
        for fine in [
            "/",
            "/x",
            "/admins",
            "/x/admin",
            "/x;/admin",
            "/a//b",
            "/a%2Fb",
            "/x?/admin",
        ] {
            assert_eq!(scene.weir.once(get(fine)).status, 200, "{fine} with {path}");
        }
        scene.end();
    }
}

#[test]
fn no_spelling_leads_around_a_prefix_over_http2() {
    let extra = Extra {
        top: ROUTES,
        ..Extra::default()
    };
    let scene = Scene::with(Backend::ok(), extra);
    h2(scene.weir.port, async |mut client| {
        for way in ways() {
            let request = Request::builder()
                .method(Method::GET)
                .version(Version::HTTP_2);
            let Ok(request) = request.uri(format!("http://test.example{way}")).body(()) else {
                continue;
            };
            let (answer, _) = client.send_request(request, true).expect("it is sent");
            let status = answer.await.expect("an answer").status().as_u16();
            assert!(matches!(status, 400 | 403), "{way}: {status}");
        }
    });
    assert_eq!(scene.backend.log().lines(), [""; 0]);
    scene.end();
}

/// A prefix is taken off only where everybody finds it.
#[test]
fn a_hidden_prefix_is_not_taken_off() {
    let routes = r#""routes": [
        {"name": "api", "match": {"path": {"prefix": "/api"}}, "strip_prefix": "/api", "upstream": "app"},
        {"name": "rest", "upstream": "app"}]"#;
    let extra = Extra {
        top: routes,
        ..Extra::default()
    };
    let scene = Scene::with(Backend::ok(), extra);
    for (way, status, forwarded) in [
        ("/api/x", 200, Some("GET /x HTTP/1.1")),
        ("/api//x;y", 200, Some("GET //x;y HTTP/1.1")),
        ("/api;v=1/x", 400, None),
        ("//api/x", 400, None),
        ("/api%2fx", 400, None),
        ("/apis", 200, Some("GET /apis HTTP/1.1")),
    ] {
        scene.backend.forget();
        assert_eq!(scene.weir.once(get(way)).status, status, "{way}");
        let log = scene.backend.log();
        assert_eq!(log.lines().first().copied(), forwarded, "{way}");
    }
    scene.end();
}

/// What is stored under one spelling is not served for another that the backend was asked for in another way, and exceptions from
/// the cache hold for every spelling.
#[test]
fn the_cache_goes_by_what_is_forwarded() {
    let backend = Backend::answering(|request| {
        let path = request
            .start
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        crate::support::backend::reply(200, "Cache-Control: max-age=60\r\n", &path)
    });
    let top = r#""routes": [{"name": "all", "upstream": "app", "cache": {"bypass": {"paths": ["/private"]}}}]"#;
    let extra = Extra {
        top,
        ..Extra::default()
    };
    let scene = Scene::with(backend, extra);
    for way in ["/a/b", "//a/b", "/a%2fb", "/a;x/b", "/a%5cb"] {
        let normal = way.replace("%2f", "%2F").replace("%5c", "%5C");
        for _ in 0..2 {
            assert_eq!(scene.weir.once(get(way)).text(), normal);
        }
    }
    assert_eq!(scene.backend.log().requests.len(), 5);
    for way in [
        "/private/x",
        "//private/x",
        "/private%2Fx",
        "/private;v/x",
        "/%5cprivate/x",
    ] {
        scene.backend.forget();
        for _ in 0..2 {
            assert_eq!(scene.weir.once(get(way)).status, 200, "{way}");
        }
        assert_eq!(scene.backend.log().requests.len(), 2, "{way}");
    }
    scene.end();
}
