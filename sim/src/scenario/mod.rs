//! The scenario file: what is offered to a config, by whom, between which backends, with which faults, and what is expected.
//!
//! Everything is optional; the defaults make a rehearsal out of a config alone. Absent: what a config resolves it to (`plan`).

pub mod expect;
pub mod fault;
pub mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::expect::Expectation;
pub use self::fault::{Fault, FaultKind};
pub use self::units::{Dist, Span};

/// A scenario, version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// This schema's address, for editors.
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The format's version: 1.
    pub version: Version,
    /// The config to rehearse, beside this file. A config on the command line comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Core loops of the proxy. By default what the config says, or 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u8>,
    /// What lies between the hosts.
    pub network: Network,
    /// How long the load runs before anything is measured.
    pub warmup: Span,
    /// How long is measured.
    pub measure: Span,
    /// Who asks. By default one open loop at 80 % of what the backends can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientModel>,
    /// Backends by their name in the config (`host:port` unless named); `*` is every other.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backends: BTreeMap<String, BackendModel>,
    /// What goes wrong, and when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What must hold, such as `web.p99 < 400ms`, `web.failed < 0.1%`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            schema: None,
            version: Version,
            config: None,
            cores: None,
            network: Network::default(),
            warmup: Span::millis(2000),
            measure: Span::millis(8000),
            clients: Vec::new(),
            backends: BTreeMap::new(),
            faults: Vec::new(),
            expect: Vec::new(),
        }
    }
}

/// The only version there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u32", into = "u32")]
#[schemars(with = "u32")]
pub struct Version;

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        match version {
            1 => Ok(Version),
            _ => Err(format!("version {version} is not known here: it is 1")),
        }
    }
}

impl From<Version> for u32 {
    fn from(_: Version) -> u32 {
        1
    }
}

/// What lies between the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// A message takes up to this long; the grain is 1 ms.
    pub jitter: Span,
    /// Share of connections whose reads and writes come in small pieces, 0 to 1.
    pub chopped: f64,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            jitter: Span::millis(1),
            chopped: 0.05,
        }
    }
}

/// A group of clients that behave alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientModel {
    /// Its name in expectations and in the report.
    pub name: String,
    /// The listener that it asks, by name. By default the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// An open loop: so many requests a second (Poisson), whatever the answers take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// A closed loop: so many users, each waiting for its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
    /// What a user of a closed loop waits between an answer and the next request.
    pub think: Dist,
    /// After this a client gives up and goes away. By default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<Dist>,
    /// Connections are used again.
    pub keep_alive: bool,
    /// What it asks, each by its weight.
    pub requests: Vec<RequestModel>,
}

impl Default for ClientModel {
    fn default() -> Self {
        ClientModel {
            name: "web".into(),
            listener: None,
            rate: None,
            users: None,
            think: Dist::Fixed(Span::millis(0)),
            patience: None,
            keep_alive: true,
            requests: vec![RequestModel::default()],
        }
    }
}

/// One kind of request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestModel {
    /// How often, beside the others.
    pub weight: f64,
    /// GET, HEAD, POST, PUT, DELETE, ...
    pub method: String,
    /// The Host field.
    pub host: String,
    /// The target, beginning with a slash.
    pub path: String,
    /// Further fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// The body comes chunked, without a length before it.
    pub chunked: bool,
    /// Bytes of the answer's body.
    pub answer_bytes: u32,
}

impl Default for RequestModel {
    fn default() -> Self {
        RequestModel {
            weight: 1.0,
            method: "GET".into(),
            host: "weir.test".into(),
            path: "/".into(),
            headers: BTreeMap::new(),
            body_bytes: 0,
            chunked: false,
            answer_bytes: 128,
        }
    }
}

/// How a backend behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendModel {
    /// How long the work for a request takes.
    pub service_time: Dist,
    /// What it truly works on at once; the rest queues inside it. By default whatever the proxy sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Share of requests that it fails with `fail_status`, 0 to 1.
    pub fail_rate: f64,
    /// The status of a failed request.
    pub fail_status: u16,
    /// Share of answers that are no valid HTTP, 0 to 1.
    pub malformed_rate: f64,
    /// Work ends when its connection is closed; otherwise it goes on for nobody.
    pub abort_stops_work: bool,
    /// Share of answers that come chunked, 0 to 1.
    pub chunked_rate: f64,
    /// Share of answers after which the connection is closed without a word, 0 to 3 ms later.
    pub close_rate: f64,
    /// An idle connection is closed after this.
    pub idle: Span,
}

