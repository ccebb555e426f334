//! Durations and distributions as a scenario writes them: `"20ms"`, `"exp:20ms"`, `"lognormal:20ms,0.8"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weirkeeper::rng::Rng;

/// A duration: `"20ms"`, `"1.5s"`, `"2m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Span(Duration::from_millis(millis))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not a duration such as \"2s\" or \"20ms\"");
        let unit_at = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let (number, unit) = text.split_at(unit_at);
        let nanos = match unit {
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        // Simulations are short; what does not fit into a day is a slip.
        Some(number * nanos / 1e9)
            .filter(|seconds| seconds.is_finite() && *seconds <= 86_400.0)
            .map(|seconds| Span(Duration::from_secs_f64(seconds)))
            .ok_or_else(bad)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 1.0 || seconds == 0.0 {
            write!(f, "{}s", trimmed(seconds))
        } else if seconds >= 1e-3 {
            write!(f, "{}ms", trimmed(seconds * 1e3))
        } else {
            write!(f, "{}us", trimmed(seconds * 1e6))
        }
    }
}

/// Three decimals at most, without trailing zeros.
fn trimmed(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dist {
    /// `"20ms"`: always this.
    Fixed(Span),
    /// `"exp:20ms"`: exponential with this mean.
    Exponential(Span),
    /// `"uniform:5ms,20ms"`: uniform between the two.
    Uniform(Span, Span),
    /// `"lognormal:20ms,0.8"`: this median, and the standard deviation of the logarithm.
    LogNormal(Span, f64),
    /// `"pareto:10ms,1.5"`: at least this, with this tail exponent; cut at 1,000 times the least.
    Pareto(Span, f64),
}

impl Dist {
    /// A draw.
    pub fn sample(&self, rng: &mut Rng) -> Duration {
        let seconds = match *self {
            Dist::Fixed(Span(d)) => return d,
            Dist::Exponential(Span(mean)) => rng.exponential(mean.as_secs_f64()),
            Dist::Uniform(Span(low), Span(high)) => {
                low.as_secs_f64() + rng.unit() * (high.saturating_sub(low)).as_secs_f64()
            }
            Dist::LogNormal(Span(median), sigma) => {
                median.as_secs_f64() * (sigma * normal(rng)).exp()
            }
            Dist::Pareto(Span(least), alpha) => {
                let tail = (1.0 - rng.unit()).powf(-1.0 / alpha);
                least.as_secs_f64() * tail.min(1e3)
            }
        };
        Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))
    }

    /// The expected value, in seconds (of the Pareto distribution: of its body up to the cut).
    pub fn mean(&self) -> f64 {
        match *self {
            Dist::Fixed(Span(d)) | Dist::Exponential(Span(d)) => d.as_secs_f64(),
            Dist::Uniform(Span(low), Span(high)) => (low + high).as_secs_f64() / 2.0,
            Dist::LogNormal(Span(median), sigma) => {
                median.as_secs_f64() * (sigma * sigma / 2.0).exp()
            }
            Dist::Pareto(Span(least), alpha) => {
                least.as_secs_f64() * (alpha / (alpha - 1.0).max(0.1)).min(10.0)
            }
        }
    }
}

/// A standard normal draw (Box and Muller 1958).
fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

impl FromStr for Dist {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((kind, rest)) = text.split_once(':') else {
            return text.parse().map(Dist::Fixed);
        };
        let pair = || {
            let bad = || format!("\"{text}\": {kind} takes two values, as in \"{kind}:10ms,…\"");
            rest.split_once(',').ok_or_else(bad)
        };
        let shape = |s: &str| match s.trim().parse::<f64>() {
            Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
            _ => Err(format!("\"{text}\": \"{s}\" is not a positive number")),
        };
        match kind {
            "fixed" => rest.parse().map(Dist::Fixed),
            "exp" => rest.parse().map(Dist::Exponential),
            "uniform" => {
                let (low, high): (Span, Span) = (pair()?.0.parse()?, pair()?.1.trim().parse()?);
                if high < low {
                    return Err(format!("\"{text}\": the second value is the smaller one"));
                }
                Ok(Dist::Uniform(low, high))
            }
            "lognormal" => Ok(Dist::LogNormal(pair()?.0.parse()?, shape(pair()?.1)?)),
            "pareto" => Ok(Dist::Pareto(pair()?.0.parse()?, shape(pair()?.1)?)),
            _ => Err(format!(
                "\"{text}\" is not a distribution: a duration, or exp:, uniform:, lognormal: or pareto: before it"
            )),
        }
    }
}

impl fmt::Display for Dist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dist::Fixed(d) => write!(f, "{d}"),
            Dist::Exponential(mean) => write!(f, "exp:{mean}"),
            Dist::Uniform(low, high) => write!(f, "uniform:{low},{high}"),
            Dist::LogNormal(median, sigma) => write!(f, "lognormal:{median},{sigma}"),
            Dist::Pareto(least, alpha) => write!(f, "pareto:{least},{alpha}"),
        }
    }
}

/// Both are strings in a file.
macro_rules! as_text {
    ($type:ty, $name:literal, $description:literal, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

as_text!(
    Span,
    "Duration",
    "A duration such as 2s, 1.5s or 20ms.",
    r"^[0-9.]+(us|ms|s|m)$"
);
as_text!(
    Dist,
    "Distribution",
    "A duration, or a distribution of durations: 20ms, exp:20ms (mean), uniform:5ms,20ms, \
     lognormal:20ms,0.8 (median, sigma), pareto:10ms,1.5 (least, tail exponent).",
    r"^((fixed|exp|uniform|lognormal|pareto):)?[0-9.]+(us|ms|s|m)(, ?[0-9.]+(us|ms|s|m)?)?$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_out_reads_back() {
        for text in [
            "20ms",
            "1.5s",
            "exp:20ms",
            "uniform:5ms,20ms",
            "lognormal:20ms,0.8",
            "pareto:10ms,1.5",
        ] {
            let dist: Dist = text.parse().expect(text);
            assert_eq!(dist.to_string(), text);
        }
        for text in [
            "20",
            "ms",
            "exp:",
            "uniform:5ms",
            "uniform:9ms,5ms",
            "gauss:1ms",
            "pareto:1ms,0",
        ] {
            assert!(text.parse::<Dist>().is_err(), "{text}");
        }
    }

    #[test]
    fn draws_have_the_mean_that_they_claim() {
        let mut rng = Rng::new(7);
        for text in [
            "exp:20ms",
            "uniform:5ms,20ms",
            "lognormal:20ms,0.5",
            "pareto:10ms,3",
        ] {
            let dist: Dist = text.parse().expect(text);
            let n = 200_000;
            let sum: f64 = (0..n).map(|_| dist.sample(&mut rng).as_secs_f64()).sum();
            let ratio = sum / f64::from(n) / dist.mean();
            assert!((0.97..1.03).contains(&ratio), "{text}: {ratio}");
        }
    }
}
