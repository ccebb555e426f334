//! The OpenMetrics text format (1.0), as far as counters, gauges and fixed histograms need it.

use std::fmt::{self, Display, Write};

use super::Layout;
use super::cells::{BOUNDS, CAUSES, CODES, Cells, Flow, HISTOGRAM, bound_nanos};
use crate::cache::status::CacheResult;
use crate::engine::ShedReason;

/// One metric family: its head is written when it begins.
pub(super) struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    pub(super) fn gauge(out: &'a mut String, name: &'static str, help: &str) -> Self {
        Family::new(out, name, "gauge", help)
    }

    pub(super) fn counter(out: &'a mut String, name: &'static str, help: &str) -> Self {
        Family::new(out, name, "counter", help)
    }

    /// A gauge of bytes; its name ends in the unit, as the format wants it.
    pub(super) fn bytes(out: &'a mut String, name: &'static str, help: &str) -> Self {
        let family = Family::new(out, name, "gauge", help);
        push(family.out, format_args!("# UNIT {name} bytes\n"));
        family
    }

    fn new(out: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        push(
            out,
            format_args!("# TYPE {name} {kind}\n# HELP {name} {help}\n"),
        );
        Family { out, name }
    }

    /// One line. `suffix` is what the format puts behind a family's name: `_total`, `_bucket`.
    pub(super) fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        push(
            self.out,
            format_args!("{}{suffix}{labels} {value}\n", self.name),
        );
    }

    /// A histogram's lines, if anything was counted in it.
    fn histogram(&mut self, labels: &[(&str, &str)], cells: &[u64; HISTOGRAM]) {
        let count: u64 = cells[..=BOUNDS].iter().sum();
        if count == 0 {
            return;
        }
        let mut below = 0;
        for (i, cell) in cells[..=BOUNDS].iter().enumerate() {
            below += cell;
            let bound = match i {
                BOUNDS => "+Inf".to_string(),
                _ => (bound_nanos(i) as f64 / 1e9).to_string(),
            };
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample("_bucket", Labels(&labels), below);
        }
        self.sample("_count", Labels(labels), count);
        self.sample("_sum", Labels(labels), cells[BOUNDS + 1] as f64 / 1e9);
    }
}

/// Names and values between braces; nothing at all when there are none.
pub(super) struct Labels<'a>(pub(super) &'a [(&'a str, &'a str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "{" } else { "," })?;
            write!(f, "{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
        }
        if self.0.is_empty() {
            Ok(())
        } else {
            f.write_char('}')
        }
    }
}

/// Everything that [`Cells`] has a place for. Names that are empty are left out, and what was never counted where its labels
/// could be many.
pub(super) fn render(
    layout: &Layout,
    total: &dyn Fn(usize) -> u64,
    dropped: Option<u64>,
    out: &mut String,
) {
    let cells = &Cells::new(layout);
    let targets = targets(layout, cells);
    requests(layout, cells, &targets, total, out);
    histograms(layout, cells, &targets, total, out);
    refusals(layout, cells, total, out);
    let mut family = Family::counter(out, "weir_retries", "Attempts after the first.");
    for (u, (name, _)) in upstreams(layout) {
        let labels = [("upstream", name.as_str())];
        family.sample("_total", Labels(&labels), total(cells.retried(u)));
    }
    caching(layout, cells, total, out);
    connections(layout, cells, total, out);
    flows(layout, cells, &targets, total, out);
    Family::counter(out, "weir_panics", "Panics that were caught.").sample(
        "_total",
        Labels(&[]),
        total(cells.panicked()),
    );
    let help = "Pauses of accepting for want of descriptors.";
    Family::counter(out, "weir_accept_pauses", help).sample(
        "_total",
        Labels(&[]),
        total(cells.paused()),
    );
    if let Some(dropped) = dropped {
        let help = "Lines that the access log could not take.";
        Family::counter(out, "weir_access_log_dropped", help).sample(
            "_total",
            Labels(&[]),
            dropped,
        );
    }
}

/// Each upstream with its number, but for numbers that are nobody's.
fn upstreams(layout: &Layout) -> impl Iterator<Item = (usize, &(String, Vec<String>))> {
    let upstreams = layout.upstreams.iter().enumerate();
    upstreams.filter(|(_, (name, _))| !name.is_empty())
}

/// A target's number with the names of its upstream and its backend.
type Target<'a> = (usize, &'a str, &'a str);

fn targets<'a>(layout: &'a Layout, cells: &Cells) -> Vec<Target<'a>> {
    let mut targets = vec![(cells.target(None, None), "", "")];
    for (u, (upstream, backends)) in upstreams(layout) {
        targets.push((cells.target(Some(u), None), upstream, ""));
        let backends = backends.iter().enumerate();
        for (b, backend) in backends.filter(|(_, name)| !name.is_empty()) {
            targets.push((cells.target(Some(u), Some(b)), upstream, backend));
        }
    }
    targets
}

