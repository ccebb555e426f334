//! A proxy in this process: one thread and runtime a core, the admin listener beside them, and an orderly end.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::signals::{Request, Signals};
use super::{FAILURE, FINE, runtime};
use crate::acme::{self, Acme};
use crate::admin;
use crate::cache::purge::Purge;
use crate::config::format_duration;
use crate::config::model::{Action, Config, Listener, LogFormat, Protocol};
use crate::config::units::NEVER;
use crate::engine::Strategy;
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env};
use crate::proxy;
use crate::proxy::Proxy;
use crate::proxy::Purged;
use crate::proxy::UrlStatus;
use crate::telemetry::{self, CachingStatus, Layout, Telemetry, UpstreamStatus, access};
use crate::time::Tick;

/// A proxy that serves.
pub(super) struct Server {
    config: Arc<Config>,
    proxy: Arc<Proxy<TokioEnv>>,
    telemetry: Arc<Telemetry>,
    clock: <TokioEnv as Env>::Clock,
    ended: UnboundedReceiver<Ended>,
    running: usize,
    admin: Option<SocketAddr>,
    /// Has certificates issued and renewed, if any are to be had so. Dropping it ends that.
    _acme: Option<Arc<Acme>>,
    /// What the latest look at the certificates has found.
    said_of_certificates: Vec<Result<String, String>>,
}

/// How a core's thread ended.
enum Ended {
    /// Client connections that were cut, and what was under way then.
    Drained(usize, Vec<UpstreamStatus>),
    Panicked,
}

/// What the admin listener shows.
struct View {
    proxy: Arc<Proxy<TokioEnv>>,
    telemetry: Arc<Telemetry>,
    acme: Option<Arc<Acme>>,
    clock: <TokioEnv as Env>::Clock,
}

impl admin::Source for View {
    fn ready(&self) -> bool {
        self.proxy.is_ready()
    }

    fn metrics(&self, out: &mut String) {
        self.telemetry.render(out);
        telemetry::status::render(&self.proxy.upstream_status(), out);
        let acme = self.acme.as_ref().map(|acme| acme.status());
        let certificates = self.proxy.certificates();
        telemetry::status::render_certificates(&certificates, &acme.unwrap_or_default(), out);
        if let Some(caching) = self.proxy.caching_status() {
            telemetry::status::render_caching(&caching, out);
        }
    }

    fn purge(&self, purge: &Purge) -> Purged {
        self.proxy.purge(purge)
    }

    fn caching(&self) -> Option<CachingStatus> {
        self.proxy.caching_status()
    }

    fn stored(&self, url: &str) -> UrlStatus {
        self.proxy.stored(url, self.clock.now())
    }
}

/// How long the last lines of the access log may take to be written.
const FLUSH: Duration = Duration::from_secs(2);
/// How often the files of certificates are read, so that a renewed one is served without a signal.
const LOOK_AT_CERTIFICATES: Duration = Duration::from_secs(10);
/// What cores may take beyond the grace, to cut what is left.
const SLACK: Duration = Duration::from_secs(5);

impl Server {
    /// Binds everything on every core, then serves. Must be called within a runtime.
    ///
    /// # Errors
    /// An address that is taken or cannot be bound, a log that cannot be opened: the text names it. Nothing is served then.
    pub(super) fn start(config: Arc<Config>) -> io::Result<Self> {
        let env = TokioEnv::new()?;
        let cores = match config.workers {
            Some(workers) => workers,
            None => thread::available_parallelism()?.get(),
        };
        refuse_taken(&env, &config)?;
        let log = match &config.access_log {
            Some(log) => Some(access::Writer::start(
                log.path.clone(),
                log_form(log.format),
            )?),
            None => None,
        };
        let telemetry = Arc::new(Telemetry::new(layout(&config), cores, log));
        let proxy = Proxy::new(&env, Arc::clone(&config), Arc::clone(&telemetry))?;
        let (report, ended) = unbounded_channel();
        let mut gates = Vec::new();
        for core in 0..cores {
            let (proxy, env) = (Arc::clone(&proxy), env.for_core(core));
            gates.push(start_core(core, proxy, env, report.clone())?);
        }
        let tell: acme::Tell = Box::new(|news| eprintln!("{news}"));
        let acme = acme::start(&config, &proxy, tell)?.map(Arc::new);
        let admin = match config.admin {
            Some(admin) => {
                let view = View {
                    proxy: Arc::clone(&proxy),
                    telemetry: Arc::clone(&telemetry),
                    acme: acme.clone(),
                    clock: *env.clock(),
                };
                Some(admin::start(admin, Arc::new(view))?)
            }
            None => None,
        };
        for gate in gates {
            // A core that is gone already has reported its panic.
            let _ = gate.send(());
        }
        Ok(Server {
            config,
            proxy,
            telemetry,
            clock: *env.clock(),
            ended,
            running: cores,
            admin,
            _acme: acme,
            said_of_certificates: Vec::new(),
        })
    }

