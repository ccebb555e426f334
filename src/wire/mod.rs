//! Streams on their way: a socket or TLS over it as one type, the relay of bytes between two of them, deadlines that a sweep
//! watches over, and [`errand::Errand`], a piece of work towards a backend. Absent: what the bytes mean, and who dialled or
//! accepted them.

pub mod core;
pub mod errand;
pub mod relay;
pub mod stream;
pub mod watch;

use crate::env::{Env, Net};

/// A socket of the environment `E`.
pub type SocketOf<E> = <<E as Env>::Net as Net>::Stream;

/// A connection over such a socket, in the clear or over TLS.
pub type StreamOf<E> = stream::Wire<SocketOf<E>>;

/// A datagram socket of the environment `E`.
pub type DatagramOf<E> = <<E as Env>::Net as Net>::Datagram;
