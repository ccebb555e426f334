//! `path` of a listener: what becomes of paths that servers read in different ways.

use super::raw;
use super::reader::{Node, Object};
use super::section::put;
use crate::message::path::{PathRules, Treatment};

/// What a treatment is called for each form: the word says what is left of it.
const ENCODED_SLASHES: [(&str, Treatment); 3] = words("decode");
const BACKSLASHES: [(&str, Treatment); 3] = words("slash");
const PARAMETERS: [(&str, Treatment); 3] = words("strip");

const fn words(resolved: &'static str) -> [(&'static str, Treatment); 3] {
    [
        ("keep", Treatment::Keep),
        ("reject", Treatment::Reject),
        (resolved, Treatment::Resolve),
    ]
}

/// Takes over what stands in the section.
pub(crate) fn read(rules: &mut PathRules, o: &Object<'_>) {
    put(
        &mut rules.merge_slashes,
        o.get("merge_slashes").and_then(|n| n.boolean()),
    );
    let word = |n: Node<'_>, words: &[(&str, Treatment)]| n.word(words);
    put(
        &mut rules.encoded_slashes,
        o.get("encoded_slashes")
            .and_then(|n| word(n, &ENCODED_SLASHES)),
    );
    put(
        &mut rules.backslashes,
        o.get("backslashes").and_then(|n| word(n, &BACKSLASHES)),
    );
    put(
        &mut rules.parameters,
        o.get("parameters").and_then(|n| word(n, &PARAMETERS)),
    );
}

/// The section that says the same.
pub(crate) fn render(rules: &PathRules) -> raw::PathRules {
    raw::PathRules {
        merge_slashes: Some(rules.merge_slashes),
        encoded_slashes: Some(said(rules.encoded_slashes, &ENCODED_SLASHES).into()),
        backslashes: Some(said(rules.backslashes, &BACKSLASHES).into()),
        parameters: Some(said(rules.parameters, &PARAMETERS).into()),
    }
}

fn said(treatment: Treatment, words: &[(&'static str, Treatment)]) -> &'static str {
    let word = words.iter().find(|(_, own)| *own == treatment);
    word.map_or("keep", |(word, _)| word)
}
