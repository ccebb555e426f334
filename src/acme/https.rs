//! How an authority is reached: one request on a connection of its own over TLS, with bounds on its time and its answer. Absent:
//! redirects, of which RFC 8555 knows none, and connections that are kept, since an order has a dozen requests.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio_rustls::TlsConnector;

use crate::env::{Clock, Env, Net};
use crate::tls::client::explain;
use crate::tls::{self, Client};

/// For one request, with everything that it needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// An answer's body; a chain of certificates has some 5 KiB.
const LARGEST: usize = 1 << 20;

/// A client of one authority.
#[derive(Clone)]
pub struct Https<E> {
    env: E,
    client: Client,
    /// How long the latest answer has asked to wait.
    asked: Arc<Mutex<Option<Duration>>>,
}

impl<E: Env> Https<E> {
    /// One that believes whom `client` believes.
    pub fn new(env: E, client: Client) -> Self {
        Https {
            env,
            client,
            asked: Arc::default(),
        }
    }

    /// How long the latest answer has asked to wait (RFC 8555 sections 6.6 and 7.5.1).
    pub fn asked(&self) -> Option<Duration> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let uri = request.uri().clone();
        let exchange = self.try_exchange(request);
        let said = self.env.clock().timeout(PATIENCE, Box::pin(exchange)).await;
        let said = said.unwrap_or_else(|| {
            let text = format!("no answer within {} s", PATIENCE.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        });
        said.map_err(|error| Error::Other(format!("{uri}: {}", explain(&error)).into()))
    }

    async fn try_exchange(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> io::Result<BytesResponse> {
        let stream = self.connect(request.uri()).await?;
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let path: Uri = path.parse().map_err(io::Error::other)?;
        let authority = request.uri().authority().map_or("", |a| a.as_str());
        let host = HeaderValue::try_from(authority).map_err(io::Error::other)?;
        let agent = HeaderValue::from_static(concat!("weirkeeper/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, agent);
        *request.uri_mut() = path;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = self.env.spawn("acme connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an authority broke");
            }
        });
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(io::Error::other)?;
            let (parts, body) = response.into_parts();
            let body = whole(body).await?;
            Ok(BytesResponse {
                parts,
                body: Box::new(body),
            })
        };
        let answer: io::Result<BytesResponse> = answer.await;
        driver.abort();
        let answer = answer?;
        self.judge(&answer)?;
        Ok(answer)
    }

    async fn connect(
        &self,
        uri: &Uri,
    ) -> io::Result<tokio_rustls::client::TlsStream<<E::Net as Net>::Stream>> {
        if uri.scheme_str() != Some("https") {
            return Err(io::Error::other("it is no URL over TLS"));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.client.name_of(host);
        let name = name.ok_or_else(|| io::Error::other("it has no host"))?;
        let port = uri.port_u16().unwrap_or(443);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let clock = self.env.clock();
        let addresses = self.env.net().resolve(host, port).await?;
        // A silent address may not use up the time of those behind it.
        let share = PATIENCE / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
        for addr in addresses {
            match clock.timeout(share, self.env.net().connect(addr)).await {
                Some(Ok(socket)) => {
                    let env = self.env.clone();
                    let config = self
                        .client
                        .for_server(&[b"http/1.1"], move || env.clock().wall());
                    return TlsConnector::from(config).connect(name, socket).await;
                }
                Some(Err(error)) => last = error,
                None => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// Notes what an answer asks for. A refusal that is no problem document (RFC 8555 section 6.7) is told of by its status.
    fn judge(&self, answer: &BytesResponse) -> io::Result<()> {
        let (status, fields) = (answer.parts.status, &answer.parts.headers);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) =
            retry_after(fields, self.env.clock().wall());
        let refused = status.is_client_error() || status.is_server_error();
        let kind = fields.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let problem = kind.is_some_and(|k| k.contains("json"));
        if status.is_success() || (refused && problem) {
            return Ok(());
        }
        Err(io::Error::other(format!("it answers {status}")))
    }
}

impl<E: Env> HttpClient for Https<E> {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move { client.exchange(request).await })
    }
}

/// A body as a whole, unless it is too large.
async fn whole(mut body: Incoming) -> io::Result<Bytes> {
    let mut found = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(io::Error::other)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if found.len() + data.len() > LARGEST {
            return Err(io::Error::other("its answer is too large"));
        }
        found.extend_from_slice(&data);
    }
    Ok(found.freeze())
}

/// Retry-After in either form (RFC 9110 section 10.2.3).
fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .ok(),
    }
}

/// What `authority` is spoken to with.
///
/// # Errors
/// The system has no authorities, or TLS cannot be set up.
pub fn client(authority: &tls::acme::Authority) -> Result<Client, String> {
    let roots = match &authority.ca {
        Some(ca) => (*ca.roots).clone(),
        None => tls::client::system_authorities()?,
    };
    Client::new(tls::client::Trust::These(roots), None, None).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text| {
            let mut fields = HeaderMap::new();
            fields.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&fields, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:50:37 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), None);
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
