//! What an answer to an unruly client is, held against what was asked.

use super::script::{Ask, Target};
use crate::ledger::{End, Ledger};
use crate::model::forgery;
use crate::model::message::Head;
use crate::model::pattern::Whose;

/// What came of a request, which is an `ask` with its id. Its answer must be its own: from whom it was asked of, and with the
/// body that is due, as far as that has come. The listener takes bodies up to `limit`.
pub(super) fn judge(
    ledger: &Ledger,
    asked: (&Ask, u64),
    limit: Option<u64>,
    head: &Head,
    body: &[u8],
    whole: bool,
) -> End {
    let (ask, id) = asked;
    let status = head.status;
    let mut book = ledger.book();
    let made = head.number("x-gen").and_then(|n| usize::try_from(n).ok());
    let made = made.and_then(|n| book.made.get(n).copied());
    let mut wrong = |what: String| {
        let asked = format!("{} {}", ask.method, ask.path());
        book.violation("order", format!("request {id} ({asked}) {what}"));
    };
    match (&ask.target, head.id, made) {
        (Target::Own(_, own), None, None) => {
            let too_large = status == 413 && ask.exceeds(limit);
            if status != *own && !too_large {
                wrong(format!("was answered with {status} instead of {own}"));
            }
            if forgery::WAYS.contains(&&*ask.path()) {
                book.reach("a closed path in some spelling");
            }
            return End::Refused { status };
        }
        (Target::Own(..), ..) => wrong("was answered by a backend".to_string()),
        (_, None, None) => {
            if status < 500 && !(status == 413 && ask.exceeds(limit)) {
                wrong(format!("was answered by the proxy with {status}"));
            }
            return End::Refused { status };
        }
        (Target::Backend(_), Some(answered), _) => {
            let size = if status < 500 { ask.size } else { 0 };
            if answered != id {
                wrong(format!("got the answer to request {answered}"));
            } else if (whole && body.len() != size) || !Whose::Answer(id).matches(0, body) {
                wrong(format!("got {} bytes instead of its {size}", body.len()));
            }
        }
        (Target::Backend(_), None, Some(_)) => wrong("got a page".to_string()),
        (Target::Page(page), _, Some(made)) => {
            let bytes = made.rep.bytes(0, made.size);
            if made.rep.page != *page {
                wrong(format!("got page {}", made.rep.page));
            } else if ask.method == "POST" && made.request != id {
                wrong(format!("got the answer to request {}", made.request));
            } else if ask.method == "GET" && !bytes.starts_with(body) {
                wrong("got a page with another content".to_string());
            } else if ask.method == "GET" && whole && bytes.len() != body.len() {
                wrong("got a page that is not whole".to_string());
            }
        }
        // Others may wait for one fetch, and hear of its failure.
        (Target::Page(_), Some(answered), None) if answered != id && ask.method != "GET" => {
            wrong(format!("got the answer to request {answered}"));
        }
        (Target::Page(_), Some(_), None) => {}
    }
    End::Answered { status }
}
