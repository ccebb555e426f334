//! Counters and their text form, log lines under hostile input, and the log as a file.

use std::net::Ipv4Addr;
use std::time::UNIX_EPOCH;

use super::cells::Cells;
use super::*;

fn layout() -> Layout {
    Layout {
        listeners: vec!["main".into()],
        upstreams: vec![
            ("web".into(), vec!["a:1".into(), "b\"2\\".into()]),
            ("api".into(), vec!["c:3".into()]),
        ],
    }
}

fn exchange() -> Exchange<'static> {
    Exchange {
        listener: 0,
        route: Some("all"),
        upstream: Some(0),
        backend: Some(1),
        client: Ipv4Addr::LOCALHOST.into(),
        method: &Method::GET,
        target: "/x?y=1",
        version: Version::HTTP_11,
        host: "example.com",
        user_agent: Some(b"curl/8"),
        referer: None,
        status: 200,
        bytes_sent: 12,
        bytes_received: 0,
        started: Tick::from_millis(1000),
        ended: Tick::from_millis(1003),
        queue_wait: Duration::from_millis(2),
        attempts: 1,
        cause: None,
        cache: None,
        tunnel: false,
        request_id: "id-1",
        wall: UNIX_EPOCH + Duration::from_millis(951_827_696_789),
    }
}

fn rendered(telemetry: &Telemetry) -> String {
    let mut out = String::new();
    telemetry.render(&mut out);
    out
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
}

#[test]
fn cores_are_summed_and_labels_escaped() {
    let telemetry = Telemetry::new(layout(), 2, None);
    telemetry.record(0, &exchange());
    telemetry.record(1, &exchange());
    telemetry.record(
        1,
        &Exchange {
            backend: None,
            status: 503,
            cause: Some(Cause::QueueFull),
            ..exchange()
        },
    );
    telemetry.refused(0, 0, Cause::HeadTooLarge);
    telemetry.connection_opened(0, 0);
    telemetry.connection_opened(1, 0);
    telemetry.connection_closed(1, 0);
    telemetry.retried(1, 1);
    telemetry.panicked(0);
    let text = rendered(&telemetry);
    for line in [
        r#"weir_requests_total{listener="main",upstream="web",backend="b\"2\\",code="2xx"} 2"#,
        r#"weir_requests_total{listener="main",upstream="web",backend="",code="5xx"} 1"#,
        r#"weir_refused_total{listener="main",cause="queue_full"} 1"#,
        r#"weir_refused_total{listener="main",cause="head_too_large"} 1"#,
        r#"weir_shed_total{upstream="web",reason="queue_full"} 1"#,
        r#"weir_shed_total{upstream="api",reason="queue_full"} 0"#,
        r#"weir_retries_total{upstream="api"} 1"#,
        r#"weir_connections_opened_total{listener="main"} 2"#,
        r#"weir_connections{listener="main"} 1"#,
        r#"weir_queue_wait_seconds_bucket{upstream="web",le="0.0016"} 0"#,
        r#"weir_queue_wait_seconds_bucket{upstream="web",le="0.0032"} 3"#,
        r#"weir_queue_wait_seconds_bucket{upstream="web",le="+Inf"} 3"#,
        r#"weir_queue_wait_seconds_sum{upstream="web"} 0.006"#,
        r#"weir_request_duration_seconds_count{upstream="web",backend=""} 1"#,
        "weir_panics_total 1",
    ] {
        assert_line(&text, line);
    }
    assert!(!text.contains("access_log"), "there is no log\n{text}");
}

