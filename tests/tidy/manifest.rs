//! The manifest's rule: each direct dependency says why it is here, in a comment right above it.

/// Every dependency of a manifest's `text` without a reason.
pub(super) fn check(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut listing = false;
    let mut explained = false;
    // Open brackets and braces of a value that runs over several lines.
    let mut open = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let number = index + 1;
        if let Some(comment) = line.strip_prefix('#') {
            explained = !comment.trim().is_empty();
            continue;
        }
        if open == 0 && line.starts_with('[') {
            let section = line.trim_matches(['[', ']']);
            listing = section.ends_with("dependencies");
            if section.contains("dependencies.") && !explained {
                found.push(format!(
                    "{name}:{number}: say above `{section}` why it is here"
                ));
            }
        } else if open == 0 && listing && !line.is_empty() && !explained {
            let dependency = line.split(['=', '.', ' ']).next().unwrap_or_default();
            found.push(format!(
                "{name}:{number}: say above `{dependency}` why it is here"
            ));
        }
        explained = false;
        if listing {
            open += line.matches(['[', '{']).count();
            open = open.saturating_sub(line.matches([']', '}']).count());
        }
    }
    found
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let count = |text: &str| check("Cargo.toml", text).len();
    assert_eq!(count("[dependencies]\n# It parses.\na = \"1\"\n"), 0);
    assert_eq!(count("[dependencies]\na = \"1\"\n"), 1);
    assert_eq!(
        count("[dependencies]\n# It parses.\na = \"1\"\nb = \"1\"\n"),
        1
    );
    assert_eq!(count("[dependencies]\n# It parses.\n\na = \"1\"\n"), 1);
    assert_eq!(count("[dependencies]\n#\na = \"1\"\n"), 1);
    assert_eq!(count("[dev-dependencies.a]\nversion = \"1\"\n"), 1);
    assert_eq!(count("[target.'cfg(unix)'.dependencies]\na = \"1\"\n"), 1);
    let long = "[dependencies]\n# It parses.\na = { version = \"1\", features = [\n  \"x\",\n] }\n";
    assert_eq!(count(long), 0);
    assert_eq!(count("[package]\nname = \"a\"\n"), 0);
}
