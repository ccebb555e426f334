//! Figures of one run or of many: counters and histograms that add up, and the report that they make.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use weirkeeper::engine::Outcome;
use weirkeeper::engine::trace::Event;
use weirkeeper::time::Tick;

use super::data::{
    BackendReport, Found, GroupReport, Judged, Latency, Report, UpstreamReport, Verdict,
    not_modelled,
};
use crate::ledger::{Book, End, PROBE};
use crate::plan::Plan;
use crate::run::Run;
use crate::scenario::Expectation;
use crate::scenario::expect::{Bound, Count, Metric};
use crate::trace::TraceHash;

/// Figures that add up over seeds of one plan.
#[derive(Clone, Debug)]
pub struct Tally {
    groups: Vec<Group>,
    upstreams: Vec<Upstream>,
    faults: BTreeMap<String, u64>,
    reached: BTreeMap<String, u64>,
    events: u64,
    expect: Vec<Expectation>,
}

#[derive(Clone, Debug)]
struct Group {
    figures: GroupReport,
    latency: Histogram<u64>,
}

#[derive(Clone, Debug, Default)]
struct Upstream {
    figures: UpstreamReport,
    given: Vec<u64>,
    earned: Vec<f64>,
}

/// Latencies in microseconds, up to an hour, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are good")
}

impl Tally {
    /// Nothing yet, for runs of plans like this one.
    pub fn new(plan: &Plan) -> Tally {
        let all = std::iter::once("all").chain(plan.clients.iter().map(|(c, _)| c.name.as_str()));
        let group = |name: &str| Group {
            figures: GroupReport {
                name: name.to_string(),
                ..GroupReport::default()
            },
            latency: histogram(),
        };
        let upstreams = plan.config.upstreams.iter().map(|u| {
            let backends = u
                .backends
                .iter()
                .zip(&u.spec.backends)
                .map(|(b, spec)| BackendReport {
                    name: b.name.clone(),
                    max_in_flight: spec.max_in_flight,
                    ..BackendReport::default()
                });
            Upstream {
                given: vec![0; u.backends.len()],
                earned: vec![0.0; u.backends.len()],
                figures: UpstreamReport {
                    name: u.name.clone(),
                    backends: backends.collect(),
                    ..UpstreamReport::default()
                },
            }
        });
        Tally {
            groups: all.map(group).collect(),
            upstreams: upstreams.collect(),
            faults: BTreeMap::new(),
            reached: BTreeMap::new(),
            events: 0,
            expect: plan.expect.clone(),
        }
    }

    /// Nothing yet, for runs of plans that have nothing in common: only their totals add up.
    pub fn of_all_sorts(plan: &Plan) -> Tally {
        let mut tally = Tally::new(plan);
        tally.groups.truncate(1);
        tally.upstreams.clear();
        tally.expect.clear();
        tally
    }

    /// Adds a run.
    pub fn add(&mut self, run: &Run) {
        self.events += run.book.trace.events();
        for (what, times) in &run.book.reached {
            *self.reached.entry(what.to_string()).or_default() += times;
        }
        for fault in &run.plan.faults {
            *self
                .faults
                .entry(fault.kind.name().to_string())
                .or_default() += 1;
        }
        self.add_requests(&run.plan, &run.book);
        for u in 0..self.upstreams.len() {
            self.add_upstream(run, u);
        }
    }

    fn add_requests(&mut self, plan: &Plan, book: &Book) {
        let begin = Tick::ZERO + plan.warmup;
        let measured = book
            .requests
            .iter()
            .filter(|r| r.group != PROBE && r.offered >= begin);
        for request in measured {
            for place in [0, request.group + 1] {
                let Some(group) = self.groups.get_mut(place) else {
                    continue;
                };
                let figures = &mut group.figures;
                figures.offered += 1;
                match request.end {
                    Some((at, End::Answered { status })) => {
                        *figures.answered.entry(status).or_default() += 1;
                        if status < 500 {
                            let micros = at.since(request.offered).as_micros();
                            group
                                .latency
                                .saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
                        }
                    }
                    Some((_, End::Refused { status })) => {
                        *figures.refused.entry(status).or_default() += 1;
                    }
                    Some((_, End::GaveUp)) => figures.gave_up += 1,
                    Some((_, End::Broken)) | None => figures.broken += 1,
                }
            }
        }
    }