#[test]
fn sessions_are_counted_with_their_bytes_and_told_in_a_line() {
    let telemetry = Telemetry::new(layout(), 2, None);
    telemetry.passed(0, 0, (0, 1), 10, 0);
    telemetry.passed(1, 0, (0, 1), 5, 7);
    telemetry.datagrams_dropped(0, 0, Some(1), 3);
    let x = Session {
        protocol: "udp",
        listener: 0,
        upstream: Some(0),
        backend: Some(1),
        client: "2001:db8::1".parse().expect("an address"),
        bytes_sent: 7,
        bytes_received: 15,
        started: Tick::from_millis(1000),
        ended: Tick::from_millis(3500),
        queue_wait: Duration::from_millis(2),
        attempts: 1,
        cause: Some(Cause::TunnelIdle),
        wall: SystemTime::UNIX_EPOCH,
    };
    telemetry.record_session(1, &x);
    let text = rendered(&telemetry);
    for line in [
        r#"weir_sessions_ended_total{listener="main",upstream="web",backend="b\"2\\"} 1"#,
        r#"weir_session_received_bytes_total{listener="main",upstream="web",backend="b\"2\\"} 15"#,
        r#"weir_session_sent_bytes_total{listener="main",upstream="web",backend="b\"2\\"} 7"#,
        r#"weir_datagrams_dropped_total{listener="main",upstream="api",backend=""} 3"#,
        r#"weir_refused_total{listener="main",cause="tunnel_idle"} 1"#,
        r#"weir_queue_wait_seconds_count{upstream="web"} 1"#,
    ] {
        assert_line(&text, line);
    }
    let mut json = Vec::new();
    line::json_session(&layout(), &x, &mut json);
    let value: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(value["backend"], "b\"2\\");
    assert_eq!(value["cause"], "tunnel_idle");
    assert_eq!(value["bytes_received"], 15);
    assert_eq!(value["duration"], 2.5);
    let mut combined = Vec::new();
    line::combined_session(&layout(), &x, &mut combined);
    assert_eq!(
        String::from_utf8_lossy(&combined),
        "2001:db8::1 - - [01/Jan/1970:00:00:00 +0000] \"UDP b\\\"2\\\\\" 000 7 \"-\" \"-\"\n"
    );
}

#[test]
fn every_counter_has_a_place_of_its_own() {
    let layout = layout();
    let cells = Cells::new(&layout);
    let mut seen = vec![0_u8; cells.len()];
    let targets = [
        (None, None),
        (Some(0), None),
        (Some(0), Some(0)),
        (Some(0), Some(1)),
        (Some(1), None),
        (Some(1), Some(0)),
    ];
    for (upstream, backend) in targets {
        let target = cells.target(upstream, backend);
        for class in 0..6 {
            seen[cells.request(0, target, class * 100 + 4)] += 1;
        }
        (0..cells::HISTOGRAM).for_each(|i| seen[cells.duration(target) + i] += 1);
        for flow in cells::Flow::ALL {
            seen[cells.flow(0, target, flow)] += 1;
        }
    }
    for upstream in 0..2 {
        (0..cells::HISTOGRAM).for_each(|i| seen[cells.queue_wait(upstream) + i] += 1);
        for reason in ShedReason::ALL {
            seen[cells.shed(upstream, reason)] += 1;
        }
        seen[cells.retried(upstream)] += 1;
    }
    for cause in cells::CAUSES {
        seen[cells.refused(0, cause)] += 1;
    }
    for result in CacheResult::ALL {
        seen[cells.cached(0, result)] += 1;
    }
    seen[cells.opened(0)] += 1;
    seen[cells.closed(0)] += 1;
    seen[cells.panicked()] += 1;
    seen[cells.paused()] += 1;
    assert!(seen.iter().all(|n| *n == 1), "{seen:?}");
    assert_eq!(cells.request(0, 0, 999), cells.request(0, 0, 0));
}

#[test]
fn what_the_cache_did_is_counted_by_result_where_there_is_a_cache() {
    let telemetry = Telemetry::new(layout(), 2, None);
    telemetry.record(0, &exchange());
    assert!(!rendered(&telemetry).contains("weir_cache_requests_total"));
    for (core, result) in [
        (0, CacheResult::Hit),
        (1, CacheResult::Hit),
        (1, CacheResult::Collapsed),
    ] {
        let cache = Some(result);
        telemetry.record(
            core,
            &Exchange {
                cache,
                ..exchange()
            },
        );
    }
    let text = rendered(&telemetry);
    for line in [
        "# TYPE weir_cache_requests counter",
        r#"weir_cache_requests_total{listener="main",result="hit"} 2"#,
        r#"weir_cache_requests_total{listener="main",result="collapsed"} 1"#,
        r#"weir_cache_requests_total{listener="main",result="bypass"} 0"#,
    ] {
        assert_line(&text, line);
    }
}

