//! Reading a positioned JSON value by type. A reader never stops: what is wrong is written down with its place, the caller gets
//! `None` and goes on with a default, so that one run finds every error.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Errors, Pos, nearest, one_line};
use super::interpolate::substitute;
use super::json::{Kind, Value};
use super::units::{self, NEVER};

/// What one run over one file has gathered.
pub(crate) struct Run<'a> {
    file: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<(Pos, String)>>,
}

impl<'a> Run<'a> {
    /// A run that has found nothing yet.
    pub(crate) fn new(file: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Run {
            file,
            env,
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// The whole file as a node. Keys that stand twice in one object are written down at once, wherever they are.
    pub(crate) fn root(&'a self, value: &'a Value) -> Node<'a> {
        let root = Node {
            run: self,
            value,
            path: String::new(),
        };
        root.find_duplicates();
        root
    }

    /// The warnings in file order, or all errors in file order.
    pub(crate) fn finish(self) -> Result<Vec<String>, Errors> {
        let mut errors = self.errors.into_inner();
        if !errors.is_empty() {
            errors.sort_by_key(|e| (e.line, e.col));
            return Err(Errors(errors));
        }
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|(pos, _)| *pos);
        Ok(warnings.into_iter().map(|(_, text)| text).collect())
    }
}

/// A value, where it is, and the run it belongs to.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    run: &'a Run<'a>,
    value: &'a Value,
    path: String,
}

/// Errors and warnings.
impl<'a> Node<'a> {
    /// Something is wrong here.
    pub(crate) fn error(&self, what: impl Into<String>) {
        self.report(self.value.pos, &self.path, what.into(), None);
    }

    /// Something is wrong here, and this was probably meant.
    pub(crate) fn error_hint(&self, what: impl Into<String>, hint: Option<&str>) {
        self.report(
            self.value.pos,
            &self.path,
            what.into(),
            hint.map(str::to_owned),
        );
    }

    /// Legal, and probably not meant: a sentence without a full stop.
    pub(crate) fn warn(&self, what: impl std::fmt::Display) {
        let Pos { line, col } = self.value.pos;
        let place = if self.path.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.path)
        };
        let said = one_line(&format!("{what}{place}"));
        let text = format!("{}:{line}:{col}: warning: {said}", self.run.file);
        self.run.warnings.borrow_mut().push((self.value.pos, text));
    }

    fn report(&self, pos: Pos, path: &str, what: String, hint: Option<String>) {
        self.run.errors.borrow_mut().push(ConfigError {
            file: self.run.file.to_owned(),
            line: pos.line,
            col: pos.col,
            path: path.to_owned(),
            what,
            hint,
        });
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        self.error(format!(
            "expected {wanted}, found {}",
            self.value.kind.name()
        ));
        None
    }

    fn find_duplicates(&self) {
        match &self.value.kind {
            Kind::Object(members) => {
                for (i, member) in members.iter().enumerate() {
                    let child = self.child(&member.key, &member.value);
                    if let Some(first) = members[..i].iter().find(|m| m.key == member.key) {
                        let what = format!(
                            "\"{}\" stands here twice, first at line {}, column {}",
                            member.key, first.pos.line, first.pos.col
                        );
                        self.report(member.pos, &child.path, what, None);
                    }
                    child.find_duplicates();
                }
            }
            Kind::Array(values) => {
                for (i, value) in values.iter().enumerate() {
                    self.child(&i.to_string(), value).find_duplicates();
                }
            }
            _ => {}
        }
    }

    fn child(&self, key: &str, value: &'a Value) -> Node<'a> {
        Node {
            run: self.run,
            value,
            path: format!(
                "{}/{}",
                self.path,
                key.replace('~', "~0").replace('/', "~1")
            ),
        }
    }
}

/// Typed views.
impl<'a> Node<'a> {
    /// Is it a string?
    pub(crate) fn is_string(&self) -> bool {
        matches!(self.value.kind, Kind::String(_))
    }

    /// Is it an object?
    pub(crate) fn is_object(&self) -> bool {
        matches!(self.value.kind, Kind::Object(_))
    }

    /// Is it a whole or fractional number?
    pub(crate) fn is_number(&self) -> bool {
        matches!(self.value.kind, Kind::Number(_))
    }

