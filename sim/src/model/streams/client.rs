//! A client's connections of HTTP/2, with several requests at once on each, and one request on a stream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use weirkeeper::env::{Clock, Env, Net};

use super::pool::{Carrier, Open};
use super::{
    CONNECTION_WINDOW, EXECUTION, FOR_EVER, FORGOTTEN, Framed, PIECE, are_trailers, head, room,
    trailers,
};
use crate::env::lock;
use crate::ledger::End;
use crate::model::client::Group;
use crate::model::forgery;
use crate::model::kind::Kind;
use crate::model::message::Head;
use crate::model::pattern::Whose;
use crate::model::socket::Socket;
use crate::model::speech::Streams;
use crate::model::tunnel;
use crate::wires;

/// Attempts at a request that the proxy says it has not processed.
const TRIES: u32 = 20;

/// So many streams that it has reset within a second the proxy's library remembers. Of others it takes trailers that are under
/// way for a request of a stream that cannot be.
const REMEMBERED: usize = 40;

/// Why a stream gave no answer.
enum Trouble {
    /// The proxy says that it has not looked at it, or it was never sent.
    Unprocessed,
    /// Anything else.
    Broken,
}

fn trouble(error: &h2::Error) -> Trouble {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    match error.is_remote() && (error.is_go_away() || refused) {
        true => Trouble::Unprocessed,
        false => Trouble::Broken,
    }
}

impl Group {
    /// One request on a stream, and once more as long as it was not processed. Its connection is left in `carrier`.
    pub(in crate::model) async fn exchange_stream(
        &self,
        id: u64,
        kind: &Kind,
        whim: u64,
        streams: Streams,
        carrier: &mut Option<Arc<Carrier>>,
    ) -> End {
        for _ in 0..TRIES {
            match self.attempt(id, kind, whim, streams, carrier).await {
                Ok(end) => return end,
                Err(Trouble::Broken) => return End::Broken,
                Err(Trouble::Unprocessed) => {
                    self.ledger.book().reach("a client's stream was refused");
                    self.rest(Duration::from_millis(2)).await;
                }
            }
        }
        End::Broken
    }

    async fn rest(&self, time: Duration) {
        let clock = self.env.clock();
        clock.sleep_until(clock.now() + time).await;
    }

    async fn attempt(
        &self,
        id: u64,
        kind: &Kind,
        whim: u64,
        streams: Streams,
        carrier: &mut Option<Arc<Carrier>>,
    ) -> Result<End, Trouble> {
        let (send, shared) = match self.shared.take(streams.at_once) {
            Some(taken) => taken,
            None => self.dial(self.target, streams).await?,
        };
        let open = Open::new(&shared);
        *carrier = Some(Arc::clone(&shared));
        if open.0.open.load(Ordering::Relaxed) > 1 {
            self.ledger.book().reach("streams side by side");
        }
        let mut send = send.ready().await.map_err(|_| Trouble::Unprocessed)?;
        if kind.tunnel {
            while !send.is_extended_connect_protocol_enabled() {
                if shared.gone.load(Ordering::Relaxed) {
                    return Err(Trouble::Unprocessed);
                }
                self.rest(crate::GRAIN).await;
            }
        }
        let (request, body) = self.request(id, kind, whim, streams);
        let sent = send.send_request(request, body.is_none());
        let (response, stream) = sent.map_err(|_| Trouble::Unprocessed)?;
        drop(send);
        let Some(body) = body else {
            return self.receive_stream(id, kind, whim, streams, response).await;
        };
        if let Body::Tunnel = body {
            // What is refused is cut off.
            open.0.cut.fetch_add(1, Ordering::Relaxed);
            return self.open_tunnel(id, kind, whim, response, stream).await;
        }
        let mut uploading = std::pin::pin!(self.upload(id, kind, whim, body, stream));
        let mut answering = std::pin::pin!(self.receive_stream(id, kind, whim, streams, response));
        tokio::select! {
            biased;
            answered = &mut answering => {
                open.0.cut.fetch_add(1, Ordering::Relaxed);
                answered
            }
            // What was not wanted is no end yet: the answer decides.
            Err(_) = &mut uploading => {
                open.0.cut.fetch_add(1, Ordering::Relaxed);
                answering.await
            }
        }
    }

