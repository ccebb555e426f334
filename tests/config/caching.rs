//! What files say of caching and of Redis: meanings, warnings, and passwords that are never printed.

use std::time::Duration;

use super::{SECRET, environment, fixtures, good, load, read};
use weirkeeper::cache::codec::Serializer;
use weirkeeper::cache::rules::{QueryKey, Rules};
use weirkeeper::config::model::{Config, Redis, RedisServers};
use weirkeeper::config::{expand, load_str};

/// A flat file with these members besides.
fn flat(more: &str) -> String {
    format!(r#"{{"port": 1, "servers": {{"http://a": 1}}, {more}}}"#)
}

/// A full file with these members besides, and these routes.
fn full(more: &str, routes: &str) -> String {
    format!(
        r#"{{"listeners": {{"a": {{"bind": ":1"}}, "b": {{"bind": ":2"}}}},
            "upstreams": {{"u": {{"backends": ["http://h"]}}}}, {more} "routes": [{routes}]}}"#
    )
}

fn rules(config: &Config, route: usize) -> Option<&Rules> {
    config.listeners[0].routes[route].cache.as_deref()
}

#[track_caller]
fn redis(text: &str) -> Redis {
    let config = good(text);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    config.redis.expect("there is one")
}

#[test]
fn the_flat_words_say_where_and_for_how_long() {
    let half_an_hour = Some(Duration::from_secs(1800));
    for (word, cached, shared) in [
        ("none", false, false),
        ("baseline", true, false),
        ("in-memory", true, false),
        ("redis", true, true),
    ] {
        let config = good(&flat(&format!(r#""caching": "{word}""#)));
        assert_eq!(rules(&config, 0).is_some(), cached, "{word}");
        assert_eq!(config.redis.is_some(), shared, "{word}");
        let ttl = rules(&config, 0).and_then(|r| r.default_ttl);
        assert_eq!(ttl, half_an_hour.filter(|_| cached), "{word}");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
    assert!(rules(&good(&flat(r#""workers": 1"#)), 0).is_none());
    let config = good(&flat(
        r#""caching": "baseline", "cache": {"default_ttl": "90s", "memory": "8MiB", "status": false}"#,
    ));
    let rules = rules(&config, 0).expect("it is cached");
    assert_eq!(rules.default_ttl, Some(Duration::from_secs(90)));
    assert_eq!((config.cache.memory, rules.max_object), (8 << 20, 2 << 20));
    assert!(!rules.cache_status);
}

#[test]
fn what_the_flat_form_ignores_is_a_method_or_the_beginning_of_a_path() {
    let config = good(&flat(
        r#""caching": "baseline", "cache-ignore": ["post", "/live", "DELETE", "/a%2Fb/"]"#,
    ));
    let rules = rules(&config, 0).expect("it is cached");
    let methods: Vec<&str> = rules.bypass_methods.iter().map(|m| m.as_str()).collect();
    assert_eq!(methods, ["POST", "DELETE"]);
    assert_eq!(rules.bypass_paths, ["/live", "/a%2Fb/"]);
}

#[test]
fn a_flat_file_warns_of_what_has_no_effect() {
    for (more, said) in [
        (
            r#""caching": "redis", "serializer": "pickle""#,
            "the serializer \"pickle\" is not known here, so stored responses are binary (/serializer)",
        ),
        (
            r#""caching": "baseline", "serializer": "json""#,
            "the serializer \"json\" has no effect without \"caching\": \"redis\" (/serializer)",
        ),
        (
            r#""caching": "baseline", "redis": "redis://h""#,
            "a Redis has no effect without \"caching\": \"redis\" (/redis)",
        ),
        (
            r#""caching": "none", "cache": {"memory": "1GiB"}"#,
            "nothing is cached, since there is no \"caching\": \"baseline\" (/cache)",
        ),
        (
            r#""caching": "baseline", "cache": {"heuristic": true}"#,
            "\"heuristic\" has no effect, since \"default_ttl\" says how long responses live (/cache/heuristic)",
        ),
    ] {
        let config = good(&flat(more));
        assert_eq!(config.warnings.len(), 1, "{more}: {:?}", config.warnings);
        let warning = &config.warnings[0];
        assert!(warning.starts_with("config.json:1:"), "{warning}");
        assert!(warning.ends_with(said), "{warning}");
    }
    let known = redis(&flat(r#""caching": "redis", "serializer": "lz4""#));
    assert_eq!(known.serializer, Serializer::Lz4);
    let none = redis(&flat(r#""caching": "redis", "serializer": "none""#));
    assert_eq!(none.serializer, Serializer::Binary);
}

#[test]
fn a_route_is_cached_when_it_says_so_and_differs_in_what_it_says() {
    let top = r#""cache": {"default_ttl": "1m", "stale_if_error": "1h", "query": "none"},"#;
    let config = good(&full(
        top,
        r#"{"upstream": "u", "match": {"path": "/a"}},
           {"upstream": "u", "match": {"path": "/b"}, "cache": false},
           {"upstream": "u", "match": {"path": "/c"}, "cache": true},
           {"upstream": "u", "cache": {"default_ttl": "5s", "query": {"without": ["utm_source"]},
             "bypass": {"cookies": ["session"]}, "key_headers": ["X-Tenant"]}}"#,
    ));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(rules(&config, 0).is_none() && rules(&config, 1).is_none());
    let plain = rules(&config, 2).expect("it is cached");
    assert_eq!(plain.default_ttl, Some(Duration::from_secs(60)));
    assert_eq!(plain.query, QueryKey::None);
    let own = rules(&config, 3).expect("it is cached");
    assert_eq!(own.default_ttl, Some(Duration::from_secs(5)));
    assert_eq!(own.stale_if_error, Duration::from_secs(3600));
    assert_eq!(own.query, QueryKey::Without(vec!["utm_source".into()]));
    assert_eq!(own.bypass_cookies, ["session"]);
    assert_eq!(own.key_headers, ["x-tenant"]);
    // Without a word of its own, a response is stored in the full form only if the file says for how long.
    let bare = good(&full("", r#"{"upstream": "u", "cache": true}"#));
    assert_eq!(rules(&bare, 0).expect("it is cached").default_ttl, None);
}

#[test]
fn the_readmes_file_is_fine() {
    let config = good(&read(&fixtures("configs/good/caching.json")));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(
        rules(&config, 0).is_some() && rules(&config, 1).is_some() && rules(&config, 2).is_none()
    );
}

#[test]
fn the_only_upstream_is_cached_by_the_section_at_the_top() {
    let text = r#"{"listeners": {"a": {"bind": ":1"}}, "upstreams": {"u": {"backends": ["http://h"]}}, "cache": {}}"#;
    assert!(rules(&good(text), 0).is_some());
    assert!(rules(&good(&text.replace(r#", "cache": {}"#, "")), 0).is_none());
}

#[test]
fn routes_that_one_url_may_lead_to_keep_their_entries_apart() {
    let config = good(&full(
        "",
        r#"{"upstream": "u", "match": {"headers": {"x-canary": "1"}}, "cache": true, "name": "canary"},
           {"upstream": "u", "match": {"methods": ["GET"], "path": "/a"}, "cache": true, "name": "get"},
           {"upstream": "u", "listeners": ["a"], "match": {"path": "/b"}, "cache": true, "name": "one"},
           {"upstream": "u", "match": {"path": "/c"}, "cache": true, "name": "path"},
           {"upstream": "u", "cache": true, "name": "rest"}"#,
    ));
    let apart = |i| rules(&config, i).expect("it is cached").partition.clone();
    assert_eq!([0, 1, 2, 3, 4].map(apart), ["canary", "get", "one", "", ""]);
}

#[test]
fn a_full_file_warns_of_what_has_no_effect() {
    for (more, routes, said) in [
        (
            r#""redis": "redis://h", "#,
            r#"{"upstream": "u"}"#,
            "nothing is cached, since there is no \"cache\": true in a route (/redis)",
        ),
        (
            r#""cache": {"memory": "1GiB"}, "#,
            r#"{"upstream": "u"}"#,
            "nothing is cached, since there is no \"cache\": true in a route (/cache)",
        ),
        (
            "",
            r#"{"upstream": "u", "cache": {"ttl": "1m", "default_ttl": "5s"}}"#,
            "\"default_ttl\" has no effect, since \"ttl\" says how long responses live (/routes/0/cache/default_ttl)",
        ),
        (
            r#""cache": {"ttl": "1m"}, "#,
            r#"{"upstream": "u", "cache": {"default_ttl": "5s"}}"#,
            "\"default_ttl\" has no effect, since \"ttl\" says how long responses live (/routes/0/cache/default_ttl)",
        ),
        (
            "",
            r#"{"upstream": "u", "match": {"methods": ["POST"]}, "cache": true}"#,
            "nothing is cached here, since only GET and HEAD are, and this route leaves them out (/routes/0/cache)",
        ),
        (
            "",
            r#"{"upstream": "u", "cache": {"bypass": {"methods": ["GET", "HEAD"]}}}"#,
            "nothing is cached here, since only GET and HEAD are, and this route leaves them out (/routes/0/cache)",
        ),
        (
            "",
            r#"{"upstream": "u", "match": {"path": {"prefix": "/api"}},
                "cache": {"bypass": {"paths": ["/live", "/api/live", "/"]}}}"#,
            "no request to this route begins with \"/live\" (/routes/0/cache/bypass/paths/0)",
        ),
    ] {
        let config = good(&full(more, routes));
        assert_eq!(config.warnings.len(), 1, "{routes}: {:?}", config.warnings);
        assert!(config.warnings[0].ends_with(said), "{:?}", config.warnings);
    }
}

#[test]
fn an_uncached_file_expands_without_a_warning() {
    for text in [
        flat(r#""caching": "none""#),
        full("", r#"{"upstream": "u"}"#),
    ] {
        let expanded = expand("f", &text, &environment).expect("it is fine");
        assert!(!expanded.contains("\"memory\""), "{expanded}");
        let again = good(&expanded);
        assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    }
}

const CACHED: &str = r#"{"upstream": "u", "cache": true}"#;

#[test]
fn a_redis_is_a_url_or_an_object() {
    let by = |value: &str| redis(&full(&format!(r#""redis": {value}, "#), CACHED));
    let at = |redis: &Redis| redis.servers.to_string();
    assert_eq!(at(&by("{}")), "localhost:6379");
    let text = by(r#""redis://us%65r:p%40%2Fss@h.example:7000/3""#);
    assert_eq!(
        text,
        by(r#"{"url": "redis://us%65r:p%40%2Fss@h.example:7000/3"}"#)
    );
    assert_eq!(at(&text), "h.example:7000");
    assert_eq!(text.username.as_deref(), Some("user"));
    assert_eq!(text.password.as_deref(), Some("p@/ss"));
    assert_eq!((text.database, text.tls.is_some()), (3, false));
    assert_eq!(
        (text.timeout, text.max_value),
        (Duration::from_millis(50), 1 << 20)
    );
    let only = by(r#""rediss://:pass@[::1]""#);
    assert_eq!(
        (at(&only).as_str(), only.tls.is_some()),
        ("[::1]:6379", true)
    );
    assert_eq!(
        (only.username, only.password.as_deref()),
        (None, Some("pass"))
    );
    let sentinel = by(r#"{"servers": ["a", "b:1"], "sentinel": "main"}"#);
    assert_eq!(at(&sentinel), "main by the sentinels a:26379, b:1");
    let cluster = by(r#"{"servers": ["a", "[::1]:1"], "cluster": true}"#);
    assert_eq!(at(&cluster), "the cluster of a:6379, [::1]:1");
    assert!(matches!(cluster.servers, RedisServers::Cluster(_)));
    for (value, said) in [
        (
            r#""http://h""#,
            "the scheme of a Redis is redis, or rediss for TLS",
        ),
        (r#""redis://h/x""#, "the database's number"),
        (r#""redis://h:x""#, "\"h:x\" is not a server"),
        (r#"{"servers": []}"#, "there is no server"),
        (r#"{"servers": ["a", "b"]}"#, "one server, or several with"),
        (r#"{"sentinel": "main"}"#, "\"servers\" is missing"),
        (
            r#"{"servers": ["a"], "cluster": true, "database": 1}"#,
            "database 0 alone",
        ),
        ("false", "or the URL alone"),
    ] {
        let text = full(&format!(r#""redis": {value}, "#), CACHED);
        let all = load(&text).expect_err(value).to_string();
        assert!(
            all.contains(said) && all.contains("(/redis"),
            "{value}: {all}"
        );
        assert_eq!(all.lines().count(), 1, "{value}: {all}");
    }
}

#[test]
fn the_environment_places_a_redis_that_the_file_does_not() {
    let env = |url: &'static str| move |name: &str| (name == "WEIR_REDIS_URL").then(|| url.into());
    let placed = |text: &str, url| load_str("f", text, &env(url)).map(|c| c.redis);
    let flat_redis = flat(r#""caching": "redis""#);
    let there = placed(&flat_redis, "redis://:pw@elsewhere/2").expect("it is fine");
    let there = there.expect("there is one");
    assert_eq!(there.servers.to_string(), "elsewhere:6379");
    assert_eq!((there.database, there.password.as_deref()), (2, Some("pw")));
    let timed = full(r#""redis": {"timeout": "1s"}, "#, CACHED);
    let timed = placed(&timed, "redis://:pw@elsewhere").expect("it is fine");
    assert_eq!(timed.expect("there is one").password.as_deref(), Some("pw"));
    // Its password is not for another server.
    for own in [
        r#"{"servers": ["h"]}"#,
        r#"{"url": "redis://h"}"#,
        r#""redis://h""#,
    ] {
        let text = full(&format!(r#""redis": {own}, "#), CACHED);
        let found = placed(&text, "rediss://u:pw@elsewhere/2").expect("it is fine");
        assert_eq!(found, Some(redis(&text)), "{own}");
    }
    // It is asked only where there is a Redis to place.
    assert_eq!(
        placed(&flat(r#""caching": "baseline""#), "nonsense"),
        Ok(None)
    );
    assert_eq!(placed(&full("", CACHED), "redis://elsewhere"), Ok(None));
    let error = placed(&flat_redis, "redis://:s3cr/et@h")
        .expect_err("a slash")
        .to_string();
    assert!(
        error.contains("WEIR_REDIS_URL: a slash in a user name or a password is written %2F"),
        "{error}"
    );
    assert!(!error.contains("s3cr"), "{error}");
}

#[test]
fn a_password_is_never_printed() {
    for value in [
        format!(r#""redis://u:{SECRET}@h""#),
        format!(r#"{{"url": "rediss://:{SECRET}@h/1"}}"#),
        format!(r#"{{"servers": ["h"], "password": "{SECRET}"}}"#),
        r#"{"servers": ["h"], "password": "${WEIR_REDIS_PASSWORD}"}"#.to_string(),
    ] {
        let text = full(&format!(r#""redis": {value}, "#), CACHED);
        let config = good(&text);
        let redis = config.redis.as_ref().expect("there is one");
        assert_eq!(redis.password.as_deref(), Some(SECRET), "{value}");
        let printed = format!("{config:?}");
        assert!(!printed.contains(SECRET), "{printed}");
        let expanded = expand("f", &text, &environment).expect("it is fine");
        assert!(!expanded.contains(SECRET), "{expanded}");
        assert!(
            expanded.contains(r#""password": "${WEIR_REDIS_PASSWORD}""#),
            "{expanded}"
        );
        // What was printed needs the variable, and says so, rather than to run without a password.
        assert_eq!(good(&expanded).redis.as_ref(), Some(redis), "{expanded}");
        let error = load_str("f", &expanded, &|_| None).expect_err("it is not set");
        assert!(
            error.to_string().contains("WEIR_REDIS_PASSWORD is not set"),
            "{error}"
        );
    }
    for value in [
        format!(r#""http://u:{SECRET}@h""#),
        format!(r#""redis://u:{SECRET}@h/x""#),
        format!(r#""redis://u:{SECRET}@h:x""#),
        format!(r#""redis://u:{SECRET}/x@h""#),
        format!(r#"{{"servers": ["h"], "password": ["{SECRET}"]}}"#),
    ] {
        let text = full(&format!(r#""redis": {value}, "#), CACHED);
        let error = load(&text).expect_err(&value).to_string();
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[test]
fn every_setting_survives_expansion() {
    let text = read(&fixtures("configs/good/full.json"));
    let once = expand("f", &text, &environment).expect("it is fine");
    let (was, is) = (good(&text), good(&once));
    assert_eq!(was.redis, is.redis, "{once}");
    for route in [0, 1] {
        assert_eq!(rules(&was, route), rules(&is, route), "{once}");
    }
}
