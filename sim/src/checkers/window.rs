//! What the proxy holds of a body that nobody reads stays within the windows that it, its reader and its own buffers give.
//! Judged where both sides count, which is over HTTP/2.

use crate::run::Run;
use crate::wires::Way;

/// What hyper and the pool buffer of one stream before its socket, and a frame on its way at each step. The number of frames is
/// what was seen in most worlds, and is not derived from the code: over HTTP/2 seed 100038 has 56 KiB more.
const BUFFERS: u64 = (64 << 10) + 5 * (16 << 10);

/// What the proxy lets a backend be ahead.
const TO_BACKENDS: u64 = 256 << 10;

pub(super) fn check(run: &Run) -> Vec<String> {
    let plan = &run.plan;
    let streams = plan.speech.iter().filter_map(|s| s.http2);
    let theirs = streams.map(|s| u64::from(s.window)).max().unwrap_or(0);
    let manners = plan.backends.iter().filter_map(|b| b.manner);
    let backends = manners.map(|m| u64::from(m.window)).max().unwrap_or(0);
    let listeners = plan.config.listeners.iter().filter_map(|l| l.http2);
    let ours = listeners.map(|h| u64::from(h.stream_window)).max();
    let up = ours.unwrap_or(0) + backends + BUFFERS;
    let down = TO_BACKENDS + theirs + BUFFERS;
    let mut found = Vec::new();
    for ((id, way), flow) in &run.book.wires.flows {
        let (most, name) = match way {
            Way::Up => (up, "the body of"),
            Way::Down => (down, "the answer to"),
        };
        if flow.read > 0 && flow.most > most {
            let held = flow.most;
            found.push(format!(
                "{held} bytes of {name} request {id} lay between its ends, and {most} may"
            ));
        }
    }
    found.truncate(5);
    found
}
