//! What a route changes about the fields of a message.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message::claims;

/// Header changes, applied in this order: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Names to take out.
    pub remove: Vec<HeaderName>,
    /// Fields that replace whatever stands there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields that are added to whatever stands there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderRules {
    /// Changes `headers`: removes, sets, adds.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }

    /// Is there nothing to change?
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Do the rules take the field of this name, or one that a backend may take for it, into their own hands?
    pub fn rule(&self, name: &[u8]) -> bool {
        let set = self.set.iter().map(|(set, _)| set);
        let mut ruled = self.remove.iter().chain(set);
        ruled.any(|ruled| claims::reads_as(name, ruled.as_str().as_bytes()))
    }
}
