//! The models at L4: clients that open connections or send datagrams, and backends that take them. Every byte says whose it is
//! and where it stands, so that each end can judge what it gets.
//!
//! A client's stream begins with its id, its length, and who is to end first; a backend's with the number of the connection as
//! the backend has it, and with what follows. Absent: any code of the proxy's, its PROXY protocol included.

mod answerer;
pub mod asker;
mod backend;
pub mod caller;
mod end;
mod header;
pub mod peer;
mod replier;
mod text;
mod traffic;

pub use self::traffic::{AskerModel, CallerModel, PeerModel, Traffic};
