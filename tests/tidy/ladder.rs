//! The ladder: a room of `src/` names only itself and rooms on lower rungs. Paths are followed from `crate::`, from the crate's
//! own name and from `super::` chains that climb to the root; the root itself re-exports nothing, so it is no back door.

use super::source::Source;
use super::tokens::{Token, tokens};

/// Each room and its rung.
pub(crate) const RUNGS: [(&str, u8); 23] = [
    ("time", 0),
    ("rng", 0),
    ("manual", 0),
    ("message", 1),
    ("engine", 2),
    ("cache", 2),
    ("h1", 2),
    ("env", 2),
    ("tls", 2),
    ("telemetry", 3),
    ("config", 4),
    ("wire", 5),
    ("tier", 6),
    ("upstream", 7),
    ("caching", 8),
    ("site", 8),
    ("l7", 9),
    ("l4", 9),
    ("proxy", 10),
    ("admin", 11),
    ("acme", 11),
    ("cli", 12),
    ("main", 13),
];

/// The name that other crates call ours by; the binary is one of them.
const CRATE: &str = "weirkeeper";

/// Every step upwards or across in one file of `src/`; nothing for files elsewhere.
pub(super) fn check(source: &Source) -> Vec<String> {
    let Some(path) = source.name.strip_prefix("src/") else {
        return Vec::new();
    };
    let tokens = tokens(&source.code);
    if path == "lib.rs" {
        return root(source, &tokens);
    }
    let room = path.split(['/', '.']).next().unwrap_or_default();
    let Some(rung) = rung(room) else {
        return vec![format!(
            "{}:1: `{room}` has no rung on the ladder",
            source.name
        )];
    };
    let mut reader = Reader {
        tokens: &tokens,
        steps: Vec::new(),
    };
    reader.read(module_depth(path));
    let complaint = |step: &Step| {
        let target = step.target;
        let what = match self::rung(target) {
            Some(_) if target == room => return None,
            Some(other) if other < rung => return None,
            Some(other) if other == rung => format!("`{room}` may not name its sibling `{target}`"),
            Some(_) => format!("`{room}` may not name `{target}`, which stands above it"),
            None => format!("`{target}` is no room: name the room that owns the item"),
        };
        Some(source.complain(step.at, &what))
    };
    reader.steps.iter().filter_map(complaint).collect()
}

/// The root declares rooms and nothing else: what it re-exported, every room could reach.
fn root(source: &Source, tokens: &[Token<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map(|i| tokens[i].text);
        let complaint = match token.text {
            "use" | "macro_rules" | "fn" | "struct" | "enum" | "trait" | "type" | "const" => {
                "the root declares rooms and nothing else"
            }
            name if before == Some("mod") && rung(name).is_none() => {
                "this room has no rung on the ladder"
            }
            _ => continue,
        };
        found.push(source.complain(token.at, complaint));
    }
    found
}

fn rung(room: &str) -> Option<u8> {
    RUNGS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, rung)| *rung)
}

/// How many modules lie between the root and a file of `src/`, the file's own included.
fn module_depth(path: &str) -> usize {
    let parts = path.split('/').count();
    if path == "main.rs" {
        0
    } else if path.ends_with("/mod.rs") {
        parts - 1
    } else {
        parts
    }
}

/// A room that a file names.
struct Step<'a> {
    target: &'a str,
    at: usize,
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    steps: Vec<Step<'a>>,
}

