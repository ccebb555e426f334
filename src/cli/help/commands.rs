//! The commands of the README and of every page, read as this program would read them. Absent: running them.

use clap::{CommandFactory, Parser};

use super::Args;
use crate::manual::{self, PAGES};

const README: &str = include_str!("../../../README.md");
/// The other program's arguments are known to its own source alone.
const REHEARSE: &str = include_str!("../../../sim/src/main.rs");
const MANIFEST: &str = include_str!("../../../Cargo.toml");

/// The README and every page, with their names.
fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let manual = PAGES.iter().map(|page| (page.topic, page.text));
    std::iter::once(("README", README)).chain(manual)
}

/// The lines in `sh` blocks, without comments.
fn lines(page: &str) -> Vec<String> {
    let blocks = page.split("\n```sh\n").skip(1);
    let bodies = blocks.filter_map(|rest| rest.split("\n```").next());
    let lines = bodies.flat_map(str::lines);
    let code = lines.map(|line| line.split(" #").next().unwrap_or_default().trim());
    code.filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A line's words; what stands in quotes is one.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().expect("there is one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What is wrong with a command, if anything is.
fn fault(words: &[&str]) -> Option<String> {
    let missing = |path: &&str| path.contains('/') && !std::path::Path::new(*path).exists();
    let files = words.iter().filter(|word| word.starts_with("fixtures/"));
    if let Some(path) = files.copied().find(missing) {
        return Some(format!("there is no {path}"));
    }
    match words {
        ["weir", "rehearse", rest @ ..] | ["weir-rehearse", rest @ ..] => {
            let flags = rest.iter().filter_map(|word| word.strip_prefix("--"));
            let is_known =
                |flag: &str| REHEARSE.contains(&format!("\n    {}: ", flag.replace('-', "_")));
            let unknown = flags.into_iter().find(|flag| !is_known(flag));
            unknown.map(|flag| format!("weir-rehearse has no --{flag}"))
        }
        ["weir", ..] => Args::try_parse_from(words).err().map(|e| e.to_string()),
        ["cargo", "run", rest @ ..] => {
            let arguments = rest.iter().skip_while(|word| **word != "--").skip(1);
            let line: Vec<&str> = std::iter::once("weir").chain(arguments.copied()).collect();
            fault(&line)
        }
        ["cargo", "build" | "test" | "bench", rest @ ..] => {
            let target = rest.iter().skip_while(|word| **word != "--test").nth(1)?;
            let is_known = MANIFEST.contains(&format!("[[test]]\nname = \"{target}\""));
            (!is_known).then(|| format!("no test target {target}"))
        }
        ["curl", ..] | ["mv", _, _] => None,
        [assignment] if assignment.contains('=') => None,
        [assignment, rest @ ..] if assignment.contains('=') => fault(rest),
        [program, ..] if program.contains('/') => {
            missing(program).then(|| format!("there is no {program}"))
        }
        _ => Some("not a command that is known here".into()),
    }
}

#[test]
fn every_command_of_a_page_is_understood() {
    let mut read = 0;
    for (name, page) in pages() {
        for line in lines(page) {
            for command in line.split("&&") {
                let command = command.split(" > ").next().unwrap_or_default();
                let words = words(command);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                assert_eq!(fault(&words), None, "{name}: {line}");
                read += 1;
            }
        }
    }
    assert!(read > 45, "{read} commands were read");
}

#[test]
fn a_command_that_is_wrong_is_found() {
    for line in [
        "weir rum",
        "weir load http://localhost -z 5",
        "weir run -c fixtures/configs/good/none.json",
        "weir-rehearse --sed 7",
        "weir rehearse --sed 7",
        "cargo run -- demonstrate",
        "cargo test --test test",
        "WEIR_SEEDS=2 cargo test --test simulation",
        "tests/walk",
        "wget localhost",
    ] {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(fault(&words).is_some(), "{line}");
    }
}

/// Commands within sentences and tables: `weir check --expand`, `weir run [-c FILE]`, `weir help tls`.
#[test]
fn every_command_of_a_sentence_exists() {
    let args = Args::command();
    let mut read = 0;
    for (name, page) in pages() {
        let spans = page.lines().filter(|line| !line.starts_with("```"));
        let spans = spans.flat_map(|line| line.split('`').skip(1).step_by(2));
        for span in spans.filter_map(|span| span.strip_prefix("weir ")) {
            let mut words = span.split([' ', '[', ']']).filter(|word| !word.is_empty());
            let command = words.next().unwrap_or_default();
            let known = args.find_subcommand(command);
            let known = known.unwrap_or_else(|| panic!("{name}: weir {span}"));
            for word in words {
                let flag = word.strip_prefix("--");
                let is_right = match flag {
                    Some(flag) => known.get_arguments().any(|a| a.get_long() == Some(flag)),
                    None if command == "help" => word == "TOPIC" || manual::page(word).is_some(),
                    None => true,
                };
                assert!(is_right, "{name}: weir {span}: {word}");
            }
            read += 1;
        }
    }
    assert!(read > 20, "{read} commands were read");
}
