//! Scenario files: the schema beside them is current, and every one of them plans and runs.

use std::path::{Path, PathBuf};

use weirkeeper::config;
use weirkeeper_sim::report::{Report, Verdict, render};
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

/// What a rehearsal of this config says, with all that is of files in `folder`.
fn rehearsed(text: &str, folder: &Path) -> Result<Report, Vec<String>> {
    let file = folder.join("config.json");
    std::fs::write(&file, text).expect("the folder is writable");
    rehearse(&Options {
        source: Source::Scenario {
            config: config::load(&file).unwrap_or_else(|e| panic!("{e}")),
            config_file: "config.json".into(),
            scenario: Box::default(),
            scenario_file: None,
            chaos: false,
        },
        seed: 7,
        seeds: 2,
        only_faults: None,
        first: false,
        threads: 2,
    })
}

#[test]
fn tls_and_http2_are_rehearsed_as_the_config_has_them() {
    let folder = std::env::temp_dir().join(format!("weir-rehearsed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_string()]).expect("made");
    std::fs::write(folder.join("a.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("a.key"), made.signing_key.serialize_pem()).expect("written");
    let text = r#"{
        "listeners": {
            "raw": {"bind": ":5432", "protocol": "tcp"},
            "web": {"bind": ":8443", "tls": {"certificate": "a.pem", "key": "a.key"}}
        },
        "upstreams": {
            "raw": {"backends": ["tcp://db.example:5432"]},
            "app": {"protocol": "http2", "backends": [{"url": "https://app.example", "max_in_flight": 4}]}
        },
        "routes": [{"upstream": "raw"}, {"upstream": "app"}]
    }"#;
    let report = rehearsed(text, &folder).unwrap_or_else(|e| panic!("{}", e.join("\n")));
    assert_eq!(report.verdict, Verdict::Met, "{}", render(&report));
    let (total, all) = (&report.total, render(&report));
    assert!(
        total.offered > 100 && total.answered.get(&200) == Some(&total.offered),
        "{all}"
    );
    // An L4 config is told that it cannot be, and by what.
    let l4 = r#"{"port": 53, "level": "L4", "proto": "udp", "servers": {"udp://a:53": 1}}"#;
    let errors = rehearsed(l4, &folder).expect_err("nobody here speaks UDP");
    assert!(errors[0].contains("no listener of HTTP"), "{errors:?}");
    std::fs::remove_dir_all(&folder).expect("it is there");
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
