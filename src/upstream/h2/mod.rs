//! HTTP/2 towards backends (RFC 9113): connections that many exchanges share, and one exchange on a stream of one.
//!
//! It stands on the `h2` crate and not on hyper's client, since what matters to a proxy is visible there: how many streams the
//! peer takes, whether a stream was processed before it was refused, and the windows. A request's body stays with the one who
//! attempts, so what was not sent can be sent elsewhere.
//!
//! A connection belongs to the core that dialled it. Absent: HTTP/2 with clients, and pushed responses, which are refused.

mod exchange;
mod fetch;
mod head;
mod sending;
mod shared;

pub use self::exchange::{Exchange, exchange};
pub use self::fetch::{Attempt, Fetch};
pub use self::head::{Unspeakable, request};
pub use self::shared::{Gone, Shared, Ticket, open};

/// What a stream's sender may be ahead of its reader.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Request bytes of a stream that wait for the socket.
const SEND_BUFFER: usize = 64 << 10;

/// Streams that we have given up and whose last frames may still arrive.
const RESETS: usize = 100;
