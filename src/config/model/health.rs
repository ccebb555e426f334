//! How backends are checked: what holds by default, how the keys are read, and how they are written back.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::raw;
use crate::config::reader::{Node, Object};
use crate::config::section::{put, shown_duration};
use crate::engine::health::HealthSpec;

/// How the backends of an upstream are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// When checks are made, and what they mean.
    pub spec: HealthSpec,
    /// How long one may take, the connection included.
    pub timeout: Duration,
    /// What is asked for over HTTP; elsewhere a connection is all.
    pub path: String,
    /// The Host that is asked for; `None` is the backend's own.
    pub host: Option<String>,
    /// The statuses that are good.
    pub status: Vec<RangeInclusive<u16>>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            spec: HealthSpec {
                interval: Duration::from_secs(5),
                fast_interval: Duration::from_secs(1),
                healthy: 2,
                unhealthy: 3,
                is_up_at_first: true,
            },
            timeout: Duration::from_secs(2),
            path: "/".to_owned(),
            host: None,
            status: vec![200..=399],
        }
    }
}

impl HealthCheck {
    /// Takes over what stands in the section.
    pub(crate) fn read(&mut self, o: &Object<'_>) {
        let spec = &mut self.spec;
        let duration = |key| o.get(key).and_then(|n| n.duration());
        put(&mut spec.interval, duration("interval"));
        put(&mut spec.fast_interval, duration("fast_interval"));
        put(&mut self.timeout, duration("timeout"));
        let count = |key| {
            let count = o.get(key).and_then(|n| n.integer(1..=1000));
            count.and_then(|n| u32::try_from(n).ok())
        };
        put(&mut spec.healthy, count("healthy"));
        put(&mut spec.unhealthy, count("unhealthy"));
        let initial = [("up", true), ("down", false)];
        let initial = o.get("initial").and_then(|n| n.word(&initial));
        put(&mut spec.is_up_at_first, initial);
        put(&mut self.path, o.get("path").and_then(|n| path(&n)));
        if let Some(host) = o.get("host").and_then(|n| host(&n)) {
            self.host = Some(host);
        }
        if let Some(node) = o.get("status") {
            self.status = statuses(&node);
        }
    }

    /// The section that says the same.
    pub(crate) fn render(&self, is_http: bool) -> raw::Health {
        let count = |n: u32| Some(u64::from(n));
        raw::Health {
            path: is_http.then(|| self.path.clone()),
            host: self.host.clone().filter(|_| is_http),
            status: is_http.then(|| shown_statuses(&self.status)),
            interval: shown_duration(self.spec.interval),
            fast_interval: shown_duration(self.spec.fast_interval),
            timeout: shown_duration(self.timeout),
            healthy: count(self.spec.healthy),
            unhealthy: count(self.spec.unhealthy),
            initial: Some(match self.spec.is_up_at_first {
                true => raw::Initial::Up,
                false => raw::Initial::Down,
            }),
        }
    }

    /// Is this status good?
    pub fn is_good(&self, status: u16) -> bool {
        self.status.iter().any(|range| range.contains(&status))
    }
}

/// What is asked for: it goes out as it stands here.
fn path(node: &Node<'_>) -> Option<String> {
    let text = node.string()?;
    let is_visible = |b: u8| b.is_ascii_graphic() && b != b'#';
    if text.starts_with('/') && text.bytes().all(is_visible) {
        return Some(text);
    }
    node.error(
        "a path begins with \"/\" and has neither blanks nor \"#\", for example \"/healthz\"",
    );
    None
}

fn host(node: &Node<'_>) -> Option<String> {
    let text = node.string()?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b);
    if !text.is_empty() && text.bytes().all(is_name) {
        return Some(text);
    }
    node.error("expected a host, with a port or without, for example \"app.internal\"");
    None
}

/// A status, a range of them, or several of both.
pub(super) fn statuses(node: &Node<'_>) -> Vec<RangeInclusive<u16>> {
    let many = (!node.is_number() && !node.is_string()).then(|| node.items());
    let nodes = many.map_or_else(|| vec![node.clone()], Option::unwrap_or_default);
    nodes.iter().filter_map(status_range).collect()
}

/// The same as they are written.
pub(super) fn shown_statuses(statuses: &[RangeInclusive<u16>]) -> raw::Statuses {
    let range = |range: &RangeInclusive<u16>| match range.start() == range.end() {
        true => raw::StatusRange::from(*range.start()),
        false => format!("{}-{}", range.start(), range.end()).into(),
    };
    raw::Statuses::Many(statuses.iter().map(range).collect())
}

/// A status, or the first and the last of a range.
fn status_range(node: &Node<'_>) -> Option<RangeInclusive<u16>> {
    if node.is_number() {
        let status = node.integer(100..=599)?;
        return u16::try_from(status).ok().map(|status| status..=status);
    }
    let text = node.string()?;
    let (low, high) = text.split_once('-').unwrap_or((&text, &text));
    match (low.parse(), high.parse()) {
        (Ok(low), Ok(high)) if (100..=high).contains(&low) && high <= 599 => Some(low..=high),
        _ => {
            node.error("expected a status or a range of them, for example 200 or \"200-399\"");
            None
        }
    }
}
