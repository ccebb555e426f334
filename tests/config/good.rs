//! What good files mean.

use std::time::Duration;

use super::{environment, fixtures, good, json_files, load, read};
use weirkeeper::cache::codec::Serializer;
use weirkeeper::config::model::{Action, Rewrite};
use weirkeeper::config::units::NEVER;
use weirkeeper::config::{expand, footprint, load_str};
use weirkeeper::engine::{Phase, Strategy};

const FIRST_USER: &str = concat!(
    r#"{"port":"8080","level":"L7","strategy":"round-robin","caching":"redis","proto":"tcp","serializer":"none","#,
    r#""servers":{"http://localhost:8081":3,"http://localhost:8082":2},"maxWorkers":5,"cache-ignore":[]}"#,
);

#[test]
fn the_first_users_file_means_what_it_meant() {
    assert_eq!(read(&fixtures("configs/good/first-user.json")), FIRST_USER);
    let config = good(FIRST_USER);
    let listener = &config.listeners[0];
    assert_eq!((config.listeners.len(), config.upstreams.len()), (1, 1));
    assert_eq!(listener.bind.to_string(), "[::]:8080");
    assert_eq!(listener.routes.len(), 1);
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.spec.strategy, Strategy::RoundRobin);
    assert_eq!(upstream.spec.max_in_flight, Some(5));
    assert_eq!(upstream.spec.queue.capacity, 10_000);
    assert_eq!(upstream.spec.queue.timeout, Duration::from_secs(30));
    let capacities: Vec<_> = upstream
        .spec
        .backends
        .iter()
        .map(|b| (b.weight, b.max_in_flight))
        .collect();
    assert_eq!(capacities, [(1, Some(3)), (1, Some(2))]);
    let places: Vec<_> = upstream
        .backends
        .iter()
        .map(|b| (b.name.as_str(), b.host.as_str(), b.port))
        .collect();
    assert_eq!(
        places,
        [
            ("localhost:8081", "localhost", 8081),
            ("localhost:8082", "localhost", 8082)
        ]
    );
    let rules = listener.routes[0].cache.as_ref().expect("it is cached");
    assert_eq!(rules.default_ttl, Some(Duration::from_secs(30 * 60)));
    let redis = config.redis.as_ref().expect("there is one");
    assert_eq!(redis.servers.to_string(), "localhost:6379");
    assert_eq!(redis.serializer, Serializer::Binary);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn a_servers_number_is_its_weight_under_the_weighted_strategies_only() {
    for (strategy, weights) in [
        ("round-robin", [1, 1]),
        ("weighted-round-robin", [3, 2]),
        ("smooth-weighted-round-robin", [3, 2]),
        ("least-request", [1, 1]),
        ("power-of-two", [1, 1]),
        ("hash", [3, 2]),
    ] {
        let config = good(&FIRST_USER.replace("round-robin", strategy));
        let spec = &config.upstreams[0].spec;
        assert_eq!(
            spec.backends.iter().map(|b| b.weight).collect::<Vec<_>>(),
            weights,
            "{strategy}"
        );
        assert_eq!(
            spec.backends
                .iter()
                .map(|b| b.max_in_flight)
                .collect::<Vec<_>>(),
            [Some(3), Some(2)]
        );
    }
}

