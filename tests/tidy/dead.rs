//! Dead files: sources that no crate contains, because no `mod` leads to them, and fixtures that nothing names.

use std::collections::BTreeSet;

use super::source::Source;
use super::tokens::tokens;

/// Folders that one test reads whole, below `fixtures/`, with that test. A file in them needs no name elsewhere.
const READ_WHOLE: [(&str, &str); 3] = [
    ("configs/bad", "tests/config/bad.rs"),
    ("configs/good", "tests/config/good.rs"),
    ("scenarios", "sim/tests/scenarios.rs"),
];

/// Every source that nothing leads to. `manifests` has the text of each crate's manifest, by the folder where it stands, which is
/// empty or ends with a slash.
pub(super) fn sources(sources: &[Source], manifests: &[(&str, String)]) -> Vec<String> {
    let known: BTreeSet<&str> = sources.iter().map(|s| &*s.name).collect();
    let mut open: Vec<String> = Vec::new();
    for (folder, text) in manifests {
        open.extend(roots(text).map(|path| format!("{folder}{path}")));
    }
    let is_root: BTreeSet<String> = open.iter().cloned().collect();
    let mut reached = BTreeSet::new();
    while let Some(name) = open.pop() {
        let Some(source) = sources.iter().find(|s| s.name == name) else {
            continue;
        };
        if reached.insert(name) {
            open.extend(modules(source, is_root.contains(&source.name)));
        }
    }
    let dead = known.into_iter().filter(|name| !reached.contains(*name));
    dead.map(|name| format!("{name}: no `mod` leads to this file"))
        .collect()
}

/// The files that a manifest's crates begin with, as it names them or as cargo finds them.
fn roots(manifest: &str) -> impl Iterator<Item = String> {
    let mut found = vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()];
    let mut folder = None;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            folder = match line {
                "[[test]]" => Some("tests/"),
                "[[bench]]" => Some("benches/"),
                "[[bin]]" => Some("src/bin/"),
                _ => None,
            };
        }
        let Some((key, value)) = line.split_once('=').filter(|_| folder.is_some()) else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        match (key.trim(), folder) {
            ("path", _) => found.push(value.to_owned()),
            ("name", Some(folder)) => found.push(format!("{folder}{value}.rs")),
            _ => {}
        }
    }
    found.into_iter()
}

/// Where the modules may stand that a file declares.
fn modules(source: &Source, is_root: bool) -> Vec<String> {
    let (folder, file) = source.name.rsplit_once('/').unwrap_or(("", &source.name));
    let own = match file {
        "mod.rs" => folder.to_owned(),
        _ if is_root => folder.to_owned(),
        _ => source.name.trim_end_matches(".rs").to_owned(),
    };
    let tokens = tokens(&source.code);
    let text = |index: usize| tokens.get(index).map_or("", |t| t.text);
    // One entry for each open brace: the inline module that it opens, if it opens one.
    let mut within: Vec<Option<&str>> = Vec::new();
    let mut found = Vec::new();
    for index in 0..tokens.len() {
        match text(index) {
            "{" => {
                let opens = index >= 2 && text(index - 2) == "mod";
                within.push(opens.then(|| text(index - 1)));
            }
            "}" => {
                within.pop();
            }
            "mod" if text(index + 2) == ";" => {
                let mut path = own.clone();
                for part in within.iter().flatten() {
                    path.push('/');
                    path.push_str(part);
                }
                let name = text(index + 1);
                found.push(format!("{path}/{name}.rs"));
                found.push(format!("{path}/{name}/mod.rs"));
            }
            _ => {}
        }
    }
    found
}

/// Every fixture that no text names: by its path below `fixtures/`, or by its name in quotes where its folder is named as well.
/// `fixtures` has paths below that folder; `texts` has the names and texts of sources, pages, scripts and fixtures, none of which
/// names itself.
pub(super) fn fixtures(fixtures: &[String], texts: &[(String, String)]) -> Vec<String> {
    let unnamed = fixtures.iter().filter(|path| {
        let own = format!("fixtures/{path}");
        let by_some = texts
            .iter()
            .any(|(name, text)| *name != own && names(text, path));
        !by_some && !is_read_whole(path, fixtures, texts)
    });
    unnamed
        .map(|path| format!("fixtures/{path}: nothing names this file"))
        .collect()
}

fn names(text: &str, path: &str) -> bool {
    let apart = path.rsplit_once('/').is_some_and(|(folder, name)| {
        text.contains(&format!("fixtures/{folder}")) && text.contains(&format!("\"{name}\""))
    });
    apart || text.contains(path)
}

