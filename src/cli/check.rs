//! `weir check`: all that is wrong with a config, or what it says and what it can use at most. Absent: anything that touches
//! the network; a name that does not resolve or a port that is taken shows when the proxy runs.

mod acme;

use std::io::{self, Write};
use std::path::Path;

use crate::config::model::{
    Action, BackendProtocol, Config, HealthCheck, Listener, Protocol, Rewrite, Route, Upstream,
};
use crate::config::units::NEVER;
use crate::config::{self, Footprint, format_duration, format_size};
use crate::engine::Strategy;
use crate::engine::router::{PathMatch, RouteMatch};
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env};

/// Checks the file at `path`. With `expand`, `out` gets the file in full form and nothing else; without, a summary. Errors go
/// to `err`, one a line. Gives the exit code: 0 fine, 1 not.
pub(super) fn run(
    path: &Path,
    expand: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let name = path.display().to_string();
    let env = &config::process_env;
    let loaded = config::read(path).and_then(|text| {
        let config = config::load_str(&name, &text, env)?;
        let full = if expand {
            Some(config::expand(&name, &text, env)?)
        } else {
            None
        };
        Ok((config, full))
    });
    let (config, full) = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            writeln!(err, "{errors}")?;
            return Ok(1);
        }
    };
    match full {
        Some(full) => {
            for warning in &config.warnings {
                writeln!(err, "{warning}")?;
            }
            if config.redis.as_ref().is_some_and(|r| r.password.is_some()) {
                writeln!(
                    err,
                    "note: passwords are not printed; this file takes that of Redis from the variable {}",
                    config::REDIS_PASSWORD
                )?;
            }
            out.write_all(full.as_bytes())?;
        }
        None => {
            writeln!(out, "{name}: fine")?;
            summary(&config, out)?;
            for warning in &config.warnings {
                writeln!(out, "\n{warning}")?;
            }
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            bounds(&config::footprint(&config, cores), descriptor_limit(), out)?;
        }
    }
    out.flush()?;
    Ok(0)
}

fn summary(config: &Config, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nlisteners")?;
    for l in &config.listeners {
        writeln!(out, "  {}", listener(l))?;
    }
    writeln!(out, "\nroutes, the first match wins")?;
    for l in &config.listeners {
        if config.listeners.len() > 1 {
            writeln!(out, "  on {}", l.name)?;
        }
        for r in l.routes.iter() {
            writeln!(out, "  {}", route(r, config))?;
        }
    }
    writeln!(out, "\nupstreams")?;
    for u in &config.upstreams {
        upstream(u, out)?;
    }
    acme::summary(config, TokioEnv::new()?.clock().wall(), out)?;
    writeln!(out)?;
    match config.workers {
        Some(n) => writeln!(out, "workers     {n}")?,
        None => writeln!(out, "workers     one on each core")?,
    }
    match super::caching(config) {
        Some(where_to) => writeln!(out, "caching     {where_to}")?,
        None => writeln!(out, "caching     off")?,
    }
    match config.admin {
        Some(a) if a.explicit => writeln!(out, "admin       {}", a.bind)?,
        Some(a) => writeln!(out, "admin       {}, or the next free port", a.bind)?,
        None => writeln!(out, "admin       off")?,
    }
    match &config.access_log {
        Some(log) => {
            let place = log
                .path
                .as_ref()
                .map_or("standard output".into(), |p| p.display().to_string());
            writeln!(
                out,
                "access log  {place}, {}",
                format!("{:?}", log.format).to_lowercase()
            )?;
        }
        None => writeln!(out, "access log  off")?,
    }
    writeln!(
        out,
        "shutdown    within {}",
        format_duration(config.shutdown_grace)
    )
}

fn listener(l: &Listener) -> String {
    let bind = if l.bind.ip().is_unspecified() {
        let families = if l.bind.is_ipv6() {
            "IPv4 and IPv6"
        } else {
            "IPv4"
        };
        format!("{} (all interfaces, {families})", l.bind)
    } else {
        l.bind.to_string()
    };
    let (limits, timeouts) = (&l.limits, &l.timeouts);
    match l.protocol {
        Protocol::Http => {}
        Protocol::Tcp => {
            return format!(
                "{}: tcp, {bind}; {} connections; silent for {} at most",
                l.name,
                limits.connections,
                format_duration(timeouts.tunnel)
            );
        }
        Protocol::Udp => {
            return format!(
                "{}: udp, {bind}; {} sessions; silent for {} at most",
                l.name,
                limits.sessions,
                format_duration(timeouts.session)
            );
        }
    }
    let body = limits.body_bytes.map_or("unlimited".into(), format_size);
    format!(
        "{}: {bind}; {} connections; head {} and {} fields, target {}, body {body}",
        l.name,
        limits.connections,
        format_size(limits.head_bytes as u64),
        limits.head_fields,
        format_size(limits.uri_bytes as u64),
    )
}

