//! The mirror of a config file, as it may be written: the JSON Schema is derived from these structs, and a model is rendered
//! through them. The doc comments are the schema's descriptions. Absent: reading, which needs places that serde does not keep.

mod cache;
mod leaf;
mod listener;
mod route;
mod tls;
mod upstream;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;

pub use cache::*;
pub use leaf::*;
pub use listener::*;
pub use route::*;
pub use tls::*;
pub use upstream::*;

/// The JSON Schema (2020-12) of a config file, with a line break at its end.
pub fn schema() -> String {
    let mut text =
        serde_json::to_string_pretty(&schema_value()).expect("a JSON value can be written");
    text.push('\n');
    text
}

/// The same as a value.
pub fn schema_value() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    drop_null(&mut schema);
    schema
}

/// An `Option` says that a key may be left out, not that it may be null; where null has a meaning, an `enum` lists it.
fn drop_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(drop_null),
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    map["type"] = only.clone();
                }
            }
            let mut only = None;
            if let Some(Value::Array(forms)) = map.get_mut("anyOf") {
                forms.retain(|f| f.get("type").is_none_or(|t| t != "null"));
                only = (forms.len() == 1).then(|| forms.remove(0));
            }
            if let Some(Value::Object(form)) = only {
                map.remove("anyOf");
                for (key, value) in form {
                    map.entry(key).or_insert(value);
                }
            }
            map.values_mut().for_each(drop_null);
        }
        _ => {}
    }
}

/// A config file of Weirkeeper, in full form or in flat form. `${VAR}` and `${VAR:-default}` stand for environment variables in
/// every string, and `$${` for `${` itself.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(title = "weir config")]
#[allow(clippy::large_enum_variant, reason = "one a file")]
pub enum File {
    /// The full form.
    Full(FullFile),
    /// The flat form.
    Flat(FlatFile),
}

/// The full form: named listeners, routes and upstreams.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FullFile {
    /// What both forms know.
    #[serde(flatten)]
    pub common: Common,
    /// What is bound, by name.
    pub listeners: Ordered<Listener>,
    /// Where requests go. The first route that matches wins. Without routes everything goes to the only upstream.
    pub routes: Option<Vec<Route>>,
    /// Groups of backends, by name.
    pub upstreams: Option<Ordered<Upstream>>,
}

/// The flat form: one port, one group of servers. `weir check --expand` prints it in full form.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FlatFile {
    /// What both forms know.
    #[serde(flatten)]
    pub common: Common,
    /// Bound on all interfaces, IPv4 and IPv6.
    pub port: Port,
    /// "L7" is HTTP. "L4" passes connections or datagrams on as they are. By default "L7".
    pub level: Option<Level>,
    /// How to choose a server. By default "round-robin".
    pub strategy: Option<Strategy>,
    /// By what requests go to the same server under "hash". By default "address".
    pub hash_by: Option<HashBy>,
    /// How far a server may be ahead of its share under "hash", before its keys give way: 1.25 is a quarter. By default 1.25.
    pub hash_load_factor: Option<LoadFactor>,
    /// Where responses are stored: nowhere, in memory ("baseline", also "in-memory"), or in Redis as well. By default "none".
    pub caching: Option<Caching>,
    /// The transport: "tcp", or at L4 "udp". By default "tcp".
    pub proto: Option<Proto>,
    /// The form of responses in Redis: "none" (binary), "json" or "lz4". By default "none".
    pub serializer: Option<String>,
    /// Each server's URL, with the number of requests that it takes at once. Under the weighted strategies and
    /// under "hash" the number is its share as well.
    pub servers: Ordered<Capacity>,
    /// Serve HTTPS with these certificates.
    pub tls: Option<ServerTls>,
    /// Requests in flight to all servers together. By default "off", which is unlimited.
    #[serde(rename = "maxWorkers")]
    pub max_workers: Option<CountOrOff>,
    /// Methods, and beginnings of paths, whose responses are never stored.
    #[serde(rename = "cache-ignore")]
    pub cache_ignore: Option<Vec<String>>,
}

