//! Many seeds: each is planned, run and checked on its own thread's time; what fails is shrunk and named by the one command
//! that replays it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use weirkeeper::config::model::{Config, Protocol};

use crate::checkers::Violation;
use crate::plan::Plan;
use crate::report::{Found, Report, Tally};
use crate::scenario::{Scenario, fault};
use crate::single::{pick, run_one};
use crate::{shrink, swarm};

/// Failing seeds that are shrunk: the others are only named.
const SHRUNK: usize = 3;

/// Random faults that `--chaos` adds to a scenario.
const CHAOS: u64 = 6;

/// Where worlds come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A config and a scenario.
    Scenario {
        /// The config.
        config: Arc<Config>,
        /// Its file.
        config_file: String,
        /// The scenario.
        scenario: Box<Scenario>,
        /// Its file, if it came from one.
        scenario_file: Option<String>,
        /// Add random faults.
        chaos: bool,
    },
    /// Each seed draws its own.
    Swarm,
    /// Each seed draws its own, with cached routes between cacheable pages and their visitors.
    Cached,
    /// The worlds of the swarm over HTTP/2 and TLS, with tunnels.
    Http2,
    /// Each seed draws its own, of connections and datagrams at L4.
    L4,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where worlds come from.
    pub source: Source,
    /// The first seed.
    pub seed: u64,
    /// How many.
    pub seeds: u64,
    /// Keep only these of each world's faults.
    pub only_faults: Option<Vec<usize>>,
    /// Stop at the first seed that breaks something, and do not shrink it.
    pub first: bool,
    /// Threads to run on.
    pub threads: usize,
}

/// One seed's outcome.
#[derive(Clone, Debug)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Its hash.
    pub hash: String,
    /// Requests offered, the warm-up's included.
    pub offered: u64,
    /// Requests that waited in a queue.
    pub queued: u64,
    /// Faults planned.
    pub faults: usize,
    /// What is broken.
    pub violations: Vec<Violation>,
}

/// All seeds' outcomes.
#[derive(Debug)]
pub struct Sweep {
    /// Their figures together.
    pub tally: Tally,
    /// One by one, by seed.
    pub results: Vec<SeedResult>,
    /// What is broken, shrunk.
    pub found: Vec<Found>,
}

/// One thread for each core.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Source {
    /// The plan of `seed`.
    ///
    /// # Errors
    /// What the scenario asks of the config and cannot have, one sentence each.
    pub fn plan(&self, seed: u64) -> Result<Plan, Vec<String>> {
        match self {
            Source::Swarm => Ok(swarm::plan(seed)),
            Source::Cached => Ok(swarm::cached::plan(seed)),
            Source::Http2 => Ok(swarm::http2::plan(seed)),
            Source::L4 => Ok(swarm::l4::plan(seed)),
            Source::Scenario {
                config,
                scenario,
                scenario_file,
                chaos,
                ..
            } => {
                let named = |e: String| match scenario_file {
                    Some(file) => format!("{file}: error: {e}"),
                    None => format!("error: {e}"),
                };
                if !config
                    .listeners
                    .iter()
                    .any(|l| l.protocol == Protocol::Http)
                {
                    return Err(vec![
                        "error: the config has no listener of HTTP, and a scenario's clients speak nothing else; \
                         --l4 draws worlds of L4"
                            .to_string(),
                    ]);
                }
                let mut plan = Plan::new(seed, Arc::clone(config), scenario)
                    .map_err(|errors| errors.into_iter().map(named).collect::<Vec<_>>())?;
                if *chaos {
                    let names: Vec<String> = plan.backends.iter().map(|b| b.name.clone()).collect();
                    plan.faults
                        .extend(fault::swarm(seed, &names, CHAOS, plan.measure));
                }
                Ok(plan)
            }
        }
    }

    /// The one command that replays `seed` with these of its faults.
    pub fn replay(&self, seed: u64, faults: &[usize]) -> String {
        let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let what = match self {
            Source::Swarm => "--swarm".to_string(),
            Source::Cached => "--cached".to_string(),
            Source::Http2 => "--http2".to_string(),
            Source::L4 => "--l4".to_string(),
            Source::Scenario {
                config_file,
                scenario_file,
                chaos,
                ..
            } => {
                let scenario = scenario_file.iter().map(|f| format!(" --scenario {f}"));
                let chaos = if *chaos { " --chaos" } else { "" };
                format!("{config_file}{}{chaos}", scenario.collect::<String>())
            }
        };
        let list = list.join(",");
        format!(
            "cargo run --release -p weirkeeper-sim -- {what} --seed {seed} --only-faults \"{list}\""
        )
    }
}

