//! Faults are data apart from the seed: what goes wrong, at which backend, when, and for how long.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weirkeeper::rng::Rng;

use super::units::Span;

/// One thing that goes wrong. Times count from the beginning of the measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// The backend's name; nothing for the kinds that strike Redis or a clock.
    #[serde(default)]
    pub backend: String,
    /// When it begins.
    pub at: Span,
    /// How long it lasts. Every fault is over when the measured time ends.
    #[serde(rename = "for", default)]
    pub lasts: Span,
    /// `slow`: multiplies service times. `malformed`, `redis_lies`: share of answers. `redis_slow`: ms. `clock_step`: seconds.
    #[serde(default = "one")]
    pub factor: f64,
}

fn one() -> f64 {
    1.0
}

/// What can go wrong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The process is killed: connections die, connecting is refused until it is back.
    Crash,
    /// A deployment: it stops accepting and closes idle connections, finishes what runs, and comes back.
    Restart,
    /// It accepts, and says nothing until it is over.
    Hang,
    /// Its work takes `factor` times as long.
    Slow,
    /// The network between the proxy and this backend's failure domain carries nothing until it is over.
    Blackhole,
    /// All its connections are reset at once; it goes on.
    Reset,
    /// Connecting is refused; what is connected goes on.
    Refuse,
    /// This share of its answers, `factor`, is no valid HTTP.
    Malformed,
    /// It answers at once, with the status of its failures.
    Fail,
    /// Redis is killed: connections die, connecting is refused until it is back, with all of its data.
    RedisCrash,
    /// The same, and its data is gone.
    RedisLoss,
    /// Redis accepts and takes commands, and says nothing until it is over.
    RedisStall,
    /// Every answer of Redis takes `factor` milliseconds.
    RedisSlow,
    /// This share of the values that Redis gives, `factor`, is not what was stored.
    RedisLies,
    /// The first proxy's date is `factor` seconds ahead, or behind where that is negative.
    ClockStep,
}

impl FaultKind {
    /// Those of backends that are drawn for every world.
    pub const ALL: [FaultKind; 8] = [
        FaultKind::Crash,
        FaultKind::Restart,
        FaultKind::Hang,
        FaultKind::Slow,
        FaultKind::Blackhole,
        FaultKind::Reset,
        FaultKind::Refuse,
        FaultKind::Malformed,
    ];

    /// Those of Redis.
    pub const REDIS: [FaultKind; 5] = [
        FaultKind::RedisCrash,
        FaultKind::RedisLoss,
        FaultKind::RedisStall,
        FaultKind::RedisSlow,
        FaultKind::RedisLies,
    ];

    /// Does it strike Redis, and no backend?
    pub fn is_redis(self) -> bool {
        FaultKind::REDIS.contains(&self)
    }

    /// Does it strike no backend?
    pub fn spares_backends(self) -> bool {
        self.is_redis() || self == FaultKind::ClockStep
    }

    /// Its name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Crash => "crash",
            FaultKind::Restart => "restart",
            FaultKind::Hang => "hang",
            FaultKind::Slow => "slow",
            FaultKind::Blackhole => "blackhole",
            FaultKind::Reset => "reset",
            FaultKind::Refuse => "refuse",
            FaultKind::Malformed => "malformed",
            FaultKind::Fail => "fail",
            FaultKind::RedisCrash => "redis_crash",
            FaultKind::RedisLoss => "redis_loss",
            FaultKind::RedisStall => "redis_stall",
            FaultKind::RedisSlow => "redis_slow",
            FaultKind::RedisLies => "redis_lies",
            FaultKind::ClockStep => "clock_step",
        }
    }
}

