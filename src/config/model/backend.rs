//! How long a backend may take: what holds by default, how the keys are read, and how they are written back.

use std::time::Duration;

use crate::config::raw;
use crate::config::reader::Object;
use crate::config::section::{self, put, shown_duration};
use crate::config::units::NEVER;

/// Backend-side timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendTimeouts {
    /// Resolving and dialling, over all addresses.
    pub connect: Duration,
    /// From the request's end to the first response byte.
    pub first_byte: Duration,
    /// Between two pieces of a response body.
    pub body_gap: Duration,
    /// The whole request with queueing and retries; `None` is unlimited.
    pub request: Option<Duration>,
    /// How long an idle connection is kept, at most; a backend's `Keep-Alive: timeout` less one second lowers it.
    pub idle: Duration,
    /// After so long, give or take a tenth, a connection takes no further request.
    pub connection_age: Duration,
    /// Without a byte for so long, TCP asks whether the backend is still there; `None` is never.
    pub keepalive: Option<Duration>,
}

impl Default for BackendTimeouts {
    fn default() -> Self {
        let secs = Duration::from_secs;
        BackendTimeouts {
            connect: secs(2),
            first_byte: secs(60),
            body_gap: secs(60),
            request: None,
            idle: secs(4),
            connection_age: NEVER,
            keepalive: Some(secs(60)),
        }
    }
}

impl BackendTimeouts {
    /// Takes over what stands in the section; the last three keys are called so there.
    pub(crate) fn read(&mut self, o: &Object<'_>, [idle, age, keepalive]: [&'static str; 3]) {
        put(
            &mut self.connect,
            o.get("connect").and_then(|n| n.duration()),
        );
        put(
            &mut self.first_byte,
            o.get("first_byte").and_then(|n| n.duration_or_never()),
        );
        put(
            &mut self.body_gap,
            o.get("body_gap").and_then(|n| n.duration_or_never()),
        );
        let request = o.get("request").and_then(|n| n.duration_or_never());
        put(&mut self.request, request.map(|d| (d < NEVER).then_some(d)));
        put(
            &mut self.idle,
            o.get(idle).and_then(|n| n.duration_or_zero()),
        );
        put(
            &mut self.connection_age,
            o.get(age).and_then(|n| n.duration_or_never()),
        );
        put(
            &mut self.keepalive,
            o.get(keepalive).and_then(section::keepalive),
        );
    }

    /// The section that says the same.
    pub(crate) fn render(&self) -> raw::UpstreamTimeouts {
        raw::UpstreamTimeouts {
            connect: shown_duration(self.connect),
            first_byte: shown_duration(self.first_byte),
            body_gap: shown_duration(self.body_gap),
            request: shown_duration(self.request.unwrap_or(NEVER)),
            idle: shown_duration(self.idle),
            connection_age: shown_duration(self.connection_age),
            keepalive: shown_duration(self.keepalive.unwrap_or(NEVER)),
        }
    }
}
