//! The models around the proxy: clients that ask, backends that answer, and the HTTP that both speak.
//!
//! They share no code with the proxy, so that a fault of its codec is not theirs as well.

mod age;
mod answer;
pub mod backend;
pub mod certificates;
pub mod client;
pub mod content;
pub mod faults;
pub mod forgery;
mod habits;
mod hosting;
mod kind;
pub mod l4;
pub mod message;
pub mod origin;
pub mod pattern;
pub mod redis;
mod running;
pub mod socket;
pub mod speech;
pub(crate) mod streams;
mod struck;
mod tunnel;
pub mod unruly;
pub mod visitor;