    fn add_upstream(&mut self, run: &Run, u: usize) {
        let upstream = &mut self.upstreams[u];
        let figures = &mut upstream.figures;
        let spec = &run.plan.config.upstreams[u].spec;
        for (_, _, event) in run.book.engine.iter().filter(|(i, _, _)| *i == u) {
            match event {
                Event::Picked { backend, .. } => {
                    if let Some(i) = spec.backends.iter().position(|b| b.id == *backend) {
                        figures.backends[i].picks += 1;
                    }
                }
                Event::Queued(_) => figures.queued += 1,
                Event::Shed(_, reason) => {
                    *figures.shed.entry(reason.name().to_string()).or_default() += 1;
                }
                Event::Cancelled(_) | Event::Finished(_, Outcome::Cancelled) => {
                    figures.cancelled += 1;
                }
                Event::Finished(_, Outcome::Success)
                | Event::Unheard(_)
                | Event::BackedOff(..)
                | Event::Ejected(..)
                | Event::Spared(..)
                | Event::Returned(_)
                | Event::Down(_)
                | Event::Up(_) => {}
                Event::Finished(_, outcome) => {
                    let name = format!("{outcome:?}").to_ascii_lowercase();
                    *figures.failures.entry(name).or_default() += 1;
                }
            }
        }
        let shares = &run.shares[u];
        figures.choices += shares.choices;
        if shares.by_turns {
            figures.worst_lag = Some(figures.worst_lag.unwrap_or(0.0).max(shares.worst));
        }
        for (sum, x) in upstream.given.iter_mut().zip(&shares.given) {
            *sum += x;
        }
        for (sum, x) in upstream.earned.iter_mut().zip(&shares.earned) {
            *sum += x;
        }
        for (i, plan) in run.plan.backends.iter().enumerate() {
            for (_, b) in plan.members.iter().filter(|(member, _)| *member == u) {
                let backend = &mut figures.backends[*b];
                let received = run.book.executions.iter().filter(|e| e.backend == i);
                backend.received += received.count() as u64;
                backend.peak_in_flight = backend.peak_in_flight.max(run.peaks[i]);
                backend.peak_connections = backend.peak_connections.max(run.open[i].peak);
            }
        }
    }

    /// Adds another tally of the same plan.
    pub fn merge(&mut self, other: &Tally) {
        self.events += other.events;
        add_all(&mut self.faults, &other.faults);
        add_all(&mut self.reached, &other.reached);
        for (group, more) in self.groups.iter_mut().zip(&other.groups) {
            let (figures, extra) = (&mut group.figures, &more.figures);
            figures.offered += extra.offered;
            figures.gave_up += extra.gave_up;
            figures.broken += extra.broken;
            add_all(&mut figures.answered, &extra.answered);
            add_all(&mut figures.refused, &extra.refused);
            group
                .latency
                .add(&more.latency)
                .expect("they have the same bounds");
        }
        for (upstream, more) in self.upstreams.iter_mut().zip(&other.upstreams) {
            upstream.merge(more);
        }
    }

    /// How often each thing worth reaching was reached.
    pub fn reached(&self) -> &BTreeMap<String, u64> {
        &self.reached
    }

    /// The report. `hashes` are the runs' in the order of their seeds; `violations` decide the verdict, together with the
    /// expectations.
    pub fn report(
        &self,
        (config, scenario): (&str, Option<&str>),
        (seed, seeds): (u64, u64),
        hashes: &[&str],
        violations: Vec<Found>,
    ) -> Report {
        let expectations: Vec<Judged> = self.expect.iter().map(|e| self.judge(e)).collect();
        let verdict = match () {
            () if !violations.is_empty() => Verdict::Broken,
            () if expectations.iter().any(|j| !j.met) => Verdict::Failed,
            () => Verdict::Met,
        };
        let trace_hash = match hashes {
            [one] => one.to_string(),
            _ => {
                let mut all = TraceHash::default();
                hashes
                    .iter()
                    .for_each(|hash| all.event(Tick::ZERO, hash, &[]));
                all.hex()
            }
        };
        Report {
            version: 1,
            config: config.to_string(),
            scenario: scenario.map(ToString::to_string),
            seed,
            seeds,
            verdict,
            total: self.groups[0].report(),
            clients: self.groups[1..].iter().map(Group::report).collect(),
            upstreams: self.upstreams.iter().map(Upstream::report).collect(),
            faults: self.faults.clone(),
            expectations,
            violations,
            reached: self.reached.clone(),
            not_modelled: not_modelled(),
            events: self.events,
            trace_hash,
        }
    }

