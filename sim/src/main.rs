//! `weir-rehearse`: rehearses a config against a scenario.

fn main() {}