    /// Where the admin listener is, unless it is off.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// One line for each listener: where it is and where it leads.
    pub(super) fn describe(&self) -> Vec<String> {
        let listeners = self.config.listeners.iter().zip(self.proxy.addresses());
        listeners
            .map(|(listener, bound)| {
                let addr = bound.unwrap_or(listener.bind);
                let targets = targets(&self.config, listener);
                let scheme = match (listener.protocol, &listener.tls) {
                    (Protocol::Http, Some(_)) => "https",
                    (Protocol::Tcp, Some(_)) => "tls",
                    (protocol, _) => protocol.name(),
                };
                format!("listening on {scheme}://{addr} -> {targets}")
            })
            .collect()
    }

    /// Serves until a signal asks for the end and what runs has finished or was cut. Returns the exit code.
    pub(super) async fn wait(mut self, signals: &mut Signals) -> u8 {
        let mut code = FINE;
        let mut deadline = Tick::MAX;
        let has_certificates = self.config.listeners.iter().any(|l| l.tls.is_some());
        let mut look = self.clock.now() + LOOK_AT_CERTIFICATES;
        while self.running > 0 {
            let sleep = self.clock.sleep_until(deadline);
            let look_again =
                self.clock
                    .sleep_until(if has_certificates { look } else { Tick::MAX });
            tokio::select! {
                biased;
                request = signals.next() => match request {
                    Request::HangUp => self.reload_certificates(true),
                    Request::Reopen => self.telemetry.reopen_log(),
                    Request::Interrupt if deadline < Tick::MAX => {
                        eprintln!("stopped at once");
                        code = FAILURE;
                        break;
                    }
                    Request::Interrupt | Request::Terminate => self.drain(&mut deadline),
                },
                Some(ended) = self.ended.recv() => {
                    self.running -= 1;
                    match ended {
                        Ended::Drained(0, _) => {}
                        Ended::Drained(cut, status) => {
                            eprintln!("cut {cut} client connections after the grace; {}", under_way(&status));
                            code = FAILURE;
                        }
                        Ended::Panicked => {
                            eprintln!("error: a core's thread ended by a panic, which is a defect of weir");
                            code = FAILURE;
                            self.drain(&mut deadline);
                        }
                    }
                }
                () = look_again => {
                    self.reload_certificates(false);
                    look = self.clock.now() + LOOK_AT_CERTIFICATES;
                }
                () = sleep => {
                    eprintln!("error: {} cores did not stop in time", self.running);
                    code = FAILURE;
                    break;
                }
            }
        }
        if !self.telemetry.flush_log(FLUSH) {
            eprintln!("warning: the last lines of the access log may be missing");
        }
        code
    }

    /// Reads the certificates anew. `asked`: somebody waits for an answer, even if nothing has changed.
    fn reload_certificates(&mut self, asked: bool) {
        let said = self.proxy.reload_certificates();
        // One file of a pair may be renewed before the other. What stays wrong is said once.
        if !asked && said == self.said_of_certificates {
            return;
        }
        self.said_of_certificates.clone_from(&said);
        if asked && said.is_empty() {
            eprintln!(
                "SIGHUP: the certificates are as before; a reload of the config is not built yet"
            );
        }
        for line in said {
            match line {
                Ok(news) => eprintln!("{news}"),
                Err(fault) => eprintln!("warning: {fault}"),
            }
        }
    }

    /// Begins to drain, once.
    fn drain(&self, deadline: &mut Tick) {
        if *deadline < Tick::MAX {
            return;
        }
        let grace = self.config.shutdown_grace;
        *deadline = self.clock.now() + grace.min(NEVER) + SLACK;
        eprintln!(
            "stopping: what runs may finish within {}; Ctrl-C stops at once",
            format_duration(grace)
        );
        self.proxy.shutdown();
    }
}

/// Starts one core: it binds before this returns, and serves once something is sent through the gate that is returned.
fn start_core(
    core: usize,
    proxy: Arc<Proxy<TokioEnv>>,
    env: TokioEnv,
    report: UnboundedSender<Ended>,
) -> io::Result<SyncSender<()>> {
    let (gate, open) = sync_channel(1);
    let (bound, result) = sync_channel(1);
    thread::Builder::new()
        .name(format!("core-{core}"))
        .spawn(move || {
            let mut ending = Ending(&report, Some(Ended::Panicked));
            run_core(proxy, env, &bound, &open, &mut ending);
        })?;
    result
        .recv()
        .map_err(|_| io::Error::other("a core ended before it had bound its listeners"))??;
    Ok(gate)
}

