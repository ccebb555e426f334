//! The forms that keys of one URL may have, by the rules of all routes that are cached or were. Absent: the keys (cache::key).

use std::sync::Arc;

use crate::cache::rules::Rules;
use crate::config::model::Config;

/// What the routes of all generations so far say of keys: what one of them has stored, another may have to find.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    /// The rules by which one URL may have different keys; empty when no route is cached.
    pub rules: Vec<Arc<Rules>>,
    /// Proxies in front are trusted, whose word divides URLs further.
    pub trusting: bool,
    /// Fields or proxies in front divide URLs further.
    pub divided: bool,
}

impl Shapes {
    /// With those of `config`.
    pub fn and(&self, config: &Config) -> Self {
        let mut shapes = self.clone();
        let routes = config.listeners.iter().flat_map(|l| l.routes.iter());
        for rules in routes.filter_map(|r| r.cache.as_ref()) {
            if !shapes.rules.iter().any(|s| same_keys(s, rules)) {
                shapes.rules.push(Arc::clone(rules));
            }
        }
        let mut listeners = config.listeners.iter();
        shapes.trusting |= listeners.any(|l| !l.trusted_proxies.is_empty());
        let mut rules = shapes.rules.iter();
        shapes.divided = shapes.trusting || rules.any(|rules| !rules.key_headers.is_empty());
        shapes
    }
}

/// Do both give every request the same key?
fn same_keys(a: &Rules, b: &Rules) -> bool {
    a.partition == b.partition && a.query == b.query && a.key_headers == b.key_headers
}