/// Does a test take it with the folder that it stands in? Of other files than JSON it takes those that stand beside one, if it
/// names their extension.
fn is_read_whole(path: &str, fixtures: &[String], texts: &[(String, String)]) -> bool {
    let Some((stem, extension)) = path.rsplit_once('.') else {
        return false;
    };
    READ_WHOLE.iter().any(|(folder, reader)| {
        let mut readers = texts.iter().filter(|(name, _)| name == reader);
        let is_within = path.rsplit_once('/').is_some_and(|(of, _)| of == *folder);
        let beside = format!("{stem}.json");
        is_within
            && readers.any(|(_, text)| {
                let is_taken = extension == "json"
                    || (fixtures.contains(&beside) && text.contains(&format!("\"{extension}\"")));
                text.contains(folder) && is_taken
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files below a made-up crate that nothing leads to.
    fn dead(manifest: &str, files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<Source> = files.iter().map(|(n, code)| Source::new(n, code)).collect();
        sources(&files, &[("", manifest.to_owned())])
    }

    #[test]
    fn modules_are_followed_to_their_files() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c { mod d; }"),
            ("src/main.rs", ""),
            ("src/a.rs", "pub mod e;"),
            ("src/a/e.rs", ""),
            ("src/b/mod.rs", "#[cfg(test)] mod tests;"),
            ("src/b/tests.rs", ""),
            ("src/c/d.rs", ""),
        ];
        assert_eq!(dead("", &files), [""; 0]);
    }

    #[test]
    fn a_file_that_nothing_declares_is_dead_and_so_are_its_modules() {
        let files = [
            ("src/lib.rs", "// mod a;\nmod b; fn f() { mod_a() }"),
            ("src/a.rs", "mod c;"),
            ("src/a/c.rs", ""),
            ("src/b.rs", ""),
            ("src/b/d.rs", ""),
        ];
        let found = dead("", &files);
        let names: Vec<&str> = found
            .iter()
            .filter_map(|f| Some(f.split_once(':')?.0))
            .collect();
        assert_eq!(names, ["src/a.rs", "src/a/c.rs", "src/b/d.rs"]);
    }

    #[test]
    fn a_manifest_names_roots() {
        let manifest = "[package]\nname = \"x\"\n[[bench]]\nname = \"a\"\n[[test]]\nname = \"b\"\npath = \"tests/c.rs\"\n\
                        [dependencies]\nname = \"d\"\n";
        let files = [
            ("benches/a.rs", ""),
            ("tests/c.rs", "mod e;"),
            ("tests/e.rs", ""),
            ("tests/d.rs", ""),
            ("benches/x.rs", ""),
        ];
        assert_eq!(
            dead(manifest, &files),
            [
                "benches/x.rs: no `mod` leads to this file",
                "tests/d.rs: no `mod` leads to this file"
            ]
        );
    }

    /// The fixtures that nothing names, where the texts are those of files called so.
    fn unnamed(paths: &[&str], texts: &[(&str, &str)]) -> usize {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let text = |(name, text): &(&str, &str)| (name.to_string(), text.to_string());
        let texts: Vec<(String, String)> = texts.iter().map(text).collect();
        fixtures(&paths, &texts).len()
    }

    #[test]
    fn a_fixture_is_named_by_its_path_or_by_its_folder_and_its_name() {
        let paths = ["a/b.txt"];
        assert_eq!(unnamed(&paths, &[("x.md", "see fixtures/a/b.txt")]), 0);
        assert_eq!(unnamed(&paths, &[("fixtures/c/d.json", "../a/b.txt")]), 0);
        assert_eq!(unnamed(&paths, &[("fixtures/a/b.txt", "a/b.txt")]), 1);
        assert_eq!(
            unnamed(&paths, &[("x.rs", "f(\"fixtures/a\", \"b.txt\")")]),
            0
        );
        assert_eq!(unnamed(&paths, &[("x.rs", "f(\"b.txt\")")]), 1);
        assert_eq!(
            unnamed(&paths, &[("x.rs", "\"fixtures/a\""), ("y.rs", "\"b.txt\"")]),
            1
        );
    }

    #[test]
    fn a_folder_that_is_read_whole_needs_its_reader() {
        let paths = ["configs/bad/a.json", "configs/bad/a.expected"];
        let reads = "json_files(\"configs/bad\"); with_extension(\"expected\")";
        assert_eq!(unnamed(&paths, &[("tests/config/bad.rs", reads)]), 0);
        assert_eq!(unnamed(&paths[1..], &[("tests/config/bad.rs", reads)]), 1);
        assert_eq!(
            unnamed(&paths, &[("tests/config/bad.rs", "\"configs/bad\"")]),
            1
        );
        assert_eq!(unnamed(&paths, &[("tests/config/worse.rs", reads)]), 2);
    }
}
