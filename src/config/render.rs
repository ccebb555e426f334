//! From a model back to a file: the full form with every default written out. Reading it gives the same model.

mod cache;
mod tls;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::interpolate::escape;
use super::model::{
    Action, Backend, Cidr, Config, HeaderRules, Http2, Listener, LogFormat, Protocol, Rewrite,
    Upstream, UpstreamTls, retry,
};
use super::paths;
use super::plan::{Plan, PlannedRoute};
use super::raw::{self, Ordered};
use super::section::{shown_duration, shown_size};
use super::strategy::strategy_name;
use super::units::format_size;
use super::upstream::{VERSIONS, protocol_name};
use crate::engine::router::{PathMatch, RouteMatch};
use crate::engine::{BackendSpec, Phase, Strategy};
use crate::message::affinity::HashBy;

/// The file's text, with a line break at its end.
pub(crate) fn render(plan: &Plan) -> String {
    let file = raw::FullFile {
        common: common(&plan.config),
        listeners: named(&plan.config.listeners, |l| {
            (l.name.clone(), listener(l, &plan.directory))
        }),
        routes: Some(plan.routes.iter().map(|r| route(r, &plan.config)).collect()),
        upstreams: Some(named(&plan.config.upstreams, |u| {
            (u.name.clone(), upstream(u))
        })),
    };
    let mut value = serde_json::to_value(raw::File::Full(file))
        .expect("the mirror has string keys and finite numbers");
    drop_unset(&mut value);
    let mut text = serde_json::to_string_pretty(&value).expect("a JSON value can be written");
    text.push('\n');
    text
}

/// Takes out the keys that were left out; a rendered file says "off" and never null.
fn drop_unset(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_unset),
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_unset);
        }
        _ => {}
    }
}

fn named<T, R>(items: &[T], render: impl Fn(&T) -> (String, R)) -> Ordered<R> {
    Ordered(items.iter().map(render).collect())
}

fn count(n: Option<u32>) -> Option<raw::CountOrOff> {
    Some(n.map_or_else(|| "off".into(), raw::CountOrOff::from))
}

fn common(config: &Config) -> raw::Common {
    let admin = match config.admin {
        None => raw::AdminOrOff::Off("off".into()),
        Some(admin) => raw::AdminOrOff::On(raw::Admin {
            bind: Some(admin.bind.to_string().into()),
            fallback: Some(!admin.explicit),
        }),
    };
    let access_log = match &config.access_log {
        None => raw::AccessLogOrOff::Off(false.into()),
        Some(log) => {
            let path = log.path.as_ref().map(|p| p.display().to_string());
            let format = match log.format {
                LogFormat::Combined => "combined",
                LogFormat::Json => "json",
            };
            raw::AccessLogOrOff::On(raw::AccessLog {
                path: Some(escape(path.as_deref().unwrap_or("-"))),
                format: Some(format.into()),
            })
        }
    };
    raw::Common {
        workers: Some(
            config
                .workers
                .map_or_else(|| "auto".into(), raw::Workers::from),
        ),
        shutdown_grace: shown_duration(config.shutdown_grace),
        admin: Some(admin),
        access_log: Some(access_log),
        cache: cache::memory(config),
        redis: config
            .redis
            .as_ref()
            .map(|r| raw::RedisOrUrl::Redis(Box::new(cache::redis(r)))),
        ..raw::Common::default()
    }
}

fn listener(l: &Listener, directory: &Path) -> raw::Listener {
    let is_http = l.protocol == Protocol::Http;
    raw::Listener {
        bind: l.bind.to_string().into(),
        protocol: Some(l.protocol.name().into()),
        trusted_proxies: Some(l.trusted_proxies.iter().map(Cidr::to_string).collect()),
        proxy_protocol: l.proxy_protocol.as_ref().map(|trusted| raw::ProxyProtocol {
            trusted: trusted.iter().map(Cidr::to_string).collect(),
        }),
        timeouts: Some(l.timeouts.render()),
        limits: Some(l.limits.render()),
        tls: l.tls.as_deref().map(|t| tls::server(t, directory)),
        http2: is_http.then(|| Http2::render(l.http2)),
        path: is_http.then(|| paths::render(&l.path)),
        untrusted_fields: is_http.then(|| l.untrusted_fields.render()),
    }
}

