//! Circles of files: within `src/`, and within the simulator, no file names another that names it in turn, whatever way that
//! takes. A file may name the module that it is a part of, since what its parts share stands there.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{Named, paths};
use super::source::Source;

/// The folders in which circles are looked for, and what other crates call them.
const TREES: [(&str, &str); 2] = [("src/", "weirkeeper"), ("sim/src/", "weirkeeper_sim")];

/// Every circle, with the lines that close it.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let circles = TREES
        .into_iter()
        .flat_map(|(folder, name)| Graph::new(sources, folder, name).circles());
    let circles: BTreeMap<Vec<&str>, Vec<String>> = circles.collect();
    let what = "these files stand in a circle; what two of them need goes into a third";
    let told = circles.values();
    told.map(|steps| format!("{what}:\n    {}", steps.join("\n    ")))
        .collect()
}

/// The files of one crate, and which of them name which others.
struct Graph<'a> {
    files: Vec<&'a Source>,
    /// The file of each module, by the names that lead to it from the crate's root.
    modules: BTreeMap<Vec<&'a str>, usize>,
    /// The files that each file names, with the place where it does so first.
    steps: Vec<BTreeMap<usize, usize>>,
}

impl<'a> Graph<'a> {
    /// Of the crate whose sources are those below `folder`, and which others call `name`.
    fn new(sources: &'a [Source], folder: &str, name: &str) -> Self {
        let mut graph = Graph {
            files: Vec::new(),
            modules: BTreeMap::new(),
            steps: Vec::new(),
        };
        let mut places = Vec::new();
        for source in sources {
            let Some(path) = source.name.strip_prefix(folder) else {
                continue;
            };
            // Nothing is to be had from the root, so it stands in no circle.
            if matches!(path, "lib.rs" | "main.rs") {
                continue;
            }
            let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
            let place: Vec<&str> = path.split('/').collect();
            graph.modules.insert(place.clone(), graph.files.len());
            graph.files.push(source);
            places.push(place);
        }
        let each = graph.files.iter().zip(&places);
        let steps = each.map(|(source, place)| graph.steps_of(source, place, name));
        let steps = steps.collect();
        Graph { steps, ..graph }
    }

