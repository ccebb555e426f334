//! Datagrams at L4 come as they are, at most once, to one backend a session; replies go to their client alone. Most of it is
//! judged where they are received. Here: nothing was made up, and where nothing is short and nothing goes wrong nothing is lost.

use std::time::Duration;

use weirkeeper::time::Tick;

use crate::run::Run;

/// Datagrams that pass before the first reply.
const UNANSWERED: u32 = 8;

/// What a reply takes to its client at most.
const TRANSIT: Duration = Duration::from_millis(50);

pub(super) fn check(run: &Run) -> Vec<String> {
    let Some(traffic) = &run.plan.traffic else {
        return Vec::new();
    };
    let book = &run.book.l4;
    let mut found = Vec::new();
    for (size, (sent, received)) in &book.small {
        if received > sent {
            found.push(format!(
                "{received} datagrams of {size} bytes came, and {sent} were sent"
            ));
        }
    }
    if traffic.calm && run.stopped.is_none() {
        for (id, asker) in &book.askers {
            let mine = book.sessions.iter().filter(|s| s.asker == Some(*id));
            let came: u32 = mine.map(|s| s.received).sum();
            let lost = match asker.all {
                0..=UNANSWERED => asker.sent.contains(&false),
                // Which of them come first is the network's choice.
                _ => (1..UNANSWERED).contains(&came),
            };
            if lost {
                let all = asker.all;
                found.push(format!(
                    "of the {all} datagrams of client {id} only {came} came to a backend"
                ));
            }
        }
        for (number, session) in book.sessions.iter().enumerate() {
            let over = session.asker.and_then(|id| book.askers.get(&id)?.over);
            let heard = |at: Tick| over.is_some_and(|over| at + TRANSIT < over);
            if session.replies.iter().any(|r| !r.got && heard(r.at)) {
                found.push(format!(
                    "a reply of session {number} never came to its client"
                ));
            }
        }
    }
    found.truncate(5);
    found
}
