//! A backend's connections of HTTP/2: each is one task with all of its streams, so that what kills it kills them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::sync::Notify;
use weirkeeper::env::{Clock, Env};

use super::carrying::{Carrying, GOES, QUITS, STAYS};
use super::say::Said;
use super::{CONNECTION_WINDOW, FOR_EVER, are_trailers, head};
use crate::env::{Link, lock};
use crate::model::backend::Backend;
use crate::model::forgery;
use crate::model::message::Head;
use crate::model::pattern::Whose;
use crate::model::running::Running;
use crate::model::socket::Socket;
use crate::model::speech::Manner;
use crate::wires::Body;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Backend {
    /// Serves a connection until it ends, idles for too long or is told to go.
    pub(in crate::model) async fn serve_streams(
        self: &Arc<Self>,
        key: u64,
        manner: Manner,
        told: &Notify,
        socket: Socket,
    ) {
        let carrying = Arc::new(Carrying {
            key,
            manner,
            tls: socket.is_tls(),
            link: Arc::clone(socket.sim().link()),
            fate: AtomicU8::new(STAYS),
        });
        let handshake = Builder::new()
            .initial_window_size(manner.window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(manner.streams)
            .reset_stream_duration(FOR_EVER)
            .handshake::<_, Bytes>(socket);
        let Ok(mut connection) = handshake.await else {
            return;
        };
        let clock = self.env.clock();
        let mut streams: Vec<Stream> = Vec::new();
        let mut going = false;
        let mut told = pin!(told.notified());
        let idle = self.plan.model.idle.0;
        let mut idling = pin!(clock.sleep_until(clock.now() + idle));
        poll_fn(|cx| {
            if told.as_mut().poll(cx).is_ready() {
                carrying.doom(GOES);
            }
            loop {
                let before = streams.len();
                let ended = self.accept(cx, &mut connection, &carrying, &mut streams);
                streams.retain_mut(|stream| stream.as_mut().poll(cx).is_pending());
                if ended {
                    return Poll::Ready(());
                }
                if streams.len() <= before && self.settle(&carrying, &mut connection, &mut going) {
                    break;
                }
            }
            let retired = self.set_idle(key, streams.is_empty());
            if !streams.is_empty() {
                idling.as_mut().set(clock.sleep_until(clock.now() + idle));
            } else if !going && (retired || idling.as_mut().poll(cx).is_ready()) {
                going = true;
                connection.graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
    }

    /// Takes what streams there are; true when the connection has ended.
    fn accept(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        connection: &mut Connection<Socket, Bytes>,
        carrying: &Arc<Carrying>,
        streams: &mut Vec<Stream>,
    ) -> bool {
        loop {
            match connection.poll_accept(cx) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.note_age(carrying.key);
                    let (this, carrying) = (Arc::clone(self), Arc::clone(carrying));
                    streams.push(Box::pin(async move {
                        this.serve_stream(&carrying, request, respond).await;
                    }));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.look_at_end(&error, carrying, streams.len());
                    return true;
                }
                Poll::Ready(None) => return true,
            }
        }
    }

    /// Does what its streams have brought on a connection; false if that has to be driven on.
    fn settle(
        &self,
        carrying: &Carrying,
        connection: &mut Connection<Socket, Bytes>,
        going: &mut bool,
    ) -> bool {
        match carrying.fate.swap(STAYS, Ordering::Relaxed) {
            GOES if !*going => {
                *going = true;
                self.ledger.book().reach("a backend said GOAWAY");
                connection.graceful_shutdown();
                false
            }
            QUITS => {
                self.ledger.book().reach("a backend quit over HTTP/2");
                connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
                false
            }
            _ => true,
        }
    }

    /// The proxy may not let go of a connection in disorder while it has streams there.
    fn look_at_end(&self, error: &h2::Error, carrying: &Carrying, streams: usize) {
        let ours = error.is_go_away() && !error.is_remote();
        if streams > 0 && error.is_go_away() && !ours && error.reason() != Some(Reason::NO_ERROR) {
            let (name, key) = (&self.plan.name, carrying.key);
            let what = format!(
                "the proxy ended connection {key} of {name} with {streams} streams: {error}"
            );
            self.ledger.book().violation("streams", what);
        }
    }

    async fn serve_stream(
        &self,
        carrying: &Carrying,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let (parts, mut body) = request.into_parts();
        let mut head = head(&parts.headers);
        head.method = parts.method.as_str().to_string();
        if head.is_check() {
            self.ledger
                .book()
                .reach("a backend was checked over HTTP/2");
            self.unhung().await;
            // Who is gone does not hear it.
            let _ = respond.send_response(Response::new(()), true);
            return;
        }
        let target = parts.uri.path_and_query().map_or("", |p| p.as_str());
        forgery::hear(&self.ledger, &self.plan.name, &head, target);
        let Some(id) = head.id else {
            // A request that no modelled client sent. Who is gone does not hear it.
            let _ = respond.send_response(Response::new(()), true);
            return;
        };
        self.see_stream(id, &parts, carrying.tls);
        let manner = carrying.manner;
        let (refused, early, slow) = {
            let mut state = lock(&self.state);
            let calm = state.healed;
            let rng = &mut state.rng;
            let mut chance = |share: f64| rng.chance(share) && !calm;
            (
                chance(manner.refuse),
                chance(manner.early),
                chance(manner.slow),
            )
        };
        if refused {
            self.ledger.book().reach("a backend refused a stream");
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let stream = Arc::new(Link::default());
        let running = Running::begin(&self.load, id, &carrying.link, Some(&stream));
        let gone = tokio::select! {
            biased;
            () = self.unhung() => false,
            _ = poll_fn(|cx| respond.poll_reset(cx)) => true,
        };
        if gone {
            stream.leave();
            return;
        }
        let early = early && !body.is_end_stream();
        if !early && !self.take_body(id, &head, &mut body, slow).await {
            stream.leave();
            return;
        }
        let now = self.env.clock().now();
        self.ledger.book().work(now, running.execution);
        let Some(said) = self.work_for(carrying, &head, &stream, &mut respond).await else {
            return;
        };
        // Bytes for a tunnel that is none hide from the proxy that their client has left, and so does a body that is not taken:
        // its end is behind what there is no room for.
        if head.field("x-tunnel").is_none() && !early {
            self.look_at_wish(id, &stream);
        }
        let sent = self
            .say(carrying, &running, &head, said, &mut respond, slow)
            .await;
        if sent.is_err() {
            stream.leave();
        } else if early {
            self.ledger
                .book()
                .reach("answered before the request was there");
            // A reset takes what is queued with it.
            let clock = self.env.clock();
            clock.sleep_until(clock.now() + 2 * crate::GRAIN).await;
            respond.send_reset(Reason::NO_ERROR);
        }
        drop(running);
    }

    /// Works for as long as it takes. `None` if the stream was reset, and work ends with that.
    async fn work_for(
        &self,
        carrying: &Carrying,
        head: &Head,
        stream: &Arc<Link>,
        respond: &mut SendResponse<Bytes>,
    ) -> Option<Said> {
        let work = async {
            let _permit = self.permit().await;
            let clock = self.env.clock();
            let (time, said) = self.draw_stream(carrying, head);
            clock.sleep_until(clock.now() + time).await;
            self.unhung().await;
            said
        };
        let mut work = pin!(work);
        let reset = tokio::select! {
            biased;
            said = &mut work => return Some(said),
            reset = poll_fn(|cx| respond.poll_reset(cx)) => reset,
        };
        stream.leave();
        if reset.is_ok() {
            self.ledger.book().reach("a backend heard of a reset");
        }
        if !self.plan.model.abort_stops_work {
            work.await;
        }
        None
    }

    /// Reads a request's body to its end; false if it broke off.
    async fn take_body(&self, id: u64, head: &Head, body: &mut RecvStream, slow: bool) -> bool {
        let clock = self.env.clock();
        let mut size = 0;
        while let Some(data) = body.data().await {
            let Ok(data) = data else {
                return false;
            };
            if !Whose::Request(id).matches(size, &data) {
                self.wrong_body(id);
                return false;
            }
            size += data.len();
            self.ledger.book().wires.read(Body::Request(id), size);
            if slow {
                self.ledger.book().reach("a backend read slowly");
                clock
                    .sleep_until(clock.now() + Duration::from_millis(3))
                    .await;
            }
            // It fails only for more than was received.
            let _ = body.flow_control().release_capacity(data.len());
        }
        let Ok(ended) = body.trailers().await else {
            return false;
        };
        if size != head.body {
            self.wrong_body(id);
            return false;
        }
        if head.field("x-trailers").is_some() {
            let mut book = self.ledger.book();
            match are_trailers(ended.as_ref(), id) {
                true => book.reach("trailers came to a backend"),
                false => {
                    let name = &self.plan.name;
                    let what = format!("request {id} came to {name} without its trailers");
                    book.violation("trailers", what);
                }
            }
        }
        true
    }

    fn wrong_body(&self, id: u64) {
        let what = format!("the body of request {id} came to {} wrong", self.plan.name);
        self.ledger.book().violation("bytes", what);
    }

    /// Whoever wanted the answer must still want it, or have said otherwise.
    fn look_at_wish(&self, id: u64, stream: &Link) {
        let now = self.env.clock().now();
        let mut book = self.ledger.book();
        let request = usize::try_from(id).ok().and_then(|i| book.requests.get(i));
        let ended = request.and_then(|r| r.end).map(|(at, _)| at);
        let late = ended.is_some_and(|at| now.since(at) > UNHEARD);
        let prompt = self.plan.manner.is_some_and(|m| m.prompt);
        if late && prompt && !stream.dialler_left() {
            let name = &self.plan.name;
            let what = format!("{name} works on request {id} at {now}, which ended at {ended:?}");
            book.violation("streams", what);
        }
    }

    fn draw_stream(&self, carrying: &Carrying, head: &Head) -> (Duration, Said) {
        let (model, manner) = (&self.plan.model, carrying.manner);
        let mut state = lock(&self.state);
        let time = state.time(model);
        let garbled = state.garbled(model);
        let (healed, retired) = (state.healed, carrying.key < state.retired);
        let fails = state.is_failing();
        let rng = &mut state.rng;
        let trails = manner.trailers && head.field("te") == Some("trailers");
        let said = if healed {
            Said::Whole {
                length: true,
                trailers: false,
            }
        } else if fails {
            Said::Refusal
        } else if rng.chance(garbled) {
            match rng.below(3) {
                0 => Said::Reset { head: true },
                n => Said::Wrong { long: n == 1 },
            }
        } else if rng.chance(model.fail_rate) {
            Said::Refusal
        } else if rng.chance(manner.reset) {
            Said::Reset {
                head: rng.below(2) == 0,
            }
        } else if rng.chance(manner.quit) {
            Said::Nothing
        } else {
            let length = !rng.chance(model.chunked_rate.max(0.3));
            Said::Whole {
                length,
                trailers: trails && !length,
            }
        };
        if retired || (!healed && rng.chance(manner.goaway)) {
            carrying.doom(GOES);
        }
        (time, said)
    }
}

/// A backend hears within this that nobody waits any more.
const UNHEARD: Duration = Duration::from_millis(100);
