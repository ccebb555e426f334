//! A request on its way through: what was read of it, its body with its bounds, and its head as a backend is to see it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::config::model::{HeaderRules, Rewrite};
use crate::env::Env;
use crate::h1::{self, BodyFraming};
use crate::message::cause::Cause;
use crate::message::fields::{self, ConnectionTokens};
use crate::message::prefix;
use crate::message::target::Target;
use crate::message::upgrade;
use crate::proxy::server::Conn;
use crate::proxy::upgrade::Ask;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A client's verified certificate (RFC 9440), and its subject. Nobody's word but ours.
static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
static CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("client-cert-subject");

/// This proxy's name in Via and Proxy-Status.
pub const PSEUDONYM: &str = "weir";

/// A request whose head has been read and found good.
pub struct Inbound {
    pub method: Method,
    pub target: Target,
    pub version: Version,
    pub headers: HeaderMap,
    pub framing: BodyFraming,
    /// The change of protocol that it asks for and may have.
    pub upgrade: Option<Ask>,
}

/// What changes on a request's way to one backend.
#[derive(Clone, Copy)]
pub struct Hop<'a> {
    /// The backend's, before every path.
    pub prefix: &'a str,
    /// The route's change of the path.
    pub rewrite: &'a Rewrite,
    /// The route's changes of the fields.
    pub rules: &'a HeaderRules,
    /// The connection serves no other request.
    pub close: bool,
}

/// Where the fields of a request go, in the form of a codec.
pub trait FieldSink {
    /// A field that was received, or that the config says.
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue);
    /// A field of ours.
    fn put(&mut self, name: &HeaderName, value: &[u8]);
    /// What is for the connection: whether the client takes trailers, whether no other request follows, and whether another
    /// protocol is asked for.
    fn connection(&mut self, trailers: bool, close: bool, upgrade: bool);
}

/// HTTP/1.1.
struct Lines<'a>(&'a mut BytesMut);

impl FieldSink for Lines<'_> {
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        h1::field(self.0, name.as_str().as_bytes(), value.as_bytes());
    }

    fn put(&mut self, name: &HeaderName, value: &[u8]) {
        h1::field(self.0, name.as_str().as_bytes(), value);
    }

    fn connection(&mut self, trailers: bool, close: bool, upgrade: bool) {
        if trailers {
            h1::field(self.0, b"te", b"trailers");
        }
        // A connection that changes its protocol closes with that; to ask for both would contradict itself.
        let options: &[u8] = match (trailers, close, upgrade) {
            (false, false, false) => return,
            (true, false, false) => b"te",
            (false, true, false) => b"close",
            (true, true, false) => b"te, close",
            (false, _, true) => b"upgrade",
            (true, _, true) => b"te, upgrade",
        };
        h1::field(self.0, b"connection", options);
    }
}

impl Inbound {
    /// Appends the head as the backend behind `hop` is to see it in HTTP/1.1.
    pub fn encode<E: Env>(
        &self,
        out: &mut BytesMut,
        conn: &Conn<E>,
        hop: &Hop<'_>,
        id: (u64, u64),
    ) {
        h1::request_line(out, &self.method, &self.target_parts(hop));
        // HTTP/1.1 asks for a Host even where an HTTP/1.0 client had none to give (RFC 9112 section 3.2).
        if !rules_say(hop.rules, &header::HOST) {
            h1::field(
                out,
                b"host",
                self.target.authority().map_or(b"", |v| v.as_bytes()),
            );
        }
        self.fields(&mut Lines(out), conn, hop, id);
        h1::framing(out, self.framing);
        h1::end_of_head(out);
    }

