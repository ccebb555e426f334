//! What a config wants of authorities, each name once however many listeners have it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::tls::acme::{Authority, Challenge};

/// One certificate that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose.
    pub authority: Arc<Authority>,
    /// The name that it is for.
    pub domain: String,
    /// How the name is shown to be ours.
    pub challenge: Challenge,
    /// The listeners that serve it, in config order.
    pub listeners: Vec<String>,
}

/// All that `config` wants, by the files that it will be in. Where listeners share a name, the first says how it is proved.
pub fn wanted(config: &Config) -> BTreeMap<PathBuf, Wanted> {
    let mut all: BTreeMap<PathBuf, Wanted> = BTreeMap::new();
    for listener in &config.listeners {
        let Some(acme) = listener.tls.as_ref().and_then(|tls| tls.acme.as_ref()) else {
            continue;
        };
        for domain in &acme.domains {
            let file = acme.authority.certificate(domain);
            let wanted = all.entry(file).or_insert_with(|| Wanted {
                authority: Arc::clone(&acme.authority),
                domain: domain.clone(),
                challenge: acme.challenge,
                listeners: Vec::new(),
            });
            wanted.listeners.push(listener.name.clone());
        }
    }
    all
}
