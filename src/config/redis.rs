//! `redis`: where the cache's second tier is.

use std::time::Duration;

use super::address;
use super::model::{Redis, RedisServers, RedisTls};
use super::reader::{Node, Object};
use crate::cache::codec::Serializer;

/// Where one server is looked for, unless the file or the environment says.
const LOCAL: &str = "redis://localhost:6379";

/// The environment variable that an expanded file takes a password from, since none is ever printed.
pub const REDIS_PASSWORD: &str = "WEIR_REDIS_PASSWORD";

/// The words for a record's form.
pub(crate) const SERIALIZERS: [(&str, Serializer); 4] = [
    ("none", Serializer::Binary),
    ("binary", Serializer::Binary),
    ("json", Serializer::Json),
    ("lz4", Serializer::Lz4),
];

/// What a URL says, and every default besides. Errors repeat no user name and no password.
pub(crate) fn at(url: &str) -> Result<Redis, String> {
    let mut redis = Redis {
        servers: RedisServers::One("localhost".into(), 6379),
        tls: None,
        username: None,
        password: None,
        database: 0,
        prefix: "weir:".into(),
        timeout: Duration::from_millis(50),
        max_value: 1 << 20,
        serializer: Serializer::Binary,
    };
    let (scheme, rest) = url
        .split_once("://")
        .ok_or("a Redis is given as redis://host:port")?;
    match scheme {
        "redis" => {}
        "rediss" => redis.tls = Some(RedisTls { ca: None }),
        _ => return Err("the scheme of a Redis is redis, or rediss for TLS".into()),
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') {
        // The rest of a password: what follows must not repeat it.
        return Err("a slash in a user name or a password is written %2F".into());
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if let Some(user) = user {
        let (name, password) = user.split_once(':').unwrap_or(("", user));
        redis.username = (!name.is_empty()).then(|| decoded(name));
        redis.password = (!password.is_empty()).then(|| decoded(password));
    }
    if !path.is_empty() {
        redis.database = path
            .parse()
            .ok()
            .filter(|n| (0..=1000).contains(n))
            .ok_or("what stands behind the slash is the database's number")?;
    }
    let (host, port) = server(host, 6379)?;
    redis.servers = RedisServers::One(host, port);
    Ok(redis)
}

/// Percent-decoded, as the parts of a URL are written.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |b: Option<u8>| (b? as char).to_digit(16);
        let mut ahead = bytes.clone();
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(byte));
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `host`, `host:port` or `[::1]:port`.
fn server(text: &str, port: u16) -> Result<(String, u16), String> {
    let named = text.rsplit_once(':').is_some_and(|(_, p)| !p.contains(']'));
    let url = if named {
        format!("http://{text}")
    } else {
        format!("http://{text}:{port}")
    };
    let not = |_| format!("\"{text}\" is not a server such as \"redis.example.com:6379\"");
    let backend = address::parse_url(&url, address::Schemes::Http)
        .map_err(|(what, _)| what)
        .map_err(not)?;
    Ok((backend.host, backend.port))
}