#[test]
fn the_cache_and_its_redis_have_gauges_with_units() {
    let mut status = CachingStatus {
        store: crate::cache::store::Stats {
            entries: 3,
            bytes: 4096,
            limit: 8192,
            evictions: 5,
        },
        flights: 2,
        filling: 100,
        redis: None,
    };
    let mut out = String::new();
    status::render_caching(&status, &mut out);
    for line in [
        "weir_cache_entries 3",
        "# UNIT weir_cache_memory_bytes bytes",
        "weir_cache_memory_bytes 4096",
        "weir_cache_memory_limit_bytes 8192",
        "weir_cache_filling_bytes 100",
        "weir_cache_flights 2",
        "weir_cache_evictions_total 5",
    ] {
        assert_line(&out, line);
    }
    assert!(!out.contains("redis"), "there is none\n{out}");

    status.redis = Some(RedisStatus {
        up: false,
        cores_away: 1,
        hits: 2,
        misses: 3,
        banned: 4,
        corrupt: 5,
        timeouts: 6,
        errors: 7,
        writes: 8,
        dropped: 9,
        purges_sent: 10,
        purges_heard: 11,
        bans: 12,
    });
    out.clear();
    status::render_caching(&status, &mut out);
    for line in [
        "weir_redis_up 0",
        "weir_redis_cores_away 1",
        r#"weir_redis_lookups_total{result="hit"} 2"#,
        r#"weir_redis_lookups_total{result="miss"} 3"#,
        r#"weir_redis_lookups_total{result="banned"} 4"#,
        r#"weir_redis_lookups_total{result="corrupt"} 5"#,
        "weir_redis_timeouts_total 6",
        "weir_redis_errors_total 7",
        "weir_redis_writes_total 8",
        "weir_redis_dropped_writes_total 9",
        "weir_redis_purges_sent_total 10",
        "weir_redis_purges_heard_total 11",
        "weir_redis_bans 12",
    ] {
        assert_line(&out, line);
    }
}

#[test]
fn a_bound_belongs_to_its_bucket() {
    for i in 0..cells::BOUNDS {
        assert_eq!(cells::bucket(cells::bound_nanos(i)), i);
        assert_eq!(cells::bucket(cells::bound_nanos(i) + 1), i + 1);
    }
    assert_eq!(cells::bucket(0), 0);
    assert_eq!(cells::bucket(u64::MAX), cells::BOUNDS);
}

#[test]
fn a_combined_line_cannot_be_broken_out_of() {
    let mut out = Vec::new();
    let plain = exchange();
    line::combined(&plain, &mut out);
    assert_eq!(
        String::from_utf8(out).expect("ASCII"),
        "127.0.0.1 - - [29/Feb/2000:12:34:56 +0000] \"GET /x?y=1 HTTP/1.1\" 200 12 \"-\" \"curl/8\"\n"
    );
    let mut out = Vec::new();
    let hostile = Exchange {
        user_agent: Some(b"a\" b\\\r\n\x1b[31m\xff"),
        bytes_sent: 0,
        ..exchange()
    };
    line::combined(&hostile, &mut out);
    let text = String::from_utf8(out).expect("ASCII");
    assert!(
        text.ends_with("200 - \"-\" \"a\\\" b\\\\\\x0d\\x0a\\x1b[31m\\xff\"\n"),
        "{text}"
    );
}

#[test]
fn a_json_line_reads_back_as_what_was_sent() {
    let mut out = Vec::new();
    let hostile = Exchange {
        user_agent: Some(b"a\" b\\\r\n\x1b[31m\xff\xc2\x9b"),
        cause: Some(Cause::ResponseIncomplete),
        cache: Some(CacheResult::Revalidated),
        ..exchange()
    };
    line::json(&layout(), &hostile, &mut out);
    assert_eq!(out.iter().filter(|b| b.is_ascii_control()).count(), 1);
    let v: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(v["user_agent"], "a\" b\\\r\n\u{1b}[31m\u{fffd}\u{9b}");
    assert_eq!(v["time"], "2000-02-29T12:34:56.789Z");
    assert_eq!(v["backend"], "b\"2\\");
    assert_eq!(v["duration"], 0.003);
    assert_eq!(v["queue_wait"], 0.002);
    assert_eq!(v["cause"], "response_incomplete");
    assert_eq!(v["cache"], "revalidated");
    assert!(v.get("referer").is_none());
}