/// Runs all seeds of `options`.
///
/// # Errors
/// As [`Source::plan`].
pub fn sweep(options: &Options) -> Result<Sweep, Vec<String>> {
    let first = options.plan(options.seed)?;
    let empty = match options.source {
        Source::Swarm | Source::Cached | Source::Http2 | Source::L4 => Tally::of_all_sorts(&first),
        Source::Scenario { .. } => Tally::new(&first),
    };
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let worker = || {
        let mut tally = empty.clone();
        let mut results = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= options.seeds || (options.first && failed.load(Ordering::Relaxed)) {
                return Ok::<_, Vec<String>>((tally, results));
            }
            let plan = options.plan(options.seed + at)?;
            let (run, violations) = run_one(&plan);
            failed.fetch_or(!violations.is_empty(), Ordering::Relaxed);
            let book = run.as_ref().map(|r| &r.book);
            results.push(SeedResult {
                seed: plan.seed,
                hash: book.map_or_else(String::new, |b| b.trace.hex()),
                offered: book.map_or(0, |b| b.requests.len() as u64),
                queued: book.map_or(0, |b| b.reached.get("queued").copied().unwrap_or(0)),
                faults: plan.faults.len(),
                violations,
            });
            if let Some(run) = run {
                tally.add(&run);
            }
        }
    };
    let threads = options
        .threads
        .clamp(1, usize::try_from(options.seeds).unwrap_or(usize::MAX));
    let parts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|w| w.join().expect("a seed's panic is caught"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let mut tally = empty.clone();
    let mut results = Vec::new();
    for (part, list) in parts {
        tally.merge(&part);
        results.extend(list);
    }
    results.sort_by_key(|r: &SeedResult| r.seed);
    let found = options.found(&results)?;
    Ok(Sweep {
        tally,
        results,
        found,
    })
}

/// Runs all seeds of `options` and reports.
///
/// # Errors
/// As [`Source::plan`].
pub fn rehearse(options: &Options) -> Result<Report, Vec<String>> {
    let sweep = sweep(options)?;
    let (config, scenario) = match &options.source {
        Source::Swarm | Source::Cached | Source::Http2 | Source::L4 => {
            ("the swarm's own worlds", None)
        }
        Source::Scenario {
            config_file,
            scenario_file,
            ..
        } => (config_file.as_str(), scenario_file.as_deref()),
    };
    let hashes: Vec<&str> = sweep.results.iter().map(|r| r.hash.as_str()).collect();
    let seeds = (options.seed, options.seeds);
    Ok(sweep
        .tally
        .report((config, scenario), seeds, &hashes, sweep.found))
}

impl Options {
    fn plan(&self, seed: u64) -> Result<Plan, Vec<String>> {
        let mut plan = self.source.plan(seed)?;
        if let Some(only) = &self.only_faults {
            plan.faults = pick(&plan.faults, only);
        }
        Ok(plan)
    }

    fn found(&self, results: &[SeedResult]) -> Result<Vec<Found>, Vec<String>> {
        let failed = results.iter().filter(|r| !r.violations.is_empty());
        let mut found = Vec::new();
        for (i, result) in failed.enumerate() {
            let plan = self.plan(result.seed)?;
            let violation = result.violations[0].clone();
            let all: Vec<usize> = (0..plan.faults.len()).collect();
            let kept = match i < SHRUNK && self.only_faults.is_none() && !self.first {
                true => shrink::faults(&plan, &violation.checker),
                false => all,
            };
            // The numbers are those of the whole world, whatever was left out already.
            let numbers = match &self.only_faults {
                Some(only) => only.clone(),
                None => kept.clone(),
            };
            found.push(Found {
                seed: result.seed,
                violation,
                faults: pick(&plan.faults, &kept),
                replay: self.source.replay(result.seed, &numbers),
            });
        }
        Ok(found)
    }
}
