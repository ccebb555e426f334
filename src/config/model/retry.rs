//! When another backend is tried: how the keys are read, and how they are written back. What holds by default stands beside the
//! rule (engine::retry).

use super::health::statuses;
use crate::config::error::nearest;
use crate::config::raw;
use crate::config::reader::{Node, Object};
use crate::config::section::{put, shown_duration};
use crate::config::units::NEVER;
use crate::engine::retry::{Conditions, Repeats, RetrySpec, Statuses};

/// Which requests may be sent again, by their names.
const REPEATS: [(&str, Repeats); 3] = [
    ("idempotent", Repeats::Idempotent),
    ("keyed", Repeats::Keyed),
    ("all", Repeats::All),
];

/// Takes over what stands in the section. The budget is the upstream's alone.
pub(crate) fn read(spec: &mut RetrySpec, o: &Object<'_>, is_route: bool) {
    let attempts = o.get("attempts").and_then(|n| n.integer(0..=10));
    put(
        &mut spec.attempts,
        attempts.and_then(|n| u8::try_from(n).ok()),
    );
    if is_route {
        let why = "all routes to an upstream share its budget: it stands there";
        o.refuse("budget_ratio", why);
        o.refuse("budget_per_second", why);
    } else {
        let ratio = o.get("budget_ratio").and_then(|n| n.float(0.0..=1.0));
        put(&mut spec.budget_ratio, ratio);
        let rate = o.get("budget_per_second").and_then(|n| n.float(0.0..=1e6));
        put(&mut spec.budget_per_second, rate);
    }
    if let Some(node) = o.get("on") {
        spec.on = conditions(&node);
    }
    put(
        &mut spec.repeats,
        o.get("methods").and_then(|n| n.word(&REPEATS)),
    );
    let per_try = o.get("per_try").and_then(|n| n.duration_or_never());
    put(&mut spec.per_try, per_try.map(|d| (d < NEVER).then_some(d)));
}

/// After what another attempt is made: words and statuses.
fn conditions(node: &Node<'_>) -> Conditions {
    let mut on = Conditions {
        connect: false,
        reset: false,
        timeout: false,
        statuses: Statuses::NONE,
    };
    for item in node.items().unwrap_or_default() {
        let text = match item.is_string() {
            true => item.string(),
            false => None,
        };
        match text.as_deref() {
            Some("connect") => on.connect = true,
            Some("reset") => on.reset = true,
            Some("timeout") => on.timeout = true,
            Some(word) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let words = ["connect", "reset", "timeout"];
                let hint = nearest(word, words);
                let what = format!(
                    "\"{word}\" is none of \"connect\", \"reset\" and \"timeout\", and no status such as 503"
                );
                item.error_hint(what, hint);
            }
            _ => {
                let all = statuses(&item).into_iter().flatten();
                all.for_each(|status| on.statuses.insert(status));
            }
        }
    }
    on
}

/// The section that says the same.
pub(crate) fn render(spec: &RetrySpec, is_http: bool) -> raw::Retry {
    let words = [
        ("connect", spec.on.connect),
        ("reset", spec.on.reset),
        ("timeout", spec.on.timeout),
    ];
    let words = words.iter().filter(|(_, is_on)| *is_on);
    let words = words.map(|(word, _)| raw::RetryOn::from(*word));
    let on = words.chain(ranges(&spec.on.statuses)).collect();
    let repeats = REPEATS.iter().find(|(_, r)| *r == spec.repeats);
    raw::Retry {
        attempts: Some(spec.attempts),
        budget_ratio: Some(spec.budget_ratio),
        budget_per_second: Some(spec.budget_per_second),
        on: is_http.then_some(on),
        methods: repeats.filter(|_| is_http).map(|(name, _)| (*name).into()),
        per_try: shown_duration(spec.per_try.unwrap_or(NEVER)).filter(|_| is_http),
    }
}

/// The section of a route that says the same.
pub(crate) fn render_route(spec: &RetrySpec) -> raw::RouteRetry {
    let raw::Retry {
        attempts,
        on,
        methods,
        per_try,
        budget_ratio: _,
        budget_per_second: _,
    } = render(spec, true);
    raw::RouteRetry {
        attempts,
        on,
        methods,
        per_try,
    }
}

/// Statuses that follow each other, as one range.
fn ranges(statuses: &Statuses) -> Vec<raw::RetryOn> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in statuses.iter() {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == status => *end = status,
            _ => ranges.push((status, status)),
        }
    }
    let shown = |(start, end): (u16, u16)| match start == end {
        true => raw::RetryOn::from(start),
        false => format!("{start}-{end}").into(),
    };
    ranges.into_iter().map(shown).collect()
}
