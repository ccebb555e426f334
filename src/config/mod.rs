//! The config: reading the file, compiling it, and errors with line, column and path.
//!
//! A text goes through three forms. `json` gives values that know their places. The readers (`compile` and its parts)
//! turn them into the honest `model`, with every default filled in, and gather all errors on the way. `raw` mirrors the
//! file as it may be written: the JSON Schema comes from it, `reference` shows the schema as Markdown, and `expand` renders
//! a model back into it. A test keeps the readers and the mirror in step. Absent: watching the file, and the difference
//! between two configs.

mod acme;
mod address;
mod backend_tls;
mod cache;
mod certificates;
mod compile;
mod error;
mod flat;
mod footprint;
mod headers;
mod interpolate;
mod json;
mod lint;
mod listener;
mod loops;
mod matches;
pub mod model;
mod openings;
mod paths;
mod plan;
pub mod raw;
mod reader;
mod redis;
mod reference;
mod render;
mod route;
mod section;
mod settings;
mod strategy;
mod tls;
pub mod units;
mod upstream;

use std::path::Path;
use std::sync::Arc;

pub(crate) use error::nearest;
pub use error::{ConfigError, Errors, Pos};
pub use footprint::{FILLING_SHARE, Footprint, Item, WAITING_DATAGRAMS, demand, footprint};
pub use model::Config;
pub use redis::REDIS_PASSWORD;
pub use strategy::strategy_name;
pub use units::{format_duration, format_size, parse_duration, parse_size};
pub use upstream::protocol_name;

/// Reads and compiles the file at `path`, with this process's environment for `${VAR}`. A file that cannot be read is an error
/// like any other, without line and column.
pub fn load(path: &Path) -> Result<Arc<Config>, Errors> {
    let name = path.display().to_string();
    let text = read(path)?;
    load_str(&name, &text, &process_env).map(Arc::new)
}

/// Compiles `text`; `file` is how errors name it, and `env` answers for `${VAR}`.
pub fn load_str(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Errors> {
    compile::compile(file, text, env).map(|plan| plan.config)
}

/// The same config in full form with every default written out and every `${VAR}` filled in. Expanding the result once more
/// changes nothing. A password is never in it: the file takes that from the variable [`REDIS_PASSWORD`].
pub fn expand(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Errors> {
    compile::compile(file, text, env).map(|plan| render::render(&plan))
}

/// The JSON Schema of a config file in both forms, as `weir schema` prints it.
pub fn schema() -> String {
    raw::schema()
}

/// The reference of a config file: every section and its keys as Markdown tables, made from the schema.
pub fn reference() -> String {
    reference::markdown(&raw::schema_value())
}

/// The text of the file at `path`, or the error that says why there is none.
pub fn read(path: &Path) -> Result<String, Errors> {
    let wrong = |what: String| Errors::single(&path.display().to_string(), None, what);
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(wrong("is written in UTF-16: save it as UTF-8".into()));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        wrong(format!("cannot be read: it is no UTF-8 at byte {at}"))
    })
}

/// `${VAR}` from this process's environment; a value that is not Unicode counts as not set.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
