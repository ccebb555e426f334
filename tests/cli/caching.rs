//! A cache as its operator meets it: what `weir run` says of it, what the admin port shows, and what `weir purge` does.

use serde_json::Value;

use super::{Serving, text, weir};
use crate::support::weir::Weir;

/// The flat form with caching, on free ports.
fn cached(backend: u16, more: &str) -> String {
    let port = crate::support::free_port();
    format!(
        r#"{{"port": "{port}", "level": "L7", "strategy": "round-robin", "caching": "baseline", "proto": "tcp",
            "serializer": "none", "servers": {{"http://localhost:{backend}": 3}}, "maxWorkers": 3,
            "cache-ignore": ["/live"], "admin": {{"bind": "127.0.0.1:0"}} {more}}}"#
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn a_cached_response_is_shown_purged_and_counted() {
    let mut echo = Serving::start(&["echo", "0", "--header", "surrogate-key: a b"]);
    let proxy = Weir::start(&cached(echo.port(), ""));
    let said = proxy.stderr();
    assert!(
        said.iter().any(|l| l == "caching: 128MiB in memory"),
        "{said:?}"
    );
    let admin = format!("127.0.0.1:{}", proxy.admin);
    let base = format!("http://localhost:{}", proxy.port);
    // How many requests the backend has served, as it told the one that was stored.
    let get = |target: &str| {
        let host = format!("localhost:{}", proxy.port);
        let raw = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let response = proxy.once(raw);
        let body: Value = serde_json::from_slice(&response.message.body).expect("JSON");
        let status = response.get("cache-status").unwrap_or_default().to_string();
        (body["served"].as_u64().expect("a count"), status)
    };
    let purge = |args: &[&str]| {
        let output = weir(&[&["purge", "--admin", &admin], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    // The flat form keeps for half an hour what says nothing itself.
    assert_eq!(
        get("/a"),
        (1, "weir; fwd=uri-miss; ttl=1800; stored".into())
    );
    assert_eq!(get("/a").0, 1);
    let hit = get("/a");
    assert!(
        hit.0 == 1 && hit.1.starts_with("weir; hit; ttl="),
        "{hit:?}"
    );
    assert_eq!(get("/live").0, 2);
    assert_eq!(get("/live"), (3, "weir; fwd=bypass".into()));

    let shown = |url: &str| -> Value {
        let response = proxy.admin(&format!("/cache?url={url}"));
        serde_json::from_slice(&response.message.body).expect("JSON")
    };
    let one = shown(&format!("{base}/a"));
    assert_eq!(one["count"], 1, "{one}");
    let stored = &one["responses"][0];
    assert_eq!(
        (&stored["status"], &stored["hits"]),
        (&200.into(), &2.into()),
        "{one}"
    );
    assert_eq!(stored["tags"].as_array().map(Vec::len), Some(2), "{one}");
    assert_eq!(shown(&format!("{base}/live"))["count"], 0);
    let all: Value = serde_json::from_slice(&proxy.admin("/cache").message.body).expect("JSON");
    assert_eq!(
        (&all["entries"], &all["limit"]),
        (&1.into(), &(128 << 20).into()),
        "{all}"
    );
    let metrics = proxy.admin("/metrics").text();
    for line in [
        r#"weir_cache_requests_total{listener="web",result="hit"} 2"#,
        r#"weir_cache_requests_total{listener="web",result="miss"} 1"#,
        r#"weir_cache_requests_total{listener="web",result="bypass"} 2"#,
        "weir_cache_entries 1",
        "weir_cache_flights 0",
        "weir_cache_filling_bytes 0",
        "weir_cache_memory_limit_bytes 134217728",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is not in\n{metrics}"
        );
    }

    // Softly, it is validated before its next use; this backend has a new one.
    assert_eq!(
        purge(&["--soft", &format!("{base}/a")]),
        "1 response kept for validation\n"
    );
    assert_eq!(shown(&format!("{base}/a"))["responses"][0]["soft"], true);
    assert_eq!(get("/a"), (4, "weir; fwd=stale; ttl=1800; stored".into()));
    assert_eq!(
        purge(&[&format!("HTTP://LOCALHOST:{}/x/../a", proxy.port)]),
        "1 response purged\n"
    );
    assert_eq!(shown(&format!("{base}/a"))["count"], 0);
    assert_eq!(get("/a").0, 5);
    assert_eq!(get("/b").0, 6);
    assert_eq!(
        purge(&["--prefix", &format!("{base}/a")]),
        "1 response purged\n"
    );
    assert_eq!((get("/a").0, get("/b").0), (7, 6));
    assert_eq!(purge(&["--tag", "b"]), "2 responses purged\n");
    assert_eq!((get("/a").0, get("/b").0), (8, 9));
    assert_eq!(purge(&["--all"]), "2 responses purged\n");
    let none = purge(&[&format!("{base}/a")]);
    assert_eq!(
        none,
        format!("0 responses purged\nnothing is in memory under {base}/a\n")
    );
}

#[test]
fn a_url_is_purged_under_every_form_that_its_query_has() {
    let mut echo = Serving::start(&["echo", "0"]);
    let backend = echo.port();
    for (query, others) in [("\"none\"", ""), (r#"{"without": ["utm"]}"#, "&b=1")] {
        let more = format!(r#", "cache": {{"query": {query}}}"#);
        let proxy = Weir::start(&cached(backend, &more));
        let url = |utm: u8| format!("http://127.0.0.1:{}/a?utm={utm}{others}", proxy.port);
        let get = |utm: u8| {
            let raw = format!(
                "GET /a?utm={utm}{others} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
                proxy.port
            );
            proxy
                .once(raw)
                .get("cache-status")
                .unwrap_or_default()
                .contains("hit")
        };
        assert!(!get(1) && get(2), "{query}: one entry for both");
        let output = weir(&[
            "purge",
            "--admin",
            &format!("127.0.0.1:{}", proxy.admin),
            &url(3),
        ]);
        assert_eq!(text(&output.stdout), "1 response purged\n", "{query}");
        assert!(!get(1), "{query}");
    }
}

#[test]
fn purge_exits_1_when_nobody_takes_the_order() {
    let closed = format!("127.0.0.1:{}", crate::support::free_port());
    let output = weir(&["purge", "--all", "--admin", &closed]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains(&format!("no answer from the admin port at {closed}")),
        "{stderr}"
    );
    assert!(stderr.contains("is weir running"), "{stderr}");
    // Something else listens there.
    let mut echo = Serving::start(&["echo", "0", "--status", "404"]);
    let output = weir(&[
        "purge",
        "--all",
        "--admin",
        &format!("127.0.0.1:{}", echo.port()),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the proxy answered 404"));
}

#[test]
fn check_prints_no_password() {
    let path = std::env::temp_dir().join(format!("weir-password-{}.json", std::process::id()));
    let redis = r#""redis": "redis://:s3cret@h.example""#;
    let flat = r#"{"port": 1, "servers": {"http://a": 1}, "caching": "redis","#;
    std::fs::write(&path, format!("{flat} {redis}}}")).expect("the temporary folder is writable");
    let file = path.to_str().expect("the path is Unicode");
    let check = weir(&["check", "-c", file]);
    let full = weir(&["check", "--expand", "-c", file]);
    std::fs::remove_file(&path).expect("removes");
    assert!(text(&check.stdout).contains("caching     128MiB in memory, Redis at h.example:6379"));
    assert!(text(&full.stdout).contains(r#""password": "${WEIR_REDIS_PASSWORD}""#));
    assert!(
        text(&full.stderr).contains("takes that of Redis from the variable WEIR_REDIS_PASSWORD")
    );
    for output in [check, full] {
        assert_eq!(output.status.code(), Some(0));
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains("s3cret"), "{all}");
    }
}
