//! `weir-rehearse`: rehearses a config against a scenario, or the swarm's own worlds, and reports.
//! Exit codes: 0 met, 1 an expectation failed, 2 usage, 3 an invariant broken.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use weirkeeper::config;
use weirkeeper_sim::report::render;
use weirkeeper_sim::scenario::{Scenario, schema};
use weirkeeper_sim::seeds::{self, Options, Source};

/// Rehearse a config: the real proxy between modelled clients and backends, in simulated time.
#[derive(Debug, Parser)]
#[command(name = "weir-rehearse", version)]
struct Arguments {
    /// The config to rehearse. By default the one that the scenario names.
    config: Option<PathBuf>,
    /// The scenario: clients, backends, faults, expectations.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Adds random faults, other ones for each seed.
    #[arg(long)]
    chaos: bool,
    /// Rehearses worlds that the seed draws, config and all, as the project's own tests do.
    #[arg(long, conflicts_with_all = ["config", "scenario", "chaos"])]
    swarm: bool,
    /// The same with cached routes between cacheable pages and their visitors.
    #[arg(long, conflicts_with_all = ["config", "scenario", "chaos", "swarm"])]
    cached: bool,
    /// The swarm's worlds over HTTP/2 and TLS, with tunnels.
    #[arg(long, conflicts_with_all = ["config", "scenario", "chaos", "swarm", "cached"])]
    http2: bool,
    /// The same at L4: connections and datagrams, byte for byte.
    #[arg(long, conflicts_with_all = ["config", "scenario", "chaos", "swarm", "cached", "http2"])]
    l4: bool,
    /// Keeps only these faults, by their numbers from 0; an empty list keeps none.
    #[arg(long, value_name = "N,N")]
    only_faults: Option<String>,
    /// Stops at the first seed that breaks an invariant, and does not look for the faults that it takes.
    #[arg(long)]
    first: bool,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
    /// Prints the JSON Schema of scenarios.
    #[arg(long)]
    schema: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, Vec<String>> {
    if arguments.schema {
        print!("{}", schema());
        return Ok(0);
    }
    let options = Options {
        source: source(arguments)?,
        seed: arguments.seed,
        seeds: arguments.seeds,
        only_faults: arguments.only_faults.as_deref().map(numbers).transpose()?,
        first: arguments.first,
        threads: seeds::threads(),
    };
    let report = seeds::rehearse(&options)?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| vec![e.to_string()])?;
        println!("{text}");
    } else {
        print!("{}", render(&report));
    }
    Ok(report.verdict.exit_code())
}

fn numbers(list: &str) -> Result<Vec<usize>, Vec<String>> {
    let words = list.split(',').filter(|w| !w.is_empty());
    let parsed: Result<Vec<usize>, _> = words.map(str::parse).collect();
    parsed.map_err(|_| {
        vec![format!(
            "error: \"{list}\" is not a list of numbers such as 0,3"
        )]
    })
}

fn source(arguments: &Arguments) -> Result<Source, Vec<String>> {
    if arguments.swarm {
        return Ok(Source::Swarm);
    }
    if arguments.cached {
        return Ok(Source::Cached);
    }
    if arguments.http2 {
        return Ok(Source::Http2);
    }
    if arguments.l4 {
        return Ok(Source::L4);
    }
    let scenario = match &arguments.scenario {
        None => Scenario::default(),
        Some(path) => read_scenario(path)?,
    };
    let beside = |path: &PathBuf| match &arguments.scenario {
        Some(file) => file.parent().unwrap_or(Path::new("")).join(path),
        None => path.clone(),
    };
    let path = match (&arguments.config, &scenario.config) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) => beside(path),
        (None, None) => {
            return Err(vec![
                "error: no config: name one, or a scenario that does".into(),
            ]);
        }
    };
    let config = config::load(&path).map_err(|errors| vec![errors.to_string()])?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(Source::Scenario {
        config: Arc::clone(&config),
        config_file: path.display().to_string(),
        scenario: Box::new(scenario),
        scenario_file: arguments.scenario.as_ref().map(|p| p.display().to_string()),
        chaos: arguments.chaos,
    })
}

fn read_scenario(path: &Path) -> Result<Scenario, Vec<String>> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| vec![format!("{name}: error: cannot be read: {e}")])?;
    let place = |what: String| match what.starts_with("error") {
        true => format!("{name}: {what}"),
        false => format!("{name}:{what}"),
    };
    Scenario::parse(&text).map_err(|what| vec![place(what)])
}
