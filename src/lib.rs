//! Weirkeeper: a reverse proxy and load balancer whose serving code also runs in a deterministic simulator.

pub mod admin;
pub mod cli;
pub mod config;
pub mod engine;
pub mod env;
pub mod h1;
pub mod message;
pub mod proxy;
pub mod rng;
pub mod telemetry;
pub mod time;