fn route(r: &Route, config: &Config) -> String {
    let action = match &r.action {
        Action::Forward { upstream, rewrite } => {
            let change = match rewrite {
                Rewrite::Keep => String::new(),
                Rewrite::StripPrefix(prefix) => format!(", without {prefix}"),
                Rewrite::ReplacePrefix(from, to) if to.is_empty() => format!(", without {from}"),
                Rewrite::ReplacePrefix(from, to) => format!(", {from} becomes {to}"),
            };
            let cached = r.cache.as_ref().map_or("", |_| ", cached");
            let upstream = &config.upstreams[*upstream].name;
            format!("upstream {upstream}{change}{cached}")
        }
        Action::Redirect { status, location } => format!("{status} to {location}"),
        Action::Respond { status, .. } => format!("{status} at once"),
    };
    format!("{}: {} -> {action}", r.name, condition(&r.matches))
}

fn condition(m: &RouteMatch) -> String {
    let mut parts = Vec::new();
    if !m.hosts.is_empty() {
        parts.push(format!("host {}", m.hosts.join(" or ")));
    }
    if !m.server_names.is_empty() {
        parts.push(format!("sni {}", m.server_names.join(" or ")));
    }
    if !m.alpn.is_empty() {
        parts.push(format!("alpn {}", m.alpn.join(" or ")));
    }
    match &m.path {
        PathMatch::Any => {}
        PathMatch::Exact(path) => parts.push(format!("path {path}")),
        PathMatch::Prefix(path) => parts.push(format!("path {path} and below")),
        PathMatch::Regex(regex) => parts.push(format!("path like {regex}")),
    }
    if !m.methods.is_empty() {
        let methods: Vec<&str> = m.methods.iter().map(http::Method::as_str).collect();
        parts.push(methods.join(" or "));
    }
    for h in &m.headers {
        match &h.value {
            Some(value) => parts.push(format!("{}: {value}", h.name)),
            None => parts.push(format!("with {}", h.name)),
        }
    }
    if parts.is_empty() {
        return "anything".into();
    }
    parts.join(", ")
}

/// How its backends are checked.
fn checked(u: &Upstream, check: &HealthCheck) -> String {
    let what = match u.protocol() {
        Protocol::Http => format!("GET {}", check.path),
        Protocol::Tcp | Protocol::Udp => "a connection".to_owned(),
    };
    let (spec, every) = (&check.spec, format_duration(check.spec.interval));
    format!(
        "checked by {what} every {every}; down after {} that fail, up after {} that pass",
        spec.unhealthy, spec.healthy
    )
}

fn upstream(u: &Upstream, out: &mut impl Write) -> io::Result<()> {
    let strategy = config::strategy_name(u.spec.strategy);
    let bound = u
        .spec
        .max_in_flight
        .map_or("none".into(), |n| n.to_string());
    let total: Option<u32> = u.spec.backends.iter().map(|b| b.max_in_flight).sum();
    let total = total.map_or("any number".into(), |n| n.to_string());
    writeln!(
        out,
        "  {}: {strategy}; backends take {total} at once, bound for all: {bound}",
        u.name
    )?;
    let t = &u.timeouts;
    writeln!(
        out,
        "    queue {} for {}; retries {}; connect {}, first byte {}, gap {}, whole request {}",
        u.spec.queue.capacity,
        format_duration(u.spec.queue.timeout),
        u.retry.attempts,
        format_duration(t.connect),
        format_duration(t.first_byte),
        format_duration(t.body_gap),
        format_duration(t.request.unwrap_or(NEVER)),
    )?;
    if let Some(spoken) = spoken(u) {
        writeln!(out, "    {spoken}")?;
    }
    if let Some(check) = &u.health {
        writeln!(out, "    {}", checked(u, check))?;
    }
    for (backend, spec) in u.backends.iter().zip(&u.spec.backends) {
        let max = spec
            .max_in_flight
            .map_or("unlimited".into(), |n| n.to_string());
        let weight = match u.spec.strategy {
            Strategy::RoundRobin => String::new(),
            _ => format!(", weight {}", spec.weight),
        };
        writeln!(
            out,
            "    {}: {}; {max} at once{weight}",
            backend.name,
            backend.url()
        )?;
    }
    Ok(())
}

