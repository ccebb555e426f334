//! What the proxy holds of a body that nobody reads stays within the windows that it and its reader give, and a few frames.
//! Judged where both sides count, which is over HTTP/2. Every addend of the bound is derived where it stands.

use crate::run::Run;
use crate::wires::Body;

/// The largest DATA frame: nobody here raises what SETTINGS_MAX_FRAME_SIZE begins with (RFC 9113 section 6.5.2).
const FRAME: u64 = 16 << 10;

/// What a stream's sender may send before it has heard how wide its reader's window is (section 6.9.2).
const UNTOLD: u64 = (64 << 10) - 1;

/// What the proxy lets a backend be ahead on a stream. It gives the window back with each frame that it reads.
const TO_BACKENDS: u64 = 256 << 10;

/// What the proxy keeps of a request's body for another backend. One that died may have had all of it, and read nothing.
const KEPT: u64 = 64 << 10;

pub(super) fn check(run: &Run) -> Vec<String> {
    let plan = &run.plan;
    let manners = plan.backends.iter().filter_map(|b| b.manner);
    // The proxy sends to none that has not said how wide its windows are.
    let backends = manners.map(|m| u64::from(m.window)).max().unwrap_or(0);
    let listeners = plan.config.listeners.iter().filter_map(|l| l.http2);
    let ours = listeners.map(|h| u64::from(h.stream_window)).max();
    let ahead = plan.config.upstreams.iter().map(|u| u.buffer_request);
    let ahead = ahead.max().unwrap_or(0) as u64;
    let mut found = Vec::new();
    for (body, flow) in &run.book.wires.flows {
        let (most, name, id) = match *body {
            // From the client: its window, which it may not have heard of. In the proxy: what is read ahead of a place, up to the
            // frame that fills it, or what is kept for another backend; and the last frame, which waits for the stream's end.
            // Nothing goes to a backend beyond its window.
            Body::Request(id) => (
                ours.unwrap_or(0).max(UNTOLD) + KEPT.max(ahead + FRAME) + FRAME + backends,
                "the body of",
                id,
            ),
            // From the backend: its window. In the proxy: the frame that was read last, wherever it is, for no other is read
            // before it has gone to the client's connection; and one there, which is given to it as soon as there is room for a
            // byte. The client's window is known, since it comes before the first request.
            Body::Answer(execution) => {
                let id = run.book.executions[execution].request;
                let most = TO_BACKENDS + 2 * FRAME + window_of(run, id);
                (most, "the answer to", id)
            }
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

/// The window of the client that asked; of a probe, which speaks as one of the groups does, the widest.
fn window_of(run: &Run, id: u64) -> u64 {
    let speech = &run.plan.speech;
    let request = usize::try_from(id).map(|id| &run.book.requests[id]);
    let group = request.ok().and_then(|request| speech.get(request.group));
    let window = |http2: crate::model::speech::Streams| u64::from(http2.window);
    match group {
        Some(speech) => speech.http2.map_or(0, window),
        None => {
            let all = speech.iter().filter_map(|s| s.http2);
            all.map(window).max().unwrap_or(0)
        }
    }
}
