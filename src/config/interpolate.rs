//! Environment variables in strings, both ways.

/// Fills in `${VAR}` and `${VAR:-default}` (the default also serves an empty variable); `$${` stands for `${` itself.
pub(crate) fn substitute(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err("`${` without `}`; a literal `${` is written `$${`".into());
        };
        let inner = &rest[at + 2..at + end];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let letters = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if name.is_empty()
            || !name.chars().all(letters)
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(format!(
                "\"{name}\" is not the name of an environment variable"
            ));
        }
        match (
            env(name).filter(|v| default.is_none() || !v.is_empty()),
            default,
        ) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!(
                    "the environment variable {name} is not set; ${{{name}:-default}} gives a default"
                ));
            }
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Writes `text` so that [`substitute`] gives it back.
pub(crate) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("h".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, want) in [
            ("a${HOST}b${HOST}", "ahbh"),
            ("${NO:-d}", "d"),
            ("${NO:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("$${HOST}", "${HOST}"),
            ("$ $$ $HOST", "$ $$ $HOST"),
        ] {
            assert_eq!(substitute(text, &env).as_deref(), Ok(want), "{text}");
        }
        for text in ["${NO}", "${HOST", "${}", "${1A}", "${A B}"] {
            assert!(substitute(text, &env).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_escaped_text_reads_back(text in "[${}A:-]{0,12}") {
            prop_assert_eq!(substitute(&escape(&text), &env), Ok(text));
        }
    }
}
