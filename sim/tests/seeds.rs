//! The whole proxy under seeds: worlds that each seed draws, with faults, and no invariant broken in any.
//!
//! WEIR_SEEDS says how many (500), WEIR_SEED the first (1). What fails is printed with the one command that replays it.

use weirkeeper_sim::report::Found;
use weirkeeper_sim::seeds::{Options, SeedResult, Source, sweep, threads};
use weirkeeper_sim::sometimes;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

fn options(source: Source, seed: u64, seeds: u64) -> Options {
    Options {
        source,
        seed,
        seeds,
        only_faults: None,
        first: false,
        threads: threads(),
    }
}

fn story(found: &[Found]) -> String {
    let mut text = format!("{} seeds fail\n", found.len());
    for found in found.iter().take(10) {
        let (seed, violation) = (found.seed, &found.violation);
        text.push_str(&format!(
            "seed {seed}: {}: {}\n",
            violation.checker, violation.what
        ));
        for fault in &found.faults {
            let (kind, backend) = (fault.kind.name(), &fault.backend);
            text.push_str(&format!(
                "  with {kind} of {backend} at {} for {}\n",
                fault.at, fault.lasts
            ));
        }
        text.push_str(&format!("  replay: {}\n", found.replay));
    }
    text
}

fn median(results: &[SeedResult], figure: impl Fn(&SeedResult) -> f64) -> f64 {
    let mut figures: Vec<f64> = results.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[test]
fn no_seed_breaks_an_invariant() {
    let seeds = number("WEIR_SEEDS", 500).max(1);
    let sweep = sweep(&options(Source::Swarm, number("WEIR_SEED", 1), seeds))
        .expect("the swarm plans itself");
    assert!(sweep.found.is_empty(), "{}", story(&sweep.found));
    // A suite that meets nothing proves nothing.
    let offered = median(&sweep.results, |r| r.offered as f64);
    let faults = median(&sweep.results, |r| r.faults as f64);
    let queued = median(&sweep.results, |r| {
        r.queued as f64 / r.offered.max(1) as f64
    });
    println!(
        "{seeds} seeds; the median run offers {offered} requests, {:.0} % of them wait, and has {faults} faults",
        100.0 * queued
    );
    for (what, times) in sweep.tally.reached() {
        println!("  {times:>9} {what}");
    }
    if seeds >= 200 {
        assert!(offered >= 500.0, "the median run offers {offered} requests");
        assert!(faults >= 3.0, "the median run has {faults} faults");
        assert!(
            queued >= 0.3,
            "in the median run {queued} of the requests wait"
        );
        for list in [sometimes::SOMETIMES, sometimes::UNRULY, sometimes::SLOW] {
            let missing = sometimes::missing(list, sweep.tally.reached());
            assert!(missing.is_empty(), "never reached: {missing:?}");
        }
    }
}

/// The same with cached routes, cacheable pages and Redis.
#[test]
fn no_seed_breaks_an_invariant_of_the_cache() {
    let seeds = number("WEIR_SEEDS", 500).max(1);
    let options = options(Source::Cached, number("WEIR_SEED", 1), seeds);
    let sweep = sweep(&options).expect("the swarm plans itself");
    assert!(sweep.found.is_empty(), "{}", story(&sweep.found));
    let offered = median(&sweep.results, |r| r.offered as f64);
    println!("{seeds} seeds with caches; the median run offers {offered} requests");
    for (what, times) in sweep.tally.reached() {
        println!("  {times:>9} {what}");
    }
    if seeds >= 200 {
        assert!(offered >= 500.0, "the median run offers {offered} requests");
        for list in [sometimes::CACHED, sometimes::UNRULY] {
            let missing = sometimes::missing(list, sweep.tally.reached());
            assert!(missing.is_empty(), "never reached: {missing:?}");
        }
    }
}

/// The swarm's worlds over HTTP/2 and TLS, with tunnels.
#[test]
fn no_seed_breaks_an_invariant_over_http2() {
    let seeds = number("WEIR_SEEDS", 200).max(1);
    let options = options(Source::Http2, number("WEIR_SEED", 1), seeds);
    let sweep = sweep(&options).expect("the swarm plans itself");
    assert!(sweep.found.is_empty(), "{}", story(&sweep.found));
    let offered = median(&sweep.results, |r| r.offered as f64);
    println!("{seeds} seeds over HTTP/2; the median run offers {offered} requests");
    for (what, times) in sweep.tally.reached() {
        println!("  {times:>9} {what}");
    }
    if seeds >= 200 {
        assert!(offered >= 300.0, "the median run offers {offered} requests");
        let missing = sometimes::missing(sometimes::HTTP2, sweep.tally.reached());
        assert!(missing.is_empty(), "never reached: {missing:?}");
    }
}

/// The same at L4: connections and datagrams, whatever is in them.
#[test]
fn no_seed_breaks_an_invariant_of_l4() {
    let seeds = number("WEIR_SEEDS", 250).max(1);
    let options = options(Source::L4, number("WEIR_SEED", 1), seeds);
    let sweep = sweep(&options).expect("the swarm plans itself");
    assert!(sweep.found.is_empty(), "{}", story(&sweep.found));
    let offered = median(&sweep.results, |r| r.offered as f64);
    println!(
        "{seeds} seeds of L4; the median run has {offered} connections and clients of datagrams"
    );
    for (what, times) in sweep.tally.reached() {
        println!("  {times:>9} {what}");
    }
    if seeds >= 200 {
        assert!(offered >= 50.0, "the median run has {offered} clients");
        let missing = sometimes::missing(sometimes::L4, sweep.tally.reached());
        assert!(missing.is_empty(), "never reached: {missing:?}");
    }
}

/// Seeds that once found a bug, each with its story: `SEED  story`.
#[test]
fn seeds_that_found_a_bug_stay_good() {
    let file = |name: &str| format!("{}/fixtures/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
    stay_good(&file("swarm.txt"), Source::Swarm);
    stay_good(&file("cached.txt"), Source::Cached);
    stay_good(&file("http2.txt"), Source::Http2);
    stay_good(&file("l4.txt"), Source::L4);
}

fn stay_good(file: &str, source: Source) {
    let text = std::fs::read_to_string(file).expect(file);
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    for line in lines {
        let (seed, _) = line.split_once(' ').unwrap_or((line, ""));
        let seed = seed
            .parse()
            .unwrap_or_else(|_| panic!("no seed begins the line: {line}"));
        let sweep = sweep(&options(source.clone(), seed, 1)).expect("the swarm plans itself");
        assert!(sweep.found.is_empty(), "{line}\n{}", story(&sweep.found));
    }
}
