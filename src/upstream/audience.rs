//! Whom a request is for, as far as the way to a backend has to know: who waits for it, and who is told of interim responses.

use std::task::Context;

use http::StatusCode;

use crate::message::head::Fields;

/// Those who wait for a request that is made for more than one of them.
pub trait Audience: Sync {
    /// From here on somebody waits for a place in the queue, or no longer does. While it waits, the request ends with the last
    /// of them.
    fn set_waiting(&self, waiting: bool);
    /// Has the last of them left? If not, the task is woken when that happens.
    fn has_left(&self, cx: &mut Context<'_>) -> bool;
}

/// Whoever passes interim responses on to a client that can take them (RFC 9110 section 15.2).
pub trait Herald: Sync {
    /// A head of 1xx, other than 100 and 101.
    fn interim(&self, status: StatusCode, headers: &Fields);
}