    /// Is it switched off: "off", false or null?
    pub(crate) fn is_off(&self) -> bool {
        match &self.value.kind {
            Kind::Null | Kind::Bool(false) => true,
            Kind::String(s) => s == "off",
            _ => false,
        }
    }

    /// Is it `true`?
    pub(crate) fn is_true(&self) -> bool {
        self.value.kind == Kind::Bool(true)
    }

    /// A string, with its `${VAR}` filled in.
    pub(crate) fn string(&self) -> Option<String> {
        match &self.value.kind {
            Kind::String(s) => match substitute(s, self.run.env) {
                Ok(s) => Some(s),
                Err(what) => {
                    self.error(what);
                    None
                }
            },
            _ => self.wrong_type("a string"),
        }
    }

    /// A file's path, as it is written and as it is found: from the folder of the config.
    pub(crate) fn file(&self) -> Option<(PathBuf, PathBuf)> {
        let text = self.string()?;
        if text.is_empty() || text.contains('\0') {
            self.error("expected the path of a file");
            return None;
        }
        let folder = Path::new(self.run.file).parent();
        let found = folder.unwrap_or(Path::new("")).join(&text);
        Some((text.into(), found))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.value.kind {
            Kind::Bool(b) => Some(b),
            _ => self.wrong_type("true or false"),
        }
    }

    /// One of a closed set of words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let s = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == s) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = nearest(&s, names.iter().copied());
        self.error_hint(format!("\"{s}\" is not one of {}", names.join(", ")), hint);
        None
    }

    /// A whole number within a range.
    pub(crate) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Kind::Number(text) = &self.value.kind else {
            return self.wrong_type("a whole number");
        };
        match text.parse::<u64>() {
            Ok(n) if range.contains(&n) => Some(n),
            _ => {
                self.error(format!(
                    "{text} is not a whole number from {} to {}",
                    range.start(),
                    range.end()
                ));
                None
            }
        }
    }

    /// A whole number of at least 1 that counts requests, or switched off.
    pub(crate) fn count_or_off(&self) -> Option<Option<u32>> {
        if self.is_off() {
            return Some(None);
        }
        if !self.is_number() {
            return self.wrong_type("a whole number or \"off\"");
        }
        // The bound keeps sums of capacities far from overflow.
        let n = self.integer(1..=1_000_000)?;
        Some(u32::try_from(n).ok())
    }

    /// A finite number within a range.
    pub(crate) fn float(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let Kind::Number(text) = &self.value.kind else {
            return self.wrong_type("a number");
        };
        match text.parse::<f64>() {
            Ok(n) if range.contains(&n) => Some(n),
            _ => {
                self.error(format!(
                    "{text} is not a number from {} to {}",
                    range.start(),
                    range.end()
                ));
                None
            }
        }
    }

    /// A duration above zero.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let d = self.duration_or_zero()?;
        if d.is_zero() {
            self.error("the duration must be above zero");
            return None;
        }
        Some(d)
    }

    /// A duration, zero included.
    pub(crate) fn duration_or_zero(&self) -> Option<Duration> {
        match &self.value.kind {
            Kind::Number(n) => {
                self.error_hint("a duration needs a unit", Some(&format!("{n}s")));
                None
            }
            Kind::String(_) => match units::parse_duration(&self.string()?) {
                Ok(d) => Some(d),
                Err(what) => {
                    self.error(what);
                    None
                }
            },
            _ => self.wrong_type("a duration such as \"2s\""),
        }
    }

    /// A duration above zero, or [`NEVER`] when it is switched off.
    pub(crate) fn duration_or_never(&self) -> Option<Duration> {
        if self.is_off() {
            return Some(NEVER);
        }
        self.duration()
    }

    /// A number of bytes within a range.
    pub(crate) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = match &self.value.kind {
            Kind::Number(n) => units::parse_size(n),
            Kind::String(_) => units::parse_size(&self.string()?),
            _ => return self.wrong_type("a size such as \"64MiB\""),
        };
        let (low, high) = (*range.start(), *range.end());
        match bytes {
            Ok(bytes) if range.contains(&bytes) => return Some(bytes),
            Ok(bytes) => self.error(format!("{bytes} bytes are not from {low} to {high}")),
            Err(what) => self.error(what),
        }
        None
    }

    /// A string, or an array of strings.
    pub(crate) fn one_or_many(&self) -> Option<Vec<Node<'a>>> {
        match &self.value.kind {
            Kind::String(_) => Some(vec![self.clone()]),
            Kind::Array(_) => self.items(),
            _ => self.wrong_type("a string or an array of strings"),
        }
    }

    /// The values of an array.
    pub(crate) fn items(&self) -> Option<Vec<Node<'a>>> {
        match &self.value.kind {
            Kind::Array(values) => Some(
                values
                    .iter()
                    .enumerate()
                    .map(|(i, value)| self.child(&i.to_string(), value))
                    .collect(),
            ),
            _ => self.wrong_type("an array"),
        }
    }

    /// The keys and values of an object whose keys are names that the user chose.
    pub(crate) fn entries(&self) -> Option<Vec<Entry<'a>>> {
        let Kind::Object(members) = &self.value.kind else {
            return self.wrong_type("an object");
        };
        let entry = |m: &'a super::json::Member| Entry {
            key: &m.key,
            pos: m.pos,
            node: self.child(&m.key, &m.value),
        };
        let first = |i: usize| !members[..i].iter().any(|m| m.key == members[i].key);
        Some(
            (0..members.len())
                .filter(|&i| first(i))
                .map(|i| entry(&members[i]))
                .collect(),
        )
    }

    /// An object whose keys are known.
    pub(crate) fn object(&self) -> Option<Object<'a>> {
        match &self.value.kind {
            Kind::Object(_) => Some(Object {
                node: self.clone(),
                known: RefCell::default(),
                refused: RefCell::default(),
            }),
            _ => self.wrong_type("an object"),
        }
    }
}

