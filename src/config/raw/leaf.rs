//! The values at the ends of a config: each holds what is written, and its schema says what may be.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::Value;

const BACKEND_URL: &str = concat!(
    r"^([hH][tT][tT][pP][sS]?://[^/?#@]+(/[^?#]*)?",
    r"|(tcp|tls|udp)://[^/?#@]+/?)$|\$\{"
);

/// Defines a value with a schema of its own.
macro_rules! leaf {
    ($($(#[$doc:meta])* $name:ident = $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct $name(pub Value);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }

        impl<T: Into<Value>> From<T> for $name {
            fn from(value: T) -> Self {
                $name(value.into())
            }
        }
    )*};
}

leaf! {
    /// A number of runtimes, or "auto".
    Workers = { "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] };
    /// On or off.
    Switch = { "anyOf": [{ "type": "boolean" }, { "enum": ["off", null] }] };
    /// Switched off.
    Off = { "enum": ["off", false, null] };
    /// A duration above zero.
    DurationText = {
        "description": "A duration above zero, such as \"2s\", \"500ms\" or \"1m30s\".",
        "type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d))+$|\$\{"
    };
    /// A duration.
    DurationOrZero = {
        "description": "A duration, such as \"2s\", \"500ms\" or \"0s\".",
        "type": "string", "pattern": r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d))+)$|\$\{"
    };
    /// A status, or a range of them.
    StatusRange = { "anyOf": [
        { "type": "integer", "minimum": 100, "maximum": 599 },
        { "type": "string", "pattern": r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?$|\$\{" }
    ] };
    /// A duration above zero, or none.
    DurationOrOff = { "anyOf": [
        {
            "description": "A duration above zero, such as \"2s\", \"500ms\" or \"1m30s\".",
            "type": "string", "pattern": r"^(off|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d))+)$|\$\{"
        },
        { "enum": [false, null] }
    ] };
    /// A number of bytes.
    Size = { "anyOf": [
        {
            "description": "A size, such as \"64MiB\" or \"10kB\".",
            "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *(B|k|kB|KB|MB|GB|K|M|G|KiB|MiB|GiB)?$|\$\{"
        },
        { "type": "integer", "minimum": 0 }
    ] };
    /// A number of bytes, or unlimited.
    SizeOrOff = { "anyOf": [
        {
            "description": "A size, such as \"64MiB\" or \"10kB\".",
            "type": "string", "pattern": r"^(off|[0-9]+(\.[0-9]+)? *(B|k|kB|KB|MB|GB|K|M|G|KiB|MiB|GiB)?)$|\$\{"
        },
        { "type": "integer", "minimum": 0 },
        { "enum": [false, null] }
    ] };
    /// A number of requests, or unlimited.
    CountOrOff = { "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
        { "enum": ["off", false, null] }
    ] };
    /// How many requests a server takes at once.
    Capacity = { "type": "integer", "minimum": 1, "maximum": 1_000_000 };
    /// A port, as a number or in digits.
    Port = { "anyOf": [
        { "type": "integer", "minimum": 0, "maximum": 65_535 },
        { "type": "string", "pattern": r"^[0-9]{1,5}$|\$\{" }
    ] };
    /// An address to bind.
    Bind = { "type": "string", "pattern": r"^(\[[0-9A-Fa-f:.%]+\]|[0-9.]*):[0-9]{1,5}$|\$\{" };
    /// A backend's URL.
    BackendUrl = { "type": "string", "pattern": BACKEND_URL };
    /// A path that begins with a slash.
    PathText = { "type": "string", "pattern": r"^/[^?#]*$|\$\{" };
    /// Letters, digits, `-` and `_`.
    Name = { "type": "string", "pattern": r"^[A-Za-z0-9_-]{1,64}$|\$\{" };
    /// A field's value, or true for any.
    FieldMatch = { "anyOf": [{ "type": "string" }, { "const": true }] };
    /// A redirect's status.
    RedirectStatus = { "enum": [301, 302, 303, 307, 308] };
    /// The level of the flat form.
    Level = { "enum": ["L7", "L4"] };
    /// The transport of the flat form.
    Proto = { "enum": ["tcp", "udp"] };
    /// The store of the flat form.
    Caching = { "enum": ["none", "baseline", "in-memory", "redis"] };
    /// All of the query, or nothing.
    CacheQueryWord = { "enum": ["all", "none"] };
    /// The form of records in Redis; "none" is binary.
    CacheSerializer = { "enum": ["none", "binary", "json", "lz4"] };
    /// What a listener serves.
    Protocol = { "enum": ["http", "tcp", "udp"] };
    /// The oldest version of TLS.
    TlsVersion = { "enum": ["1.2", "1.3"] };
    /// Must a client have a certificate?
    ClientAuthMode = { "enum": ["required", "optional"] };
    /// How an authority is shown that a name is yours.
    AcmeChallenge = { "enum": ["tls-alpn-01", "http-01"] };
    /// Agreement, which nobody else can give.
    AcmeTerms = { "const": true };
    /// A URL that begins with https.
    HttpsUrl = { "type": "string", "pattern": r"^https://[^?#]+$|\$\{" };
    /// The form of an access log line.
    LogFormat = { "enum": ["combined", "json"] };
    /// How the names of fields are written.
    FieldCase = { "enum": ["received", "title"] };
    /// Where a round robin begins.
    Phase = { "enum": ["random", "zero"] };
    /// What is spoken with backends.
    BackendProtocol = { "enum": ["http1", "http2", "auto"] };
    /// How to choose a backend.
    Strategy = { "enum": [
        "round-robin", "weighted-round-robin", "smooth-weighted-round-robin", "least-request", "power-of-two",
        "hash"
    ] };
    /// By what requests belong together.
    HashWord = { "enum": ["address", "path"] };
    /// How far a backend may be ahead of its share, or "off".
    LoadFactor = { "anyOf": [
        { "type": "number", "minimum": 1, "maximum": 100 },
        { "enum": ["off", false, null] }
    ] };
    /// After what another backend is tried: a word or a status.
    RetryOn = { "anyOf": [
        { "enum": ["connect", "reset", "timeout"] },
        { "type": "integer", "minimum": 100, "maximum": 599 },
        { "type": "string", "pattern": r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?$|\$\{" }
    ] };
    /// Which requests may be sent again.
    RetryMethods = { "enum": ["idempotent", "keyed", "all"] };
    /// A part between nothing and all, or "off".
    PartOrOff = { "anyOf": [
        { "type": "number", "minimum": 0, "maximum": 1 },
        { "enum": ["off", false, null] }
    ] };
    /// How many times as long, or "off".
    FactorOrOff = { "anyOf": [
        { "type": "number", "minimum": 1.1, "maximum": 1000 },
        { "enum": ["off", false, null] }
    ] };
    /// What becomes of encoded slashes.
    EncodedSlashes = { "enum": ["keep", "reject", "decode"] };
    /// What becomes of backslashes.
    Backslashes = { "enum": ["keep", "reject", "slash"] };
    /// What becomes of parameters in a path.
    PathParameters = { "enum": ["keep", "reject", "strip"] };
    /// A version of the PROXY protocol.
    ProxyVersion = { "enum": ["v1", "v2"] };
}

/// A string, or an array of them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Any of several.
    Many(Vec<String>),
}

/// An object whose keys are names that the user chose, in their order.
#[derive(Clone, Debug)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        <BTreeMap<String, T>>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <BTreeMap<String, T>>::json_schema(generator)
    }
}