/// A core's thread.
fn run_core(
    proxy: Arc<Proxy<TokioEnv>>,
    env: TokioEnv,
    bound: &SyncSender<io::Result<()>>,
    open: &Receiver<()>,
    ending: &mut Ending<'_>,
) {
    let prepared = runtime().and_then(|runtime| {
        let entered = runtime.enter();
        let listeners = proxy.bind(&env)?;
        drop(entered);
        Ok((runtime, listeners))
    });
    let (result, prepared) = match prepared {
        Ok(prepared) => (Ok(()), Some(prepared)),
        Err(error) => (Err(error), None),
    };
    // Whoever started this core waits for exactly one message, so there is room.
    let _ = bound.send(result);
    ending.1 = None;
    if let Some((runtime, listeners)) = prepared
        // A gate that is dropped means that another core, or the admin listener, could not be bound.
        && open.recv().is_ok()
    {
        ending.1 = Some(Ended::Panicked);
        let drained = runtime.block_on(proxy::serve(Arc::clone(&proxy), env, listeners));
        // This is asked before the runtime is dropped, because that ends what is still under way.
        ending.1 = Some(Ended::Drained(drained.cut, proxy.upstream_status()));
    }
}

/// Reports how a thread ended, also when it unwinds.
struct Ending<'a>(&'a UnboundedSender<Ended>, Option<Ended>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(ended) = self.1.take() {
            // Nobody listens any more when the process is ending.
            let _ = self.0.send(ended);
        }
    }
}

/// Fails if another process listens already. Cores share their ports, so a second `weir` that was started by mistake would share
/// them as well.
fn refuse_taken(env: &TokioEnv, config: &Config) -> io::Result<()> {
    for listener in &config.listeners {
        let alone = match listener.protocol {
            Protocol::Udp => env.net().datagram_alone(listener.bind).map(drop),
            _ => env.net().listen_alone(listener.bind).map(drop),
        };
        if let Err(error) = alone {
            let text = format!(
                "listener \"{}\": cannot bind {}: {error}",
                listener.name, listener.bind
            );
            return Err(io::Error::new(error.kind(), text));
        }
    }
    Ok(())
}

fn layout(config: &Config) -> Layout {
    let upstreams = config.upstreams.iter().map(|u| {
        let backends = u.backends.iter().map(|b| b.name.clone()).collect();
        (u.name.clone(), backends)
    });
    Layout {
        listeners: config.listeners.iter().map(|l| l.name.clone()).collect(),
        upstreams: upstreams.collect(),
    }
}

fn log_form(format: LogFormat) -> access::Format {
    match format {
        LogFormat::Combined => access::Format::Combined,
        LogFormat::Json => access::Format::Json,
    }
}

/// `web (2 backends, round-robin), api (1 backend, power-of-two)`.
fn targets(config: &Config, listener: &Listener) -> String {
    let upstreams: BTreeSet<usize> = listener
        .routes
        .iter()
        .filter_map(|route| match route.action {
            Action::Forward { upstream, .. } => Some(upstream),
            Action::Redirect { .. } | Action::Respond { .. } => None,
        })
        .collect();
    if upstreams.is_empty() {
        return match listener.protocol {
            Protocol::Http => "answers by itself",
            _ => "nowhere",
        }
        .into();
    }
    let names = upstreams.iter().map(|&i| {
        let upstream = &config.upstreams[i];
        let count = upstream.backends.len();
        let backends = if count == 1 { "backend" } else { "backends" };
        let strategy = strategy_name(upstream.spec.strategy);
        format!("{} ({count} {backends}, {strategy})", upstream.name)
    });
    names.collect::<Vec<_>>().join(", ")
}

fn strategy_name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::RoundRobin => "round-robin",
        Strategy::WeightedRoundRobin => "weighted-round-robin",
        Strategy::SmoothWeightedRoundRobin => "smooth-weighted-round-robin",
        Strategy::LeastRequest => "least-request",
        Strategy::PowerOfTwo => "power-of-two",
        Strategy::Hash { .. } => "hash",
    }
}

/// `web: 3 on backends, 1 waiting`.
fn under_way(status: &[UpstreamStatus]) -> String {
    let busy: Vec<String> = status
        .iter()
        .filter(|u| u.in_flight > 0 || u.waiting > 0)
        .map(|u| {
            format!(
                "{}: {} on backends, {} waiting",
                u.name, u.in_flight, u.waiting
            )
        })
        .collect();
    if busy.is_empty() {
        "no request was with a backend".into()
    } else {
        busy.join("; ")
    }
}
