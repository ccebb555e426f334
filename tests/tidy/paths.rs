//! The paths that a file names, in its `use` lines and in its code, as lists of segments. What stands in `#[cfg(test)] mod x { }`
//! is left out. Absent: where the paths lead (circles).

use super::tokens::{Token, tokens};

/// A path that a file names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// As written, from its first segment on. A path that begins with `::` begins with an empty one.
    pub(super) segments: Vec<&'a str>,
    /// The inline modules around it, from the outside in.
    pub(super) within: Vec<&'a str>,
    /// Where it stands.
    pub(super) at: usize,
    /// What a `use` calls it from there on.
    pub(super) alias: Option<&'a str>,
}

/// Every path in `code`, in its order.
pub(super) fn paths(code: &str) -> Vec<Named<'_>> {
    let tokens = tokens(code);
    let mut reader = Reader {
        tokens: &tokens,
        modules: Vec::new(),
        found: Vec::new(),
    };
    reader.read();
    reader.found
}

struct Reader<'a, 'b> {
    tokens: &'b [Token<'a>],
    /// One entry for each open brace: the name of the inline module that it opens, if it opens one.
    modules: Vec<Option<&'a str>>,
    found: Vec<Named<'a>>,
}

impl<'a> Reader<'a, '_> {
    fn text(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |t| t.text)
    }

    /// The word `back` places before `index`.
    fn before(&self, index: usize, back: usize) -> &'a str {
        index.checked_sub(back).map_or("", |i| self.text(i))
    }

    fn read(&mut self) {
        let mut index = 0;
        while index < self.tokens.len() {
            let behind = self.before(index, 1);
            match self.text(index) {
                "{" if self.before(index, 2) == "mod" && self.is_for_tests(index - 2) => {
                    index = self.behind_braces(index);
                    continue;
                }
                "{" => {
                    let module = (self.before(index, 2) == "mod").then_some(behind);
                    self.modules.push(module);
                }
                "}" => {
                    self.modules.pop();
                }
                // `impl Trait + use<'a>` imports nothing.
                "use" if self.text(index + 1) != "<" => {
                    index = self.tree(index + 1, &[]);
                    continue;
                }
                word if is_word(word) && self.text(index + 1) == "::" => {
                    index = match behind {
                        "::" | "." => index + 1,
                        _ => self.path(index),
                    };
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
    }

    /// Is the module whose `mod` stands at `index` marked `#[cfg(test)]`?
    fn is_for_tests(&self, index: usize) -> bool {
        let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
        let words = mark.iter().rev().zip(1..);
        words
            .into_iter()
            .all(|(word, back)| self.before(index, back) == *word)
    }

    /// The index behind the braces that open at `index`.
    fn behind_braces(&self, mut index: usize) -> usize {
        let mut depth = 0;
        loop {
            match self.text(index) {
                "" => return index,
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            index += 1;
            if depth == 0 {
                return index;
            }
        }
    }

    /// A path in the code, from its first word at `index` on. Returns the index behind it.
    fn path(&mut self, mut index: usize) -> usize {
        let at = index;
        let mut segments = vec![self.text(index)];
        while self.text(index + 1) == "::" && is_word(self.text(index + 2)) {
            index += 2;
            segments.push(self.text(index));
        }
        self.name(segments, at, None);
        index + 1
    }

    /// A tree of a `use`, of which `prefix` stands before it. Returns the index behind it.
    fn tree(&mut self, mut index: usize, prefix: &[&'a str]) -> usize {
        let mut segments = prefix.to_vec();
        loop {
            let at = index;
            match self.text(index) {
                "::" if segments.is_empty() => segments.push(""),
                "::" => {}
                "{" => {
                    index += 1;
                    while !matches!(self.text(index), "}" | "") {
                        index = self.tree(index, &segments);
                        if self.text(index) == "," {
                            index += 1;
                        }
                    }
                    return index + 1;
                }
                "*" => {
                    self.name(segments, at, None);
                    return index + 1;
                }
                word if is_word(word) => {
                    segments.push(word);
                    if self.text(index + 1) != "::" {
                        let renamed = self.text(index + 1) == "as";
                        let alias = renamed.then(|| self.text(index + 2));
                        self.imported(segments, at, alias);
                        return if renamed { index + 3 } else { index + 1 };
                    }
                }
                _ => return index + 1,
            }
            index += 1;
        }
    }

    /// A whole path of a `use`. `self` at the end of a group names what stands before it.
    fn imported(&mut self, mut segments: Vec<&'a str>, at: usize, alias: Option<&'a str>) {
        if segments.len() > 1 && segments.last() == Some(&"self") {
            segments.pop();
        }
        let alias = alias.or(segments.last().copied());
        self.name(segments, at, alias);
    }

    fn name(&mut self, segments: Vec<&'a str>, index: usize, alias: Option<&'a str>) {
        self.found.push(Named {
            segments,
            within: self.modules.iter().flatten().copied().collect(),
            at: self.tokens[index].at,
            alias,
        });
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(super::source::is_ident)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(code: &str) -> Vec<String> {
        let paths = paths(code);
        paths.iter().map(|p| p.segments.join("::")).collect()
    }

    #[test]
    fn groups_are_opened_and_paths_in_code_are_found() {
        let code = "use a::{b, c::{d as e, self}, f::*}; fn g() { h::i::<j::K>().l::<M>() }";
        assert_eq!(
            named(code),
            ["a::b", "a::c::d", "a::c", "a::f", "h::i", "j::K"]
        );
        assert_eq!(named("use ::redis::cmd; ::redis::cmd()"), ["::redis::cmd"]);
        assert_eq!(named("fn f() -> impl A + use<'_> {} x::y"), ["x::y"]);
    }

    #[test]
    fn a_use_gives_a_name_and_an_inline_module_stands_around_its_paths() {
        let all = paths("use a::b as c; mod d { use super::e; }");
        assert_eq!(all[0].alias, Some("c"));
        assert_eq!((all[1].alias, &all[1].within[..]), (Some("e"), &["d"][..]));
    }

    #[test]
    fn tests_are_left_out() {
        let code = "a::b; #[cfg(test)] mod tests { use c::d; fn f() { e::f } } g::h";
        assert_eq!(named(code), ["a::b", "g::h"]);
        assert_eq!(named("mod tests { c::d }"), ["c::d"]);
    }
}
