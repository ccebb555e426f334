//! `cache` and `redis`, written out.

use std::time::Duration;

use crate::cache::codec::Serializer;
use crate::cache::rules::{QueryKey, Rules};
use crate::config::cache::MEMORY;
use crate::config::interpolate::escape;
use crate::config::model::{Config, Redis, RedisServers};
use crate::config::raw;
use crate::config::redis::REDIS_PASSWORD;
use crate::config::units::{format_duration, format_size};

/// Where nothing is cached and nothing was said of it, there is no section: it would be warned of.
pub(super) fn memory(config: &Config) -> Option<raw::Cache> {
    (config.is_cached() || config.cache.memory != MEMORY).then(|| raw::Cache {
        memory: Some(format_size(config.cache.memory).into()),
        rules: raw::CacheRules::default(),
    })
}

pub(super) fn route(rules: Option<&Rules>) -> raw::RouteCacheOrOff {
    let Some(r) = rules else {
        return raw::RouteCacheOrOff::Off(false.into());
    };
    let span = |d: Duration| Some(format_duration(d).into());
    let texts = |items: &mut dyn Iterator<Item = &str>| Some(items.map(escape).collect());
    let query = match &r.query {
        QueryKey::All => raw::CacheQuery::Word("all".into()),
        QueryKey::None => raw::CacheQuery::Word("none".into()),
        QueryKey::Without(names) => raw::CacheQuery::Without(raw::CacheQueryWithout {
            without: names.iter().map(|n| escape(n)).collect(),
        }),
    };
    raw::RouteCacheOrOff::Rules(Box::new(raw::RouteCache {
        rules: raw::CacheRules {
            default_ttl: r.default_ttl.and_then(span),
            ttl: r.ttl.and_then(span),
            heuristic: Some(r.heuristic),
            stale_while_revalidate: span(r.stale_while_revalidate),
            stale_if_error: span(r.stale_if_error),
            max_object: Some(format_size(r.max_object).into()),
            query: Some(query),
            key_headers: texts(&mut r.key_headers.iter().map(|n| n.as_str())),
            bypass: Some(raw::CacheBypass {
                methods: texts(&mut r.bypass_methods.iter().map(|m| m.as_str())),
                paths: texts(&mut r.bypass_paths.iter().map(String::as_str)),
                headers: texts(&mut r.bypass_headers.iter().map(|n| n.as_str())),
                cookies: texts(&mut r.bypass_cookies.iter().map(String::as_str)),
            }),
            early_refresh: Some(r.early_refresh),
            uncacheable_for: span(r.uncacheable_for),
            status: Some(r.cache_status),
        },
    }))
}

/// A password is not printed: the file takes it from [`REDIS_PASSWORD`], and cannot be read without.
pub(super) fn redis(r: &Redis) -> raw::Redis {
    let text = |(host, port): &(String, u16)| {
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    };
    let (servers, sentinel, cluster) = match &r.servers {
        RedisServers::One(host, port) => (vec![text(&(host.clone(), *port))], None, None),
        RedisServers::Sentinel { sentinels, master } => (
            sentinels.iter().map(text).collect(),
            Some(escape(master)),
            None,
        ),
        RedisServers::Cluster(nodes) => (nodes.iter().map(text).collect(), None, Some(true)),
    };
    let tls = match &r.tls {
        None => raw::RedisTls::Off(false.into()),
        Some(tls) => match &tls.ca {
            None => raw::RedisTls::On(true),
            Some(ca) => raw::RedisTls::With(raw::RedisCa {
                ca: Some(escape(&ca.display().to_string())),
            }),
        },
    };
    raw::Redis {
        url: None,
        servers: Some(servers),
        sentinel,
        cluster,
        tls: Some(tls),
        username: Some(escape(r.username.as_deref().unwrap_or(""))),
        password: r
            .password
            .as_ref()
            .map(|_| format!("${{{REDIS_PASSWORD}}}")),
        database: Some(r.database),
        prefix: Some(escape(&r.prefix)),
        timeout: Some(format_duration(r.timeout).into()),
        max_value: Some(format_size(r.max_value).into()),
        serializer: Some(match r.serializer {
            Serializer::Binary => "binary".into(),
            Serializer::Json => "json".into(),
            Serializer::Lz4 => "lz4".into(),
        }),
    }
}
