//! `weir echo`: dummy backends. Each port counts what it served and how many requests it saw at once, on a single thread:
//! cheap enough to stand behind a benchmark.

mod answer;

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use self::answer::{Answer, Reply};
pub(super) use self::answer::{PEAK, PORT};
use super::args::{Delay, EchoArgs};
use super::signals::Signals;
use super::{FINE, raise_descriptor_limit, runtime};
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env, Listener};
use crate::rng::Rng;

/// What the dummies do with a request.
#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    pub(super) delay: Delay,
    /// The size of the answer; `None` describes the request.
    pub(super) body_bytes: Option<u64>,
    pub(super) status: StatusCode,
    pub(super) fail_rate: f64,
    /// Fields of every answer, in the place of its own.
    pub(super) headers: HeaderMap,
    pub(super) max_in_flight: u64,
    /// On every IPv4 address, not on loopback alone.
    pub(super) public: bool,
}

/// One port.
#[derive(Debug)]
pub(super) struct Dummy {
    pub(super) port: u16,
    behaviour: Behaviour,
    rng: Mutex<Rng>,
    served: AtomicU64,
    in_flight: AtomicU64,
    peak: AtomicU64,
}

/// Serves until a signal says stop, then prints what each port saw.
pub(super) fn run(args: EchoArgs) -> io::Result<u8> {
    raise_descriptor_limit();
    let behaviour = Behaviour {
        delay: args.delay,
        body_bytes: args.body_bytes,
        status: StatusCode::from_u16(args.status).map_err(io::Error::other)?,
        fail_rate: args.fail_rate,
        headers: headers(args.headers),
        max_in_flight: args.max_in_flight.unwrap_or(u64::MAX),
        public: args.public,
    };
    runtime()?.block_on(async {
        let env = TokioEnv::new()?;
        let mut signals = Signals::catch()?;
        let mut out = io::stdout();
        let mut dummies = Vec::new();
        for port in args.ports {
            let (dummy, places) = Dummy::start(&env, port, behaviour.clone())?;
            writeln!(out, "listening on {places}")?;
            dummies.push(dummy);
        }
        out.flush()?;
        signals.stop().await;
        for dummy in dummies {
            writeln!(out, "{}", dummy.summary())?;
        }
        Ok(FINE)
    })
}

/// A name that was given several times has several lines.
fn headers(given: Vec<(HeaderName, HeaderValue)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(name, value);
    }
    headers
}

impl Dummy {
    /// Binds `port` (0 is any free one) on both loopback addresses, or on all, and serves there in tasks of its own. Also returns
    /// the places as text.
    pub(super) fn start(
        env: &TokioEnv,
        port: u16,
        behaviour: Behaviour,
    ) -> io::Result<(Arc<Self>, String)> {
        let (port, listeners) = match behaviour.public {
            false => bind(env, port)?,
            true => {
                let listener = listen(env, (Ipv4Addr::UNSPECIFIED, port).into())?;
                (listener.local_addr()?.port(), vec![listener])
            }
        };
        let dummy = Arc::new(Dummy {
            port,
            behaviour,
            rng: Mutex::new(env.rng("echo", port.into())),
            served: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        });
        let mut places = Vec::new();
        for listener in listeners {
            places.push(format!("http://{}", listener.local_addr()?));
            let (env, dummy) = (env.clone(), Arc::clone(&dummy));
            env.clone().spawn("echo listener", async move {
                accept(env, listener, dummy).await;
            });
        }
        Ok((dummy, places.join(" and ")))
    }

    /// One line for a person.
    pub(super) fn summary(&self) -> String {
        let (served, peak) = (
            self.served.load(Ordering::Relaxed),
            self.peak.load(Ordering::Relaxed),
        );
        format!(
            "port {}: served {served}, at most {peak} at once",
            self.port
        )
    }

    fn draw<T>(&self, f: impl FnOnce(&mut Rng) -> T) -> T {
        // A poisoned lock is taken all the same, because a panic leaves no generator half done.
        f(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn delay(&self) -> Duration {
        match self.behaviour.delay {
            Delay::Always(delay) => delay,
            Delay::Around(mean) => {
                Duration::from_secs_f64(self.draw(|rng| rng.exponential(mean.as_secs_f64())))
            }
        }
    }

    async fn serve(
        self: Arc<Self>,
        env: &TokioEnv,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, hyper::Error> {
        let running = Running::begin(&self);
        let (head, body) = request.into_parts();
        let received = drain(body).await?;
        let b = &self.behaviour;
        let delay = self.delay();
        if !delay.is_zero() {
            let clock = env.clock();
            clock.sleep_until(clock.now() + delay).await;
        }
        let status = if running.at_once > b.max_in_flight {
            StatusCode::SERVICE_UNAVAILABLE
        } else if b.fail_rate > 0.0 && self.draw(|rng| rng.chance(b.fail_rate)) {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            b.status
        };
        let answer = Answer {
            port: self.port,
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
            received,
            served: self.served.fetch_add(1, Ordering::Relaxed) + 1,
            peak: self.peak.load(Ordering::Relaxed),
        };
        let mut response = answer.respond(status, b.body_bytes, running);
        let answers = response.headers_mut();
        b.headers.keys().for_each(|name| {
            answers.remove(name);
        });
        for (name, value) in &b.headers {
            answers.append(name, value.clone());
        }
        Ok(response)
    }
}

/// A request that runs; it ends when its answer's body does, or when the client goes away.
#[derive(Debug)]
pub(super) struct Running {
    dummy: Arc<Dummy>,
    /// Requests that ran when this one began, with it.
    at_once: u64,
}

impl Running {
    fn begin(dummy: &Arc<Dummy>) -> Self {
        let at_once = dummy.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        dummy.peak.fetch_max(at_once, Ordering::Relaxed);
        Running {
            dummy: Arc::clone(dummy),
            at_once,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.dummy.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tries at a free port that is free on both addresses.
const TRIES: usize = 20;

fn bind(env: &TokioEnv, port: u16) -> io::Result<(u16, Vec<TcpListener>)> {
    let mut tries = 0;
    loop {
        let v4 = listen(env, (Ipv4Addr::LOCALHOST, port).into())?;
        let bound = v4.local_addr()?.port();
        tries += 1;
        match listen(env, (Ipv6Addr::LOCALHOST, bound).into()) {
            Ok(v6) => return Ok((bound, vec![v4, v6])),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if port != 0 || tries == TRIES {
                    return Err(error);
                }
            }
            // A machine without IPv6.
            Err(_) => return Ok((bound, vec![v4])),
        }
    }
}

fn listen(env: &TokioEnv, addr: SocketAddr) -> io::Result<TcpListener> {
    env.net()
        .listen_alone(addr)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}")))
}

async fn accept(env: TokioEnv, listener: TcpListener, dummy: Arc<Dummy>) {
    loop {
        match Listener::accept(&listener).await {
            Ok((stream, _)) => {
                let (inner, dummy) = (env.clone(), Arc::clone(&dummy));
                env.spawn("echo connection", connection(inner, stream, dummy));
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, port = dummy.port, "cannot accept");
                let clock = env.clock();
                clock
                    .sleep_until(clock.now() + Duration::from_millis(10))
                    .await;
            }
        }
    }
}

async fn connection(env: TokioEnv, stream: TcpStream, dummy: Arc<Dummy>) {
    let service = service_fn(|request| {
        let dummy = Arc::clone(&dummy);
        let env = &env;
        async move { dummy.serve(env, request).await }
    });
    let result = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Reads a body to its end and returns its length.
async fn drain(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut length = 0;
    while let Some(frame) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
    {
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}
