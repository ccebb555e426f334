//! The mirror of a route.

use schemars::JsonSchema;
use serde::Serialize;

use super::RouteCacheOrOff;
use super::leaf::{
    DurationOrOff, FieldMatch, Name, Off, OneOrMany, Ordered, PathText, RedirectStatus,
    RetryMethods, RetryOn,
};

/// A rule that leads somewhere: exactly one of `upstream`, `redirect` and `respond`. For listeners of protocol tcp or udp it
/// has an `upstream`, and nothing of HTTP; at tcp it may match by "sni" and "alpn".
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("oneOf" = [{"required": ["upstream"]}, {"required": ["redirect"]}, {"required": ["respond"]}])
)]
pub struct Route {
    /// Its name in logs. By default "route-" and its number, from 1.
    pub name: Option<Name>,
    /// The listeners that it serves. By default all.
    #[schemars(length(min = 1))]
    pub listeners: Option<Vec<String>>,
    /// What a request must be. By default anything.
    #[serde(rename = "match")]
    pub matches: Option<Match>,
    /// Forward to the upstream of this name.
    pub upstream: Option<String>,
    /// Answer with a redirect.
    pub redirect: Option<Redirect>,
    /// Answer at once.
    pub respond: Option<Respond>,
    /// Take this prefix off the path before it is forwarded.
    pub strip_prefix: Option<PathText>,
    /// Put one prefix of the path in another's place before it is forwarded.
    pub replace_prefix: Option<ReplacePrefix>,
    /// Where one of them stands: put the prefix back into the paths of Location, Content-Location and Set-Cookie that come from
    /// the backend, unless it is there already. By default true.
    pub restore_prefix: Option<bool>,
    /// When another backend is tried, where it differs from the upstream's "retry"; the budget is the upstream's.
    pub retry: Option<RouteRetry>,
    /// Store its responses: true, false, or what differs from "cache" at the top of the file. By default false.
    pub cache: Option<RouteCacheOrOff>,
    /// The protocols that a request may ask to change to (RFC 9110 section 7.8), or "off". By default "websocket".
    pub upgrades: Option<Upgrades>,
    /// Changes to the request's fields: remove, then set, then add.
    pub request_headers: Option<HeaderRules>,
    /// Changes to the response's fields: remove, then set, then add.
    pub response_headers: Option<HeaderRules>,
}

/// When another backend is tried for the requests of a route. What it does not say is as its upstream has it.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RouteRetry {
    /// Further attempts after the first.
    #[schemars(range(max = 10))]
    pub attempts: Option<u8>,
    /// After what another backend is tried: "connect", "reset", "timeout", and statuses such as 503 or "502-504".
    pub on: Option<Vec<RetryOn>>,
    /// Which requests may be sent again though a backend may have worked on them: "idempotent", "keyed" or "all".
    pub methods: Option<RetryMethods>,
    /// From the beginning of an attempt to the head of its answer.
    pub per_try: Option<DurationOrOff>,
}

/// Names of protocols, or "off".
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Upgrades {
    /// None.
    Off(Off),
    /// One or any of several, in any case.
    To(OneOrMany),
}

/// What a request, or a connection, must be; every part that is given must hold.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Match {
    /// One host or any of several, without port. "*.example.com" is any name below example.com.
    pub host: Option<OneOrMany>,
    /// An exact path, or an object that says how it is compared.
    pub path: Option<PathMatch>,
    /// One method or any of several, in capitals.
    pub methods: Option<OneOrMany>,
    /// Fields by name: the value that must be there, or true for any value.
    pub headers: Option<Ordered<FieldMatch>>,
    /// For listeners of protocol tcp: the host that a TLS client asks for (SNI), one or any of several, as in "host".
    pub sni: Option<OneOrMany>,
    /// For listeners of protocol tcp that do not end TLS: a protocol that the client offers (ALPN), one or any of several.
    pub alpn: Option<OneOrMany>,
}

/// What a path must be.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum PathMatch {
    /// Exactly this.
    Exact(PathText),
    /// Compared as the key says.
    By(PathBy),
}

/// How a path is compared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PathBy {
    /// Exactly this.
    Exact(PathText),
    /// This or anything below it: "/a" matches "/a" and "/a/b", not "/ab".
    Prefix(PathText),
    /// An expression that matches somewhere in the path, unless it is anchored.
    Regex(String),
}

/// A redirect.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Redirect {
    /// The Location; {scheme}, {host}, {path} and {query} (with its `?`) stand for the request's parts.
    pub to: String,
    /// The status of the answer. By default 308.
    pub status: Option<RedirectStatus>,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Respond {
    /// The status of the answer. By default 200.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// Its body, as text/plain. By default "".
    pub body: Option<String>,
}

/// One prefix in another's place.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReplacePrefix {
    /// The prefix to take off.
    pub from: PathText,
    /// The prefix to put on; "/" is none.
    pub to: PathText,
}

/// Changes to fields, in this order: remove, set, add.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HeaderRules {
    /// Names to take out.
    pub remove: Option<Vec<String>>,
    /// Fields that replace whatever stands there.
    pub set: Option<Ordered<String>>,
    /// Fields that are added to whatever stands there.
    pub add: Option<Ordered<String>>,
}