    async fn dial(
        &self,
        target: SocketAddr,
        streams: Streams,
    ) -> Result<(SendRequest<Bytes>, Arc<Carrier>), Trouble> {
        let broken = |_: &dyn std::error::Error| Trouble::Broken;
        let stream = self.env.net().connect(target).await;
        let stream = stream.map_err(|e| broken(&e))?;
        let link = Arc::clone(stream.link());
        let socket = Socket::connect(stream, self.tls.as_ref()).await;
        let socket = socket.map_err(|e| broken(&e))?;
        if socket.is_tls() && !socket.chose_http2() {
            let what = "the proxy did not choose HTTP/2 by ALPN".to_string();
            self.ledger.book().violation("streams", what);
        }
        let (send, connection) = Builder::new()
            .initial_window_size(streams.window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(if streams.eager { 100 } else { 0 })
            .reset_stream_duration(FOR_EVER)
            .enable_push(false)
            .handshake::<_, Bytes>(socket)
            .await
            .map_err(|e| broken(&e))?;
        let carrier = Arc::new(Carrier {
            open: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            cut: AtomicUsize::new(0),
            link,
            driver: Mutex::new(None),
        });
        let (driven, ledger) = (Arc::clone(&carrier), self.ledger.clone());
        let clock = self.env.clone();
        let driver = self.env.spawn("client http2", async move {
            let ended = connection.await;
            driven.gone.store(true, Ordering::Relaxed);
            let open = driven.open.load(Ordering::Relaxed);
            let in_order = |e: &h2::Error| e.is_go_away() && e.reason() == Some(Reason::NO_ERROR);
            if let Err(error) = ended
                && open > 0
                && !in_order(&error)
                && !driven.aborted.load(Ordering::Relaxed)
            {
                if driven.cut.load(Ordering::Relaxed) >= REMEMBERED {
                    ledger.book().reach(FORGOTTEN);
                    return;
                }
                let now = clock.clock().now();
                let what = format!(
                    "a client's connection ended at {now} with {open} streams on it: {error}"
                );
                ledger.book().violation("streams", what);
            }
        });
        *lock(&carrier.driver) = Some(driver);
        self.shared.put(send.clone(), &carrier);
        Ok((send, carrier))
    }

    fn request(
        &self,
        id: u64,
        kind: &Kind,
        whim: u64,
        streams: Streams,
    ) -> (Request<()>, Option<Body>) {
        let model = &kind.model;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut request = Request::new(());
        *request.version_mut() = http::Version::HTTP_2;
        let uri = format!("{scheme}://{}{}", model.host, model.path);
        *request.uri_mut() = uri.parse().expect("the scenario's paths are targets");
        let mut fields = HeaderMap::new();
        let mut add = |name: &str, value: &str| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            fields.append(name, HeaderValue::from_str(value).expect("a value"));
        };
        let own = ["connection", "upgrade", "sec-websocket-key"];
        for (name, value) in &model.headers {
            if !own.contains(&name.as_str()) {
                add(name, value);
            }
        }
        for cookie in kind.cookies(id) {
            add("cookie", &cookie);
        }
        let size = model.body_bytes as usize;
        let uploaded = if kind.tunnel { 0 } else { size };
        add("x-sim", &format!("{id} {} {uploaded}", model.answer_bytes));
        if let Some((name, value)) = forgery::claim(id) {
            add(&name.to_ascii_lowercase(), value);
        }
        let body = if kind.tunnel {
            *request.method_mut() = Method::CONNECT;
            let protocol = Protocol::from_static("websocket");
            request.extensions_mut().insert(protocol);
            add("x-tunnel", &kind.errand(id, whim).field());
            Some(Body::Tunnel)
        } else {
            *request.method_mut() = kind.method.clone();
            if streams.trailers {
                add("te", "trailers");
            }
            if model.chunked && streams.trailers {
                add("x-trailers", "yes");
                Some(Body::Trailed)
            } else {
                if !model.chunked && size > 0 {
                    add("content-length", &size.to_string());
                }
                (size > 0 || model.chunked).then_some(Body::Bare)
            }
        };
        *request.headers_mut() = fields;
        (request, body)
    }

    async fn upload(
        &self,
        id: u64,
        kind: &Kind,
        whim: u64,
        body: Body,
        mut stream: SendStream<Bytes>,
    ) -> Result<(), h2::Error> {
        let size = kind.model.body_bytes as usize;
        let mut offset = 0;
        while offset < size {
            let room = room(&mut stream, (size - offset).min(PIECE)).await?;
            let data = Whose::Request(id).slice(offset, room);
            offset += data.len();
            let sent = wires::Body::Request(id);
            self.ledger.book().wires.sent(sent, offset);
            let last = offset == size && body == Body::Bare;
            stream.send_data(Bytes::from_static(data), last)?;
            if whim & 2 != 0 {
                self.rest(crate::GRAIN).await;
            }
        }
        match body {
            Body::Trailed => stream.send_trailers(trailers(id))?,
            _ if size == 0 => stream.send_data(Bytes::new(), true)?,
            _ => {}
        }
        // The stream stays until its answer has come.
        std::future::pending().await
    }

