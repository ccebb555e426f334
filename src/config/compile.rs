//! From a text to a [`Plan`]: what stands at the top of a file, in the flat form and in the full form.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache;
use super::error::Errors;
use super::flat;
use super::json;
use super::lint;
use super::listener;
use super::loops;
use super::model::{AccessLog, Admin, Config, LogFormat, Protocol};
use super::openings;
use super::plan::{Body, Plan};
use super::reader::{Node, Object, Run};
use super::redis;
use super::route;
use super::settings::Defaults;
use super::upstream;

/// Compiles `text`, or gives all its errors in file order.
pub(crate) fn compile(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, Errors> {
    let value = json::parse(text).map_err(|(pos, what)| Errors::single(file, Some(pos), what))?;
    let run = Run::new(file, env);
    let plan = run.root(&value).object().map(|file| top(file, env));
    let warnings = run.finish()?;
    let mut plan = plan.expect("a text that is not an object has given an error");
    plan.config.warnings = warnings;
    plan.directory = Path::new(file).parent().unwrap_or(Path::new("")).to_owned();
    Ok(plan)
}

fn top(file: Object<'_>, env: &dyn Fn(&str) -> Option<String>) -> Plan {
    let flat = file.has("servers") || file.has("port");
    if let Some(schema) = file.get("$schema") {
        schema.string();
    }
    let defaults = Defaults::read(&file, flat);
    let workers = file.get("workers").and_then(|n| workers(&n));
    let admin = admin(file.get("admin"));
    let access_log = file.get("access_log").and_then(|n| access_log(&n));
    let shutdown_grace = file
        .get("shutdown_grace")
        .and_then(|n| n.duration_or_zero())
        .unwrap_or(Defaults::SHUTDOWN_GRACE);
    let caching = cache::read_top(&file, flat);
    let (body, redis) = if flat {
        let redis = flat::redis(&file, env);
        (flat::read(&file, &defaults, &caching), redis)
    } else {
        let redis = redis::read(&file, false, env);
        (full(&file, &defaults, &caching), redis)
    };
    lint::caching(&file, &body.routes, flat);
    loops::lint(&file, &body, flat);
    if let (Some(admin), Some(node)) = (&admin, file.get("admin"))
        && let Some(l) = body
            .listeners
            .iter()
            .find(|l| l.collides(admin.bind, Protocol::Http))
        && admin.explicit
    {
        node.error(format!(
            "the listener \"{}\" binds this address as well",
            l.name
        ));
    }
    file.finish();
    assemble(
        body,
        Config {
            workers,
            listeners: Vec::new(),
            upstreams: Vec::new(),
            admin,
            access_log,
            cache: caching.model,
            redis,
            shutdown_grace,
            warnings: Vec::new(),
        },
    )
}

/// Gives every listener its routes.
fn assemble(body: Body, mut config: Config) -> Plan {
    let Body {
        mut listeners,
        upstreams,
        mut routes,
    } = body;
    cache::partition(&mut routes, listeners.len());
    for (i, listener) in listeners.iter_mut().enumerate() {
        let own = routes.iter().filter(|r| r.listeners.contains(&i));
        listener.routes = Arc::new(own.map(|r| Arc::new(r.route.clone())).collect());
    }
    config.listeners = listeners;
    config.upstreams = upstreams;
    Plan {
        config,
        directory: PathBuf::new(),
        routes,
    }
}

fn full(file: &Object<'_>, defaults: &Defaults, caching: &cache::Defaults) -> Body {
    file.refuse(
        "tls",
        "in the full form \"tls\" stands inside a listener, or inside an upstream for its backends",
    );
    for key in flat::ONLY_FLAT {
        file.refuse(
            key,
            &format!("\"{key}\" belongs to the flat form, beside \"port\" and \"servers\""),
        );
    }
    let listeners = listener::read_all(file, defaults);
    let upstreams = upstream::read_all(file, defaults);
    let served: Vec<_> = listeners
        .iter()
        .map(|l| (l.name.as_str(), l.protocol))
        .collect();
    let spoken: Vec<_> = upstreams.iter().map(upstream::Named::spoken).collect();
    let routes = match file.get("routes") {
        Some(node) => {
            let routes = route::read_all(&node, &served, &upstreams, caching);
            lint::routes(&routes);
            openings::lint(&routes, &listeners);
            lint::terminated(&routes, &listeners);
            lint::unused(file, &upstreams, &routes, &listeners);
            routes.into_iter().map(|(_, route)| route).collect()
        }
        None => {
            if upstreams.len() > 1 {
                file.node.error("\"routes\" is missing: with several upstreams it says which request goes where");
            }
            let all = (0..listeners.len()).collect();
            let http = spoken.first().is_some_and(|u| u.1 == Protocol::Http);
            let rules = (caching.given && http).then(|| Arc::new(caching.rules.clone()));
            // One without a backend has given its error.
            let one = upstreams.len() == 1 && !upstreams[0].upstream.backends.is_empty();
            if let (true, Some(only)) = (one, spoken.first().copied()) {
                lint::unfit(file, &served, only);
            }
            upstreams
                .first()
                .map(|u| route::default_route(all, rules, u.spoken().1))
                .into_iter()
                .collect()
        }
    };
    Body {
        listeners,
        upstreams: upstreams.into_iter().map(|u| u.upstream).collect(),
        routes,
    }
}

fn workers(node: &Node<'_>) -> Option<usize> {
    if node.is_string() {
        return node.word(&[("auto", None)]).flatten();
    }
    usize::try_from(node.integer(1..=1024)?).ok()
}

fn admin(node: Option<Node<'_>>) -> Option<Admin> {
    let default = Admin {
        bind: Defaults::ADMIN,
        explicit: false,
    };
    let Some(node) = node else {
        return Some(default);
    };
    if node.is_off() {
        return None;
    }
    if !node.is_object() {
        node.error("expected an object such as {\"bind\": \"127.0.0.1:9900\"}, or \"off\"");
        return None;
    }
    let object = node.object()?;
    let bind = object.get("bind").and_then(|n| listener::bind(&n));
    let fallback = object.get("fallback").and_then(|n| n.boolean());
    object.finish();
    Some(match bind {
        Some(bind) => Admin {
            bind,
            explicit: !fallback.unwrap_or(false),
        },
        None => Admin {
            explicit: fallback == Some(false),
            ..default
        },
    })
}

fn access_log(node: &Node<'_>) -> Option<AccessLog> {
    if node.is_off() {
        return None;
    }
    if !node.is_object() {
        node.error("expected an object such as {\"path\": \"access.log\", \"format\": \"combined\"}, or false");
        return None;
    }
    let object = node.object()?;
    let path = object.get("path").and_then(|n| {
        let path = n.string()?;
        if path.is_empty() || path.contains('\0') {
            n.error("an empty path; \"-\" is standard output");
        }
        (path != "-").then(|| path.into())
    });
    let format = object
        .get("format")
        .and_then(|n| n.word(&[("combined", LogFormat::Combined), ("json", LogFormat::Json)]))
        .unwrap_or(LogFormat::Combined);
    object.finish();
    Some(AccessLog { path, format })
}