/// One member of an object whose keys are names that the user chose. The first one, where a name stands twice.
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    pos: Pos,
    pub(crate) node: Node<'a>,
}

impl Entry<'_> {
    /// The key itself is wrong.
    pub(crate) fn key_error(&self, what: impl Into<String>, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.node
            .report(self.pos, &self.node.path, what.into(), hint);
    }
}

/// An object whose keys are known. Each `get` makes its key known; [`Object::finish`] refuses the others.
pub(crate) struct Object<'a> {
    pub(crate) node: Node<'a>,
    known: RefCell<Vec<&'static str>>,
    refused: RefCell<Vec<&'static str>>,
}

impl<'a> Object<'a> {
    /// Does `key` stand here? This does not make it known.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &'static str) -> Option<Node<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        drop(known);
        self.find(key)
    }

    /// The value of `key`, which has to be there.
    pub(crate) fn require(&self, key: &'static str, example: &str) -> Option<Node<'a>> {
        let node = self.get(key);
        if node.is_none() {
            self.node
                .error(format!("\"{key}\" is missing, for example {example}"));
        }
        node
    }

    /// Refuses `key`, if it stands here, for a reason of its own.
    pub(crate) fn refuse(&self, key: &'static str, why: &str) {
        self.refused.borrow_mut().push(key);
        if let Kind::Object(members) = &self.node.value.kind {
            for m in members.iter().filter(|m| m.key == key) {
                let path = self.node.child(key, &m.value).path;
                self.node.report(m.pos, &path, why.to_owned(), None);
            }
        }
    }

    /// Refuses every key that was not asked for.
    pub(crate) fn finish(self) {
        let Kind::Object(members) = &self.node.value.kind else {
            return;
        };
        let known = self.known.borrow();
        let refused = self.refused.borrow();
        for m in members {
            let key = m.key.as_str();
            if known.contains(&key) || refused.contains(&key) {
                continue;
            }
            let path = self.node.child(key, &m.value).path;
            let hint = nearest(key, known.iter().copied()).map(str::to_owned);
            let what = match hint {
                Some(_) => format!("unknown field \"{key}\""),
                None => format!("unknown field \"{key}\", known here: {}", known.join(", ")),
            };
            self.node.report(m.pos, &path, what, hint);
        }
    }

    fn find(&self, key: &str) -> Option<Node<'a>> {
        let Kind::Object(members) = &self.node.value.kind else {
            return None;
        };
        let member = members.iter().find(|m| m.key == key)?;
        Some(self.node.child(key, &member.value))
    }
}
