//! PURE: what both sides of the proxy must agree on about an HTTP message: the target's one normal form, field lists,
//! hop-by-hop fields, framing, what makes requests belong together, the header that names a client whom a balancer speaks for,
//! changes of protocol, the fields of a head and the names that are known, classes of bytes and how they are looked for, and the
//! causes that a request can fail for. Of HTTP/2 it knows what the library lets pass: frames and header blocks as they come.

pub mod affinity;
pub mod cause;
pub mod class;
pub mod client_hello;
pub mod fields;
pub mod frames;
pub mod head;
mod host;
pub mod hpack;
pub mod known;
mod path;
pub mod prefix;
pub mod proxy_protocol;
pub mod search;
pub mod target;
pub mod upgrade;