    /// The target as the backend behind `hop` is to see it, in parts to put together.
    pub fn target_parts<'a>(&'a self, hop: &Hop<'a>) -> [&'a str; 6] {
        let [path, mark, query] = self.target.parts();
        // The server as a whole lies below no prefix.
        let prefix = if path == "*" { "" } else { hop.prefix };
        match rewritten(hop.rewrite, path) {
            Some([head, slash, tail]) => [prefix, head, slash, tail, mark, query],
            None => [prefix, path, "", "", mark, query],
        }
    }

    /// Every field but Host, unless the rules say one, and those of the body's framing: hop-by-hop fields gone, forwarding
    /// fields true, rules applied.
    pub fn fields<E: Env>(
        &self,
        sink: &mut impl FieldSink,
        conn: &Conn<E>,
        hop: &Hop<'_>,
        id: (u64, u64),
    ) {
        let rules = hop.rules;
        let tokens = ConnectionTokens::of(&self.headers);
        let own_key = self.upgrade.as_ref().and_then(|ask| ask.key.as_deref());
        let ruled = |name: &HeaderName| rules_say(rules, name);
        for (name, value) in &self.headers {
            let said_anew = own_key.is_some() && *name == upgrade::KEY;
            if passes(name, conn.trusted) && !tokens.nominates(name) && !ruled(name) && !said_anew {
                sink.pass(name, value);
            }
        }
        if let Some(ask) = &self.upgrade {
            sink.put(&header::UPGRADE, ask.token.as_bytes());
            if let Some(key) = own_key {
                sink.put(&upgrade::KEY, key.as_bytes());
            }
        }
        let trailers = fields::te_trailers(&self.headers);
        sink.connection(trailers, hop.close, self.upgrade.is_some());
        self.forwarding(sink, conn, rules);
        let known = conn.trusted && self.headers.contains_key(&X_REQUEST_ID);
        if !known && !ruled(&X_REQUEST_ID) {
            sink.put(&X_REQUEST_ID, &hex_id(id));
        }
        let via: &[u8] = match self.version {
            Version::HTTP_10 => b"1.0 weir",
            Version::HTTP_2 => b"2 weir",
            _ => b"1.1 weir",
        };
        sink.put(&header::VIA, via);
        for (name, value) in rules.set.iter().chain(&rules.add) {
            sink.pass(name, value);
        }
    }

    /// X-Forwarded-For, -Proto and -Host: the peer's own word only where the peer is trusted.
    fn forwarding<E: Env>(&self, sink: &mut impl FieldSink, conn: &Conn<E>, rules: &HeaderRules) {
        let said = |name: &HeaderName| rules_say(rules, name);
        let told = conn.trusted && self.headers.contains_key(&CLIENT_CERT);
        let own = conn.secured.get().and_then(|s| s.client.as_ref());
        if let Some(cert) = own.filter(|_| !told) {
            let subject = cert.subject.as_ref().map(|s| (&CLIENT_CERT_SUBJECT, s));
            let fields = [(&CLIENT_CERT, &cert.field)].into_iter().chain(subject);
            for (name, value) in fields.filter(|(name, _)| !said(name)) {
                sink.pass(name, value);
            }
        }
        if !said(&X_FORWARDED_FOR) {
            if conn.trusted {
                let mut chain = BytesMut::new();
                let said = self.headers.get_all(&X_FORWARDED_FOR);
                fields::forwarded_for(&mut chain, said, conn.peer, true);
                sink.put(&X_FORWARDED_FOR, &chain);
            } else {
                sink.put(&X_FORWARDED_FOR, conn.peer_text.as_bytes());
            }
        }
        let kept =
            |name: &HeaderName| said(name) || (conn.trusted && self.headers.contains_key(name));
        if !kept(&X_FORWARDED_PROTO) {
            sink.put(&X_FORWARDED_PROTO, conn.scheme().as_bytes());
        }
        if !kept(&X_FORWARDED_HOST)
            && let Some(host) = self.target.authority()
        {
            sink.pass(&X_FORWARDED_HOST, host);
        }
    }
}

/// Does a client's field go on as it is? What is framed, forwarded or said anew does not.
fn passes(name: &HeaderName, trusted: bool) -> bool {
    if *name == header::HOST || *name == header::CONTENT_LENGTH || *name == header::EXPECT {
        return false;
    }
    if fields::is_hop_by_hop(name) {
        return false;
    }
    if *name == header::FORWARDED {
        return trusted;
    }
    // Many backends read `_` as `-`, and would take a forged field for ours.
    let said = |ours: &str| {
        let name = name.as_str().bytes();
        name.len() == ours.len()
            && name
                .zip(ours.bytes())
                .all(|(n, o)| n == o || (n == b'_' && o == b'-'))
    };
    // Only a proxy in front of this one may say who has shown a certificate.
    if name.as_str().starts_with('c')
        && ["client-cert", "client-cert-chain", "client-cert-subject"]
            .into_iter()
            .any(said)
    {
        return trusted;
    }
    if !name.as_str().starts_with('x') {
        return true;
    }
    if said("x-forwarded-for") {
        return false;
    }
    let forwarding = [
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-real-ip",
        "x-request-id",
    ];
    trusted || !forwarding.into_iter().any(said)
}