    /// Reads an answer to its end.
    async fn receive_stream(
        &self,
        id: u64,
        kind: &Kind,
        whim: u64,
        streams: Streams,
        response: ResponseFuture,
    ) -> Result<End, Trouble> {
        let response = response.await.map_err(|e| trouble(&e))?;
        let (parts, mut body) = response.into_parts();
        let mut head = head(&parts.headers);
        head.status = parts.status.as_u16();
        let execution = head.number(EXECUTION);
        let execution = execution.and_then(|number| usize::try_from(number).ok());
        let slow = (whim >> 16 & 0xff) as f64 / 256.0 < streams.slow;
        let mut size = 0;
        let mut trailers = None;
        loop {
            let data = match body.data().await {
                Some(Ok(data)) => data,
                None => {
                    trailers = body.trailers().await.map_err(|_| Trouble::Broken)?;
                    break;
                }
                // An answer that was complete before its request is followed by this (RFC 9113 section 8.1).
                Some(Err(error)) => {
                    let whole = head.number("content-length") == Some(size as u64);
                    if error.reason() == Some(Reason::NO_ERROR) && whole {
                        break;
                    }
                    self.ledger.book().reach("an answer's stream was reset");
                    return Err(Trouble::Broken);
                }
            };
            if head
                .id
                .is_some_and(|of| !Whose::Answer(of).matches(size, &data))
            {
                let what = format!("the answer to request {id} came with bytes of another");
                self.ledger.book().violation("bytes", what);
                return Err(Trouble::Broken);
            }
            size += data.len();
            if let Some(execution) = execution {
                let read = wires::Body::Answer(execution);
                self.ledger.book().wires.read(read, size);
            }
            if slow {
                self.ledger.book().reach("a client read slowly");
                self.rest(Duration::from_millis(1 + (whim >> 24 & 7))).await;
            }
            // It fails only for more than was received.
            let _ = body.flow_control().release_capacity(data.len());
        }
        self.look_at_trailers(id, kind, &head, trailers.as_ref());
        Ok(self.judge(kind, id, &head, size))
    }

    fn look_at_trailers(&self, id: u64, kind: &Kind, head: &Head, trailers: Option<&HeaderMap>) {
        if head.field("x-trailers").is_none() || kind.method == Method::HEAD {
            return;
        }
        let mut book = self.ledger.book();
        match are_trailers(trailers, head.id.unwrap_or(id)) {
            true => book.reach("trailers came to a client"),
            false => {
                let what = format!("the answer to request {id} came without its trailers");
                book.violation("trailers", what);
            }
        }
    }

    /// Sees a tunnel through, if one is opened.
    async fn open_tunnel(
        &self,
        id: u64,
        kind: &Kind,
        whim: u64,
        response: ResponseFuture,
        send: SendStream<Bytes>,
    ) -> Result<End, Trouble> {
        let response = response.await.map_err(|e| trouble(&e))?;
        let status = response.status().as_u16();
        let mut head = head(response.headers());
        head.status = status;
        let mut recv = response.into_body();
        if !(200..300).contains(&status) {
            let mut size = 0;
            while let Some(data) = recv.data().await {
                size += data.map_err(|_| Trouble::Broken)?.len();
            }
            // What the proxy says by itself has a body of its own; a backend's refusal has none.
            return Ok(self.judge_refusal(kind, id, &head, size));
        }
        self.ledger.book().reach("tunnel over HTTP/2");
        self.ledger.book().wires.tunnel(id).told = true;
        let framed = Framed {
            send,
            recv,
            front: Bytes::new(),
        };
        let errand = kind.errand(id, whim);
        let pause = kind.pause(whim);
        let whole = tunnel::visit(&self.env, &self.ledger, errand, 0, pause, framed).await;
        Ok(self.tunnel_end(whole, status))
    }
}

/// What follows a request's head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Nothing but bytes.
    Bare,
    /// Bytes and trailers.
    Trailed,
    /// A tunnel's bytes.
    Tunnel,
}
