//! Weirkeeper: a reverse proxy and load balancer whose serving code also runs in a deterministic simulator.
//!
//! This page is the map. It says which room owns what, who may call whom, and what holds everywhere, also of what is absent.
//!
//! # The rooms
//!
//! | rung | room | owns |
//! |---|---|---|
//! | 0 | [`time`] | [`time::Tick`], nanoseconds since the start, and [`time::Wall`], the date; reads no clock |
//! | 0 | [`rng`] | seeded generators with named substreams; draws no entropy |
//! | 0 | [`manual`] | the manual, one page a topic, as `weir help` prints it |
//! | 1 | [`message`] | what both sides must agree on about a message: target, fields of a head, hop-by-hop, affinity, causes |
//! | 2 | [`engine`] | admission, queueing, scheduling, health, routing and retry rules, as state machines |
//! | 2 | [`cache`] | what RFC 9111 lets be stored and served, keys, the bounded store, coalescing, the stored form |
//! | 2 | [`h1`] | the HTTP/1.1 codec of both sides: bytes in, heads and body pieces out, and the reverse |
//! | 2 | [`env`](mod@env) | the seam: network, clock, entropy, spawning; the only place that touches the world |
//! | 2 | [`tls`] | certificates, keys, authorities and their challenges: from PEM files to what the TLS library wants to know |
//! | 3 | [`telemetry`] | counters, histograms, the state of upstreams and of the cache, the access log |
//! | 4 | [`config`] | the file, its compilation, and errors with line, column and path |
//! | 5 | `wire` | streams on their way: TCP or TLS as one type, the relay of bytes, deadlines that a sweep watches over |
//! | 6 | `tier` | the cache's second tier: the client of Redis |
//! | 7 | `upstream` | everything towards backends: admission, connections, checks, tries, one exchange, over HTTP/1.1 or HTTP/2 |
//! | 8 | `caching` | the async half of the cache: look, lead or follow, fill |
//! | 8 | `site` | a generation of the config at work, the client whom it serves, certificates, answers of the proxy's own |
//! | 9 | `l7` | the life of an HTTP request: the client's connection, the walk, the way out |
//! | 9 | `l4` | connections of TCP and sessions of UDP |
//! | 10 | [`proxy`] | what makes a process of it: bind, accept, sweep, drain |
//! | 11 | [`admin`] | health, readiness, metrics and purges of the cache, on a listener of their own |
//! | 11 | [`acme`] | certificates that authorities issue (RFC 8555): orders, their files, their renewal, on a thread of its own |
//! | 12 | [`cli`] | one file a subcommand |
//! | 13 | `main` | arguments to a runtime to an exit code |
//!
//! **The ladder.** A room imports only from lower rungs, and rooms on one rung never import each other. A test reads the
//! `use` lines and paths and fails on a step up or across; re-exports by a parent module or by this root are no way around
//! it. The simulator is a crate of its own and stands outside: it calls us, and we do not know it.
//!
//! **No circles.** Inside a room no file names another that names it in turn, whatever way that takes. A file may name the module
//! that it is a part of. Another test follows the paths and shows a circle with the lines that close it.
//!
//! **Pure rooms.** `message`, `engine`, `cache` and `h1` have no async, no I/O, no clock, no entropy and no logging. Time and
//! randomness are arguments. So a test runs millions of their events a second, and the simulator runs the very code that
//! serves.
//!
//! **The shell** is made of `wire`, `tier`, `upstream`, `caching`, `site`, `l7`, `l4` and `proxy`, generic over one `E: Env`.
//! It locks the engine, decides, unlocks, and only then awaits. Of tokio it knows the traits of streams and what tasks of one
//! process share (semaphores, notices), and neither socket, timer nor runtime: these come from [`env::Env`]. In the product
//! that is [`env::tokio`], one current-thread runtime a core; in the simulator it is a network and a clock made of data.
//!
//! **Client and backend are cut apart.** What works towards backends knows an `Errand` (its core and its own deadline) and an
//! `Origin` (whom backends are told of). The client's connection is known to `site`, `l7` and `l4` alone.
//!
//! **Generations.** A `Site` is one generation of the config at work. A request takes the latest when its head has come, a
//! connection at L4 when it is accepted, and ends by that one. Upstreams and backends go by their names: who keeps its name keeps
//! its waiters, what is in flight, its connections and its counters, wherever in the config it stands. A test lets generations
//! follow each other under simulated load; no command does so yet.
//!
//! # The life of a request
//!
//! One function in `l7` reads like this list. It calls down and is never called back; there is no middleware tower.
//!
//! 1. Accept: first a permit, then the socket.
//! 2. Parse the head, refuse what RFC 9110 and RFC 9112 refuse, normalise the target once (`h1`, `message`). HTTP/1.1 is ours
//!    on both sides; the frames of HTTP/2 towards clients are a library's.
//! 3. Route on a snapshot of the config, so that a change of it is invisible to a request under way (`engine::router`).
//! 4. Look in the cache, where the route has one: what is fresh is the answer, what is stale is validated, and a miss is
//!    fetched once for all who ask meanwhile (`cache`). A hit ends here, and takes no place in the upstream.
//! 5. Offer to the upstream (`engine::upstream`): admitted, waiting, or shed with a reason. Admission and the choice of the
//!    backend happen under one lock, so no slot is lost between them.
//! 6. Connect, or reuse an idle connection, or take a stream on one that others use as well.
//! 7. Forward: rewrite, send, read the response's head (`h1`, or HTTP/2 in `upstream::h2`).
//! 8. Record the outcome. On failure the retry rule says again (another backend, each once) or give up.
//! 9. Fill the cache while the body passes, if it may be stored (`cache::policy`).
//! 10. Leave: one function applies the route's rules, says what the cache did, drops what an answer makes outdated, and streams
//!     or synthesises the body. Which status a cause has only `site::respond` knows.
//!
//! At L4 the steps are 1, 5, 6 and 8, with the copying both ways in between: `l4::tcp` over `wire::relay`, and `l4::udp` over
//! [`engine::sessions`].
//!
//! # What holds everywhere
//!
//! - **One answer.** Every offer ends in exactly one of finished, shed or cancelled. Dropping a lease reports it as cancelled,
//!   so a client that leaves never leaks a slot.
//! - **Capacity is exact.** One engine serves every core. No backend has more than its `max_in_flight` requests at once, and
//!   no more open connections than that either, busy and idle together; upgraded ones have a bound of their own, and a health
//!   check comes beside them. After an abort a backend may go on working on a request that nobody waits for; such orphans are
//!   not ours to count.
//! - **Work-conserving.** If a backend may take a request, no request for which it is eligible waits.
//! - **Everything has a bound**: queue, heads, connections, retries. A refusal names its reason.
//! - **At most once.** A request whose method is not idempotent is never sent again once a byte of it may have arrived.
//! - **Back-pressure.** A body is held in pieces, never whole: a slow reader slows the writer. What is being stored is held
//!   whole, within a bound of its own; beyond it the body passes unstored.
//! - **L4 passes bytes as they are.** A connection's bytes are never lost or reordered when either side closes, and who
//!   breaks off is never taken for an end. A datagram is never merged or cut, and a reply goes to the client whom it answers.
//! - **Never another's.** A response is served to a request only as RFC 9111 allows a shared cache. Where a rule can be read in
//!   two ways, the one that shares less holds.
//! - **One reading.** A rule for paths is matched against the path that is forwarded and against the one that the most lenient
//!   server makes of it. What no two readers agree on within a place is refused.
//! - **Nobody's word but a proxy's.** What backends believe of a proxy in front passes from trusted proxies alone, and neither a
//!   rule nor a backend sees it of others.
//! - **No round.** What has been sent to an upstream is not sent there a second time when it comes back.
//! - **One framing.** What leaves us has exactly one certain length; what comes in with two readings is refused.
//! - **Determinism.** With the same seed, config and scenario, two simulated runs make the same decisions in the same order.
//!   Hence: no unordered maps, no clock and no spawning outside the seam, `biased` selects, no state in threads.
//! - **Errors are values.** Each room has a closed enum; [`message::cause::Cause`] says whose doing it was. A panic is
//!   caught per request, and a poisoned lock is recovered and its invariants checked.
//!
//! # What is absent
//!
//! - No middleware or plug-in interface: the walk is one function, and a new step is a change to it.
//! - No pooled HTTP client: idle connections are ours, because they count against a backend's capacity.
//! - No scheduler per core: fairness and capacity would then hold per core only.
//! - No global state: no statics that change, no thread-locals, since simulated hosts share one thread.
//! - No `unsafe` in this crate or in the simulator.
//! - Not built yet: reload.

pub mod acme;
pub mod admin;
pub mod cache;
mod caching;
pub mod cli;
pub mod config;
pub mod engine;
pub mod env;
pub mod h1;
mod l4;
mod l7;
pub mod manual;
pub mod message;
pub mod proxy;
pub mod rng;
mod site;
pub mod telemetry;
mod tier;
pub mod time;
pub mod tls;
mod upstream;
mod wire;