fn requests(
    layout: &Layout,
    cells: &Cells,
    targets: &[Target<'_>],
    total: &dyn Fn(usize) -> u64,
    out: &mut String,
) {
    let help = "Requests that were finished, by the class of the status that was sent.";
    let mut family = Family::counter(out, "weir_requests", help);
    for (l, listener) in layout.listeners.iter().enumerate() {
        for (target, upstream, backend) in targets {
            for (class, code) in CODES.iter().enumerate() {
                let count = total(cells.request(l, *target, class as u16 * 100));
                if count > 0 {
                    let labels = [
                        ("listener", listener.as_str()),
                        ("upstream", upstream),
                        ("backend", backend),
                        ("code", code),
                    ];
                    family.sample("_total", Labels(&labels), count);
                }
            }
        }
    }
}

fn histograms(
    layout: &Layout,
    cells: &Cells,
    targets: &[Target<'_>],
    total: &dyn Fn(usize) -> u64,
    out: &mut String,
) {
    let read = |first: usize| std::array::from_fn(|i| total(first + i));
    let help = "From a request's head to its response's end.";
    let mut family = Family::new(out, "weir_request_duration_seconds", "histogram", help);
    for (target, upstream, backend) in targets {
        let labels = [("upstream", *upstream), ("backend", backend)];
        family.histogram(&labels, &read(cells.duration(*target)));
    }
    let help = "How long requests waited for a backend.";
    let mut family = Family::new(out, "weir_queue_wait_seconds", "histogram", help);
    for (u, (upstream, _)) in upstreams(layout) {
        family.histogram(&[("upstream", upstream)], &read(cells.queue_wait(u)));
    }
}

fn refusals(layout: &Layout, cells: &Cells, total: &dyn Fn(usize) -> u64, out: &mut String) {
    let help =
        "Requests without a backend's whole response, by cause; also those whose head was refused.";
    let mut family = Family::counter(out, "weir_refused", help);
    for (l, listener) in layout.listeners.iter().enumerate() {
        for cause in CAUSES {
            let count = total(cells.refused(l, cause));
            if count > 0 {
                let labels = [("listener", listener.as_str()), ("cause", cause.name())];
                family.sample("_total", Labels(&labels), count);
            }
        }
    }
    let help = "Requests that the upstream's bounds refused.";
    let mut family = Family::counter(out, "weir_shed", help);
    for (u, (upstream, _)) in upstreams(layout) {
        for reason in ShedReason::ALL {
            let labels = [("upstream", upstream.as_str()), ("reason", reason.name())];
            family.sample("_total", Labels(&labels), total(cells.shed(u, reason)));
        }
    }
}

/// Nothing for a listener none of whose routes is cached.
fn caching(layout: &Layout, cells: &Cells, total: &dyn Fn(usize) -> u64, out: &mut String) {
    let help = "Requests to cached routes, by what the cache did.";
    let mut family = Family::counter(out, "weir_cache_requests", help);
    for (l, listener) in layout.listeners.iter().enumerate() {
        let counts = CacheResult::ALL.map(|result| (result, total(cells.cached(l, result))));
        if counts.iter().all(|(_, count)| *count == 0) {
            continue;
        }
        for (result, count) in counts {
            let labels = [("listener", listener.as_str()), ("result", result.name())];
            family.sample("_total", Labels(&labels), count);
        }
    }
}

fn connections(layout: &Layout, cells: &Cells, total: &dyn Fn(usize) -> u64, out: &mut String) {
    let help = "Client connections that were accepted.";
    let mut family = Family::counter(out, "weir_connections_opened", help);
    for (l, name) in layout.listeners.iter().enumerate() {
        let labels = [("listener", name.as_str())];
        family.sample("_total", Labels(&labels), total(cells.opened(l)));
    }
    let mut family = Family::gauge(out, "weir_connections", "Client connections now.");
    for (l, name) in layout.listeners.iter().enumerate() {
        // The closed are read first: one that closes in between is then counted as open, never as less than none.
        let closed = total(cells.closed(l));
        let open = total(cells.opened(l)).saturating_sub(closed);
        family.sample("", Labels(&[("listener", name)]), open);
    }
}

/// What passes byte for byte: nothing for a listener that had none of it.
fn flows(
    layout: &Layout,
    cells: &Cells,
    targets: &[Target<'_>],
    total: &dyn Fn(usize) -> u64,
    out: &mut String,
) {
    for flow in Flow::ALL {
        let (name, help) = match flow {
            Flow::Ended => (
                "weir_sessions_ended",
                "TCP connections, UDP sessions and upgraded connections that have ended.",
            ),
            Flow::Received => (
                "weir_session_received_bytes",
                "Bytes from clients over TCP, UDP and upgraded connections.",
            ),
            Flow::Sent => (
                "weir_session_sent_bytes",
                "Bytes to clients over TCP, UDP and upgraded connections.",
            ),
            Flow::Dropped => (
                "weir_datagrams_dropped",
                "Datagrams that were dropped: no place, no backend, or too many before its first reply.",
            ),
        };
        let mut family = Family::counter(out, name, help);
        for (l, listener) in layout.listeners.iter().enumerate() {
            for (target, upstream, backend) in targets {
                let count = total(cells.flow(l, *target, flow));
                if count > 0 {
                    let labels = [
                        ("listener", listener.as_str()),
                        ("upstream", upstream),
                        ("backend", backend),
                    ];
                    family.sample("_total", Labels(&labels), count);
                }
            }
        }
    }
}

fn push(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("writing to a String does not fail");
}
