//! The state of upstreams at one moment, as the proxy reports it, and its form in `/metrics`.

use super::render::{Family, Labels};

/// One upstream now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Requests that wait for a backend.
    pub waiting: usize,
    /// Requests on its backends.
    pub in_flight: u32,
    /// The bound on them; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// In config order.
    pub backends: Vec<BackendStatus>,
}

/// One backend now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Requests on it.
    pub in_flight: u32,
    /// Its declared concurrency; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// Connections to it, busy and idle, over all cores.
    pub open_connections: u32,
    /// It is passed over since it refused or died.
    pub backed_off: bool,
}

/// Appends the gauges of `upstreams` in the OpenMetrics text format, without the final `# EOF`.
pub fn render(upstreams: &[UpstreamStatus], out: &mut String) {
    let upstream_gauge =
        |out: &mut String, name, help, value: &dyn Fn(&UpstreamStatus) -> Option<u64>| {
            let mut family = Family::gauge(out, name, help);
            for u in upstreams {
                if let Some(value) = value(u) {
                    family.sample("", Labels(&[("upstream", &u.name)]), value);
                }
            }
        };
    upstream_gauge(
        out,
        "weir_upstream_in_flight",
        "Requests on backends now.",
        &|u| Some(u.in_flight.into()),
    );
    upstream_gauge(
        out,
        "weir_upstream_waiting",
        "Requests that wait for a backend now.",
        &|u| Some(u.waiting as u64),
    );
    upstream_gauge(
        out,
        "weir_upstream_max_in_flight",
        "Bound on requests in flight; absent when unlimited.",
        &|u| u.max_in_flight.map(u64::from),
    );
    let backend_gauge =
        |out: &mut String, name, help, value: &dyn Fn(&BackendStatus) -> Option<u64>| {
            let mut family = Family::gauge(out, name, help);
            for u in upstreams {
                for b in &u.backends {
                    if let Some(value) = value(b) {
                        let labels = [("upstream", u.name.as_str()), ("backend", &b.name)];
                        family.sample("", Labels(&labels), value);
                    }
                }
            }
        };
    backend_gauge(
        out,
        "weir_backend_in_flight",
        "Requests on the backend now.",
        &|b| Some(b.in_flight.into()),
    );
    backend_gauge(
        out,
        "weir_backend_max_in_flight",
        "Declared concurrency; absent when unlimited.",
        &|b| b.max_in_flight.map(u64::from),
    );
    backend_gauge(
        out,
        "weir_backend_open_connections",
        "Connections to the backend, busy and idle.",
        &|b| Some(b.open_connections.into()),
    );
    backend_gauge(
        out,
        "weir_backend_backed_off",
        "1 while the backend is passed over after a failure.",
        &|b| Some(b.backed_off.into()),
    );
}
