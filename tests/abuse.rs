//! Malformed and hostile input on real sockets. Each case asserts on the bytes that the backend received, then sends a good
//! request on a new connection and, where it is still open, on the same one. At the end of each test the process lives and
//! its descriptors are back where they were. Absent: whatever needs a clock to show (slow clients, floods).

#![allow(
    clippy::disallowed_methods,
    reason = "tests on real sockets stand outside the seam: they are the world that it looks at"
)]

mod answers;
mod chunks;
mod families;
mod fields;
mod forged;
mod frames;
mod framing;
mod limits;
mod names;
mod paths;
mod races;

use crate::support::backend::{Backend, Log};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

/// What must become of a probe.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// One of these statuses, nothing behind it on the connection is executed, and the backend sees no byte of it.
    Refused(&'static [u16]),
    /// As `Refused`, or 200 and exactly one request at the backend.
    RefusedOrOne(&'static [u16]),
    /// 200, and exactly one request at the backend.
    One,
    /// 400 or a cut connection; the head may have reached the backend, a whole request never does.
    Cut,
}

/// A case: its name, the bytes that the client sends, and what must become of them. The target to be served is `/probe`; what
/// must never be executed is `/smuggled`.
struct Probe {
    name: &'static str,
    raw: Vec<u8>,
    want: Want,
}

fn probe(name: &'static str, raw: impl Into<Vec<u8>>, want: Want) -> Probe {
    let raw = raw.into();
    Probe { name, raw, want }
}

/// A request that hides behind another one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test.example\r\n\r\n";

/// A proxy in front of one backend that answers 200 to everything, and the state to which it must return.
struct Scene {
    weir: Weir,
    backend: Backend,
    descriptors: usize,
}

impl Scene {
    fn new() -> Self {
        Scene::with(Backend::ok(), Extra::default())
    }

    fn with(backend: Backend, extra: Extra<'_>) -> Self {
        let weir = Weir::start(&config(&[backend.port], extra));
        let descriptors = weir.descriptors();
        Scene {
            weir,
            backend,
            descriptors,
        }
    }

    /// Runs every probe, then ends the scene.
    fn run(mut self, probes: Vec<Probe>) {
        for probe in &probes {
            eprintln!("probe: {}", probe.name);
            self.probe(probe);
        }
        let log = self.end();
        assert!(!log.saw("/smuggled"), "a smuggled request was executed");
    }

    fn probe(&mut self, probe: &Probe) {
        let Probe { name, raw, want } = probe;
        self.backend.forget();
        let mut client = Client::connect(self.weir.port);
        let answer = client.ask(raw);
        let status = answer.as_ref().map_or(0, |r| r.status);
        let served = status == 200;
        let fits = match want {
            Want::Refused(statuses) => statuses.contains(&status),
            Want::RefusedOrOne(statuses) => served || statuses.contains(&status),
            Want::One => served,
            Want::Cut => status == 400 || answer == Err(Broken::Closed),
        };
        assert!(fits, "{name}: wanted {want:?}, got {answer:?}");

        let mut good = 0;
        if !served {
            // Either the connection is over, or it goes on in step: the very next answer is the good request's.
            match client.ask(get("/good")) {
                Ok(r) => {
                    assert_eq!(
                        (r.status, r.text().as_str()),
                        (200, "ok"),
                        "{name}: out of step"
                    );
                    good += 1;
                }
                Err(e) => assert_eq!(e, Broken::Closed, "{name}: the connection is left broken"),
            }
        }
        drop(client);
        self.good(name);
        good += 1;

        let log = self.backend.log();
        assert!(
            !log.saw("/smuggled"),
            "{name}: the backend saw the smuggled request"
        );
        assert_eq!(log.count("GET /good "), good, "{name}: {:?}", log.lines());
        let probes = log.requests.len() - good;
        match want {
            Want::Cut => assert_eq!(probes, 0, "{name}: {:?}", log.lines()),
            _ if served => {
                assert_eq!(probes, 1, "{name}: {:?}", log.lines());
                assert!(log.broken.is_empty(), "{name}: {:?}", log.broken);
            }
            _ => {
                assert!(!log.saw("/probe"), "{name}: the backend was to see nothing");
                assert_eq!(probes, 0, "{name}: {:?}", log.lines());
                assert!(log.broken.is_empty(), "{name}: {:?}", log.broken);
            }
        }
    }

    /// A good request on a new connection is answered.
    fn good(&self, after: &str) {
        let response = self.weir.once(get("/good"));
        assert_eq!(response.status, 200, "after {after}: {response:?}");
    }

    /// Checks that the process lives and has let go of everything; gives what the backend saw.
    fn end(mut self) -> Log {
        self.good("all of it");
        assert!(self.weir.lives(), "the proxy died");
        let (weir, before) = (&self.weir, self.descriptors);
        eventually("open descriptors return to where they were", || {
            weir.descriptors() <= before
        });
        self.backend.log()
    }
}
