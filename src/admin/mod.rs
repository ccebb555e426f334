//! The admin listener: health, readiness, metrics, and the cache with its purges, on a thread and a runtime of its own, so that
//! it answers while every core is busy. Nothing but a purge changes the proxy's state. Absent: passwords and TLS. Whoever reaches
//! the port may use it, except web pages (see `cache`).

mod cache;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::cache::purge::Purge;
use crate::config::model::Admin;
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env, Listener};
use crate::proxy::Purged;
use crate::proxy::UrlStatus;
use crate::telemetry::CachingStatus;

/// What the admin listener shows.
pub trait Source: Send + Sync {
    /// It listens and is not draining.
    fn ready(&self) -> bool;
    /// Appends its metrics in the OpenMetrics text format, without the final `# EOF`.
    fn metrics(&self, out: &mut String);
    /// Forgets, and says what came of it. It must not wait.
    fn purge(&self, purge: &Purge) -> Purged;
    /// What the cache is at; `None` when nothing is cached.
    fn caching(&self) -> Option<CachingStatus>;
    /// What lies in the cache under a URL in its normal form.
    fn stored(&self, url: &str) -> UrlStatus;
}

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// One connection carries one request and lives for this long at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ports that are tried behind the default one.
const FURTHER_PORTS: u16 = 100;

const INDEX: &str = "Weirkeeper admin

/healthz   200 while the process lives
/readyz    200 while it takes requests, 503 while it starts or drains
/metrics   counters, gauges and histograms (OpenMetrics)
/cache     what the cache holds (JSON); /cache?url=URL what lies under a URL

POST /cache/purge?url=URL       forgets what lies under a URL
POST /cache/purge?prefix=URL    ... under every URL that begins so
POST /cache/purge?tag=TAG       ... what Surrogate-Key or Cache-Tag call so
POST /cache/purge?all           ... everything
     &soft                      keeps it, to be validated before its next use
";

/// Binds and serves until the process ends. Returns where: when the default address is taken, the next free port.
///
/// # Errors
/// When an address that the config names is taken, or cannot be bound. The text names it.
pub fn start(admin: Admin, source: Arc<dyn Source>) -> io::Result<SocketAddr> {
    let env = TokioEnv::new()?;
    let (sender, bound) = sync_channel(1);
    thread::Builder::new()
        .name("admin".into())
        .spawn(move || run(&env, admin, source, &sender))?;
    bound
        .recv()
        .map_err(|_| io::Error::other("the admin thread ended before it listened"))?
}

/// The admin thread.
fn run(
    env: &TokioEnv,
    admin: Admin,
    source: Arc<dyn Source>,
    bound: &SyncSender<io::Result<SocketAddr>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            // The receiver waits for exactly one message, so there is room.
            let _ = bound.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let listener = bind(env, admin).and_then(|l| Ok((l.local_addr()?, l)));
        match listener {
            Ok((addr, listener)) => {
                // As above.
                let _ = bound.send(Ok(addr));
                serve(env, listener, source).await;
            }
            Err(error) => {
                // As above.
                let _ = bound.send(Err(error));
            }
        }
    });
}

fn bind(env: &TokioEnv, admin: Admin) -> io::Result<TcpListener> {
    let mut addr = admin.bind;
    let last = admin.bind.port().saturating_add(FURTHER_PORTS);
    loop {
        match env.net().listen_alone(addr) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && !admin.explicit
                    && addr.port() < last =>
            {
                addr.set_port(addr.port() + 1);
            }
            Err(error) => {
                let text = format!("cannot bind the admin address {addr}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
            Ok(listener) => return Ok(listener),
        }
    }
}

async fn serve(env: &TokioEnv, listener: TcpListener, source: Arc<dyn Source>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match Listener::accept(&listener).await {
            Ok((stream, _)) => {
                let (source, clock) = (Arc::clone(&source), *env.clock());
                env.spawn("admin connection", async move {
                    clock.timeout(PATIENCE, connection(stream, source)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "the admin listener cannot accept");
                let clock = env.clock();
                clock
                    .sleep_until(clock.now() + Duration::from_millis(100))
                    .await;
            }
        }
    }
}

async fn connection(stream: TcpStream, source: Arc<dyn Source>) {
    let service = service_fn(move |request| {
        let response = answer(&request, source.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let result = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "an admin connection broke");
    }
}

/// The answer to one request. Bodies of requests are not read.
fn answer<B>(request: &Request<B>, source: &dyn Source) -> Response<Text> {
    let path = request.uri().path();
    let allowed = if path == "/cache/purge" {
        "POST"
    } else {
        "GET, HEAD"
    };
    if !allowed.split(", ").any(|m| m == request.method().as_str()) {
        let text = format!("only {}\n", allowed.replace(", ", " and "));
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
        let allowed = HeaderValue::from_static(allowed);
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let query = request.uri().query();
    let plain = |status, text: &str| response(status, PLAIN, text.to_string());
    match path {
        "/" => plain(StatusCode::OK, INDEX),
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if source.ready() => plain(StatusCode::OK, "ready\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/metrics" => {
            let mut text = String::with_capacity(16 * 1024);
            source.metrics(&mut text);
            text.push_str("# EOF\n");
            response(StatusCode::OK, OPEN_METRICS, text)
        }
        "/cache" => match cache::asked(query) {
            Ok(None) => json(cache::totals(source.caching().as_ref())),
            Ok(Some(url)) => json(cache::stored(&url, &source.stored(&url))),
            Err(what) => plain(StatusCode::BAD_REQUEST, &format!("{what}\n")),
        },
        "/cache/purge" => match (cache::refused(request.headers()), cache::order(query)) {
            (Some(why), _) => plain(StatusCode::FORBIDDEN, &format!("{why}\n")),
            (None, Err(what)) => plain(StatusCode::BAD_REQUEST, &format!("{what}\n")),
            (None, Ok(order)) => json(cache::purged(&order, source.purge(&order))),
        },
        _ => plain(StatusCode::NOT_FOUND, "not here; / lists what is\n"),
    }
}

fn json(text: String) -> Response<Text> {
    response(StatusCode::OK, "application/json", text)
}

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Text> {
    let mut response = Response::new(Text(Some(text.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A whole body in one frame.
#[derive(Debug)]
struct Text(Option<Bytes>);

impl http_body::Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(http_body::Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }
}

#[cfg(test)]
mod tests;
