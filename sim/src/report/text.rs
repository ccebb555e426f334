//! A report for people.

use std::fmt::Write as _;

use super::data::{GroupReport, Report, UpstreamReport, Verdict};
use crate::scenario::expect::Count;

/// The report as text, ending with a line break.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    write(&mut out, report).expect("a string takes whatever is written");
    out
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    let seeds = match report.seeds {
        1 => format!("seed {}", report.seed),
        n => format!("seeds {} to {}", report.seed, report.seed + n - 1),
    };
    write!(out, "Rehearsed {}", report.config)?;
    if let Some(scenario) = &report.scenario {
        write!(out, " with {scenario}")?;
    }
    writeln!(out, ", {seeds}: {}", verdict(report.verdict))?;
    writeln!(out)?;
    for found in &report.violations {
        writeln!(
            out,
            "  BROKEN {}: {}",
            found.violation.checker, found.violation.what
        )?;
        for fault in &found.faults {
            let (kind, backend) = (fault.kind.name(), &fault.backend);
            writeln!(
                out,
                "         with {kind} of {backend} at {} for {}",
                fault.at, fault.lasts
            )?;
        }
        writeln!(out, "         replay: {}", found.replay)?;
        writeln!(out)?;
    }
    for judged in &report.expectations {
        let mark = if judged.met { "met   " } else { "FAILED" };
        writeln!(
            out,
            "  {mark} {}   (measured {:.3})",
            judged.expectation, judged.measured
        )?;
    }
    if !report.expectations.is_empty() {
        writeln!(out)?;
    }
    clients(out, report)?;
    for upstream in &report.upstreams {
        writeln!(out)?;
        backends(out, upstream)?;
    }
    if !report.faults.is_empty() {
        let list: Vec<String> = report
            .faults
            .iter()
            .map(|(k, n)| format!("{n} {k}"))
            .collect();
        writeln!(out, "\nFaults: {}", list.join(", "))?;
    }
    writeln!(out, "\nNot modelled:")?;
    for what in &report.not_modelled {
        writeln!(out, "  {what}")?;
    }
    writeln!(
        out,
        "\n{} events, trace hash {}",
        report.events, report.trace_hash
    )
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Failed => "an expectation FAILED",
        Verdict::Broken => "an invariant is BROKEN",
    }
}

fn clients(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        out,
        "  {:<12} {:>8} {:>8} {:>7} {:>7} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "clients",
        "offered",
        "ok",
        "failed",
        "shed",
        "gave up",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms"
    )?;
    let groups: Vec<&GroupReport> = match report.clients.len() {
        1 => report.clients.iter().collect(),
        _ => report.clients.iter().chain([&report.total]).collect(),
    };
    for group in groups {
        let latency = group.latency_ms;
        writeln!(
            out,
            "  {:<12} {:>8} {:>8} {:>7} {:>7} {:>8} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
            group.name,
            group.offered,
            group.count(Count::Ok),
            group.count(Count::Failed),
            group.count(Count::Shed),
            group.gave_up,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.max
        )?;
    }
    let total = &report.total;
    let by = |what: &str, list: &std::collections::BTreeMap<u16, u64>| {
        let list: Vec<String> = list
            .iter()
            .map(|(status, n)| format!("{status} x {n}"))
            .collect();
        match list.is_empty() {
            true => String::new(),
            false => format!("; {what} {}", list.join(", ")),
        }
    };
    let answered = by("answered", &total.answered);
    let refused = by("by the proxy itself", &total.refused);
    writeln!(
        out,
        "  {} offered{answered}{refused}; {} broken off",
        total.offered, total.broken
    )
}

fn backends(out: &mut String, upstream: &UpstreamReport) -> std::fmt::Result {
    let name = &upstream.name;
    write!(
        out,
        "  {name}: {} queued, {} cancelled",
        upstream.queued, upstream.cancelled
    )?;
    for (reason, n) in &upstream.shed {
        write!(out, ", {n} shed ({reason})")?;
    }
    for (outcome, n) in &upstream.failures {
        write!(out, ", {n} attempts {outcome}")?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "  {:<20} {:>8} {:>8} {:>9} {:>9} {:>11} {:>12}",
        "backend", "picks", "share", "entitled", "received", "peak / max", "connections"
    )?;
    for b in &upstream.backends {
        let max = b.max_in_flight.map_or("-".to_string(), |m| m.to_string());
        let entitled = b
            .entitled
            .map_or("-".to_string(), |e| format!("{:.1}%", 100.0 * e));
        writeln!(
            out,
            "  {:<20} {:>8} {:>7.1}% {:>9} {:>9} {:>11} {:>12}",
            b.name,
            b.picks,
            100.0 * b.share,
            entitled,
            b.received,
            format!("{} / {max}", b.peak_in_flight),
            b.peak_connections
        )?;
    }
    write!(
        out,
        "  shares are over {} picks among two or more",
        upstream.choices
    )?;
    match upstream.worst_lag {
        Some(worst) => writeln!(out, "; the worst lag was {worst:.2} picks"),
        None => writeln!(out),
    }
}
