//! JSON (RFC 8259) with the place of every value and key, so that errors can point at them. Duplicate keys are kept, since a
//! config that says a thing twice is refused with both places. Absent: comments, trailing commas, any number arithmetic.

use super::error::Pos;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    /// Its first character.
    pub(crate) pos: Pos,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    String(String),
    Array(Vec<Value>),
    /// In file order, duplicates included.
    Object(Vec<Member>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) pos: Pos,
    pub(crate) value: Value,
}

impl Kind {
    /// What a user calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::String(_) => "a string",
            Kind::Array(_) => "an array",
            Kind::Object(_) => "an object",
        }
    }
}

/// Values within values at most; deeper files are refused rather than risk the stack.
const DEPTH: usize = 64;

/// Parses a whole text. The error is the first place that is not JSON, and why.
pub(crate) fn parse(text: &str) -> Result<Value, (Pos, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser {
        rest: text.chars(),
        pos: Pos { line: 1, col: 1 },
    };
    parser.space();
    let value = parser.value(0)?;
    parser.space();
    match parser.peek() {
        None => Ok(value),
        Some(c) => parser.fail(format!("nothing may follow the config, found `{c}`")),
    }
}

struct Parser<'a> {
    rest: std::str::Chars<'a>,
    pos: Pos,
}