fn route(planned: &PlannedRoute, config: &Config) -> raw::Route {
    let route = &planned.route;
    let listeners = planned
        .listeners
        .iter()
        .map(|&i| config.listeners[i].name.clone());
    let mut out = raw::Route {
        name: Some(route.name.as_str().into()),
        listeners: Some(listeners.collect()),
        matches: Some(matches(&route.matches)),
        upstream: None,
        redirect: None,
        respond: None,
        strip_prefix: None,
        replace_prefix: None,
        restore_prefix: (*route.rewrite() != Rewrite::Keep).then_some(route.restore_prefix),
        retry: route.retry.map(|spec| retry::render_route(&spec)),
        cache: Some(cache::route(route.cache.as_deref())),
        upgrades: upgrades(&route.upgrades),
        request_headers: header_rules(&route.request_headers),
        response_headers: header_rules(&route.response_headers),
    };
    match &route.action {
        Action::Forward { upstream, rewrite } => {
            out.upstream = Some(config.upstreams[*upstream].name.clone());
            match rewrite {
                Rewrite::Keep => {}
                Rewrite::StripPrefix(prefix) => out.strip_prefix = Some(escape(prefix).into()),
                Rewrite::ReplacePrefix(from, to) => {
                    let to = if to.is_empty() { "/" } else { to };
                    out.replace_prefix = Some(raw::ReplacePrefix {
                        from: escape(from).into(),
                        to: escape(to).into(),
                    });
                }
            }
        }
        Action::Redirect { status, location } => {
            out.redirect = Some(raw::Redirect {
                to: escape(location),
                status: Some((*status).into()),
            });
        }
        Action::Respond { status, body } => {
            out.respond = Some(raw::Respond {
                status: Some(*status),
                body: Some(escape(body)),
            });
        }
    }
    out
}

fn upgrades(tokens: &[String]) -> Option<raw::Upgrades> {
    Some(match tokens {
        [] => raw::Upgrades::Off("off".into()),
        some => raw::Upgrades::To(raw::OneOrMany::Many(some.to_vec())),
    })
}

/// What a route matches. Parts that match anything have no form of their own and are left out.
fn matches(m: &RouteMatch) -> raw::Match {
    let many = |items: Vec<String>| (!items.is_empty()).then_some(raw::OneOrMany::Many(items));
    let path = match &m.path {
        PathMatch::Any => None,
        PathMatch::Exact(p) => Some(raw::PathBy::Exact(escape(p).into())),
        PathMatch::Prefix(p) => Some(raw::PathBy::Prefix(escape(p).into())),
        PathMatch::Regex(r) => Some(raw::PathBy::Regex(escape(r.as_str()))),
    };
    let headers: Vec<_> = m
        .headers
        .iter()
        .map(|h| {
            let wanted = match &h.value {
                None => true.into(),
                Some(value) => escape(value).into(),
            };
            (h.name.to_string(), wanted)
        })
        .collect();
    raw::Match {
        host: many(m.hosts.clone()),
        path: path.map(raw::PathMatch::By),
        methods: many(m.methods.iter().map(ToString::to_string).collect()),
        headers: (!headers.is_empty()).then_some(Ordered(headers)),
        sni: many(m.server_names.clone()),
        alpn: many(m.alpn.iter().map(|p| escape(p)).collect()),
    }
}

fn header_rules(rules: &HeaderRules) -> Option<raw::HeaderRules> {
    let fields = |list: &[(http::HeaderName, http::HeaderValue)]| {
        let field = |(name, value): &(http::HeaderName, http::HeaderValue)| {
            let value = value.to_str().expect("the reader takes visible ASCII only");
            (name.to_string(), escape(value))
        };
        (!list.is_empty()).then(|| Ordered(list.iter().map(field).collect()))
    };
    let remove: Vec<_> = rules.remove.iter().map(ToString::to_string).collect();
    (*rules != HeaderRules::default()).then(|| raw::HeaderRules {
        remove: (!remove.is_empty()).then_some(remove),
        set: fields(&rules.set),
        add: fields(&rules.add),
    })
}