#[test]
fn dates_agree_with_the_http_date_library() {
    for day in (0..40_000).step_by(13) {
        let wall = UNIX_EPOCH + Duration::from_secs(day * 86_400 + day % 86_400);
        let d = line::Date::of(wall);
        let text = httpdate::fmt_http_date(wall);
        assert_eq!(text[5..7].parse(), Ok(d.day), "{text}");
        assert_eq!(text[12..16].parse(), Ok(d.year), "{text}");
        assert_eq!(text[17..19].parse(), Ok(d.hour), "{text}");
    }
}

#[test]
fn the_log_follows_its_path_when_reopened() {
    let dir = std::env::temp_dir().join(format!("weir-access-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let (path, old) = (dir.join("access.log"), dir.join("access.log.1"));
    let log = access::Writer::start(Some(path.clone()), access::Format::Combined).expect("opens");
    let telemetry = Telemetry::new(layout(), 1, Some(log));
    telemetry.record(0, &exchange());
    assert!(telemetry.flush_log(Duration::from_secs(30)));
    std::fs::rename(&path, &old).expect("renames");
    telemetry.reopen_log();
    telemetry.record(0, &exchange());
    telemetry.record(0, &exchange());
    assert!(telemetry.flush_log(Duration::from_secs(30)));
    let lines = |path| {
        std::fs::read_to_string(path)
            .expect("reads")
            .lines()
            .count()
    };
    assert_eq!((lines(&old), lines(&path)), (1, 2));
    assert_line(&rendered(&telemetry), "weir_access_log_dropped_total 0");
    std::fs::remove_dir_all(&dir).expect("removes");
}

#[test]
fn a_log_that_cannot_be_opened_names_its_file() {
    let error = access::Writer::start(Some("/nonexistent/x.log".into()), access::Format::Json)
        .expect_err("no such directory");
    assert!(error.to_string().contains("/nonexistent/x.log"), "{error}");
}

#[test]
fn what_cannot_be_written_is_counted() {
    // Writing to this device fails with "no space left".
    let log = access::Writer::start(Some("/dev/full".into()), access::Format::Json).expect("opens");
    let telemetry = Telemetry::new(layout(), 1, Some(log));
    telemetry.record(0, &exchange());
    assert!(telemetry.flush_log(Duration::from_secs(30)));
    assert_line(&rendered(&telemetry), "weir_access_log_dropped_total 1");
}

#[test]
fn a_tunnel_says_nothing_of_latency() {
    let telemetry = Telemetry::new(layout(), 1, None);
    let x = Exchange {
        status: 101,
        tunnel: true,
        ..exchange()
    };
    telemetry.record(0, &x);
    let text = rendered(&telemetry);
    for line in [
        r#"weir_requests_total{listener="main",upstream="web",backend="b\"2\\",code="1xx"} 1"#,
        r#"weir_sessions_ended_total{listener="main",upstream="web",backend="b\"2\\"} 1"#,
    ] {
        assert_line(&text, line);
    }
    assert!(
        !text.contains("weir_request_duration_seconds_count"),
        "{text}"
    );
}

#[test]
fn gauges_leave_out_what_is_unlimited() {
    let mut out = String::new();
    let web = UpstreamStatus {
        name: "web".into(),
        waiting: 4,
        in_flight: 3,
        max_in_flight: None,
        tunnels: 2,
        max_tunnels: Some(5),
        backends: vec![BackendStatus {
            name: "a:1".into(),
            in_flight: 3,
            max_in_flight: Some(3),
            open_connections: 3,
            backed_off: true,
            ejected: true,
            ejections: Some([1, 0, 2]),
            down: false,
            checks: None,
        }],
    };
    status::render(&[web], &mut out);
    assert_line(&out, r#"weir_upstream_waiting{upstream="web"} 4"#);
    assert_line(
        &out,
        r#"weir_backend_ejected{upstream="web",backend="a:1"} 1"#,
    );
    assert_line(
        &out,
        r#"weir_ejections_total{upstream="web",backend="a:1",reason="latency"} 2"#,
    );
    assert_line(&out, r#"weir_upstream_tunnels{upstream="web"} 2"#);
    assert_line(&out, r#"weir_upstream_max_tunnels{upstream="web"} 5"#);
    assert_line(
        &out,
        r#"weir_backend_max_in_flight{upstream="web",backend="a:1"} 3"#,
    );
    assert_line(
        &out,
        r#"weir_backend_backed_off{upstream="web",backend="a:1"} 1"#,
    );
    assert!(!out.contains("weir_upstream_max_in_flight{"), "{out}");
}
