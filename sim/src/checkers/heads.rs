//! A backend sees the request that its client made: target, authority and method, with nothing that belongs to a connection of
//! HTTP/1.1 where HTTP/2 is spoken (RFC 9113 section 8), and cookies in one field where it is not (section 8.2.3).

use crate::run::Run;
use crate::wires::Seen;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found: Vec<String> = run
        .book
        .wires
        .heads
        .iter()
        .filter_map(|seen| look(run, seen))
        .collect();
    found.truncate(5);
    found
}

fn look(run: &Run, seen: &Seen) -> Option<String> {
    let id = seen.request;
    let request = usize::try_from(id).ok();
    let request = request.and_then(|i| run.book.requests.get(i))?;
    let (model, _) = run.plan.clients.get(request.group)?;
    let asked = model.requests.get(request.kind)?;
    let cookies = run.plan.speech.get(request.group)?.cookies;
    let wrong = |what: String| Some(format!("request {id} reached its backend with {what}"));
    if seen.path != asked.path {
        return wrong(format!(
            "the target {} instead of {}",
            seen.path, asked.path
        ));
    }
    if seen.method != asked.method {
        return wrong(format!("the method {}", seen.method));
    }
    if seen.hosts != [asked.host.as_str()] {
        return wrong(format!("the authority {:?}", seen.hosts));
    }
    let scheme = match (seen.http2, seen.tls) {
        (false, _) => "",
        (true, true) => "https",
        (true, false) => "http",
    };
    if seen.scheme != scheme {
        return wrong(format!("the scheme {:?}", seen.scheme));
    }
    if !seen.misplaced.is_empty() {
        return wrong(format!("{:?} over HTTP/2", seen.misplaced));
    }
    let sent: Vec<String> = (0..cookies).map(|i| format!("c{i}={id}")).collect();
    if seen.cookies.join("; ") != sent.join("; ") {
        return wrong(format!("the cookies {:?}", seen.cookies));
    }
    if !seen.http2 && seen.cookies.len() > 1 {
        return wrong(format!("{} Cookie fields", seen.cookies.len()));
    }
    None
}
