//! When requests alone take a backend out: what holds by default, how the keys are read, and how they are written back.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::health::{shown_statuses, statuses};
use crate::config::raw;
use crate::config::reader::{Node, Object};
use crate::config::section::{put, shown_count, shown_duration};
use crate::engine::outlier::OutlierSpec;

/// When a backend is ejected for how its requests end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// When, for how long, and how it comes back.
    pub spec: OutlierSpec,
    /// The statuses that count as failures.
    pub status: Vec<RangeInclusive<u16>>,
}

impl Default for Ejection {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Ejection {
            spec: OutlierSpec {
                consecutive: 5,
                failure_percent: 50,
                latency_percent: 0,
                min_requests: 20,
                window: secs(10),
                base: secs(10),
                max: secs(300),
                max_ejected_percent: 50,
                slow_start: secs(10),
            },
            status: vec![500..=599],
        }
    }
}

impl Ejection {
    /// Takes over what stands in the section.
    pub(crate) fn read(&mut self, o: &Object<'_>) {
        let spec = &mut self.spec;
        let or_off = |node: Node<'_>, read: &dyn Fn(&Node<'_>) -> Option<u32>| match node.is_off() {
            true => Some(0),
            false => read(&node),
        };
        let count = |node: &Node<'_>| u32::try_from(node.integer(1..=1_000_000)?).ok();
        let part = |node: &Node<'_>| Some((node.float(0.0..=1.0)? * 100.0).round() as u32);
        let factor = |node: &Node<'_>| Some((node.float(1.1..=1000.0)? * 100.0).round() as u32);
        let get = |key, read: &dyn Fn(&Node<'_>) -> Option<u32>| {
            o.get(key).and_then(|node| or_off(node, read))
        };
        put(&mut spec.consecutive, get("consecutive", &count));
        put(&mut spec.failure_percent, get("failure_rate", &part));
        put(&mut spec.latency_percent, get("latency_factor", &factor));
        let requests = o.get("min_requests").and_then(|node| count(&node));
        put(&mut spec.min_requests, requests);
        let max_ejected = o.get("max_ejected").and_then(|node| part(&node));
        put(&mut spec.max_ejected_percent, max_ejected);
        let duration = |key| o.get(key).and_then(|node| node.duration());
        put(&mut spec.window, duration("window"));
        put(&mut spec.base, duration("base"));
        put(&mut spec.max, duration("max"));
        let slow_start = o.get("slow_start").and_then(|node| match node.is_off() {
            true => Some(Duration::ZERO),
            false => node.duration_or_zero(),
        });
        put(&mut spec.slow_start, slow_start);
        if spec.base > spec.max {
            o.node
                .error("the first ejection (\"base\") is longer than the longest (\"max\")");
        }
        if let Some(node) = o.get("status") {
            self.status = statuses(&node);
        }
    }

    /// The section that says the same.
    pub(crate) fn render(&self, is_http: bool) -> raw::Ejection {
        let spec = &self.spec;
        let part = |percent: u32| f64::from(percent) / 100.0;
        let or_off = |percent: u32| match percent {
            0 => "off".into(),
            n => serde_json::Value::from(part(n)),
        };
        raw::Ejection {
            consecutive: shown_count((spec.consecutive > 0).then_some(spec.consecutive)),
            failure_rate: Some(or_off(spec.failure_percent).into()),
            latency_factor: is_http.then(|| or_off(spec.latency_percent).into()),
            min_requests: Some(u64::from(spec.min_requests)),
            window: shown_duration(spec.window),
            base: shown_duration(spec.base),
            max: shown_duration(spec.max),
            max_ejected: Some(part(spec.max_ejected_percent)),
            slow_start: shown_duration(spec.slow_start),
            status: is_http.then(|| shown_statuses(&self.status)),
        }
    }

    /// Does an answer of this status count as a failure?
    pub fn is_failure(&self, status: u16) -> bool {
        self.status.iter().any(|range| range.contains(&status))
    }

    /// Does anybody want to know when answers begin?
    pub fn is_timed(&self) -> bool {
        self.spec.latency_percent > 0
    }
}
