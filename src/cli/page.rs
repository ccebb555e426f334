//! A page of the manual as a terminal shows it: headings and emphasis in bold, tables in columns, code set off. Absent: all
//! of Markdown that the manual does not use, and everywhere else pages are printed as they are.

/// Columns that a table may take before its rows become paragraphs.
const WIDTH: usize = 100;
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// The page with the terminal's own marks in the place of Markdown's.
pub(super) fn for_terminal(markdown: &str) -> String {
    let mut out = String::new();
    let mut is_code = false;
    let mut table: Vec<Vec<String>> = Vec::new();
    for line in markdown.lines() {
        let is_row = !is_code && line.starts_with('|');
        if is_row {
            table.push(cells(line));
            continue;
        }
        if !table.is_empty() {
            out.push_str(&columns(&std::mem::take(&mut table)));
        }
        if line.starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            out.push_str(&format!("    {line}\n"));
        } else if line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim();
            out.push_str(&format!("{BOLD}{heading}{PLAIN}\n"));
        } else if line.starts_with("<!--") || (line.is_empty() && out.ends_with("\n\n")) {
            // A comment is for those who read the file, and what it leaves is one blank line.
        } else {
            out.push_str(&emphasised(&without_links(line)));
            out.push('\n');
        }
    }
    out.push_str(&columns(&table));
    out
}

/// The cells of a table's row, without emphasis, since cells are counted.
fn cells(row: &str) -> Vec<String> {
    const BAR: char = '\u{1}';
    let row = row.replace("\\|", &BAR.to_string());
    let inner = row.trim().trim_start_matches('|').trim_end_matches('|');
    let cell = |cell: &str| {
        without_links(cell.trim())
            .replace("**", "")
            .replace(BAR, "|")
    };
    inner.split('|').map(cell).collect()
}

/// A table in columns, or where it is too wide for that, a paragraph for each row.
fn columns(table: &[Vec<String>]) -> String {
    let is_ruler = |row: &&Vec<String>| row.iter().all(|cell| cell.chars().all(|c| c == '-'));
    let rows: Vec<&Vec<String>> = table.iter().filter(|row| !is_ruler(row)).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, |r| r.len()))
        .map(width)
        .collect();
    let fits = widths.iter().map(|w| w + 2).sum::<usize>() <= WIDTH;
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        if fits {
            let padded = row
                .iter()
                .zip(&widths)
                .map(|(cell, w)| format!("{cell:w$}"));
            let line = padded.collect::<Vec<_>>().join("  ");
            let (on, off) = if index == 0 { (BOLD, PLAIN) } else { ("", "") };
            out.push_str(&format!("{on}  {}{off}\n", line.trim_end()));
        } else if index > 0
            && let [first, middle @ .., last] = row.as_slice()
        {
            let middle: Vec<&str> = middle.iter().map(String::as_str).collect();
            let middle = middle.into_iter().filter(|cell| !cell.is_empty());
            let middle = middle.collect::<Vec<_>>().join("; ");
            let head = format!("  {BOLD}{first}{PLAIN}  {middle}");
            out.push_str(&format!("{}\n{}", head.trim_end(), wrapped(last)));
        }
    }
    out
}

/// `text` in lines that are indented below a row's first cell.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + word.chars().count() + 7 > WIDTH {
            out.push_str(&format!("      {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("      {line}\n"));
    }
    out
}

/// `[text](address)` as its text alone.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, address)) = rest.split_once("](") {
        let opened = before.rfind('[');
        let closed = address.find(')');
        let (Some(opened), Some(closed)) = (opened, closed) else {
            break;
        };
        out.push_str(&before[..opened]);
        out.push_str(&before[opened + 1..]);
        rest = &address[closed + 1..];
    }
    out.push_str(rest);
    out
}

/// `**text**` in bold.
fn emphasised(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split("**").enumerate() {
        match index {
            0 => {}
            odd if odd % 2 == 1 => out.push_str(BOLD),
            _ => out.push_str(PLAIN),
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manual::PAGES;

    #[test]
    fn marks_become_the_terminals_own() {
        let page = "# Title\n\n**Now** see [there](x.md).\n\n```sh\n# not a heading | nor a table\n```\n\n<!-- x -->\n\nEnd\n";
        assert_eq!(
            for_terminal(page),
            "\x1b[1mTitle\x1b[0m\n\n\x1b[1mNow\x1b[0m see there.\n\n    # not a heading | nor a table\n\nEnd\n"
        );
    }

    #[test]
    fn a_narrow_table_stands_in_columns() {
        assert_eq!(
            for_terminal("| a | b |\n|---|---|\n| long | x \\| y |\n"),
            "\x1b[1m  a     b\x1b[0m\n  long  x | y\n"
        );
    }

    #[test]
    fn the_rows_of_a_wide_table_are_paragraphs() {
        let long = ["word"; 30].join(" ");
        let shown = for_terminal(&format!(
            "| key | kind | about |\n|---|---|---|\n| k | n | {long} |\n"
        ));
        assert!(
            shown.starts_with("  \x1b[1mk\x1b[0m  n\n      word word"),
            "{shown}"
        );
        assert!(
            shown.lines().all(|line| line.chars().count() <= WIDTH),
            "{shown}"
        );
        assert_eq!(shown.matches("word").count(), 30);
    }

    #[test]
    fn no_page_leaves_marks_behind() {
        for page in PAGES {
            let shown = for_terminal(page.text);
            for mark in ["```", "**", "|---", "](", "<!--"] {
                assert!(!shown.contains(mark), "{} has {mark}", page.topic);
            }
        }
    }
}
