//! Config files as users write them: what good ones mean, and what bad ones are told.

mod acme;
mod bad;
mod balancing;
mod caching;
mod fuzz;
mod good;
mod l4;
mod schema;
mod strict;
mod upstream_tls;

use std::path::{Path, PathBuf};

use weirkeeper::config::{Config, Errors, load_str};

/// The path of something in fixtures/.
fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The JSON files of a folder in fixtures/, in order.
fn json_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures(folder)).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries
        .map(|e| e.expect("a readable entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
}

/// What expanded files need, since passwords are not printed; nothing else is set.
fn environment(name: &str) -> Option<String> {
    (name == "WEIR_REDIS_PASSWORD").then(|| SECRET.to_owned())
}

/// A password that must turn up nowhere.
const SECRET: &str = "hunter-2-and-a-half";

/// Loads a text with the variables of [`environment`] alone.
fn load(text: &str) -> Result<Config, Errors> {
    load_str("config.json", text, &environment)
}

/// The config of a text that has to be fine.
fn good(text: &str) -> Config {
    load(text).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// The errors of a text that has to have some, one a line.
fn errors(text: &str) -> String {
    match load(text) {
        Ok(_) => panic!("no error in {text}"),
        Err(errors) => errors.to_string(),
    }
}
