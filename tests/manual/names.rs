//! Names in the pages: files, metrics, topics, rooms. What a page names is there, and what there is, a page names.

use std::collections::BTreeSet;

use weirkeeper::manual::PAGES;

use super::{page, pages, read, root, rows, spans};
use crate::tidy;

/// Beginnings of paths that are files of this repository.
const FOLDERS: [&str; 6] = ["fixtures/", "src/", "sim/", "tests/", "benches/", ".ci/"];

#[test]
fn every_file_that_a_page_names_is_there() {
    let mut named = 0;
    for (name, page) in pages() {
        for span in spans(&page) {
            let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder));
            if is_path && !span.contains("NAME") && !span.contains(' ') {
                assert!(root().join(span).exists(), "{name} names {span}");
                named += 1;
            }
        }
    }
    assert!(named > 15, "{named} files are named");
}

#[test]
fn the_readme_leads_to_every_page_and_links_lead_somewhere() {
    let readme = read("README.md");
    let listed = rows(&readme, "## Where to go on");
    let expected: Vec<Vec<String>> = PAGES
        .iter()
        .map(|page| {
            let topic = page.topic;
            vec![
                format!("[{topic}](src/manual/{topic}.md)"),
                page.about.to_owned(),
            ]
        })
        .collect();
    assert_eq!(listed, expected);
    for link in readme.split("](").skip(1) {
        let target = link.split(')').next().unwrap_or_default();
        if !target.starts_with('#') {
            assert!(root().join(target).exists(), "{target}");
        }
    }
}

#[test]
fn the_readme_is_a_beginning_and_not_the_manual() {
    assert!(read("README.md").lines().count() <= 220);
}

/// The sources of the product, for words that must stand in them.
fn sources(folder: &str) -> String {
    let mut paths = Vec::new();
    tidy::walk(&root().join(folder), &mut paths);
    let texts = paths.iter().map(std::fs::read_to_string);
    texts
        .map(|text| text.expect("a source is readable"))
        .collect()
}

#[test]
fn every_metric_that_a_page_names_is_counted() {
    let telemetry = sources("src/telemetry");
    let mut named = BTreeSet::new();
    for (name, page) in pages() {
        for span in spans(&page) {
            if span.starts_with("weir_") && !span.contains('*') {
                let family = span.strip_suffix("_total").unwrap_or(span);
                let is_counted = telemetry.contains(&format!("\"{family}\""));
                assert!(is_counted, "{name} names {span}");
                named.insert(span.to_owned());
            }
        }
    }
    assert!(named.len() > 25, "{named:?}");
}

#[test]
fn the_pages_ladder_is_the_one_that_is_held() {
    let shown = rows(page("architecture"), "## The ladder");
    let mut rungs: Vec<(u8, Vec<String>)> = Vec::new();
    for (room, rung) in tidy::RUNGS {
        match rungs.last_mut() {
            Some((last, rooms)) if *last == rung => rooms.push(format!("`{room}`")),
            _ => rungs.push((rung, vec![format!("`{room}`")])),
        }
    }
    let expected: Vec<Vec<String>> = rungs
        .into_iter()
        .map(|(rung, rooms)| vec![rung.to_string(), rooms.join(" ")])
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn every_fault_of_a_scenario_has_a_row() {
    use weirkeeper_sim::scenario::FaultKind;
    let shown: Vec<&str> = rows(page("rehearsing"), "## Scenarios")
        .into_iter()
        .flat_map(|row| row[0].split(", ").collect::<Vec<_>>())
        .collect();
    let kinds = FaultKind::ALL.iter().chain(&FaultKind::REDIS);
    for kind in kinds {
        let code = format!("`{}`", kind.name());
        assert!(shown.contains(&code.as_str()), "{code} has no row");
    }
}
