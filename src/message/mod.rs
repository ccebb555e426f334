//! PURE: what both sides of the proxy must agree on about an HTTP message: the target's one normal form, field lists,
//! hop-by-hop fields, framing, and the causes that a request can fail for.

pub mod cause;
pub mod fields;
mod host;
mod path;
pub mod prefix;
pub mod target;
