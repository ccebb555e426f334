//! Config files as users write them: what good ones mean, and what bad ones are told.

use weirkeeper::config::{Config, Errors, load_str};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/configs");

fn fixture(name: &str) -> String {
    let path = format!("{FIXTURES}/{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn load(text: &str) -> Result<Config, Errors> {
    load_str("config.json", text, &|_| None)
}

#[test]
fn good() {
    for name in [
        "good/first-user.json",
        "good/full.json",
        "good/routes.json",
        "seed.json",
    ] {
        let config = load(&fixture(name)).unwrap_or_else(|e| panic!("{name}:\n{e}"));
        println!("{config:#?}");
    }
    println!("{}", load(&fixture("bad/three.json")).unwrap_err());
}
