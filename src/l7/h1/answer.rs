//! An answer on its way to a client of HTTP/1: its head, its body as the client takes it, and whether another request may follow.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::{Method, StatusCode, Version};
use http_body::Body;

use super::line::{Ends, Line, Reading};
use super::{DROPPED, KeepAlive, poll_write};
use crate::env::Env;
use crate::h1::{self, ReplyFraming, RequestHead};
use crate::l7::conn::Conn;
use crate::l7::reply::{Answer, Reply};
use crate::l7::tunnel::Tunnel;
use crate::message::head::Head;
use crate::message::known::Known;
use crate::wire::watch::Phase;

/// What of a request decides how its answer is written.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    is_head: bool,
    version: Version,
    /// The client lets the connection live on.
    pub(super) keep_alive: bool,
}

impl Asked {
    pub(super) fn of(head: &RequestHead) -> Self {
        Asked {
            is_head: head.method == Method::HEAD,
            version: head.version,
            keep_alive: head.keep_alive,
        }
    }
}

/// How an answer went.
pub(super) enum Sent<E: Env> {
    /// All of it is out.
    Whole(KeepAlive),
    /// Its head is, and this tunnel follows.
    Tunnel(Box<Tunnel<E>>),
    /// It broke off, or the client takes nothing more.
    Broken,
}

/// Sends an answer. Its record is written when all of it is out, or when it has broken off.
pub(super) async fn send<E: Env>(
    conn: &Arc<Conn<E>>,
    line: &Line<E>,
    asked: Asked,
    (head, mut reply): Answer<E>,
) -> Sent<E> {
    let tunnel = reply.take_tunnel();
    let is_tunnel = tunnel.is_some();
    let length = reply.size_hint().exact();
    let framing = match is_tunnel {
        true => ReplyFraming::None,
        false => h1::reply_framing(asked.is_head, asked.version, head.status, length),
    };
    let (keep_alive, half_closed) = {
        let mut ends = line.ends();
        let half_closed = ends.reading() == Reading::Ended;
        let keep_alive = keep_alive(conn, &ends, asked, &head, framing, &reply);
        // What a client gets that waits for a 100 is the answer.
        ends.forget_continue();
        encode(&mut ends.out.front, &head, framing, asked, keep_alive);
        (keep_alive, half_closed)
    };
    let mut sending = Sending {
        reply: Some(reply),
        framing,
        over: is_tunnel || framing == ReplyFraming::None,
        broken: false,
        last: keep_alive == KeepAlive::Last && !is_tunnel,
        half_closed,
    };
    let whole = std::future::poll_fn(|cx| {
        conn.errand.watch.register(cx.waker());
        sending.poll(conn, line, cx)
    })
    .await;
    match (whole, tunnel) {
        (false, _) => Sent::Broken,
        (true, Some(tunnel)) => Sent::Tunnel(tunnel),
        (true, None) => Sent::Whole(keep_alive),
    }
}

/// May another request follow?
fn keep_alive<E: Env>(
    conn: &Conn<E>,
    ends: &Ends<E>,
    asked: Asked,
    head: &Head,
    framing: ReplyFraming,
    reply: &Reply<E>,
) -> KeepAlive {
    let said = head.fields.get(Known::Connection);
    let said = said.is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    // Nobody reads the rest of the request any more, and there may be too much of it to be dropped.
    let unread = matches!(reply, Reply::Whole { .. })
        && !ends.is_body_done()
        && (ends.is_owed_continue() || ends.remaining().is_some_and(|left| left > DROPPED));
    let last = !asked.keep_alive
        || said
        || unread
        || framing == ReplyFraming::Close
        || conn.is_spent(0)
        || conn.errand.watch.is_closing();
    if last {
        KeepAlive::Last
    } else {
        KeepAlive::Yes
    }
}

