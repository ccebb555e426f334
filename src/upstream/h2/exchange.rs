//! One exchange on a stream, up to the head of the response; the rest is a [`Fetch`](super::fetch::Fetch)'s.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use http_body::Body;

use super::sending::Sending;
use super::shared::Ticket;
use crate::engine::Outcome;
use crate::engine::retry::Progress;
use crate::env::Env;
use crate::h1::HeadLimits;
use crate::message::cause::Cause;
use crate::upstream::dial::tls_cause;
use crate::upstream::h1::exchange::{Failure, RACE, client_failed};
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// A request on its way. Its drop resets the stream.
pub struct Exchange<E: Env> {
    response: ResponseFuture,
    pub sending: Sending,
    /// Declared last: the stream is reset before its place on the connection is free.
    pub ticket: Ticket<E>,
}

impl<E: Env> Exchange<E> {
    /// Begins with the head; `ended` if there is no body.
    ///
    /// # Errors
    /// The connection has ended meanwhile: nothing was sent.
    pub fn begin(
        mut ticket: Ticket<E>,
        request: Request<()>,
        ended: bool,
        first_byte: Duration,
    ) -> Result<Self, Failure> {
        match ticket.send.send_request(request, ended) {
            Ok((response, stream)) => Ok(Exchange {
                response,
                sending: Sending::new(stream, ended, first_byte),
                ticket,
            }),
            Err(error) => {
                tracing::debug!(%error, "no stream could begin");
                ticket.retire_connection();
                let outcome = race_or(ticket.reused, Outcome::Refused);
                let cause = Cause::BackendClosed;
                Err(Failure::new(cause, Progress::NeverSent, outcome))
            }
        }
    }
}

fn race_or(reused: bool, otherwise: Outcome) -> Outcome {
    if reused {
        Outcome::ReuseRace
    } else {
        otherwise
    }
}

/// Sends the request and waits for the response's head; interim responses are passed over.
///
/// # Errors
/// Why there is no head, how far the request had come, and what that says of the backend.
pub async fn exchange<E: Env, B>(
    errand: &Errand<E>,
    exchange: &mut Exchange<E>,
    body: &mut B,
    limits: HeadLimits,
) -> Result<Response<RecvStream>, Failure>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin,
{
    let mut sent = false;
    let began = errand.coarse_now();
    std::future::poll_fn(|cx| {
        if !sent {
            match exchange.sending.poll(cx, errand, body) {
                Poll::Ready(Ok(())) => {
                    sent = true;
                    errand.arm_in(Phase::FirstByte, exchange.sending.first_byte);
                }
                Poll::Ready(Err(cause)) => {
                    return Poll::Ready(Err(client_failed(cause, Progress::Sent)));
                }
                Poll::Pending => {}
            }
        }
        match Pin::new(&mut exchange.response).poll(cx) {
            Poll::Ready(Ok(response)) if !fits(response.headers(), limits) => {
                return Poll::Ready(Err(Failure::new(
                    Cause::ResponseHeadTooLarge,
                    Progress::Answered,
                    Outcome::Broken,
                )));
            }
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => {
                let waited = errand.coarse_now().since(began);
                return Poll::Ready(Err(failed(&error, exchange, waited)));
            }
            Poll::Pending => {}
        }
        if errand.due().is_none() {
            return Poll::Pending;
        }
        // It may be the connection that is dead.
        exchange.ticket.retire_connection();
        Poll::Ready(Err(Failure::new(
            Cause::FirstByteTimeout,
            Progress::Abandoned,
            Outcome::Died,
        )))
    })
    .await
}

/// Is a head within its bounds? Its bytes are counted as HTTP/1.1 would write them.
fn fits(headers: &HeaderMap, limits: HeadLimits) -> bool {
    let bytes = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4);
    headers.len() <= limits.fields && bytes.sum::<usize>() <= limits.bytes
}

/// What the end of a stream without a response says.
fn failed<E: Env>(error: &h2::Error, exchange: &Exchange<E>, waited: Duration) -> Failure {
    tracing::debug!(%error, "a stream ended without a response");
    let reused = exchange.ticket.reused;
    // A stream that hears of a GOAWAY is behind the last one that the peer has processed (RFC 9113 section 6.8).
    let left_out = error.is_go_away() && error.is_remote();
    let refused =
        error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    if left_out || refused {
        // A backend that refuses one stream may serve others: it is no reason to pass over it.
        let outcome = if left_out {
            race_or(reused, Outcome::Refused)
        } else {
            Outcome::Cancelled
        };
        return Failure::new(Cause::BackendClosed, Progress::NeverSent, outcome);
    }
    if error.is_library() {
        return Failure::new(Cause::BadResponse, Progress::Answered, Outcome::Broken);
    }
    let race = reused && error.is_io() && waited < RACE;
    let outcome = race_or(race, Outcome::Died);
    let cause = error.get_io().and_then(tls_cause);
    let cause = cause.unwrap_or(Cause::BackendClosed);
    Failure::new(cause, Progress::Sent, outcome)
}
