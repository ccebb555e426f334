//! Weirkeeper's deterministic simulator: the real proxy between modelled clients and backends, in simulated time.
//!
//! A config and a [`scenario`] make a [`plan`]; the [`swarm`] draws both from a seed. A [`world`] runs a plan: one simulated
//! host with the proxy's core loops over [`env`], the seam; one of clients and a few of backends, as [`model`]s, with faults.
//! What happens is written into the [`ledger`], whose [`trace`] hash says whether two runs did the same. Afterwards the
//! [`checkers`] look for broken invariants, and the [`report`] has the figures. [`seeds`] does that for many seeds,
//! [`shrink`]s what fails and names the command that replays it; [`sometimes`] lists what a suite must have met.
//!
//! Absent: any rule of the proxy. The models speak their own HTTP/1.1, so that they share no fault with it; HTTP/2 and TLS they
//! have from the crates that the proxy has them from.

pub mod checkers;
pub mod env;
pub mod ledger;
pub mod model;
pub mod plan;
pub mod report;
pub mod run;
pub mod scenario;
pub mod seeds;
pub mod shares;
pub mod shrink;
pub mod single;
pub mod sometimes;
pub mod subject;
pub mod swarm;
pub mod trace;
pub mod wires;
pub mod world;

use std::time::{Duration, SystemTime};

/// The simulation's grain.
pub const GRAIN: Duration = Duration::from_millis(1);

/// A turmoil builder with every default set, so that nothing is left to chance or to the machine: messages take up to `jitter`.
pub fn turmoil_builder(seed: u64, jitter: Duration, duration: Duration) -> turmoil::Builder {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH + env::EPOCH)
        .tick_duration(GRAIN)
        .simulation_duration(duration)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(jitter)
        .fail_rate(0.0)
        .repair_rate(1.0)
        .ip_version(turmoil::IpVersion::V4)
        // A dial that fails leaves its port taken: there must be many.
        .ephemeral_ports(20_000..=65_535)
        // Segments, not bytes; and waiting connections of a listener, which panics beyond it.
        .tcp_capacity(4096)
        .udp_capacity(4096);
    builder
}