/// Writes the head. What frames the body and what is for the connection is said here alone.
fn encode(
    out: &mut BytesMut,
    head: &Head,
    framing: ReplyFraming,
    asked: Asked,
    keep_alive: KeepAlive,
) {
    h1::status_line(out, head.status);
    let is_switch = head.status == StatusCode::SWITCHING_PROTOCOLS;
    head.fields.copy(out, |known, _| match known {
        Known::Connection => is_switch,
        Known::TransferEncoding => false,
        Known::ContentLength => framing == ReplyFraming::None,
        _ => true,
    });
    h1::reply_framing_field(out, framing);
    match keep_alive {
        _ if is_switch => {}
        KeepAlive::Last => h1::field(out, b"connection", b"close"),
        KeepAlive::Yes if asked.version == Version::HTTP_10 => {
            h1::field(out, b"connection", b"keep-alive");
        }
        KeepAlive::Yes => {}
    }
    h1::end_of_head(out);
}

/// A body on its way out.
struct Sending<E: Env> {
    /// Let go as soon as it is over, so that the exchange is on record before the client can know its end.
    reply: Option<Reply<E>>,
    framing: ReplyFraming,
    /// Its last piece has been put among what is to be written.
    over: bool,
    /// It broke off: what came before goes out, and no more.
    broken: bool,
    /// The connection ends behind it.
    last: bool,
    /// The client had ended its side before the answer began, and waits for it. One that ends it later has left.
    half_closed: bool,
}

impl<E: Env> Sending<E> {
    /// Ready with whether all of it went out.
    fn poll(&mut self, conn: &Conn<E>, line: &Line<E>, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            let starved = !self.gather(line, cx);
            if self.over {
                self.reply = None;
            }
            let mut ends = line.ends();
            let last = self.over && self.last && ends.stream().is_tls();
            match poll_write(conn, &mut ends, last, cx) {
                Poll::Ready(Ok(())) if self.over => return finish(conn, &mut ends, cx),
                Poll::Ready(Ok(())) if self.broken => return Poll::Ready(false),
                Poll::Ready(Ok(())) if starved => {
                    // Over TLS records may wait that the socket has not taken.
                    let gone = matches!(ends.poll_flush(cx), Poll::Ready(Err(_)));
                    let left = ends.has_left(cx)
                        || (ends.reading() == Reading::Ended && !self.half_closed);
                    if gone || left {
                        return Poll::Ready(false);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    // One that has its record already is counted at least.
                    if let (None, Some(cause)) = (&self.reply, conn.gives_up_writing()) {
                        conn.client.refused(cause);
                    }
                    return Poll::Ready(false);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Puts pieces among what is to be written, as far as there are some and there is room; false when the body has none now.
    fn gather(&mut self, line: &Line<E>, cx: &mut Context<'_>) -> bool {
        while let Some(reply) = self.reply.as_mut().filter(|_| !self.over && !self.broken) {
            if !line.ends().out.has_room() {
                return true;
            }
            let frame = match Pin::new(&mut *reply).poll_frame(cx) {
                Poll::Pending => return false,
                Poll::Ready(frame) => frame,
            };
            let mut ends = line.ends();
            let out = &mut ends.out;
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.framing == ReplyFraming::Chunked => out.push_chunk(data),
                    Ok(data) => out.push(data),
                    Err(frame) if self.framing == ReplyFraming::Chunked => {
                        h1::last_chunk(&mut out.front, frame.trailers_ref());
                        self.over = true;
                    }
                    // Trailers have no place behind a body of known length.
                    Err(_) => {}
                },
                Some(Err(_)) => self.broken = true,
                None => {
                    if self.framing == ReplyFraming::Chunked {
                        h1::last_chunk(&mut out.front, None);
                    }
                    self.over = true;
                }
            }
            // As many bytes as were announced: nobody need be asked for more.
            let is_known = matches!(self.framing, ReplyFraming::Length(_));
            self.over |= is_known && !self.broken && reply.is_end_stream();
        }
        true
    }
}

/// Over TLS records may wait that the socket has not taken, for as long as a client may stall.
fn finish<E: Env>(conn: &Conn<E>, ends: &mut Ends<E>, cx: &mut Context<'_>) -> Poll<bool> {
    if let Poll::Ready(flushed) = ends.poll_flush(cx) {
        return Poll::Ready(flushed.is_ok());
    }
    if !matches!(conn.phase(), Phase::ClientWrite | Phase::WriteRate) {
        conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
    }
    match conn.gives_up_writing() {
        Some(cause) => {
            conn.client.refused(cause);
            Poll::Ready(false)
        }
        None => Poll::Pending,
    }
}
