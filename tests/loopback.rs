//! The proxy as a process on real sockets, with a client that isn't ours: what it keeps, streams, limits, changes and survives.
//! Absent: bad input, which is abuse; and whatever needs a clock to show.

#![allow(
    clippy::disallowed_methods,
    reason = "tests on real sockets stand outside the seam: they are the world that it looks at"
)]

mod acme;
mod alerts;
mod caching;
mod capacity;
mod ejection;
mod failure;
mod h2_backend;
mod hashing;
mod health;
mod http2;
mod https;
mod limits;
mod passthrough;
mod proxied;
mod retrying;
mod rules;
mod shutdown;
mod streaming;
mod tcp;
mod tls;
mod udp;
mod upgrades;