    fn judge(&self, expectation: &Expectation) -> Judged {
        let subject = |g: &&Group| g.figures.name == expectation.subject;
        // The plan was checked: every subject is there.
        let group = self.groups.iter().find(subject).unwrap_or(&self.groups[0]);
        let figures = &group.figures;
        let measured = match expectation.metric {
            Metric::Percentile(p) => group.latency.value_at_quantile(p / 100.0) as f64 / 1e3,
            Metric::Mean => group.latency.mean() / 1e3,
            Metric::Count(count) => figures.count(count) as f64,
        };
        let (measured, bound) = match expectation.bound {
            Bound::Time(span) => (measured, span.0.as_secs_f64() * 1e3),
            Bound::Percent(p) => (100.0 * measured / figures.offered.max(1) as f64, p),
            Bound::Number(n) => (measured, n),
        };
        // A latency of nobody meets no bound.
        let empty = matches!(expectation.bound, Bound::Time(_)) && group.latency.is_empty();
        Judged {
            expectation: expectation.to_string(),
            measured,
            met: !empty && expectation.op.holds(measured, bound),
        }
    }
}

impl Group {
    fn report(&self) -> GroupReport {
        let ms = |q: f64| self.latency.value_at_quantile(q) as f64 / 1e3;
        GroupReport {
            latency_ms: Latency {
                count: self.latency.len(),
                mean: (self.latency.mean() / 1e3 * 1e3).round() / 1e3,
                p50: ms(0.5),
                p90: ms(0.9),
                p99: ms(0.99),
                p999: ms(0.999),
                max: self.latency.max() as f64 / 1e3,
            },
            ..self.figures.clone()
        }
    }
}

/// Adds counters by key.
fn add_all<K: Ord + Clone>(sums: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, n) in more {
        *sums.entry(key.clone()).or_default() += n;
    }
}

impl Upstream {
    fn merge(&mut self, more: &Upstream) {
        let (figures, extra) = (&mut self.figures, &more.figures);
        figures.queued += extra.queued;
        figures.cancelled += extra.cancelled;
        figures.choices += extra.choices;
        figures.worst_lag = match (figures.worst_lag, extra.worst_lag) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        add_all(&mut figures.shed, &extra.shed);
        add_all(&mut figures.failures, &extra.failures);
        for (b, extra) in figures.backends.iter_mut().zip(&extra.backends) {
            b.picks += extra.picks;
            b.received += extra.received;
            b.peak_in_flight = b.peak_in_flight.max(extra.peak_in_flight);
            b.peak_connections = b.peak_connections.max(extra.peak_connections);
        }
        self.given
            .iter_mut()
            .zip(&more.given)
            .for_each(|(sum, x)| *sum += x);
        self.earned
            .iter_mut()
            .zip(&more.earned)
            .for_each(|(sum, x)| *sum += x);
    }

    fn report(&self) -> UpstreamReport {
        let mut report = self.figures.clone();
        let choices = report.choices.max(1) as f64;
        for (i, backend) in report.backends.iter_mut().enumerate() {
            backend.share = self.given[i] as f64 / choices;
            backend.entitled = report.worst_lag.map(|_| self.earned[i] / choices);
        }
        report
    }
}

impl GroupReport {
    /// Requests that ended so.
    pub fn count(&self, count: Count) -> u64 {
        let ok: u64 = self
            .answered
            .iter()
            .filter(|(s, _)| **s < 500)
            .map(|(_, n)| n)
            .sum();
        let by_proxy: u64 = self
            .refused
            .iter()
            .filter(|(s, _)| **s < 400)
            .map(|(_, n)| n)
            .sum();
        match count {
            Count::Offered => self.offered,
            Count::Ok => ok + by_proxy,
            Count::Failed => self.offered - self.gave_up - ok - by_proxy,
            Count::Shed => self.refused.get(&503).copied().unwrap_or(0),
            Count::GaveUp => self.gave_up,
        }
    }
}
