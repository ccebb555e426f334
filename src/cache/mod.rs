//! PURE: the HTTP cache (RFC 9111) as decisions and data. What may be stored, what may be served and for how long, under which
//! key, what gives way when the store is full, who fetches while others wait. Time is an argument ([`Wall`](crate::time::Wall),
//! because ages are shared by replicas and outlive a process); so is randomness.
//!
//! Absent: sockets, tasks, clocks, and the walk of a request (caching carries out what is decided here).

pub mod admission;
pub mod bans;
pub mod codec;
pub mod conditional;
pub mod date;
pub mod directives;
pub mod flight;
pub mod key;
pub mod life;
pub mod policy;
pub mod purge;
pub mod range;
pub mod rules;
pub mod status;
pub mod store;
pub mod stored;
