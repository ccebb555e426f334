//! Everything but the simulations: one binary, so that it links once.

mod abuse;
mod caching;
mod cli;
mod codec;
mod config;
mod containers;
mod engine;
mod loopback;
mod manual;
mod redis;
mod regressions;
mod support;
mod tidy;
