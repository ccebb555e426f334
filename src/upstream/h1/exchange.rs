//! One exchange on one connection, up to the head of the response; the rest is a [`Fetch`](crate::upstream::fetch::Fetch)'s.
//!
//! It knows no client library: a request body is anything that yields frames. Both directions move while either is polled, so
//! an early response is relayed while the request still goes out, and neither side can deadlock the other.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use tokio::io::AsyncReadExt;

use crate::engine::Outcome;
use crate::engine::retry::Progress;
use crate::env::Env;
use crate::h1::{DecodeError, ResponseDecoder, ResponseHead};
use crate::message::cause::Cause;
use crate::upstream::attempt::Herald;
use crate::upstream::dial::tls_cause;
use crate::upstream::h1::sending::Sending;
use crate::upstream::pool::{Link, READ_BUFFER};
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// A kept-alive connection that ends within this time of being used again was closed before.
pub const RACE: Duration = Duration::from_secs(1);

/// Below this much room a read buffer grows: a body of 16 KiB should come in one read.
const ROOM: usize = 17 * 1024;

/// How an attempt failed before its response began.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// How far it had come, for the retry rule.
    pub progress: Progress,
    /// What the engine should know of it.
    pub outcome: Outcome,
}

/// Sends the request and reads the response head; interim responses are told to `herald`.
///
/// # Errors
/// Why there is no head, how far the request had come, and what that says of the backend.
pub async fn exchange<E: Env, B>(
    errand: &Errand<E>,
    link: &mut Link<E>,
    sending: &mut Sending,
    body: &mut B,
    decoder: &mut ResponseDecoder,
    herald: Option<&dyn Herald>,
) -> Result<ResponseHead, Failure>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    let mut sent = false;
    let mut answered = false;
    let began = errand.coarse_now();
    std::future::poll_fn(|cx| {
        if !sent {
            match sending.poll(cx, errand, link, body) {
                Poll::Ready(Ok(())) => {
                    sent = true;
                    errand.arm_in(Phase::FirstByte, sending.first_byte);
                }
                Poll::Ready(Err(cause)) => {
                    return Poll::Ready(Err(client_failed(cause, sending.progress())));
                }
                Poll::Pending => {}
            }
        }
        loop {
            match decoder.head(&mut link.read) {
                Ok(Some(head)) if head.interim => {
                    // A client that waits for a 100 is told so by whoever reads its body.
                    if let Some(herald) = herald.filter(|_| head.status != StatusCode::CONTINUE) {
                        herald.interim(head.status, &head.headers);
                    }
                    continue;
                }
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(malformed(&error))),
            }
            match poll_fill(link, cx) {
                Poll::Ready(Ok(n)) if n > 0 => answered = true,
                Poll::Ready(ended) => {
                    let waited = errand.coarse_now().since(began);
                    let mut failure = closed(link, sending, answered, waited);
                    if let Err(error) = &ended {
                        tracing::debug!(%error, "reading a response failed");
                        // In TLS 1.3 a backend tells only here what it thinks of our certificate.
                        failure.cause = tls_cause(error).unwrap_or(failure.cause);
                    }
                    return Poll::Ready(Err(failure));
                }
                Poll::Pending => break,
            }
        }
        if errand.due().is_none() {
            return Poll::Pending;
        }
        Poll::Ready(Err(Failure::new(
            Cause::FirstByteTimeout,
            Progress::Abandoned,
            Outcome::Died,
        )))
    })
    .await
}

impl Failure {
    /// A failure.
    pub fn new(cause: Cause, progress: Progress, outcome: Outcome) -> Self {
        Failure {
            cause,
            progress,
            outcome,
        }
    }
}

/// The client's body failed: nothing that the backend could be blamed for.
pub fn client_failed(cause: Cause, progress: Progress) -> Failure {
    Failure::new(cause, progress, Outcome::Cancelled)
}

fn malformed(error: &DecodeError) -> Failure {
    tracing::debug!(%error, "a response was malformed");
    let cause = match error {
        DecodeError::HeadTooLarge => Cause::ResponseHeadTooLarge,
        _ => Cause::BadResponse,
    };
    Failure::new(cause, Progress::Answered, Outcome::Broken)
}

/// The backend closed before a whole head.
fn closed<E: Env>(link: &Link<E>, sending: &Sending, answered: bool, waited: Duration) -> Failure {
    if answered || !link.read.is_empty() {
        return Failure::new(Cause::BadResponse, Progress::Answered, Outcome::Broken);
    }
    // A kept-alive connection that was closed already says so at once; later it is the backend that died over this request.
    let race = link.reused && waited < RACE;
    let outcome = if race {
        Outcome::ReuseRace
    } else {
        Outcome::Died
    };
    Failure::new(Cause::BackendClosed, sending.progress(), outcome)
}

/// Reads more into the link's buffer; 0 is the end of the stream.
pub fn poll_fill<E: Env>(link: &mut Link<E>, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
    if link.read.capacity() - link.read.len() < ROOM {
        link.read.reserve(READ_BUFFER);
    }
    pin!(link.stream.read_buf(&mut link.read)).poll(cx)
}