/// Faults by swarm testing (Groce et al. 2012): each kind is enabled or not, then `count` faults of the enabled kinds strike
/// random backends within `span`. Each fault draws from a substream of its own.
pub fn swarm(seed: u64, backends: &[String], count: u64, span: Duration) -> Vec<Fault> {
    let root = Rng::new(seed);
    let mut kinds = root.stream("fault kinds", 0);
    let enabled: Vec<FaultKind> = FaultKind::ALL
        .into_iter()
        .filter(|_| kinds.chance(0.5))
        .collect();
    if enabled.is_empty() || backends.is_empty() {
        return Vec::new();
    }
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let pick = |rng: &mut Rng, len: usize| usize::try_from(rng.below(len as u64)).unwrap_or(0);
    (0..count)
        .map(|index| {
            let mut rng = root.stream("fault", index);
            let kind = enabled[pick(&mut rng, enabled.len())];
            let at = rng.below(millis);
            // Short ones are the more frequent: they meet requests on their way.
            let lasts = [20, 200, 2000][pick(&mut rng, 3)];
            Fault {
                kind,
                backend: backends[pick(&mut rng, backends.len())].clone(),
                at: Span::millis(at),
                lasts: Span::millis((1 + rng.below(lasts)).min(millis - at)),
                factor: match kind {
                    FaultKind::Slow => [3.0, 10.0, 50.0][pick(&mut rng, 3)],
                    FaultKind::Malformed => [0.1, 1.0][pick(&mut rng, 2)],
                    _ => 1.0,
                },
            }
        })
        .collect()
}

/// Backends that answer at once and wrongly, each from a substream of its own.
pub fn swarm_failing(seed: u64, backends: &[String], count: u64, span: Duration) -> Vec<Fault> {
    let root = Rng::new(seed);
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fault = |index| {
        let mut rng = root.stream("failing", index);
        let at = rng.below(millis);
        let which = usize::try_from(rng.below(backends.len() as u64)).unwrap_or(0);
        Fault {
            kind: FaultKind::Fail,
            backend: backends[which].clone(),
            at: Span::millis(at),
            lasts: Span::millis((200 + rng.below(2500)).min(millis - at)),
            factor: 1.0,
        }
    };
    (0..if backends.is_empty() { 0 } else { count })
        .map(fault)
        .collect()
}

/// Faults of Redis, drawn the same way.
pub fn swarm_redis(seed: u64, count: u64, span: Duration) -> Vec<Fault> {
    let root = Rng::new(seed);
    let mut kinds = root.stream("redis fault kinds", 0);
    let enabled: Vec<FaultKind> = FaultKind::REDIS
        .into_iter()
        .filter(|_| kinds.chance(0.5))
        .collect();
    if enabled.is_empty() {
        return Vec::new();
    }
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let pick = |rng: &mut Rng, len: usize| usize::try_from(rng.below(len as u64)).unwrap_or(0);
    let fault = |index| {
        let mut rng = root.stream("redis fault", index);
        let kind = enabled[pick(&mut rng, enabled.len())];
        let at = rng.below(millis);
        // What lies is seldom asked: it must do so for longer.
        let lasts = match kind {
            FaultKind::RedisLies => [500, 3000, 8000],
            _ => [50, 500, 3000],
        };
        let lasts = lasts[pick(&mut rng, 3)];
        Fault {
            kind,
            backend: String::new(),
            at: Span::millis(at),
            lasts: Span::millis((1 + rng.below(lasts)).min(millis - at)),
            factor: match kind {
                FaultKind::RedisSlow => [2.0, 15.0, 200.0][pick(&mut rng, 3)],
                FaultKind::RedisLies => [0.1, 0.5, 1.0][pick(&mut rng, 3)],
                _ => 1.0,
            },
        }
    };
    (0..count).map(fault).collect()
}

/// Steps of the first proxy's date, by an hour either way.
pub fn swarm_clock(seed: u64, count: u64, span: Duration) -> Vec<Fault> {
    let root = Rng::new(seed);
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fault = |index| {
        let mut rng = root.stream("clock fault", index);
        let at = rng.below(millis);
        Fault {
            kind: FaultKind::ClockStep,
            backend: String::new(),
            at: Span::millis(at),
            lasts: Span::millis((1 + rng.below(3000)).min(millis - at)),
            factor: if rng.chance(0.5) { 3600.0 } else { -3600.0 },
        }
    };
    (0..count).map(fault).collect()
}
