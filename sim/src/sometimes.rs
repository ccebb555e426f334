//! Rare states that a suite of seeds must reach, or it proves less than it seems to. The book counts them as they happen.

use std::collections::BTreeMap;

/// What must be reached over all seeds of a suite.
pub const SOMETIMES: &[&str] = &[
    "502",
    "504",
    "backed off",
    "blackhole",
    "broke off within its answer",
    "broken answer",
    "cancelled while running",
    "cancelled while waiting",
    "connection refused",
    "crash",
    "died before its answer",
    "fail open",
    "gave up",
    "hang",
    "malformed",
    "not idempotent, and not made up for",
    "orphaned work",
    "queued",
    "refuse",
    "reset",
    "restart",
    "retried and answered",
    "reuse race",
    "shed: deadline",
    "shed: queue full",
    "shed: queue timeout",
    "slow",
];

/// Those that were never reached.
pub fn missing(reached: &BTreeMap<String, u64>) -> Vec<&'static str> {
    let never = |what: &&&str| reached.get(**what).copied().unwrap_or(0) == 0;
    SOMETIMES.iter().filter(never).copied().collect()
}