/// The path as parts put together, where the route changes it.
fn rewritten<'a>(rewrite: &'a Rewrite, path: &'a str) -> Option<[&'a str; 3]> {
    match rewrite {
        Rewrite::Keep => None,
        Rewrite::StripPrefix(from) => prefix::replaced(path, from, ""),
        Rewrite::ReplacePrefix(from, to) => prefix::replaced(path, from, to),
    }
}

/// Do the rules take this field into their own hands?
fn rules_say(rules: &HeaderRules, name: &HeaderName) -> bool {
    rules.remove.contains(name) || rules.set.iter().any(|(set, _)| set == name)
}

/// 128 bits in hexadecimal.
pub fn hex_id((high, low): (u64, u64)) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let value = u128::from(high) << 64 | u128::from(low);
    std::array::from_fn(|i| DIGITS[(value >> (124 - 4 * i)) as usize & 15])
}

/// A request's body with its bound, its pace and its errors told apart.
pub struct Upload<E: Env> {
    /// `None` for a request of the proxy's own, which has none.
    body: Option<Incoming>,
    /// A piece that an attempt took and did not send.
    back: Bytes,
    ended: bool,
    /// It comes over a stream of HTTP/2.
    is_stream: bool,
    limit: u64,
    conn: Arc<Conn<E>>,
}

impl<E: Env> Upload<E> {
    pub fn new(conn: &Arc<Conn<E>>, body: Incoming, version: Version) -> Self {
        conn.line.received.store(0, Ordering::Relaxed);
        conn.line.linger.store(false, Ordering::Relaxed);
        let limit = conn.model().limits.body_bytes.unwrap_or(u64::MAX);
        Upload {
            ended: body.is_end_stream(),
            back: Bytes::new(),
            body: Some(body),
            is_stream: version == Version::HTTP_2,
            limit,
            conn: Arc::clone(conn),
        }
    }

    /// No body at all.
    pub fn none(conn: &Arc<Conn<E>>) -> Self {
        Upload {
            ended: true,
            back: Bytes::new(),
            body: None,
            is_stream: false,
            limit: 0,
            conn: Arc::clone(conn),
        }
    }
}

impl<E: Env> Upload<E> {
    /// Takes back a piece that went nowhere, for the next attempt. An attempt that took none leaves what lies here from an
    /// earlier one.
    pub fn put_back(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.back = piece;
        }
    }
}

impl<E: Env> Drop for Upload<E> {
    fn drop(&mut self) {
        if !self.ended {
            // The client may still be sending what nobody will read.
            self.conn.line.linger.store(true, Ordering::Relaxed);
        }
    }
}

impl<E: Env> Body for Upload<E> {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if !self.back.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.back)))));
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let ended;
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                ended = body.is_end_stream();
                frame
            }
            // A stream of HTTP/2 breaks by a reset, and a broken connection breaks all of them.
            Some(Err(_)) if self.is_stream => return Poll::Ready(Some(Err(Cause::ClientGone))),
            Some(Err(error)) => return Poll::Ready(Some(Err(broken(&error)))),
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        self.ended = ended;
        if let Some(data) = frame.data_ref() {
            let before = self
                .conn
                .line
                .received
                .fetch_add(data.len() as u64, Ordering::Relaxed);
            if before + data.len() as u64 > self.limit {
                return Poll::Ready(Some(Err(Cause::BodyTooLarge)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.back.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A body that stops short is a client that went away; anything else is broken framing.
fn broken(error: &hyper::Error) -> Cause {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Cause::ClientGone
    } else {
        Cause::BadRequestBody
    }
}
