//! Who says what it has is not sent it again, whether or not the page may be stored (RFC 9110 section 13.1.2).

use crate::model::content::Validator;
use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let Some(site) = &run.plan.site else {
        return Vec::new();
    };
    let visits = run.book.visits.iter();
    let found = visits.filter_map(|(id, visit)| {
        let (asked, got) = (&visit.asked, visit.got.as_ref()?);
        let made = run.book.made.get(got.made?)?;
        let page = site.pages.get(asked.page)?;
        let tagged = matches!(page.validator, Validator::Strong | Validator::Weak);
        let again = tagged && got.status == 200 && asked.has?.tag() == made.rep.tag();
        again.then(|| format!("visit {id} was sent what it has ({asked:?}): {}", got.cache))
    });
    found.take(5).collect()
}
