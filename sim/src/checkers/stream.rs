//! Connections at L4 are passed on byte for byte: what one end says the other gets, in its order; an end in order is an end in
//! order, and all was there; what breaks is seen to break; and a client's words come to one backend alone. (The bytes are
//! judged where they are read.)

use std::time::Duration;

use weirkeeper::time::Tick;

use crate::ledger::l4::{Conn, Heard, Joint};
use crate::run::Run;
use crate::scenario::FaultKind;

/// A connection that may be silent for so long is never ended for its silence.
const PATIENT: Duration = Duration::from_secs(60);

pub(super) fn check(run: &Run) -> Vec<String> {
    if run.plan.traffic.is_none() || run.stopped.is_some() {
        return Vec::new();
    }
    let book = &run.book.l4;
    let mut found = Vec::new();
    for (id, conn) in &book.conns {
        let met = book.joints.iter().enumerate();
        let met = met.clone().find(|(_, j)| j.conn == Some(*id));
        let joint = conn.joint.and_then(|j| Some((j, book.joints.get(j)?)));
        if let (Some((a, other)), Some((b, _))) = (joint, met)
            && a != b
            && (conn.joint.is_some() && other.conn != Some(*id))
        {
            found.push(format!(
                "connection {id} spoke to joint {b} and heard joint {a}"
            ));
        }
        let joint = met.or(joint);
        found.extend(client(run, *id, conn, joint));
        if let Some((number, joint)) = joint {
            found.extend(backend(*id, conn, number, joint));
            found.extend(whole(run, *id, conn, number, joint));
        }
    }
    let mut open = book.joints.iter().filter(|j| j.end.over.is_none());
    if let Some(joint) = open.next() {
        found.push(format!(
            "a connection to a backend is open after all is over: {joint:?}"
        ));
    }
    found.truncate(5);
    found
}

/// What the client heard.
fn client(run: &Run, id: u64, conn: &Conn, joint: Option<(usize, &Joint)>) -> Option<String> {
    if conn.end.heard != Some(Heard::End) || conn.barred {
        return None;
    }
    let Some((number, joint)) = joint else {
        // It said nothing before a backend that ended at once. There must have been one.
        let silent = |j: &&Joint| {
            let within = j.began >= conn.began && conn.end.over.is_none_or(|over| j.began <= over);
            j.conn.is_none() && j.end.ended && j.end.sent == 0 && within
        };
        let ended = run.book.l4.joints.iter().any(|j| silent(&j));
        return (!ended).then(|| format!("connection {id} ended in order, and no backend had it"));
    };
    if !joint.end.ended {
        return Some(format!(
            "connection {id} ended in order, and joint {number} had broken off after {} bytes",
            joint.end.sent
        ));
    }
    (conn.end.got != joint.end.sent).then(|| {
        format!(
            "connection {id} ended in order after {} of the {} bytes of joint {number}",
            conn.end.got, joint.end.sent
        )
    })
}

/// What the backend heard.
fn backend(id: u64, conn: &Conn, number: usize, joint: &Joint) -> Option<String> {
    if joint.end.heard != Some(Heard::End) {
        return None;
    }
    if !conn.end.ended {
        return Some(format!(
            "joint {number} ended in order, and connection {id} had broken off after {} bytes",
            conn.end.sent
        ));
    }
    (joint.end.got != conn.end.sent && joint.conn == Some(id)).then(|| {
        format!(
            "joint {number} ended in order after {} of the {} bytes of connection {id}",
            joint.end.got, conn.end.sent
        )
    })
}

/// Where nobody broke off, both got everything.
fn whole(run: &Run, id: u64, conn: &Conn, number: usize, joint: &Joint) -> Option<String> {
    let listener = &run.plan.config.listeners[conn.listener];
    let over = conn.end.over?;
    let disturbed = conn.unwilling
        || !joint.willing
        || listener.timeouts.tunnel < PATIENT
        || struck(run, joint.backend, conn.began, over);
    if disturbed {
        return None;
    }
    let heard = [conn.end.heard, joint.end.heard];
    (heard != [Some(Heard::End); 2]).then(|| {
        format!(
            "connection {id} and joint {number} were to end in order, and heard {heard:?} after {} and {} bytes",
            conn.end.got, joint.end.got
        )
    })
}

/// Did a fault that breaks connections strike the backend meanwhile?
fn struck(run: &Run, backend: usize, from: Tick, to: Tick) -> bool {
    let name = &run.plan.backends[backend].name;
    run.plan.faults.iter().any(|fault| {
        let at = Tick::ZERO + run.plan.warmup + fault.at.0;
        let breaks = matches!(fault.kind, FaultKind::Crash | FaultKind::Reset);
        breaks && fault.backend == *name && at >= from && at <= to
    })
}
