//! PURE: what both sides of the proxy must agree on about an HTTP message: the target's one normal form, field lists,
//! hop-by-hop fields, framing, what makes requests belong together, the header that names a client whom a balancer speaks for,
//! changes of protocol, the fields of a head and the names that are known or that only proxies may write, the name by which a
//! proxy knows a request that comes back to it, classes of bytes and how they are looked for, and the
//! causes that a request can fail for.

pub mod affinity;
pub mod cause;
pub mod claims;
pub mod class;
pub mod client_hello;
pub mod fields;
pub mod head;
mod host;
pub mod known;
pub mod path;
pub mod prefix;
pub mod proxy_protocol;
pub mod pseudonym;
pub mod search;
pub mod target;
pub mod upgrade;