    /// The files that one file names, whose own module stands at `place`.
    fn steps_of(
        &self,
        source: &'a Source,
        place: &[&'a str],
        name: &str,
    ) -> BTreeMap<usize, usize> {
        let paths = paths(&source.code);
        let mut reader = Names {
            graph: self,
            name,
            place,
            imported: BTreeMap::new(),
        };
        for path in &paths {
            if let (Some(alias), Some((module, true))) = (path.alias, reader.lead(path)) {
                reader.imported.insert(alias, module);
            }
        }
        let mut steps = BTreeMap::new();
        for path in &paths {
            let Some((module, _)) = reader.lead(path) else {
                continue;
            };
            // Its own file, the modules that it is a part of, and the root above them.
            if place.starts_with(&module[..]) {
                continue;
            }
            if let Some(file) = self.modules.get(&module) {
                steps.entry(*file).or_insert(path.at);
            }
        }
        steps
    }

    /// Every circle: its files in order, and the lines that close it.
    fn circles(&self) -> Vec<(Vec<&'a str>, Vec<String>)> {
        let reached: Vec<BTreeSet<usize>> = (0..self.files.len()).map(|f| self.reach(f)).collect();
        let mut circles = Vec::new();
        let mut seen = BTreeSet::new();
        for file in 0..self.files.len() {
            if !reached[file].contains(&file) || seen.contains(&file) {
                continue;
            }
            let returns = |other: &&usize| reached[**other].contains(&file);
            let circle: BTreeSet<usize> = reached[file].iter().filter(returns).copied().collect();
            let mut names: Vec<&str> = circle.iter().map(|f| &*self.files[*f].name).collect();
            names.sort_unstable();
            let steps = circle.iter().flat_map(|from| self.lines(*from, &circle));
            circles.push((names, steps.collect()));
            seen.extend(circle);
        }
        circles
    }

    /// The files that `file` names, and those that they name in turn.
    fn reach(&self, file: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![file];
        while let Some(file) = open.pop() {
            open.extend(self.steps[file].keys().filter(|to| reached.insert(**to)));
        }
        reached
    }

    /// Where `from` names others of its circle.
    fn lines(&self, from: usize, circle: &BTreeSet<usize>) -> Vec<String> {
        let steps = self.steps[from]
            .iter()
            .filter(|(to, _)| circle.contains(to));
        let line = |(to, at): (&usize, &usize)| {
            let what = format!("names {}", self.files[*to].name);
            self.files[from].complain(*at, &what)
        };
        steps.map(line).collect()
    }
}

/// Where the paths of one file lead.
struct Names<'a, 'b> {
    graph: &'b Graph<'a>,
    /// What others call the crate.
    name: &'b str,
    /// The file's own module.
    place: &'b [&'a str],
    /// Modules that a `use` has given a name.
    imported: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Names<'a, '_> {
    /// The module that owns what `path` names, and whether it is the module itself that is named. `None` for what is another
    /// crate's, or no module's.
    fn lead(&self, path: &Named<'a>) -> Option<(Vec<&'a str>, bool)> {
        let mut at: Vec<&str> = [self.place, &path.within].concat();
        let mut segments = path.segments.iter().copied().peekable();
        let head = *segments.peek()?;
        if !matches!(head, "super" | "self") && !self.is_module(&at, head) {
            segments.next();
            match self.imported.get(head) {
                Some(module) => at.clone_from(module),
                None if head == "crate" || head == self.name => at.clear(),
                None => return None,
            }
        }
        while let Some(segment) = segments.next_if(|s| matches!(*s, "super" | "self")) {
            if segment == "super" {
                at.pop();
            }
        }
        while let Some(segment) = segments.next_if(|s| self.is_module(&at, s)) {
            at.push(segment);
        }
        let is_whole = segments.peek().is_none();
        Some((at, is_whole))
    }

    /// Is there a file for the module `name` within the one at `at`?
    fn is_module(&self, at: &[&str], name: &str) -> bool {
        self.graph.modules.contains_key(&[at, &[name]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints about a tree of files below `src/`.
    fn complaints(files: &[(&str, &str)]) -> Vec<String> {
        let source = |(name, code): &(&str, &str)| Source::new(&format!("src/{name}"), code);
        let sources: Vec<Source> = files.iter().map(source).collect();
        check(&sources)
    }

    fn fails(files: &[(&str, &str)]) {
        let found = complaints(files);
        assert_eq!(found.len(), 1, "{files:?}: {found:?}");
    }

    fn passes(files: &[(&str, &str)]) {
        let found = complaints(files);
        assert!(found.is_empty(), "{files:?}: {found:?}");
    }

    #[test]
    fn a_circle_is_shown_with_the_lines_that_close_it() {
        let found = complaints(&[
            ("a/mod.rs", "mod b;\nmod c;"),
            ("a/b.rs", "\nuse super::c::C;"),
            ("a/c.rs", "fn f() {}\n\nfn g(b: crate::a::b::B) {}"),
        ]);
        assert_eq!(
            found,
            [
                "these files stand in a circle; what two of them need goes into a third:\
              \n    src/a/b.rs:2: names src/a/c.rs\n    src/a/c.rs:3: names src/a/b.rs"
            ]
        );
    }

    #[test]
    fn a_chain_is_no_circle_and_its_end_may_close_it() {
        let a = ("a.rs", "use crate::{b::{B, self}, x::X};");
        let b = ("b.rs", "use super::c;");
        passes(&[a, b, ("c.rs", "")]);
        fails(&[a, b, ("c.rs", "use crate::{d::D, a::A};")]);
        fails(&[a, b, ("c.rs", "fn f() { weirkeeper::a::g() }")]);
        passes(&[a, b, ("c.rs", "// crate::a::g()")]);
    }

    #[test]
    fn a_part_may_name_the_whole_and_not_by_way_of_another() {
        let whole = ("a/mod.rs", "mod b; mod c; pub use b::B; use self::c::C;");
        passes(&[
            whole,
            ("a/b.rs", "use super::C; use crate::a::D;"),
            ("a/c.rs", ""),
        ]);
        fails(&[
            whole,
            ("a/b.rs", ""),
            ("a/c.rs", "use crate::e::E;"),
            ("e.rs", "use crate::a;"),
        ]);
        fails(&[
            ("a.rs", "mod b; fn f() { b::g() }"),
            ("a/b.rs", "use crate::e::E;"),
            ("e.rs", "use crate::a::A;"),
        ]);
    }

    #[test]
    fn a_name_that_a_use_gives_is_followed() {
        let a = ("a.rs", "use crate::b as other; fn f() { other::c::g() }");
        passes(&[a, ("b/mod.rs", ""), ("b/c.rs", "use crate::d::A;")]);
        fails(&[a, ("b/mod.rs", ""), ("b/c.rs", "use crate::a::A;")]);
    }

    #[test]
    fn inline_modules_are_climbed_out_of_and_tests_are_left_out() {
        let b = ("b.rs", "use crate::a::A;");
        fails(&[("a.rs", "mod c { use super::super::b::B; }"), b]);
        passes(&[("a.rs", "mod c { use super::b::B; }"), b]);
        passes(&[("a.rs", "#[cfg(test)] mod tests { use crate::b::B; }"), b]);
    }

    #[test]
    fn another_crate_may_be_called_like_a_module() {
        let b = ("b.rs", "use crate::a::A;");
        passes(&[
            ("a.rs", "use ::b::B; use c::{b::C}; fn f() { ::b::g() }"),
            b,
        ]);
    }
}
