//! Files of certificates, keys and authorities that a config names: what is wrong with one is an error at the key that names it.

use std::path::Path;

use super::reader::{Node, Object};
use crate::tls::{Identity, pem};

/// `certificate` and `key`.
pub(crate) fn pair(o: &Object<'_>, example: &str) -> Option<Identity> {
    let certificate = o.require("certificate", example);
    let key = o.require("key", example);
    let (certificate, key) = (certificate?, key?);
    let (chain_path, key_path) = (certificate.file()?.1, key.file()?.1);
    match Identity::load(&chain_path, &key_path) {
        Ok(identity) => Some(identity),
        Err(fault) if fault.path == key_path && key_path != chain_path => {
            key.error(fault.to_string());
            None
        }
        Err(fault) => {
            certificate.error(fault.to_string());
            None
        }
    }
}

/// The authorities in the file that `node` names.
pub(crate) fn authorities(node: &Node<'_>, path: &Path) -> Option<rustls::RootCertStore> {
    pem::authorities(path)
        .map_err(|fault| node.error(fault.to_string()))
        .ok()
}
