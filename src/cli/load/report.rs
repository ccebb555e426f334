//! What `weir load` found: data, a table for people, and JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::client::{Answer, Failure};

/// Counts while requests run.
#[derive(Debug)]
pub(super) struct Tally {
    statuses: BTreeMap<u16, u64>,
    backends: BTreeMap<u16, Backend>,
    failures: BTreeMap<String, u64>,
    body_bytes: u64,
    /// Microseconds of answered requests.
    latency: Histogram<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Backend {
    answers: u64,
    peak: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            statuses: BTreeMap::new(),
            backends: BTreeMap::new(),
            failures: BTreeMap::new(),
            body_bytes: 0,
            // An hour; what takes longer counts as an hour.
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3)
                .expect("the bounds are more than twice apart, and 5 digits are the most"),
        }
    }
}

impl Tally {
    pub(super) fn count(&mut self, latency: Duration, result: Result<Answer, Failure>) {
        match result {
            Ok(answer) => {
                *self.statuses.entry(answer.status).or_default() += 1;
                if let Some(port) = answer.backend {
                    let backend = self.backends.entry(port).or_default();
                    backend.answers += 1;
                    backend.peak = backend.peak.max(answer.peak);
                }
                self.body_bytes += answer.body_bytes;
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latency.saturating_record(micros);
            }
            Err(failure) => *self.failures.entry(failure.to_string()).or_default() += 1,
        }
    }

    /// Requests that were answered, and those that failed.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.statuses.values().sum(), self.failures.values().sum())
    }
}

/// The whole run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) url: String,
    pub(super) concurrency: u16,
    pub(super) rate: Option<f64>,
    pub(super) elapsed: Duration,
    pub(super) tally: Tally,
}

const PERCENTILES: [(&str, f64); 6] = [
    ("p50", 50.0),
    ("p75", 75.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("max", 100.0),
];

impl Report {
    /// Did any request have no whole response?
    pub(super) fn failed(&self) -> bool {
        !self.tally.failures.is_empty()
    }

    fn throughput(&self) -> f64 {
        let (answered, _) = self.tally.totals();
        answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// One JSON object; latencies in milliseconds.
    pub(super) fn json(&self, interrupted: bool) -> Value {
        let t = &self.tally;
        let (answered, failed) = t.totals();
        let named = |counts: &BTreeMap<u16, u64>| -> BTreeMap<String, u64> {
            counts.iter().map(|(k, v)| (k.to_string(), *v)).collect()
        };
        let backends: BTreeMap<String, Value> = t
            .backends
            .iter()
            .map(|(port, b)| {
                (
                    port.to_string(),
                    json!({"answers": b.answers, "peak": b.peak}),
                )
            })
            .collect();
        let mut latency = serde_json::Map::new();
        if answered > 0 {
            latency.insert("min".into(), json!(millis(t.latency.min())));
            latency.insert("mean".into(), json!(t.latency.mean() / 1e3));
            for (name, at) in PERCENTILES {
                let value = millis(t.latency.value_at_percentile(at));
                latency.insert(name.into(), json!(value));
            }
        }
        json!({
            "url": self.url,
            "concurrency": self.concurrency,
            "rate": self.rate,
            "seconds": self.elapsed.as_secs_f64(),
            "answered": answered,
            "failed": failed,
            "interrupted": interrupted,
            "per_second": self.throughput(),
            "body_bytes": t.body_bytes,
            "statuses": named(&t.statuses),
            "backends": backends,
            "failures": t.failures,
            "latency_ms": latency,
            "latency_from": if self.rate.is_some() { "intended start" } else { "start" },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.tally;
        let (answered, failed) = t.totals();
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "{}", self.url)?;
        writeln!(f)?;
        writeln!(
            f,
            "  requests    {answered} answered, {failed} failed, in {seconds:.2} s over {} connections",
            self.concurrency
        )?;
        writeln!(
            f,
            "  throughput  {:.1} requests/s, {}/s of bodies",
            self.throughput(),
            Bytes(t.body_bytes as f64 / seconds.max(1e-9))
        )?;
        if answered > 0 {
            let from = match self.rate {
                Some(rate) => format!("from each request's intended start, at {rate}/s"),
                None => "from each request's start".to_string(),
            };
            writeln!(f, "  latency     {from}")?;
            writeln!(f)?;
            let (mut names, mut values) = (String::new(), String::new());
            for (name, at) in PERCENTILES {
                let value = Millis(t.latency.value_at_percentile(at)).to_string();
                names.push_str(&format!("{name:>11}"));
                values.push_str(&format!("{value:>11}"));
            }
            writeln!(f, "  {names}\n  {values}")?;
        }
        table(
            f,
            "status",
            t.statuses
                .iter()
                .map(|(s, n)| (s.to_string(), *n, String::new())),
        )?;
        table(
            f,
            "backend",
            t.backends.iter().map(|(port, b)| {
                let peak = format!("at most {} at once so far", b.peak);
                (port.to_string(), b.answers, peak)
            }),
        )?;
        table(
            f,
            "failure",
            t.failures
                .iter()
                .map(|(what, n)| (what.clone(), *n, String::new())),
        )
    }
}

/// Rows of name, count, share and a remark; nothing when there are none.
fn table(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    rows: impl Iterator<Item = (String, u64, String)>,
) -> fmt::Result {
    let rows: Vec<_> = rows.collect();
    let total: u64 = rows.iter().map(|(_, count, _)| count).sum();
    let width = rows
        .iter()
        .map(|(name, ..)| name.len())
        .max()
        .unwrap_or(0)
        .max(title.len());
    for (i, (name, count, remark)) in rows.iter().enumerate() {
        if i == 0 {
            writeln!(f, "\n  {title:<width$}   requests   share")?;
        }
        let share = *count as f64 / total as f64 * 100.0;
        let line = format!("  {name:<width$} {count:>10} {share:>6.1}%   {remark}");
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// Microseconds, shown with three digits or so.
struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us @ 0..1000 => write!(f, "{us} us"),
            us @ 1000..10_000 => write!(f, "{:.2} ms", millis(us)),
            us @ 10_000..100_000 => write!(f, "{:.1} ms", millis(us)),
            us @ 100_000..1_000_000 => write!(f, "{:.0} ms", millis(us)),
            us => write!(f, "{:.2} s", us as f64 / 1e6),
        }
    }
}

/// Bytes in binary units.
struct Bytes(f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0, "B");
        for larger in ["KiB", "MiB", "GiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        write!(f, "{value:.1} {unit}")
    }
}