/// Reads the section: an object, or the URL alone. `wanted` has there be a Redis where it is absent. What says no place is the
/// environment's, or else the local server.
pub(crate) fn read(
    file: &Object<'_>,
    wanted: bool,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<Redis> {
    let node = file.get("redis");
    if node.is_none() && !wanted {
        return None;
    }
    if let Some(node) = node.as_ref().filter(|n| n.is_string()) {
        return at(&node.string()?).map_err(|what| node.error(what)).ok();
    }
    let o = match &node {
        Some(node) if !node.is_object() => {
            node.error("expected an object such as {\"url\": \"redis://localhost:6379\"}, or the URL alone");
            return None;
        }
        Some(node) => node.object(),
        None => None,
    };
    // A place of its own is a whole one: the environment's password is not for another server.
    let placed = o.as_ref().is_some_and(|o| o.has("url") || o.has("servers"));
    let said = env("WEIR_REDIS_URL").filter(|url| !placed && !url.is_empty());
    let start = match at(said.as_deref().unwrap_or(LOCAL)) {
        Ok(redis) => redis,
        Err(what) => {
            // The value may hold a password, so it is not repeated.
            let blame = node.as_ref().unwrap_or(&file.node);
            blame.error(format!("WEIR_REDIS_URL: {what}"));
            return None;
        }
    };
    let Some(o) = o else {
        return Some(start);
    };
    let redis = section(&o, start);
    o.finish();
    Some(redis)
}

fn section(o: &Object<'_>, mut redis: Redis) -> Redis {
    if let Some(node) = o.get("url")
        && let Some(text) = node.string()
    {
        match at(&text) {
            Ok(found) => redis = found,
            Err(what) => node.error(what),
        }
    }
    if let Some(found) = servers(o) {
        redis.servers = found;
    }
    if let Some(node) = o.get("tls") {
        redis.tls = tls(&node);
    }
    let text = |key: &'static str| o.get(key).and_then(|n| n.string());
    if let Some(found) = text("username") {
        redis.username = Some(found).filter(|t| !t.is_empty());
    }
    if let Some(found) = text("password") {
        redis.password = Some(found).filter(|t| !t.is_empty());
    }
    let database = o.get("database");
    if let Some(found) = database.as_ref().and_then(|n| n.integer(0..=1000)) {
        redis.database = i64::try_from(found).unwrap_or(0);
    }
    if let Some(found) = text("prefix") {
        redis.prefix = found;
    }
    if let Some(found) = o.get("timeout").and_then(|n| n.duration()) {
        redis.timeout = found;
    }
    if let Some(found) = o.get("max_value").and_then(|n| n.size(1 << 10..=64 << 20)) {
        redis.max_value = found;
    }
    if let Some(found) = o.get("serializer").and_then(|n| n.word(&SERIALIZERS)) {
        redis.serializer = found;
    }
    if matches!(redis.servers, RedisServers::Cluster(_)) && redis.tls.is_some() {
        let node = o.get("tls");
        let what = "a cluster is reached without TLS: its client opens its own sockets";
        node.as_ref().unwrap_or(&o.node).error(what);
    }
    if matches!(redis.servers, RedisServers::Cluster(_)) && redis.database != 0 {
        let node = database.as_ref().unwrap_or(&o.node);
        node.error("a cluster has database 0 alone");
    }
    redis
}

fn servers(o: &Object<'_>) -> Option<RedisServers> {
    let sentinel = o.get("sentinel").and_then(|n| n.string());
    let said = o.get("cluster");
    let cluster = said.as_ref().and_then(Node::boolean).unwrap_or(false);
    if let (Some(_), true, Some(node)) = (&sentinel, cluster, said) {
        node.error("\"sentinel\" and \"cluster\" cannot stand together");
    }
    let node = o.get("servers");
    if node.is_none() && (sentinel.is_some() || cluster) {
        o.node
            .error("\"servers\" is missing, for example \"servers\": [\"10.0.0.1:26379\"]");
    }
    let node = node?;
    if o.has("url") {
        node.error("\"url\" and \"servers\" cannot stand together");
    }
    let port = if sentinel.is_some() { 26_379 } else { 6379 };
    let items = node.items()?;
    if items.is_empty() {
        node.error("there is no server, for example \"10.0.0.1:6379\"");
        return None;
    }
    let mut found = Vec::new();
    for item in &items {
        let Some(text) = item.string() else { continue };
        match server(&text, port) {
            Ok(server) => found.push(server),
            Err(what) => item.error(what),
        }
    }
    match (sentinel, cluster) {
        (Some(master), _) => Some(RedisServers::Sentinel {
            sentinels: found,
            master,
        }),
        (None, true) => Some(RedisServers::Cluster(found)),
        (None, false) => {
            if items.len() != 1 {
                node.error("one server, or several with \"sentinel\" or \"cluster\"");
            }
            let (host, port) = found.into_iter().next()?;
            Some(RedisServers::One(host, port))
        }
    }
}

fn tls(node: &Node<'_>) -> Option<RedisTls> {
    if node.is_off() {
        return None;
    }
    if node.is_true() {
        return Some(RedisTls { ca: None });
    }
    if !node.is_object() {
        node.error("expected true, false, or an object such as {\"ca\": \"ca.pem\"}");
        return None;
    }
    let o = node.object()?;
    let ca = o.get("ca").and_then(|n| n.string()).map(Into::into);
    o.finish();
    Some(RedisTls { ca })
}
