//! The style rules as a test: the ladder between rooms, banned tokens, and the shape of files. One run lists every complaint
//! with its file and line. Each rule is also shown to fail on a small string, so that none of them can rot into silence.
//! Absent: what rustfmt and clippy already check.

mod ladder;
mod manifest;
mod rules;
mod source;

use std::path::{Path, PathBuf};

pub(crate) use ladder::RUNGS;
use source::Source;

/// Folders with our own Rust code, seen from the root.
const FOLDERS: [&str; 4] = ["src", "sim", "tests", "benches"];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in FOLDERS {
        walk(&root.join(folder), &mut paths);
    }
    paths.sort();
    assert!(
        paths.len() > 20,
        "the walk found {} files only",
        paths.len()
    );

    let mut complaints = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a source file is readable UTF-8");
        let name = path.strip_prefix(root).expect("the walk began at the root");
        let source = Source::new(name.to_str().expect("file names are ASCII"), &text);
        complaints.extend(rules::check(&source));
        complaints.extend(ladder::check(&source));
    }
    let text = std::fs::read_to_string(root.join("Cargo.toml")).expect("the manifest is readable");
    complaints.extend(manifest::check("Cargo.toml", &text));
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// What stands at the top of the repository. Something new belongs into a folder, or has a reason to be named here.
const TOP: [&str; 17] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".editorconfig",
    ".git",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "fixtures",
    "sim",
    "src",
    "tests",
];

#[test]
fn the_top_of_the_repository_is_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = std::fs::read_to_string(root.join(".gitignore")).expect("the list is readable");
    let is_ignored = |name: &str| ignored.lines().any(|line| line == format!("/{name}"));
    for entry in std::fs::read_dir(root).expect("the root is readable") {
        let name = entry.expect("the entry is readable").file_name();
        let name = name.to_str().expect("file names are ASCII");
        let is_known = TOP.contains(&name) || is_ignored(name);
        assert!(is_known, "{name} stands at the top of the repository");
    }
}

/// Collects the `.rs` files below `folder`, leaving out build output.
pub(crate) fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}
