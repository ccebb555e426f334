//! The life of an HTTP request on the client's side: its connection, the walk, and the way out. The walk calls down and is never
//! called back. Absent: what an upstream or the cache does with it.

mod conn;
pub mod connection;
mod h1;
mod leave;
mod multiplex;
mod quick;
mod record;
mod reply;
mod request;
mod taking;
mod tunnel;
mod upgrade;
mod upload;
mod uploads;
mod walk;
