//! Scenario files: the schema beside them is current, and every one of them plans and runs.

use std::path::{Path, PathBuf};

use weirkeeper::config;
use weirkeeper_sim::report::{Verdict, render};
use weirkeeper_sim::scenario::{Scenario, schema};
use weirkeeper_sim::seeds::{Options, Source, rehearse};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios")
}

#[test]
fn the_schema_is_current() {
    let file = folder().join("scenario.schema.json");
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        stored == schema(),
        "{} is not current: cargo run -p weirkeeper-sim -- --schema > {}",
        file.display(),
        file.display()
    );
}

#[test]
fn every_scenario_is_met() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| !path.to_string_lossy().ends_with(".schema.json"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for file in names {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{}:{e}", file.display()));
        let named = scenario
            .config
            .clone()
            .expect("a stored scenario names its config");
        let config = folder().join(named);
        let options = Options {
            source: Source::Scenario {
                config: config::load(&config).unwrap_or_else(|e| panic!("{e}")),
                config_file: config.display().to_string(),
                scenario: Box::new(scenario),
                scenario_file: Some(file.display().to_string()),
                chaos: false,
            },
            seed: 7,
            seeds: 2,
            only_faults: None,
            first: false,
            threads: 2,
        };
        let report = rehearse(&options).unwrap_or_else(|e| panic!("{}", e.join("\n")));
        assert_eq!(report.verdict, Verdict::Met, "{}", render(&report));
    }
}