impl<'a> Reader<'a> {
    fn text(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |t| t.text)
    }

    /// Reads the whole file, whose own module stands `depth` below the root.
    fn read(&mut self, depth: usize) {
        // One entry for each open brace: does it open an inline module?
        let mut braces: Vec<bool> = Vec::new();
        for index in 0..self.tokens.len() {
            let before = if index == 0 { "" } else { self.text(index - 1) };
            let after = self.text(index + 1);
            let inline = braces.iter().filter(|inline| **inline).count();
            match self.text(index) {
                "{" => braces.push(index >= 2 && self.text(index - 2) == "mod"),
                "}" => {
                    braces.pop();
                }
                "crate" if matches!(after, "::" | "as") && before != "extern" => {
                    self.below(index + 1, 0, index);
                }
                CRATE if after == "::" => {
                    self.below(index + 1, 0, index);
                }
                // A path's first word; what it leads through is followed from there.
                "super" | "self" if before == "::" => {}
                "super" if after == ")" => {}
                "super" => {
                    self.item(index, depth + inline);
                }
                "self" if after == "::" => {
                    self.item(index, depth + inline);
                }
                _ => {}
            }
        }
    }

    /// Follows the path behind `index` from a module that stands `level` below the root; `named` is what led here. Returns
    /// the index behind the path.
    fn below(&mut self, index: usize, level: usize, named: usize) -> usize {
        if self.text(index) != "::" {
            // The module itself is named: `use crate as x`, `use crate::{self as x}`.
            if level == 0 {
                self.step(named);
            }
            return index;
        }
        self.item(index + 1, level)
    }

    fn item(&mut self, index: usize, level: usize) -> usize {
        match self.text(index) {
            "{" => {
                let mut index = index + 1;
                while !matches!(self.text(index), "}" | "") {
                    index = self.item(index, level);
                    index = self.skip_to_comma(index);
                }
                index + 1
            }
            "super" => self.below(index + 1, level.saturating_sub(1), index),
            "self" => self.below(index + 1, level, index),
            _ if level == 0 => {
                self.step(index);
                index + 1
            }
            _ => index + 1,
        }
    }

    /// The index behind the comma that ends this item of a group, or of the group's closing brace.
    fn skip_to_comma(&self, mut index: usize) -> usize {
        let mut depth = 0;
        loop {
            match self.text(index) {
                "" => return index,
                "}" if depth == 0 => return index,
                "," if depth == 0 => return index + 1,
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            index += 1;
        }
    }

    fn step(&mut self, index: usize) {
        let Token { text, at } = self.tokens[index];
        self.steps.push(Step { target: text, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints about a file, without their places.
    fn complaints(name: &str, code: &str) -> Vec<String> {
        check(&Source::new(name, code))
    }

    fn fails(name: &str, code: &str) {
        let found = complaints(name, code);
        assert_eq!(found.len(), 1, "{name}: {code}: {found:?}");
    }

    fn passes(name: &str, code: &str) {
        let found = complaints(name, code);
        assert!(found.is_empty(), "{name}: {code}: {found:?}");
    }

    #[test]
    fn a_step_down_passes_and_a_step_up_or_across_fails() {
        passes(
            "src/proxy/http.rs",
            "use crate::engine::Slot; use crate::config::model;",
        );
        fails("src/engine/queue.rs", "use crate::config::model::Config;");
        fails("src/engine/queue.rs", "use crate::h1::Head;");
        fails("src/engine/queue.rs", "fn f(x: crate::proxy::Gate) {}");
        fails("src/time.rs", "use crate::rng::Rng;");
        passes("src/engine/queue.rs", "use crate::engine::Slot;");
        passes("src/engine/queue.rs", "pub(crate) fn f() {}");
        passes("src/engine/queue.rs", "pub(in crate::engine) fn f() {}");
        passes("tests/engine.rs", "use weirkeeper::proxy::x;");
    }

    #[test]
    fn groups_are_read_to_their_ends() {
        fails(
            "src/config/model.rs",
            "use crate::{engine::{Slot, Meta}, proxy::Gate, time::Tick};",
        );
        fails(
            "src/config/model.rs",
            "use crate::{engine::{Slot, Meta}, time::Tick, admin};",
        );
        passes(
            "src/config/model.rs",
            "use crate::{engine::{Slot, proxy}, time::Tick};",
        );
    }

    #[test]
    fn a_parent_is_no_back_door() {
        fails("src/engine/mod.rs", "use super::proxy::Gate;");
        fails(
            "src/engine/scheduler/mod.rs",
            "use super::super::proxy::Gate;",
        );
        fails(
            "src/engine/scheduler/mod.rs",
            "use super::{super::proxy::Gate, Slot};",
        );
        passes(
            "src/engine/scheduler/mod.rs",
            "use super::proxy::Gate; pub(super) fn f() {}",
        );
        fails("src/time.rs", "mod tests { use super::super::proxy; }");
        passes("src/time.rs", "mod tests { use super::*; }");
        fails(
            "src/time.rs",
            "fn f() {} mod tests { fn g() {} } use super::proxy;",
        );
        fails("src/engine/mod.rs", "use self::super::proxy::Gate;");
    }

    #[test]
    fn the_root_itself_is_not_to_be_named() {
        fails("src/engine/mod.rs", "use crate::*;");
        fails("src/engine/mod.rs", "use crate as root;");
        fails("src/engine/mod.rs", "use crate::{self as root};");
        fails("src/engine/mod.rs", "use super as root;");
        fails("src/engine/mod.rs", "use weirkeeper::proxy::Gate;");
        fails("src/engine/mod.rs", "$crate::helper!()");
        fails("src/lib.rs", "pub mod engine; pub use proxy::Gate;");
        fails("src/lib.rs", "pub mod cellar;");
        passes("src/lib.rs", "//! Use it.\npub mod engine;");
        fails("src/cellar/mod.rs", "");
        passes("src/main.rs", "use weirkeeper::cli;");
    }

    #[test]
    fn a_complaint_names_its_line() {
        let found = complaints(
            "src/engine/mod.rs",
            "\n\nuse crate::time::Tick;\nuse crate::cli::x;",
        );
        assert_eq!(
            found,
            ["src/engine/mod.rs:4: `engine` may not name `cli`, which stands above it"]
        );
    }
}
