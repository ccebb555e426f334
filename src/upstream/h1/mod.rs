//! An exchange with a backend over a connection of its own, in HTTP/1.1: the request's way out, and the response's way in.
//! Absent: the bytes of HTTP/1.1, which the codec knows.

pub mod exchange;
pub mod fetch;
pub mod sending;