impl Default for BackendModel {
    fn default() -> Self {
        BackendModel {
            service_time: Dist::Exponential(Span::millis(20)),
            concurrency: None,
            fail_rate: 0.0,
            fail_status: 500,
            malformed_rate: 0.0,
            abort_stops_work: true,
            chunked_rate: 0.0,
            close_rate: 0.0,
            idle: Span::millis(5000),
        }
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// One line with line and column: bad JSON, an unknown field, a value that cannot be.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let mut what = error.to_string();
            // Serde appends the position: it comes first here, as compilers write it.
            if let Some(at) = what.rfind(" at line ") {
                what.truncate(at);
            }
            format!("{line}:{column}: error: {what}")
        })?;
        match scenario.problem() {
            Some((path, what)) => Err(format!("error: {what} ({path})")),
            None => Ok(scenario),
        }
    }

    /// What parses and still cannot be: its path and a sentence.
    fn problem(&self) -> Option<(String, String)> {
        let share = |path: String, x: f64| {
            let what = format!("{x} is not a share between 0 and 1");
            (!(0.0..=1.0).contains(&x)).then_some((path, what))
        };
        let network = share("network.chopped".into(), self.network.chopped);
        let clients = self.clients.iter().enumerate().find_map(|(i, c)| {
            let at = |field: &str| format!("clients[{i}].{field}");
            if c.rate.is_some() && c.users.is_some() {
                return Some((at("rate"), "a group is an open loop or a closed one".into()));
            }
            if c.rate.is_some_and(|r| !(r > 0.0 && r <= 1e6)) {
                return Some((at("rate"), "a rate is above 0 and at most 1e6".into()));
            }
            if c.requests.is_empty() {
                return Some((at("requests"), "there must be one at least".into()));
            }
            c.requests.iter().enumerate().find_map(|(j, r)| {
                let at = |field: &str| at(&format!("requests[{j}].{field}"));
                if !r.path.starts_with('/') {
                    return Some((at("path"), "a path begins with a slash".into()));
                }
                if http::Method::from_bytes(r.method.as_bytes()).is_err() {
                    return Some((at("method"), format!("\"{}\" is no method", r.method)));
                }
                let heavy = r.weight.is_finite() && r.weight > 0.0;
                (!heavy).then(|| (at("weight"), "a weight is above 0".into()))
            })
        });
        let backends = self.backends.iter().find_map(|(name, b)| {
            [
                ("fail_rate", b.fail_rate),
                ("malformed_rate", b.malformed_rate),
                ("chunked_rate", b.chunked_rate),
                ("close_rate", b.close_rate),
            ]
            .into_iter()
            .find_map(|(field, x)| share(format!("backends[\"{name}\"].{field}"), x))
        });
        network.or(clients).or(backends)
    }
}

/// The JSON Schema of scenarios, as `fixtures/scenarios/scenario.schema.json` holds it.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Scenario);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_scenario_is_the_default_one() {
        assert_eq!(Scenario::parse("{}"), Ok(Scenario::default()));
        let text = serde_json::to_string(&Scenario::default()).expect("plain");
        assert_eq!(Scenario::parse(&text), Ok(Scenario::default()));
    }

    #[test]
    fn a_mistake_names_its_place() {
        for (text, said) in [
            (
                "{\n \"warmup\": \"2 parsecs\"}",
                "2:23: error: \"2 parsecs\" is not a duration",
            ),
            (
                "{\n \"versoin\": 1}",
                "2:10: error: unknown field `versoin`",
            ),
            ("{\"version\": 2}", "version 2 is not known here"),
            ("{\"clients\":[{\"rate\":0}]}", "(clients[0].rate)"),
            (
                "{\"backends\":{\"a:1\":{\"fail_rate\":2}}}",
                "(backends[\"a:1\"].fail_rate)",
            ),
            ("{\"expect\":[\"web.p99 << 3ms\"]}", "web.p99 << 3ms"),
        ] {
            let error = Scenario::parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
