//! Layer 4: connections of TCP and sessions of UDP, passed on as they are. Absent: what is said on them.

mod itself;
pub mod tcp;
pub mod udp;
