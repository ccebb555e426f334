//! How an attempt on a backend fails before its response has begun. Absent: what follows from it, which the retry rule says
//! (engine::retry).

use std::time::Duration;

use crate::engine::Outcome;
use crate::engine::retry::Progress;
use crate::message::cause::Cause;
use crate::upstream::dial::Undialled;

/// A kept-alive connection that ends within this time of being used again was closed before.
pub const RACE: Duration = Duration::from_secs(1);

/// How an attempt failed before its response began.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// How far it had come, for the retry rule.
    pub progress: Progress,
    /// What the engine should know of it.
    pub outcome: Outcome,
}

impl Failure {
    /// A failure.
    pub fn new(cause: Cause, progress: Progress, outcome: Outcome) -> Self {
        Failure {
            cause,
            progress,
            outcome,
        }
    }

    /// The client's body failed: nothing that the backend could be blamed for.
    pub fn of_client(cause: Cause, progress: Progress) -> Self {
        Failure::new(cause, progress, Outcome::Cancelled)
    }
}

impl From<Undialled> for Failure {
    fn from(Undialled { cause, outcome }: Undialled) -> Self {
        Failure::new(cause, Progress::NeverSent, outcome)
    }
}
