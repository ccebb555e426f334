//! `strategy` and its kin, in an upstream and in the flat form: how a backend is chosen, by what requests are hashed, and how far
//! a backend may be ahead of its share for that.

use super::headers::header_name;
use super::reader::{Node, Object};
use crate::engine::Strategy;
use crate::message::affinity::HashBy;

/// Every strategy by its name.
pub(crate) const STRATEGIES: [(&str, Strategy); 6] = [
    ("round-robin", Strategy::RoundRobin),
    ("weighted-round-robin", Strategy::WeightedRoundRobin),
    (
        "smooth-weighted-round-robin",
        Strategy::SmoothWeightedRoundRobin,
    ),
    ("least-request", Strategy::LeastRequest),
    ("power-of-two", Strategy::PowerOfTwo),
    ("hash", Strategy::HASH),
];

/// The name of `strategy` in a config.
pub fn strategy_name(strategy: Strategy) -> &'static str {
    let kind = std::mem::discriminant(&strategy);
    let known = STRATEGIES
        .iter()
        .find(|(_, s)| std::mem::discriminant(s) == kind);
    known.map_or("unknown", |(name, _)| name)
}

/// The strategy, and by what it hashes if it does. By default round-robin.
pub(crate) fn read(o: &Object<'_>) -> (Strategy, HashBy) {
    let strategy = o.get("strategy").and_then(|n| n.word(&STRATEGIES));
    let strategy = strategy.unwrap_or(Strategy::RoundRobin);
    let (by, factor) = (o.get("hash_by"), o.get("hash_load_factor"));
    let read_by = by.as_ref().and_then(hash_by);
    let read_factor = factor.as_ref().and_then(self::load_percent);
    let Strategy::Hash { load_percent } = strategy else {
        for (key, node) in [("hash_by", by), ("hash_load_factor", factor)] {
            if let Some(node) = node {
                node.warn(format_args!(
                    "\"{key}\" has no effect without \"strategy\": \"hash\""
                ));
            }
        }
        return (strategy, HashBy::default());
    };
    let load_percent = read_factor.unwrap_or(load_percent);
    (Strategy::Hash { load_percent }, read_by.unwrap_or_default())
}

fn hash_by(node: &Node<'_>) -> Option<HashBy> {
    if node.is_string() {
        let by = node.word(&[("address", false), ("path", true)])?;
        return Some(if by { HashBy::Path } else { HashBy::Address });
    }
    if !node.is_object() {
        node.error(
            "expected \"address\", \"path\", {\"header\": \"x-user\"} or {\"cookie\": \"sid\"}",
        );
        return None;
    }
    let o = node.object()?;
    let (header, cookie) = (o.get("header"), o.get("cookie"));
    o.finish();
    match (header, cookie) {
        (Some(node), None) => match header_name(&node.string()?) {
            Ok(name) => Some(HashBy::Header(name)),
            Err(what) => {
                node.error(what);
                None
            }
        },
        (None, Some(node)) => cookie_name(&node).map(HashBy::Cookie),
        _ => {
            node.error("exactly one of \"header\" and \"cookie\" must be given");
            None
        }
    }
}

/// A token (RFC 6265 section 4.1.1).
fn cookie_name(node: &Node<'_>) -> Option<String> {
    let name = node.string()?;
    let letter = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(letter) {
        node.error(format!("{name:?} is not the name of a cookie"));
        return None;
    }
    Some(name)
}

/// 1.25 is 125 percent; "off" is no bound.
fn load_percent(node: &Node<'_>) -> Option<Option<u32>> {
    if node.is_off() {
        return Some(None);
    }
    let factor = node.float(1.0..=100.0)?;
    Some(Some((factor * 100.0).round() as u32))
}