#[test]
fn flat_keys_take_the_forms_that_people_write() {
    let config = good(
        r#"{"port": 9000, "servers": {"http://B.example/api/": 1}, "queue": {"capacity": 7}, "timeouts": {"idle": "1s"}}"#,
    );
    assert_eq!(config.listeners[0].bind.port(), 9000);
    assert_eq!(config.listeners[0].timeouts.idle, Duration::from_secs(1));
    let upstream = &config.upstreams[0];
    let backend = &upstream.backends[0];
    assert_eq!(
        (
            backend.host.as_str(),
            backend.port,
            backend.path_prefix.as_str()
        ),
        ("b.example", 80, "/api")
    );
    assert_eq!(upstream.spec.max_in_flight, None);
    assert_eq!(
        (
            upstream.spec.queue.capacity,
            upstream.spec.queue.timeout.as_secs()
        ),
        (7, 30)
    );
    assert!(config.warnings.is_empty());

    let config = good(r#"{"port": 1, "servers": {"http://a": 3, "http://b": 2}, "maxWorkers": 4}"#);
    assert!(config.warnings[0].contains(
        "4 requests in flight at most, though the backends take 5 together (/maxWorkers)"
    ));
}

#[test]
fn the_full_form_has_the_documented_defaults() {
    let config = good(
        r#"{"listeners": {"a": {"bind": ":80"}}, "upstreams": {"u": {"backends": ["http://h"]}}}"#,
    );
    let secs = Duration::from_secs;
    let listener = &config.listeners[0];
    assert_eq!(
        (
            listener.timeouts.header,
            listener.timeouts.idle,
            listener.timeouts.body
        ),
        (secs(10), secs(75), secs(60))
    );
    let l = &listener.limits;
    assert_eq!(
        (
            l.head_bytes,
            l.head_fields,
            l.uri_bytes,
            l.body_bytes,
            l.connections
        ),
        (32 << 10, 100, 16 << 10, None, 10_000)
    );
    let upstream = &config.upstreams[0];
    let t = &upstream.timeouts;
    assert_eq!(
        (t.connect, t.first_byte, t.body_gap, t.request, t.idle),
        (secs(2), secs(60), secs(60), None, secs(4))
    );
    assert_eq!(
        (upstream.spec.queue.capacity, upstream.spec.queue.timeout),
        (1024, secs(5))
    );
    assert_eq!(
        (upstream.spec.strategy, upstream.spec.phase),
        (Strategy::RoundRobin, Phase::Random)
    );
    assert_eq!(
        (upstream.spec.back_off.base, upstream.spec.back_off.max),
        (secs(1), secs(30))
    );
    assert_eq!(
        (
            upstream.retry.attempts,
            upstream.retry.budget_ratio,
            upstream.retry.budget_per_second
        ),
        (1, 0.2, 3.0)
    );
    assert_eq!(
        (
            upstream.spec.backends[0].weight,
            upstream.spec.backends[0].max_in_flight
        ),
        (1, None)
    );
    let admin = config.admin.expect("on by default");
    assert_eq!(
        (admin.bind.to_string().as_str(), admin.explicit),
        ("127.0.0.1:9900", false)
    );
    assert!(config.workers.is_none() && config.access_log.is_none());
    assert_eq!(config.shutdown_grace, secs(30));
    assert!(config.warnings.is_empty());
}

#[test]
fn what_stands_at_the_top_is_the_default_for_all() {
    let config = good(&read(&fixtures("configs/good/full.json")));
    let (web, internal) = (&config.listeners[0], &config.listeners[1]);
    assert_eq!(
        (web.limits.head_bytes, internal.limits.head_bytes),
        (32 << 10, 16 << 10)
    );
    assert_eq!(
        (web.limits.body_bytes, internal.limits.body_bytes),
        (None, Some(64 << 20))
    );
    assert_eq!(
        (web.timeouts.body, internal.timeouts.body),
        (NEVER, Duration::from_secs(30))
    );
    assert_eq!(web.trusted_proxies[0].to_string(), "10.0.0.0/8");
    assert_eq!(internal.trusted_proxies[0].to_string(), "192.0.2.0/24");
    let (web, api) = (&config.upstreams[0], &config.upstreams[1]);
    assert_eq!(
        (web.timeouts.request, api.timeouts.request),
        (None, Some(Duration::from_secs(120)))
    );
    assert_eq!(
        (web.timeouts.idle.as_secs(), api.timeouts.idle.as_secs()),
        (2, 3)
    );
    assert_eq!((web.retry.attempts, api.retry.attempts), (1, 2));
    assert_eq!(
        (web.spec.phase, api.spec.phase),
        (Phase::Zero, Phase::Random)
    );
    let ids: Vec<u32> = config
        .upstreams
        .iter()
        .flat_map(|u| &u.spec.backends)
        .map(|b| b.id.0)
        .collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn routes_keep_their_order_on_each_of_their_listeners() {
    let config = good(&read(&fixtures("configs/good/routes.json")));
    let names = |i: usize| -> Vec<String> {
        config.listeners[i]
            .routes
            .iter()
            .map(|r| r.name.clone())
            .collect()
    };
    assert_eq!(names(0), ["to-https", "health", "api", "numbered", "rest"]);
    assert_eq!(names(1), ["health", "api", "numbered", "rest"]);
    let action = |i: usize| config.listeners[0].routes[i].action.clone();
    assert!(matches!(action(0), Action::Redirect { status: 301, .. }));
    assert!(matches!(action(1), Action::Respond { status: 200, body } if body == "pong\n"));
    assert!(
        matches!(action(2), Action::Forward { upstream: 1, rewrite: Rewrite::StripPrefix(p) } if p == "/api")
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn variables_come_from_the_environment_given() {
    let text = r#"{"listeners": {"a": {"bind": "127.0.0.1:${PORT:-8080}"}},
        "upstreams": {"u": {"backends": ["http://${HOST}"]}}}"#;
    let config =
        load_str("f", text, &|name| (name == "HOST").then(|| "h".into())).expect("it is fine");
    assert_eq!(config.listeners[0].bind.port(), 8080);
    assert_eq!(config.upstreams[0].backends[0].host, "h");
    let error = load(text).expect_err("HOST is not set").to_string();
    assert!(
        error.starts_with("config.json:2:42: error: the environment variable HOST is not set"),
        "{error}"
    );
    assert!(error.ends_with("(/upstreams/u/backends/0)"), "{error}");
}

#[test]
fn every_good_file_expands_to_the_same_config_and_no_further() {
    let mut files = json_files("configs/good");
    files.push(fixtures("configs/seed.json"));
    for file in files {
        let text = read(&file);
        let name = file.display().to_string();
        let once = expand(&name, &text, &environment).unwrap_or_else(|e| panic!("{e}"));
        let twice = expand(&name, &once, &environment).unwrap_or_else(|e| panic!("{once}\n{e}"));
        assert_eq!(once, twice, "{name}");
        let (mut was, mut is) = (good(&text), good(&once));
        // Warnings tell places, which change; what a flat file's own keys warn of is gone.
        was.warnings.clear();
        is.warnings.clear();
        assert_eq!(format!("{was:?}"), format!("{is:?}"), "{name}");
    }
}

#[test]
fn odd_strings_survive_expansion() {
    let text = r#"{"listeners": {"a": {"bind": ":0"}}, "routes": [
        {"match": {"headers": {"x": "a $${B} $$ \" ü"}}, "respond": {"body": "\u0000 $${C:-d}\n"},
         "response_headers": {"set": {"X-Y": "$${Z}"}}}
    ]}"#;
    let once = expand("f", text, &environment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(Ok(&once), expand("f", &once, &environment).as_ref());
    assert_eq!(
        format!("{:?}", good(text).listeners),
        format!("{:?}", good(&once).listeners)
    );
}

#[test]
fn the_footprint_counts_what_the_config_bounds_and_names_what_it_does_not() {
    let bounded = footprint(&good(FIRST_USER), 2);
    assert!(bounded.unlimited.is_empty());
    // 10,000 clients with 48 KiB each, as many tunnels of theirs with 32 KiB, 5 backend connections, 160 MiB for the cache, and
    // what the process needs anyway.
    assert!(
        bounded.descriptors > 20_005 && bounded.descriptors < 20_100,
        "{bounded:?}"
    );
    assert!(
        (10_000 * (80 << 10)..10_000 * (92 << 10)).contains(&(bounded.memory - (160 << 20))),
        "{bounded:?}"
    );
    let uncached = footprint(&good(&FIRST_USER.replace("\"redis\"", "\"none\"")), 2);
    assert_eq!(bounded.memory - uncached.memory, 160 << 20);
    let more = footprint(&good(&FIRST_USER.replace(":3,", ":300,")), 2);
    assert_eq!(more.descriptors, bounded.descriptors + 297);
    let open = footprint(&good(&read(&fixtures("configs/good/routes.json"))), 2);
    assert_eq!(open.unlimited.len(), 2, "{open:?}");
}

#[test]
fn what_may_be_upgraded_and_how_often() {
    let with = |route: &str, upstream: &str| {
        format!(
            r#"{{"listeners": {{"web": {{"bind": ":80"}}}}, "routes": [{{"upstream": "app"{route}}}],
                "upstreams": {{"app": {{"backends": ["http://a"]{upstream}}}}}}}"#
        )
    };
    for (route, upgrades) in [
        ("", &["websocket"][..]),
        (r#", "upgrades": "off""#, &[]),
        (r#", "upgrades": false"#, &[]),
        (r#", "upgrades": "WebSocket""#, &["websocket"]),
        (r#", "upgrades": ["foo/2", "TCP"]"#, &["foo/2", "tcp"]),
    ] {
        let config = good(&with(route, ""));
        assert_eq!(config.listeners[0].routes[0].upgrades, upgrades, "{route}");
    }
    for (upstream, most) in [
        ("", Some(10_000)),
        (r#", "max_tunnels": 3"#, Some(3)),
        (r#", "max_tunnels": "off""#, None),
    ] {
        let config = good(&with("", upstream));
        assert_eq!(config.upstreams[0].max_tunnels, most, "{upstream}");
        let unlimited = footprint(&config, 1).unlimited.join("\n");
        assert_eq!(unlimited.contains("max_tunnels"), most.is_none());
    }
    for refused in [
        r#", "upgrades": ["h2c"]"#,
        r#", "upgrades": "HTTP/2.0""#,
        r#", "upgrades": "a b""#,
        r#", "upgrades": ["tcp", "TCP"]"#,
        r#", "upgrades": true"#,
    ] {
        assert!(load(&with(refused, "")).is_err(), "{refused}");
    }
}

#[test]
fn bounds_on_clients_without_an_effect_are_warned_of() {
    let text = |listener: &str| {
        format!(
            r#"{{"listeners": {{"a": {{"bind": ":1", {listener}}}}}, "upstreams": {{"u": {{"backends": ["SCHEME://a:1"]}}}}}}"#
        )
    };
    let cases = [
        (
            "http",
            r#""limits": {"connections": 5, "connections_per_address": 5}"#,
            1,
        ),
        (
            "http",
            r#""limits": {"connections": 5, "connections_per_address": 4, "requests_per_connection": 3}"#,
            0,
        ),
        (
            "tcp",
            r#""protocol": "tcp", "limits": {"requests_per_connection": 3}, "timeouts": {"connection_age": "1h"}"#,
            2,
        ),
        (
            "udp",
            r#""protocol": "udp", "limits": {"connections_per_address": 3}"#,
            1,
        ),
    ];
    for (scheme, listener, count) in cases {
        let warnings = good(&text(listener).replace("SCHEME", scheme)).warnings;
        assert_eq!(warnings.len(), count, "{listener}: {warnings:?}");
        assert!(
            warnings.iter().all(|w| w.contains("no effect")),
            "{warnings:?}"
        );
    }
}
