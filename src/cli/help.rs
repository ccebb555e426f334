//! `weir help`: the commands and topics, a page of the manual, or the help of a command.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory;

use super::args::Args;
use super::page::for_terminal;
use super::{FINE, USAGE};
use crate::config::nearest;
use crate::manual::{self, PAGES};

/// What a shell says of a command that it does not find.
const NOT_FOUND: i32 = 127;

/// Exit code 2 when there is nothing of that name.
pub(super) fn run(name: Option<&str>) -> io::Result<u8> {
    let mut args = Args::command();
    args.build();
    let Some(name) = name else {
        args.print_long_help()?;
        return Ok(FINE);
    };
    if let Some(page) = manual::page(name) {
        show(page.text)?;
        return Ok(FINE);
    }
    if let Some(command) = args.find_subcommand_mut(name) {
        command.print_long_help()?;
        return Ok(FINE);
    }
    let commands = args.get_subcommands().map(clap::Command::get_name);
    let known = commands.chain(PAGES.iter().map(|page| page.topic));
    let hint = match nearest(name, known) {
        Some(near) => format!(" - did you mean \"{near}\"?"),
        None => String::new(),
    };
    eprintln!("error: there is no command and no topic \"{name}\"{hint}");
    eprintln!("hint: `weir help` lists them");
    Ok(USAGE)
}

/// Prints a page: through a pager on a terminal, and as it is elsewhere.
fn show(page: &str) -> io::Result<()> {
    let mut out = io::stdout();
    if !out.is_terminal() {
        out.write_all(page.as_bytes())?;
        return out.flush();
    }
    let page = for_terminal(page);
    if let Some(pager) = pager(std::env::var("PAGER").ok().as_deref())
        && through(&pager, &page)?
    {
        return Ok(());
    }
    out.write_all(page.as_bytes())?;
    out.flush()
}

/// The pager that the variable PAGER `asked` for, or one that most systems have. `None` if there is none, or none is wanted.
fn pager(asked: Option<&str>) -> Option<String> {
    if let Some(asked) = asked {
        let is_wanted = !matches!(asked.trim(), "" | "cat");
        return is_wanted.then(|| asked.to_owned());
    }
    let is_there = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| Path::new(&folder).join(name).is_file())
    };
    match (is_there("less"), is_there("more")) {
        (true, _) => Some("less -R".into()),
        (false, true) => Some("more".into()),
        (false, false) => None,
    }
}

/// Has `pager` show `text`, and waits until the reader has had enough. False if there is no such program.
fn through(pager: &str, text: &str) -> io::Result<bool> {
    let mut command = Command::new("sh");
    command.args(["-c", pager]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Bold stays bold, and what fits on the screen is just printed.
        command.env("LESS", "FR");
    }
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    match input.write_all(text.as_bytes()) {
        // Whoever leaves before the end has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => drop(input),
    }
    Ok(child.wait()?.code() != Some(NOT_FOUND))
}

#[cfg(test)]
mod commands;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_command_or_a_topic_and_never_both() {
        let args = Args::command();
        for page in PAGES {
            assert!(args.find_subcommand(page.topic).is_none(), "{}", page.topic);
        }
    }

    #[test]
    fn the_pager_is_the_one_that_was_asked_for() {
        assert_eq!(pager(Some("most -s")), Some("most -s".into()));
        assert_eq!(pager(Some("")), None);
        assert_eq!(pager(Some("cat")), None);
    }

    #[test]
    fn a_pager_gets_the_page_and_may_leave_early() {
        let file = std::env::temp_dir().join(format!("weir-pager-{}", std::process::id()));
        let command = format!("cat > {}", file.display());
        assert!(through(&command, "a page").expect("it runs"));
        let got = std::fs::read_to_string(&file).expect("the pager wrote it");
        std::fs::remove_file(&file).expect("removes");
        assert_eq!(got, "a page");
        let long = "a line\n".repeat(100_000);
        assert!(through("exit 0", &long).expect("leaving early is no error"));
        assert!(!through("no-such-pager-anywhere 2>/dev/null", "a page").expect("a shell"));
    }
}
