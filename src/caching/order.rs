//! What a fill is told to fetch, and for whom. Absent: the task that does it (filler), and whose turn it is (turn).

use std::sync::Arc;
use std::time::Duration;

use super::{Desk, Place};
use crate::cache::policy::Wants;
use crate::cache::rules::Rules;
use crate::cache::stored::Stored;
use crate::config::model::Route;
use crate::env::Env;
use crate::upstream::Upstream;
use crate::upstream::inbound::Inbound;
use crate::upstream::origin::Origin;

/// What to fetch, and what for.
pub struct Order<E: Env> {
    pub desk: Arc<Desk<E>>,
    /// Whose request caused it.
    pub origin: Arc<Origin>,
    pub route: Arc<Route>,
    pub upstream: Arc<Upstream<E>>,
    pub rules: Arc<Rules>,
    pub place: Place,
    /// What the request may still spend on the second tier.
    pub patience: Duration,
    /// The request's id, which the backend is told.
    pub id: (u64, u64),
    /// As the backend is to see it, but for validators.
    pub inbound: Inbound,
    pub wants: Wants,
    /// What lies there: to be validated, or to be completed.
    pub stored: Option<Arc<Stored>>,
    /// A part is asked for; what is stored of the rest is joined to it.
    pub ranged: bool,
    /// The flight stands in the table, for others to follow.
    pub shared: bool,
}
