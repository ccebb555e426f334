//! The commands of `weir`, one a file. Exit codes: 0 fine, 1 failure, 2 usage.
//!
//! Arguments arrive in `args`; each command turns its own into a form in which nothing is left to check before it begins.
//! Results go to standard output, talk to standard error.

mod args;
mod check;
mod demo;
mod echo;
mod help;
mod load;
mod page;
mod purge;
mod rehearse;
mod run;
mod schema;
mod server;
mod signals;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, Command};
use crate::config::{Config, format_size};

/// Everything went well.
const FINE: u8 = 0;
/// What was asked for could not be done.
const FAILURE: u8 = 1;
/// What was asked for makes no sense.
const USAGE: u8 = 2;

/// Reads the process's arguments and runs the command. Wrong arguments end the process with exit code 2 and a hint.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Run(args) => {
            start_diagnostics();
            run::run(&args)
        }
        Command::Check(args) => {
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            check::run(&args.config.file, args.expand, &mut out, &mut err)
        }
        Command::Schema(args) => schema::run(args.markdown, &mut io::stdout().lock()),
        Command::Echo(args) => {
            start_diagnostics();
            echo::run(args)
        }
        Command::Load(args) => load::run(args),
        Command::Demo(args) => {
            start_diagnostics();
            demo::run(&args)
        }
        Command::Purge(args) => purge::run(&args),
        Command::Rehearse(args) => rehearse::run(&args.arguments),
        Command::Help(args) => help::run(args.name.as_deref()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has heard enough: `weir check --expand | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(FINE),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(FAILURE)
        }
    }
}

/// Where responses are cached: `128MiB in memory, Redis at localhost:6379`. `None` when they are not.
fn caching(config: &Config) -> Option<String> {
    if !config.is_cached() {
        return None;
    }
    let memory = format_size(config.cache.memory);
    Some(match &config.redis {
        Some(redis) => format!("{memory} in memory, Redis at {}", redis.servers),
        None => format!("{memory} in memory"),
    })
}

/// Diagnostics on standard error: warnings and errors, or what the variable WEIR_LOG asks for.
fn start_diagnostics() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .with_env_var("WEIR_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// A runtime for the calling thread alone.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Raises the soft limit of file descriptors to the hard one: each connection takes one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of file descriptors stays at {:?}", limit.current);
    }
}
