//! `weir schema`: the JSON Schema of a config file, or the same for people.

use std::io::{self, Write};

use crate::config;
use crate::manual;

/// Where the page on configs holds what is generated.
const MARKERS: (&str, &str) = ("<!-- reference -->\n", "<!-- /reference -->");

/// Prints the schema, or with `markdown` the manual's page on configs with a reference that is made of it. Gives the exit
/// code, 0.
pub(super) fn run(markdown: bool, out: &mut impl Write) -> io::Result<u8> {
    let text = if markdown { page() } else { config::schema() };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

/// The page on configs, with the reference as it is now.
fn page() -> String {
    let page = manual::page("config").map_or("", |page| page.text);
    let (before, rest) = page.split_once(MARKERS.0).unwrap_or((page, ""));
    let (_, after) = rest.split_once(MARKERS.1).unwrap_or_default();
    let (begin, end) = MARKERS;
    format!("{before}{begin}\n{}\n{end}{after}", config::reference())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_configs_is_current() {
        let written = manual::page("config").expect("there is one").text;
        assert!(
            written == page(),
            "src/manual/config.md is out of date; this renews it:\n\
             cargo run -- schema --markdown > target/config.md && mv target/config.md src/manual/config.md"
        );
    }
}
