//! Expectations: `web.p99 < 400ms`, `all.failed < 0.1%`, `web.ok >= 500`. A line is parsed once and judged by the report.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::Span;

/// One line of `expect`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// A client group, or `all`.
    pub subject: String,
    /// What is measured of it.
    pub metric: Metric,
    /// How it must stand to the bound.
    pub op: Op,
    /// The bound.
    pub bound: Bound,
}

/// What can be measured of a client group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Latency of answered requests at this percentile, 0 to 100.
    Percentile(f64),
    /// Mean latency of answered requests.
    Mean,
    /// Requests that ended so.
    Count(Count),
}

/// What can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// All of them.
    Offered,
    /// Answered with a status below 500.
    Ok,
    /// Everything else that the client waited for: 5xx, refused, broken off.
    Failed,
    /// Refused by the proxy with a reason of its queue.
    Shed,
    /// The client gave up.
    GaveUp,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `=` or `==`
    Equal,
}

/// What a metric is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// A latency.
    Time(Span),
    /// A share of the offered requests, in percent.
    Percent(f64),
    /// A number of requests.
    Number(f64),
}

impl Op {
    const ALL: [(&'static str, Op); 6] = [
        ("<=", Op::LessOrEqual),
        (">=", Op::GreaterOrEqual),
        ("==", Op::Equal),
        ("<", Op::Less),
        (">", Op::Greater),
        ("=", Op::Equal),
    ];

    /// Does `left op right` hold?
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Op::Less => left < right,
            Op::LessOrEqual => left <= right,
            Op::Greater => left > right,
            Op::GreaterOrEqual => left >= right,
            Op::Equal => left == right,
        }
    }

    fn text(self) -> &'static str {
        let found = Op::ALL.into_iter().find(|(_, op)| *op == self);
        found.map_or("=", |(text, _)| text)
    }
}

impl Count {
    const ALL: [(&'static str, Count); 5] = [
        ("offered", Count::Offered),
        ("ok", Count::Ok),
        ("failed", Count::Failed),
        ("shed", Count::Shed),
        ("gave_up", Count::GaveUp),
    ];
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, count)) = Count::ALL.into_iter().find(|(name, _)| *name == text) {
            return Ok(Metric::Count(count));
        }
        match text {
            "mean" => return Ok(Metric::Mean),
            "max" => return Ok(Metric::Percentile(100.0)),
            _ => {}
        }
        text.strip_prefix('p')
            .and_then(|p| p.parse().ok())
            .filter(|p| (0.0..=100.0).contains(p))
            .map(Metric::Percentile)
            .ok_or_else(|| {
                format!("\"{text}\" is not measured: p50 … p99.9, mean, max, offered, ok, failed, shed, gave_up are")
            })
    }
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not an expectation such as \"web.p99 < 400ms\"");
        let at = text.find(['<', '>', '=']).ok_or_else(bad)?;
        let (left, rest) = text.split_at(at);
        let (sign, op) = Op::ALL
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or_else(bad)?;
        let right = rest[sign.len()..].trim();
        let (subject, metric) = left.trim().split_once('.').ok_or_else(bad)?;
        let metric: Metric = metric.parse()?;
        let bound = match metric {
            Metric::Count(_) => match right.strip_suffix('%') {
                Some(percent) => Bound::Percent(percent.trim().parse().map_err(|_| bad())?),
                None => Bound::Number(right.parse().map_err(|_| bad())?),
            },
            _ => Bound::Time(right.parse().map_err(|_| bad())?),
        };
        Ok(Expectation {
            subject: subject.to_string(),
            metric,
            op,
            bound,
        })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.subject)?;
        match self.metric {
            Metric::Mean => f.write_str("mean")?,
            Metric::Percentile(100.0) => f.write_str("max")?,
            Metric::Percentile(p) => write!(f, "p{p}")?,
            Metric::Count(count) => {
                let found = Count::ALL.into_iter().find(|(_, c)| *c == count);
                f.write_str(found.map_or("?", |(name, _)| name))?;
            }
        }
        write!(f, " {} ", self.op.text())?;
        match self.bound {
            Bound::Time(span) => write!(f, "{span}"),
            Bound::Percent(percent) => write!(f, "{percent}%"),
            Bound::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Serialize for Expectation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expectation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Expectation {
    fn schema_name() -> Cow<'static, str> {
        "Expectation".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "GROUP.METRIC OP BOUND, such as web.p99 < 400ms or all.failed < 0.1%. \
                Metrics: pN, mean, max, offered, ok, failed, shed, gave_up.",
            "pattern": r"^[^.]+\.(p[0-9.]+|mean|max|offered|ok|failed|shed|gave_up) *(<=|>=|==|<|>|=) *[0-9.]+ *(us|ms|s|m|%)?$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_out_reads_back() {
        for text in [
            "web.p99 < 400ms",
            "all.failed < 0.1%",
            "web.p99.9 <= 1.5s",
            "web.ok >= 500",
            "web.max < 2s",
            "web.shed == 0",
        ] {
            let parsed: Expectation = text.parse().expect(text);
            assert_eq!(parsed.to_string(), text);
        }
        for text in [
            "p99 < 1s",
            "web.p99 1s",
            "web.p101 < 1s",
            "web.p9 < 1%",
            "web.ok < 1s",
            "web.sorrow < 1",
        ] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