fn upstream(u: &Upstream) -> raw::Upstream {
    let phase = match u.spec.phase {
        Phase::Random => "random",
        Phase::Zero => "zero",
    };
    let backends = u.backends.iter().zip(&u.spec.backends);
    // Where it has no effect it is not written, since it would be warned of.
    let hashes = match u.spec.strategy {
        Strategy::Hash { load_percent } => Some(load_percent),
        _ => None,
    };
    let is_http = u.protocol() == Protocol::Http;
    raw::Upstream {
        strategy: Some(strategy_name(u.spec.strategy).into()),
        hash_by: hashes.map(|_| hash_by(&u.hash_by)),
        hash_load_factor: hashes.map(load_factor),
        max_in_flight: count(u.spec.max_in_flight),
        queue: Some(raw::Queue {
            capacity: Some(u.spec.queue.capacity as u64),
            timeout: shown_duration(u.spec.queue.timeout),
        }),
        timeouts: Some(u.timeouts.render()),
        retry: Some(retry::render(&u.retry, is_http)),
        back_off: Some(raw::BackOff {
            base: shown_duration(u.spec.back_off.base),
            max: shown_duration(u.spec.back_off.max),
        }),
        health: match &u.health {
            Some(health) => Some(raw::HealthOrOff::On(Box::new(health.render(is_http)))),
            None if u.protocol() == Protocol::Udp => None,
            None => Some(raw::HealthOrOff::Off("off".into())),
        },
        ejection: Some(match &u.ejection {
            Some(ejection) => raw::EjectionOrOff::On(Box::new(ejection.render(is_http))),
            None => raw::EjectionOrOff::Off("off".into()),
        }),
        phase: Some(phase.into()),
        proxy_protocol: u.proxy_protocol.map(|version| {
            let known = VERSIONS.iter().find(|(_, v)| *v == version);
            known.map_or("unknown", |(name, _)| name).into()
        }),
        protocol: is_http.then(|| protocol_name(u.protocol).into()),
        limits: is_http.then(|| raw::ResponseLimits {
            head: shown_size(u.limits.bytes),
            fields: Some(u.limits.fields as u64),
        }),
        via: is_http.then(|| u.via.into()),
        field_case: is_http.then(|| if u.title_case { "title" } else { "received" }.into()),
        buffer_request: is_http.then(|| match u.buffer_request {
            0 => "off".into(),
            bytes => format_size(bytes as u64).into(),
        }),
        max_tunnels: count(u.max_tunnels),
        tls: u.tls.as_deref().map(upstream_tls),
        backends: backends.map(|(b, spec)| backend(b, spec)).collect(),
    }
}

fn upstream_tls(tls: &UpstreamTls) -> raw::UpstreamTls {
    let file = |path: &PathBuf| escape(&path.display().to_string());
    let identity = tls.identity.as_ref();
    raw::UpstreamTls {
        ca: tls.ca.as_ref().map(file),
        sni: tls.sni.as_deref().map(escape),
        verify: Some(tls.verify),
        certificate: identity.map(|(certificate, _)| file(certificate)),
        key: identity.map(|(_, key)| file(key)),
    }
}

fn hash_by(by: &HashBy) -> raw::HashBy {
    match by {
        HashBy::Address => raw::HashBy::Word("address".into()),
        HashBy::Path => raw::HashBy::Word("path".into()),
        HashBy::Header(name) => raw::HashBy::Said(raw::HashSaid::Header(name.to_string())),
        HashBy::Cookie(name) => raw::HashBy::Said(raw::HashSaid::Cookie(escape(name))),
    }
}

fn load_factor(percent: Option<u32>) -> raw::LoadFactor {
    match percent {
        Some(percent) => (f64::from(percent) / 100.0).into(),
        None => "off".into(),
    }
}

fn backend(b: &Backend, spec: &BackendSpec) -> raw::BackendEntry {
    raw::BackendEntry::Object(raw::Backend {
        url: escape(&b.url()).into(),
        name: Some(b.name.clone()),
        weight: Some(spec.weight),
        max_in_flight: count(spec.max_in_flight),
    })
}
