//! The manual and the README as a reader takes them: every config loads, every default is the one in use, every name that a
//! page mentions is there. Commands are read where their arguments are known, in `cli::help`.

mod configs;
mod defaults;
mod names;

use std::path::{Path, PathBuf};

use weirkeeper::manual::PAGES;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The README and every page, with their names.
fn pages() -> Vec<(String, String)> {
    let manual = PAGES
        .iter()
        .map(|page| (page.topic.to_owned(), page.text.to_owned()));
    std::iter::once(("README".to_owned(), read("README.md")))
        .chain(manual)
        .collect()
}

/// The page of a topic.
fn page(topic: &str) -> &'static str {
    weirkeeper::manual::page(topic).expect("there is one").text
}

/// The code blocks of a page in this language, each with the line before it.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<(&'a str, &'a str)> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("\n```") {
        let (said, body) = after.split_once('\n').expect("a block has lines");
        let (block, next) = body.split_once("```").expect("a block ends");
        if said == language {
            found.push((before.lines().last().unwrap_or_default(), block));
        }
        rest = next;
    }
    found
}

/// What stands in a page's prose and tables as code.
fn spans(page: &str) -> Vec<&str> {
    let mut is_block = false;
    let prose = page.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_block ^= is_fence;
        !is_block && !is_fence
    });
    prose
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

/// The rows of the tables that stand under a heading, as their cells.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = page
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no {heading:?}"));
    let section = section.split("\n#").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with("| "));
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    // The first one is the head.
    lines.skip(1).map(cells).collect()
}
