//! A tunnel is one for both ends or for none, its bytes arrive complete or it visibly breaks off, and there are never more of
//! them than may be. (That the bytes are the right ones, in order, is seen where they are read.)

use crate::ledger::End;
use crate::run::Run;
use crate::wires::{Ending, Tunnel};

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    for (id, tunnel) in &run.book.wires.tunnels {
        if tunnel.told && !tunnel.agreed {
            found.push(format!("tunnel {id} was opened, and no backend agreed"));
        }
        let Tunnel {
            up,
            down,
            read_up,
            read_down,
            ..
        } = *tunnel;
        let ways = [("backend", read_up, up), ("client", read_down, down)];
        for (reader, read, ended) in ways {
            // Who never heard of a tunnel did not end it.
            if let Some(read) = read
                && tunnel.told
                && !(is_http2(run, *id) && ended == Ending::Cut && down != Ending::Open)
                && ended != Ending::At(read)
            {
                found.push(format!(
                    "the {reader} of tunnel {id} read an end behind {read} bytes, and what was said is {ended:?}"
                ));
            }
        }
        let end = usize::try_from(*id).ok();
        let end = end.and_then(|i| run.book.requests.get(i)?.end);
        let whole = matches!(end, Some((_, End::Answered { .. }))) && tunnel.told;
        // What was killed behind its own end did not hear the other.
        if whole && read_up.is_none() && run.plan.faults.is_empty() {
            found.push(format!(
                "tunnel {id} ended in order for its client, and not for its backend"
            ));
        }
    }
    for (upstream, most) in &run.book.wires.most {
        let model = &run.plan.config.upstreams[*upstream];
        if model.max_tunnels.is_some_and(|max| *most > max as usize) {
            let name = &model.name;
            found.push(format!("{name} had {most} tunnels at once"));
        }
    }
    if run.stopped.is_none() {
        for upstream in run.status.iter().filter(|u| u.tunnels > 0) {
            let (name, tunnels) = (&upstream.name, upstream.tunnels);
            found.push(format!(
                "{name} says that it has {tunnels} tunnels, after all is over"
            ));
        }
    }
    found.truncate(5);
    found
}

/// Behind our own end, hyper reads a stream that its client cancels as one that has ended.
fn is_http2(run: &Run, id: u64) -> bool {
    let request = usize::try_from(id).ok();
    let request = request.and_then(|i| run.book.requests.get(i));
    let speech = request.and_then(|r| run.plan.speech.get(r.group));
    speech.is_some_and(|s| s.http2.is_some())
}
