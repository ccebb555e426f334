//! A request that asks for another protocol: what it may ask for, and how the backend's answer becomes a tunnel.
//!
//! HTTP/2 asks by an extended CONNECT (RFC 8441), which goes on as the GET that it stands for: backends are spoken to in
//! HTTP/1.1. Absent: the bytes that follow (tunnel).

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::config::model::{Action, BackendProtocol, Route};
use crate::env::Env;
use crate::message::cause::Cause;
use crate::message::upgrade::{WEBSOCKET, accepts, asked, is_switch_to, key};
use crate::proxy::attempt::apply;
use crate::proxy::caching;
use crate::proxy::http::{Answer, forward};
use crate::proxy::reply::Record;
use crate::proxy::request::{Inbound, Upload};
use crate::proxy::server::Conn;
use crate::proxy::tunnel::Opening;

/// What is asked of a backend.
pub struct Ask {
    /// The protocol.
    pub token: String,
    /// Our own half of WebSocket's handshake, where the client has none (RFC 8441 section 5).
    pub key: Option<String>,
}

impl Ask {
    /// Do the fields of a 101 say what was asked for?
    pub fn is_answered_by(&self, headers: &HeaderMap) -> bool {
        is_switch_to(headers, &self.token)
            && self.key.as_ref().is_none_or(|key| accepts(headers, key))
    }
}

/// Makes a GET of an extended CONNECT that asks for WebSocket. What is returned becomes the stream's bytes.
pub fn take_connect(parts: &mut Parts) -> Option<OnUpgrade> {
    let protocol = parts.extensions.get::<Protocol>();
    let websocket = protocol.is_some_and(|p| p.as_str().eq_ignore_ascii_case(WEBSOCKET));
    if parts.method != Method::CONNECT || parts.version != Version::HTTP_2 || !websocket {
        return None;
    }
    parts.method = Method::GET;
    parts.extensions.remove::<OnUpgrade>()
}

/// What a request asks for and `route` allows; a request with a body goes on as a plain one. `connect` tells that it came as an
/// extended CONNECT.
///
/// # Errors
/// An extended CONNECT that opens no tunnel here: any success would be taken for one.
pub fn ask<E: Env>(
    conn: &Conn<E>,
    parts: &Parts,
    route: &Route,
    bodiless: bool,
    connect: bool,
    id: (u64, u64),
) -> Result<Option<Ask>, Cause> {
    // Backends are asked in HTTP/1.1 alone.
    let forwards = match route.action {
        Action::Forward { upstream, .. } => {
            conn.core.config().upstreams[upstream].protocol == BackendProtocol::Http1
        }
        Action::Redirect { .. } | Action::Respond { .. } => false,
    };
    if connect {
        if !forwards || !route.upgrades.iter().any(|token| token == WEBSOCKET) {
            return Err(Cause::MethodNotAllowed);
        }
        // The id differs from core to core and from request to request.
        let mut rng = conn.core.env.rng("websocket-key", id.0 ^ id.1);
        return Ok(Some(Ask {
            token: WEBSOCKET.into(),
            key: Some(key((rng.next_u64(), rng.next_u64()))),
        }));
    }
    if !forwards || !bodiless {
        return Ok(None);
    }
    let token = asked(
        &parts.method,
        parts.version,
        &parts.headers,
        &route.upgrades,
    );
    Ok(token.map(|token| Ask {
        token: token.into(),
        key: None,
    }))
}

/// Forwards a request that asks for another protocol. `connect` is the stream of one that came as an extended CONNECT.
///
/// # Errors
/// Why no backend answered, or that the upstream has no room for another tunnel.
pub async fn answer<E: Env>(
    conn: &Arc<Conn<E>>,
    route: &Route,
    inbound: &Inbound,
    upload: Upload<E>,
    connect: Option<OnUpgrade>,
    record: &mut Record<E>,
) -> Result<Answer<E>, Cause> {
    let (Action::Forward { upstream, .. }, Some(ask)) = (&route.action, &inbound.upgrade) else {
        return Err(Cause::NoRoute);
    };
    record.facts.upstream = Some(*upstream);
    let tunnels = Arc::clone(&conn.core.proxy.upstreams[*upstream].tunnels);
    // Before a backend is asked: its 101 could not be taken back.
    let permit = tunnels
        .try_acquire_owned()
        .map_err(|_| Cause::TunnelsFull)?;
    let (mut parts, fetch) = forward(conn, route, inbound, upload, record).await?;
    let request = &inbound.headers;
    caching::invalidate(conn, &inbound.method, &inbound.target, request, &parts);
    apply(&route.response_headers, &mut parts.headers);
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        if connect.is_some() && parts.status.is_success() {
            // The client would take it for a tunnel.
            return Err(Cause::BadResponse);
        }
        return Ok(Answer::Fetched((parts, fetch)));
    }
    let link = fetch.switch().ok_or(Cause::BadResponse)?;
    if connect.is_some() {
        parts.status = StatusCode::OK;
        parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        let token = HeaderValue::try_from(&ask.token).map_err(|_| Cause::BadResponse)?;
        parts.headers.insert(header::UPGRADE, token);
        let upgrade = HeaderValue::from_static("upgrade");
        parts.headers.insert(header::CONNECTION, upgrade);
    }
    let opening = Opening {
        link,
        connect,
        permit,
    };
    Ok(Answer::Switched(parts, Box::new(opening)))
}