/// What both forms know.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Common {
    /// The address of this schema, for editors.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// Runtimes, one a core: a number, or "auto" for one on each core. By default "auto".
    pub workers: Option<Workers>,
    /// How long running requests may take to finish after SIGTERM or SIGINT. By default "30s".
    pub shutdown_grace: Option<DurationOrZero>,
    /// Where health, status and metrics are served. By default on 127.0.0.1:9900, or on the next free port.
    pub admin: Option<AdminOrOff>,
    /// One line for each request. By default "off".
    pub access_log: Option<AccessLogOrOff>,
    /// The cache's memory, and defaults for every cached route.
    pub cache: Option<Cache>,
    /// The cache's second tier.
    pub redis: Option<RedisOrUrl>,
    /// Defaults for the timeouts of all listeners and upstreams.
    pub timeouts: Option<Timeouts>,
    /// Defaults for the limits of all listeners and upstreams.
    pub limits: Option<AllLimits>,
    /// Default for all listeners: HTTP/2, over TLS and in the clear. By default true.
    pub http2: Option<Http2OrSwitch>,
    /// Default for all listeners: peers, as addresses or networks, whose X-Forwarded fields are believed. By default none.
    pub trusted_proxies: Option<Vec<String>>,
    /// Default for all listeners: what becomes of paths that servers read in different ways.
    pub path: Option<PathRules>,
    /// Default for all listeners: what clients may say that are not in trusted_proxies.
    pub untrusted_fields: Option<UntrustedFields>,
    /// Defaults for the queue of every upstream.
    pub queue: Option<Queue>,
    /// Defaults for the retries of all upstreams.
    pub retry: Option<Retry>,
    /// Defaults for the back-offs of all upstreams.
    pub back_off: Option<BackOff>,
    /// Default for the ejections of all upstreams. By default as the section says ("off" in the flat form).
    pub ejection: Option<EjectionOrOff>,
    /// Default for the health checks of all upstreams of HTTP and TCP. By default "off".
    pub health: Option<HealthOrOff>,
    /// Default for the via of all upstreams. By default true.
    pub via: Option<Switch>,
    /// Default for the buffer_request of all upstreams. By default "64KiB".
    pub buffer_request: Option<SizeOrOff>,
    /// Default for the phase of all upstreams. By default "random".
    pub phase: Option<Phase>,
}

/// The admin listener, or "off".
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AdminOrOff {
    /// Where it binds.
    On(Admin),
    /// It is off.
    Off(Off),
}

/// The admin listener.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Admin {
    /// The address. By default "127.0.0.1:9900", or the next free port.
    pub bind: Option<Bind>,
    /// Take the next free port when this one is taken. By default false if "bind" is given, else true.
    pub fallback: Option<bool>,
}

/// The access log, or "off".
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AccessLogOrOff {
    /// Where and how it is written.
    On(AccessLog),
    /// It is off.
    Off(Off),
}

/// The access log.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AccessLog {
    /// A file that lines are appended to, or "-" for standard output. By default "-".
    pub path: Option<String>,
    /// The form of a line. By default "combined".
    pub format: Option<LogFormat>,
}

/// The timeouts of both sides, as defaults for the whole file.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// Those of the client's side.
    #[serde(flatten)]
    pub client: ListenerTimeouts,
    /// Resolving and dialling a backend, over all its addresses. By default "2s".
    pub connect: Option<DurationText>,
    /// From the request's end to the response's first byte. By default "60s".
    pub first_byte: Option<DurationOrOff>,
    /// Between two pieces of a response body. By default "60s".
    pub body_gap: Option<DurationOrOff>,
    /// The whole request with queueing and retries. By default "off".
    pub request: Option<DurationOrOff>,
    /// How long an idle connection to a backend is kept. By default "4s".
    pub backend_idle: Option<DurationOrZero>,
    /// After so long, give or take a tenth, a connection to a backend takes no further request and ends behind those under way.
    /// By default "off".
    pub backend_connection_age: Option<DurationOrOff>,
    /// After so long without a byte TCP asks whether a backend is still there, and gives it up after as long again without an
    /// answer; 1s to 9h. By default "60s".
    pub backend_keepalive: Option<DurationOrOff>,
}

/// The limits of both sides, as defaults for the whole file.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AllLimits {
    /// Those of the client's side.
    #[serde(flatten)]
    pub client: Limits,
    /// Bytes of a response's head, 8 KiB to 16 MiB; more is answered 502. By default "128KiB".
    pub backend_head: Option<Size>,
    /// Fields of a response's head; more are answered 502. By default 256.
    #[schemars(range(min = 1, max = 10_000))]
    pub backend_fields: Option<u64>,
}