type Parsed<T> = Result<T, (Pos, String)>;

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.pos.line += 1;
            self.pos.col = 1;
        } else {
            self.pos.col += 1;
        }
        Some(c)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.next();
        }
    }

    fn fail<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err((self.pos, what.into()))
    }

    /// Fails at what stands here, which is not what should.
    fn expected<T>(&self, what: &str) -> Parsed<T> {
        match self.peek() {
            None => self.fail(format!("expected {what}, found the end of the file")),
            Some('/' | '#') => self.fail(format!(
                "expected {what}; JSON has no comments, take this one out"
            )),
            Some(c) => self.fail(format!("expected {what}, found `{c}`")),
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Value> {
        if depth > DEPTH {
            return self.fail(format!("values are nested more than {DEPTH} deep"));
        }
        let pos = self.pos;
        let kind = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Kind::String(self.string()?),
            Some('-' | '0'..='9') => Kind::Number(self.number()?),
            Some('a'..='z' | 'A'..='Z') => self.word()?,
            _ => return self.expected("a value"),
        };
        Ok(Value { pos, kind })
    }

    fn object(&mut self, depth: usize) -> Parsed<Kind> {
        self.next();
        let mut members = Vec::new();
        self.space();
        if self.eat('}') {
            return Ok(Kind::Object(members));
        }
        loop {
            self.space();
            let pos = self.pos;
            match self.peek() {
                Some('"') => {}
                Some('}') => return self.fail("a comma may not stand before `}`"),
                _ => return self.expected("a key in double quotes"),
            }
            let key = self.string()?;
            self.space();
            if !self.eat(':') {
                return self.expected("`:` after the key");
            }
            self.space();
            let value = self.value(depth + 1)?;
            members.push(Member { key, pos, value });
            self.space();
            if self.eat('}') {
                return Ok(Kind::Object(members));
            }
            if !self.eat(',') {
                return self.expected("`,` or `}`");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Parsed<Kind> {
        self.next();
        let mut values = Vec::new();
        self.space();
        if self.eat(']') {
            return Ok(Kind::Array(values));
        }
        loop {
            self.space();
            if self.peek() == Some(']') {
                return self.fail("a comma may not stand before `]`");
            }
            values.push(self.value(depth + 1)?);
            self.space();
            if self.eat(']') {
                return Ok(Kind::Array(values));
            }
            if !self.eat(',') {
                return self.expected("`,` or `]`");
            }
        }
    }

    fn word(&mut self) -> Parsed<Kind> {
        let (start, pos) = (self.rest.clone(), self.pos);
        let mut length = 0;
        while matches!(
            self.peek(),
            Some('a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-')
        ) {
            self.next();
            length += 1;
        }
        match &start.as_str()[..length] {
            "null" => Ok(Kind::Null),
            "true" => Ok(Kind::Bool(true)),
            "false" => Ok(Kind::Bool(false)),
            word => Err((
                pos,
                format!("`{word}` is not a value; a string needs double quotes"),
            )),
        }
    }

    fn number(&mut self) -> Parsed<String> {
        let mut text = String::new();
        if self.eat('-') {
            text.push('-');
        }
        if self.eat('0') {
            text.push('0');
            if matches!(self.peek(), Some('0'..='9')) {
                return self.fail("a number may not begin with 0");
            }
        } else {
            self.digits(&mut text)?;
        }
        if self.eat('.') {
            text.push('.');
            self.digits(&mut text)?;
        }
        if let Some(e @ ('e' | 'E')) = self.peek() {
            self.next();
            text.push(e);
            if let Some(sign @ ('+' | '-')) = self.peek() {
                self.next();
                text.push(sign);
            }
            self.digits(&mut text)?;
        }
        match self.peek() {
            Some('a'..='z' | 'A'..='Z' | '.' | '_') => {
                self.fail("a value with a unit needs double quotes")
            }
            _ => Ok(text),
        }
    }

    fn digits(&mut self, text: &mut String) -> Parsed<()> {
        let before = text.len();
        while let Some(digit @ '0'..='9') = self.peek() {
            self.next();
            text.push(digit);
        }
        if text.len() == before {
            return self.expected("a digit");
        }
        Ok(())
    }

    fn string(&mut self) -> Parsed<String> {
        let start = self.pos;
        self.next();
        let mut text = String::new();
        loop {
            let pos = self.pos;
            match self.next() {
                None | Some('\n') => {
                    return Err((start, "the string has no closing quote on its line".into()));
                }
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape(pos)?),
                Some(c) if c < ' ' => {
                    return Err((pos, "a control character must be escaped".into()));
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, pos: Pos) -> Parsed<char> {
        Ok(match self.next() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let unit = self.hex4(pos)?;
                // A surrogate pair stands for one character beyond the basic plane.
                let scalar = if (0xd800..0xdc00).contains(&unit) {
                    if self.next() != Some('\\') || self.next() != Some('u') {
                        return Err((pos, "half a surrogate pair".into()));
                    }
                    let low = self.hex4(pos)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err((pos, "half a surrogate pair".into()));
                    }
                    0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    unit
                };
                match char::from_u32(scalar) {
                    Some(c) => c,
                    None => return Err((pos, "half a surrogate pair".into())),
                }
            }
            _ => return Err((pos, "not an escape of JSON".into())),
        })
    }

    fn hex4(&mut self, pos: Pos) -> Parsed<u32> {
        (0..4).try_fold(0, |sum, _| match self.next().and_then(|c| c.to_digit(16)) {
            Some(digit) => Ok(sum * 16 + digit),
            None => Err((pos, "\\u needs four hexadecimal digits".into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What serde_json makes of the same text; for comparison.
    fn plain(value: &Value) -> serde_json::Value {
        match &value.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(b) => (*b).into(),
            Kind::Number(n) => serde_json::from_str(n).expect("a JSON number"),
            Kind::String(s) => s.as_str().into(),
            Kind::Array(values) => values.iter().map(plain).collect(),
            Kind::Object(members) => members
                .iter()
                .map(|m| (m.key.clone(), plain(&m.value)))
                .collect(),
        }
    }

    #[test]
    fn places_count_lines_and_characters() {
        let value = parse("{\n  \"ä\": [1,\n \"x\"]}").unwrap();
        let Kind::Object(members) = value.kind else {
            panic!("not an object")
        };
        assert_eq!(members[0].pos, Pos { line: 2, col: 3 });
        assert_eq!(members[0].value.pos, Pos { line: 2, col: 8 });
        let Kind::Array(values) = &members[0].value.kind else {
            panic!("not an array")
        };
        assert_eq!(values[1].pos, Pos { line: 3, col: 2 });
    }

    #[test]
    fn the_first_fault_is_named_with_its_place() {
        for (text, line, col, what) in [
            ("", 1, 1, "end of the file"),
            ("{\"a\":1,\n}", 2, 1, "comma"),
            ("{a:1}", 1, 2, "a key in double quotes"),
            ("{\"a\":2s}", 1, 7, "unit"),
            ("{\"a\": yes}", 1, 7, "`yes`"),
            ("{} x", 1, 4, "follow"),
            ("// x", 1, 1, "comments"),
            ("[\"a", 1, 2, "closing quote"),
            ("[01]", 1, 3, "begin with 0"),
        ] {
            let (pos, said) = parse(text).unwrap_err();
            assert_eq!((pos.line, pos.col), (line, col), "{text}: {said}");
            assert!(said.contains(what), "{text}: {said}");
        }
        assert!(parse(&"[".repeat(1000)).unwrap_err().1.contains("nested"));
    }

    proptest! {
        /// On texts made of JSON's own pieces, this parser and serde_json accept the same ones and read the same values.
        #[test]
        fn it_agrees_with_serde_json(pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u00e4\\n\"", "1", "-2.5e3", "0", "true", "null", " ", "\n",
            "\"", "\\", ".", "e",
        ]), 0..12)) {
            let text = pieces.concat();
            match (parse(&text), serde_json::from_str::<serde_json::Value>(&text)) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(plain(&ours), theirs),
                (Err(_), Err(_)) => {}
                (ours, theirs) => prop_assert!(false, "{text:?}: {ours:?} against {theirs:?}"),
            }
        }
    }
}
