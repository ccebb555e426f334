//! The style rules as a test: the ladder between rooms, circles of files, dead files, banned tokens, and the shape of files. One
//! run lists every complaint with its file and line. Each rule is also shown to fail on a small string, so that none of them can
//! rot into silence. Absent: what rustfmt and clippy already check.

mod circles;
mod dead;
mod ladder;
mod manifest;
mod paths;
mod rules;
mod source;
mod tokens;

use std::path::{Path, PathBuf};

pub(crate) use ladder::RUNGS;
use source::Source;

/// Folders with our own Rust code, seen from the root.
const FOLDERS: [&str; 4] = ["src", "sim", "tests", "benches"];

/// The folders of manifests, seen from the root.
const CRATES: [&str; 3] = ["", "sim/", "tests/fuzz/"];

/// What may name a fixture beside the code: scripts and pages.
const PAGES: [&str; 2] = [".ci/run", "README.md"];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(root);
    assert!(sources.len() > 20, "{} files only", sources.len());

    let mut complaints = Vec::new();
    for source in &sources {
        complaints.extend(rules::check(source));
        complaints.extend(ladder::check(source));
    }
    complaints.extend(circles::check(&sources));
    let text = |name: &str| std::fs::read_to_string(root.join(name)).expect("it is readable");
    complaints.extend(manifest::check("Cargo.toml", &text("Cargo.toml")));
    let manifests = CRATES.map(|folder| (folder, text(&format!("{folder}Cargo.toml"))));
    complaints.extend(dead::sources(&sources, &manifests));
    complaints.extend(dead::fixtures(&fixtures(root), &texts(root)));
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// All our Rust code, in order.
fn sources(root: &Path) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        walk(&root.join(folder), &mut paths);
    }
    paths.sort();
    let source = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a source file is readable UTF-8");
        Source::new(&name(root, path), &text)
    };
    paths.iter().map(source).collect()
}

/// Every fixture by its path below `fixtures/`.
fn fixtures(root: &Path) -> Vec<String> {
    let folder = root.join("fixtures");
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    paths.iter().map(|path| name(&folder, path)).collect()
}

/// Sources, scripts, pages and fixtures by name, with what they say. What the rules say themselves names nothing.
fn texts(root: &Path) -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = PAGES.iter().map(|page| root.join(page)).collect();
    for folder in FOLDERS.into_iter().chain(["fixtures"]) {
        files(&root.join(folder), &mut paths);
    }
    let text = |path: &PathBuf| {
        let text = std::fs::read(path).expect("the file is readable");
        let name = name(root, path);
        let counts = !name.starts_with("tests/tidy/") && !name.ends_with(".patch");
        counts.then(|| (name, String::from_utf8_lossy(&text).into_owned()))
    };
    paths.iter().filter_map(text).collect()
}

/// The path of a file, seen from `root`.
fn name(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).expect("the walk began at the root");
    path.to_str().expect("file names are ASCII").to_owned()
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
    let mut all = Vec::new();
    files(folder, &mut all);
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|e| e == "rs");
    found.extend(all.into_iter().filter(is_rust));
}

/// Collects all files below `folder`, leaving out build output.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if !path.is_dir() {
            found.push(path);
        } else if path.file_name().is_none_or(|name| name != "target") {
            files(&path, found);
        }
    }
}
