//! Variants are never mixed (RFC 9111 section 4.1): who asks for a language or a coding gets the page in it.

use crate::model::origin::coding;
use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let Some(site) = &run.plan.site else {
        return Vec::new();
    };
    let book = &run.book;
    let mut found = Vec::new();
    for (id, visit) in &book.visits {
        let made = visit.got.as_ref().and_then(|g| book.made.get(g.made?));
        let asked = &visit.asked;
        let (Some(made), Some(page)) = (made, site.pages.get(asked.page)) else {
            continue;
        };
        let of = |on: bool, what: usize| if on { what } else { 0 };
        let wanted = (
            of(page.by_language, asked.language),
            of(page.by_coding, coding(Some(asked.codings))),
        );
        let got = (made.rep.language, made.rep.coding);
        if got != wanted {
            found.push(format!("visit {id} ({asked:?}) got variant {got:?}"));
        }
    }
    found.truncate(5);
    found
}
