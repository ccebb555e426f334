//! What is for one is never given to another: an answer that is private, sets a cookie, is not to be stored, or was asked for
//! with credentials and not lifted (RFC 9111 section 3.5) belongs to the request that it was made for.

use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let book = &run.book;
    let answers = book.visits.iter().filter_map(|(id, visit)| {
        let made = book.made.get(visit.got.as_ref()?.made?)?;
        Some((*id, &visit.asked, made))
    });
    let shared = answers.filter(|(id, asked, made)| {
        let own = made.request == *id;
        let mine = made.rep.user == 0 || made.rep.user == asked.user;
        !mine || (!own && !made.shareable)
    });
    shared
        .map(|(id, asked, made)| {
            let (for_whom, terms) = (made.request, made.terms.field());
            format!(
                "visit {id} by user {} got what was made for request {for_whom} by user {} ({terms})",
                asked.user, made.rep.user
            )
        })
        .take(5)
        .collect()
}
