//! What a rehearsal found: counts, latencies, shares, violations, and the verdict, as data. Text and JSON only render it.

mod data;
mod tally;
mod text;

pub use self::data::{
    BackendReport, Found, GroupReport, Judged, Latency, Report, UpstreamReport, Verdict,
    not_modelled,
};
pub use self::tally::Tally;
pub use self::text::render;