/// What is spoken with the backends, unless it is HTTP/1.1 in the clear.
fn spoken(u: &Upstream) -> Option<String> {
    let protocol = match u.protocol {
        BackendProtocol::Http1 if u.tls.is_none() => return None,
        BackendProtocol::Http1 => "HTTP/1.1",
        BackendProtocol::Http2 => "HTTP/2",
        BackendProtocol::Auto => "HTTP/2, or HTTP/1.1 where a backend has no other",
    };
    let tls = u.tls.as_ref().map_or(String::new(), |tls| {
        let believed = match &tls.ca {
            _ if !tls.verify => "without verifying certificates".into(),
            None => "verified by the system's authorities".into(),
            Some(ca) => format!("verified by {}", ca.display()),
        };
        let ours = tls.identity.as_ref().map_or(String::new(), |(file, _)| {
            format!(", with our certificate in {}", file.display())
        });
        format!("; https over TLS, {believed}{ours}")
    });
    Some(format!("{protocol}{tls}"))
}

fn bounds(footprint: &Footprint, limit: Option<u64>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nat most                  memory  descriptors")?;
    for item in &footprint.items {
        writeln!(
            out,
            "  {:>29}  {:>11}  {}",
            mebibytes(item.memory),
            item.descriptors,
            item.what
        )?;
    }
    let besides = if footprint.unlimited.is_empty() {
        "in all"
    } else {
        "in all, besides what is unlimited"
    };
    writeln!(
        out,
        "  {:>29}  {:>11}  {besides}",
        mebibytes(footprint.memory),
        footprint.descriptors
    )?;
    for cause in &footprint.unlimited {
        writeln!(out, "  {:>29}  {:>11}  {cause}", "unlimited", "unlimited")?;
    }
    match limit {
        Some(limit) if limit < footprint.descriptors => writeln!(
            out,
            "\nwarning: this process may open {limit} descriptors at most; raise it (ulimit -Hn), or lower limits.connections"
        ),
        _ => Ok(()),
    }
}

fn mebibytes(bytes: u64) -> String {
    // Tenths, rounded up, since these are bounds.
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// The hard limit of open files, to which the proxy raises its own; `None` where the system does not say.
fn descriptor_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expand: bool) -> (u8, String, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/configs")
            .join(name);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&path, expand, &mut out, &mut err).expect("a Vec takes everything");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (code, text(out), text(err))
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let (code, out, err) = check("good/first-user.json", false);
        assert_eq!((code, err.as_str()), (0, ""));
        for part in [
            "web: [::]:8080 (all interfaces, IPv4 and IPv6)",
            "default: anything -> upstream web, cached",
            "caching     128MiB in memory, Redis at localhost:6379",
            "backends take 5 at once, bound for all: 5",
            "queue 10000 for 30s",
            "localhost:8081: http://localhost:8081; 3 at once",
            "160.0 MiB            0  the cache: 128MiB and what is being stored",
            "upstream web: 5 backend connections",
        ] {
            assert!(out.contains(part), "{part:?} is not in\n{out}");
        }
        assert!(!out.contains("unlimited  "), "{out}");
    }

    #[test]
    fn what_has_no_bound_is_said_to_have_none_and_why() {
        let (code, out, _) = check("good/routes.json", false);
        assert_eq!(code, 0);
        assert!(
            out.contains(
                "connections to 127.0.0.1:8081 of upstream site, since it has no max_in_flight"
            ),
            "{out}"
        );
        let at = |part: &str| {
            out.find(part)
                .unwrap_or_else(|| panic!("{part:?} is not in\n{out}"))
        };
        assert!(at("to-https:") < at("health:") && at("health:") < at("api: host a.example"));
    }

    #[test]
    fn a_bad_file_gives_its_errors_and_exit_code_1() {
        let (code, out, err) = check("bad/three.json", false);
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(
            err.lines().filter(|l| l.contains("three.json:")).count(),
            3,
            "{err}"
        );
        let (code, _, err) = check("bad/no-such-file.json", true);
        assert!(
            code == 1 && err.contains("no-such-file.json: error: cannot be read"),
            "{err}"
        );
    }

    #[test]
    fn an_expanded_file_stands_alone_on_standard_output() {
        let (code, out, err) = check("good/first-user.json", true);
        assert_eq!(code, 0);
        assert!(
            out.starts_with("{\n") && out.contains("\"redis\"") && err.is_empty(),
            "{out}{err}"
        );
    }
}
