//! One exchange with a backend, up to the head of the response; the rest is a [`Fetch`](crate::upstream::fetch::Fetch)'s.
//!
//! It knows no client library: a request body is anything that yields frames. Both directions move while either is polled, so
//! an early response is relayed while the request still goes out, and neither side can deadlock the other.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use crate::engine::Outcome;
use crate::engine::retry::Progress;
use crate::env::Env;
use crate::message::cause::Cause;
use crate::message::head::Head;
use crate::upstream::audience::Herald;
use crate::upstream::carrier::Carrier;
use crate::upstream::failure::Failure;
use crate::upstream::sending::Sending;
use crate::wire::errand::Errand;

/// A request on its way. Its drop breaks the exchange off.
pub struct Exchange<C> {
    /// What carries it.
    pub carrier: C,
    /// How far its body has gone out.
    pub sending: Sending,
}

impl<C> Exchange<C> {
    /// Begins behind a head that the carrier has framed; `ended` if there is no body.
    pub fn new(carrier: C, ended: bool, first_byte: Duration) -> Self {
        Exchange {
            carrier,
            sending: Sending::new(ended, first_byte),
        }
    }

    /// Has all of the request gone out?
    pub fn is_sent<E: Env>(&self) -> bool
    where
        C: Carrier<E>,
    {
        self.sending.is_complete(&self.carrier)
    }

    /// Sends the request and waits for the response's head; interim responses are told to `herald`.
    ///
    /// # Errors
    /// Why there is no head, how far the request had come, and what that says of the backend.
    pub async fn head<E: Env, B>(
        &mut self,
        errand: &Errand<E>,
        body: &mut B,
        herald: Option<&dyn Herald>,
    ) -> Result<Head, Failure>
    where
        C: Carrier<E>,
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        let Exchange { carrier, sending } = self;
        let mut sent = false;
        let began = errand.coarse_now();
        std::future::poll_fn(|cx| {
            if !sent {
                match sending.poll(cx, errand, carrier, body) {
                    Poll::Ready(Ok(())) => {
                        sent = true;
                        sending.await_first_byte(errand);
                    }
                    Poll::Ready(Err(cause)) => {
                        return Poll::Ready(Err(Failure::of_client(cause, carrier.progress())));
                    }
                    Poll::Pending => {}
                }
            }
            let waited = errand.coarse_now().since(began);
            if let Poll::Ready(came) = carrier.poll_head(cx, waited, herald) {
                return Poll::Ready(came);
            }
            if errand.due().is_none() {
                return Poll::Pending;
            }
            carrier.distrust();
            Poll::Ready(Err(Failure::new(
                Cause::FirstByteTimeout,
                Progress::Abandoned,
                Outcome::Died,
            )))
        })
        .await
    }
}
