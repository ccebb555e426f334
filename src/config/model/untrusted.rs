//! What clients may say that are no trusted proxies.

use http::HeaderName;

use crate::config::raw;
use crate::config::reader::{Node, Object};
use crate::config::section::put;
use crate::message::claims;
use crate::message::known::Known;

/// Fields of clients who are no trusted proxies, beside those that are dropped as claims (`message::known::CLAIMS`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UntrustedFields {
    /// Dropped as well.
    pub drop: Vec<FieldPattern>,
    /// Claims that are not dropped.
    pub keep: Vec<FieldPattern>,
}

/// Names of fields, in every spelling that a backend may take for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPattern {
    /// In lower case.
    name: String,
    /// Names that begin so, and not that name alone.
    is_prefix: bool,
}

impl UntrustedFields {
    /// Does the field of an untrusted client pass?
    pub fn lets_pass(&self, known: Known, name: &[u8]) -> bool {
        let is_in = |patterns: &[FieldPattern]| patterns.iter().any(|p| p.matches(name));
        (!known.is_claim() || is_in(&self.keep)) && !is_in(&self.drop)
    }

    /// Takes over what stands in the section.
    pub(crate) fn read(&mut self, o: &Object<'_>) {
        let patterns = |n: Node<'_>| {
            let items = n.items()?;
            Some(items.iter().filter_map(FieldPattern::read).collect())
        };
        put(&mut self.drop, o.get("drop").and_then(patterns));
        let keep = o.get("keep");
        if let Some(items) = keep.as_ref().and_then(Node::items) {
            items.iter().for_each(doubtful);
        }
        put(&mut self.keep, keep.and_then(patterns));
    }

    /// The section that says the same.
    pub(crate) fn render(&self) -> raw::UntrustedFields {
        let texts =
            |patterns: &[FieldPattern]| Some(patterns.iter().map(FieldPattern::text).collect());
        raw::UntrustedFields {
            drop: texts(&self.drop),
            keep: texts(&self.keep),
        }
    }
}

/// Says what it does not help to keep.
fn doubtful(node: &Node<'_>) {
    let Some(pattern) = FieldPattern::read(node) else {
        return;
    };
    let own = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
    let known = Known::of(pattern.name.as_bytes());
    if let Some(own) = own.iter().find(|own| pattern.matches(own.as_bytes())) {
        node.error(format!(
            "the proxy itself says \"{own}\"; \"trusted_proxies\" names those whose word it takes over"
        ));
    } else if !pattern.is_prefix && !known.is_claim() {
        node.warn(format_args!(
            "it has no effect, since \"{}\" passes anyway",
            pattern.name
        ));
    }
}

impl FieldPattern {
    fn read(node: &Node<'_>) -> Option<Self> {
        const FRAMING: [&str; 5] = [
            "content-length",
            "host",
            "transfer-encoding",
            "connection",
            "expect",
        ];
        let text = node.string()?;
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (&text[..], false),
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            node.error(format!(
                "{text:?} is neither a field name nor the beginning of one with a * behind it"
            ));
            return None;
        };
        let name = name.as_str().to_owned();
        let pattern = FieldPattern { name, is_prefix };
        if let Some(framing) = FRAMING.iter().find(|own| pattern.matches(own.as_bytes())) {
            node.error(format!(
                "the field \"{framing}\" says what the request is, and is read before"
            ));
            return None;
        }
        Some(pattern)
    }

    fn matches(&self, name: &[u8]) -> bool {
        let name = match self.is_prefix {
            true => name.get(..self.name.len()).unwrap_or_default(),
            false => name,
        };
        claims::reads_as(name, self.name.as_bytes())
    }

    fn text(&self) -> String {
        format!("{}{}", self.name, if self.is_prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> FieldPattern {
        FieldPattern {
            name: text.trim_end_matches('*').to_owned(),
            is_prefix: text.ends_with('*'),
        }
    }

    #[test]
    fn a_claim_passes_where_it_is_kept_and_others_where_they_are_not_dropped() {
        let rules = UntrustedFields {
            drop: vec![pattern("x-internal-*"), pattern("x-user")],
            keep: vec![pattern("x-real-ip"), pattern("cf-*")],
        };
        let passes = |name: &str| rules.lets_pass(Known::of(name.as_bytes()), name.as_bytes());
        for name in [
            "X-Real-IP",
            "x_real_ip",
            "CF-Connecting-IP",
            "x-users",
            "x-internal",
            "accept",
            "x-a",
        ] {
            assert!(passes(name), "{name}");
        }
        for name in [
            "X-User",
            "x_user",
            "X-Internal-Role",
            "x_internal_role",
            "X-Client-IP",
            "X-Forwarded-Port",
        ] {
            assert!(!passes(name), "{name}");
        }
    }
}
