//! What compiling gives, while it runs and at its end: the forms between a file and its model, which know the routes in file
//! order. Absent: how they are made (compile, flat, route).

use std::path::PathBuf;

use super::model::{Config, Listener, Route, Upstream};

/// A compiled config, and what the model no longer shows: which routes, in file order, belong to which listeners.
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// The config file's directory, where relative paths begin.
    pub(crate) directory: PathBuf,
    pub(crate) routes: Vec<PlannedRoute>,
}

/// A route and the indices of its listeners.
pub(crate) struct PlannedRoute {
    pub(crate) listeners: Vec<usize>,
    pub(crate) route: Route,
}

/// What both forms give: listeners without routes, upstreams, and routes in file order.
pub(crate) struct Body {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) routes: Vec<PlannedRoute>,
}
