//! The config: the file's mirror, its compilation, and errors with line, column and path.

pub mod model;
