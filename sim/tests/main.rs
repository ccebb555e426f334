//! The simulations: the seam in both worlds, determinism, and the proxy under seeds with faults.

mod datagrams;
mod meta;
mod scenarios;
mod seeds;
mod small;
mod streams;
