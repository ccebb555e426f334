//! A request that asks for another protocol: what it may ask for, and how the backend's answer becomes a tunnel.
//!
//! HTTP/2 asks by an extended CONNECT (RFC 8441), which goes on as the GET that it stands for: backends are spoken to in
//! HTTP/1.1. Absent: the bytes that follow (tunnel).

use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;

use crate::config::model::{Action, BackendProtocol, Route};
use crate::env::Env;
use crate::l7::conn::Conn;
use crate::l7::leave::{Came, Content};
use crate::l7::record::Record;
use crate::l7::request::Request;
use crate::l7::tunnel::Opening;
use crate::l7::upload::Upload;
use crate::message::cause::Cause;
use crate::message::upgrade::{Ask, WEBSOCKET, asked, key};
use crate::upstream::attempt::Run;

/// What a request asks for and `route` allows; a request with a body goes on as a plain one. `connect` tells that it came as an
/// extended CONNECT.
///
/// # Errors
/// An extended CONNECT that opens no tunnel here: any success would be taken for one.
pub fn ask<E: Env>(
    conn: &Conn<E>,
    request: &Request,
    route: &Route,
    bodiless: bool,
    connect: bool,
    id: (u64, u64),
) -> Result<Option<Ask>, Cause> {
    // Backends are asked in HTTP/1.1 alone.
    let forwards = match route.action {
        Action::Forward { upstream, .. } => {
            conn.client.site.config.upstreams[upstream].protocol == BackendProtocol::Http1
        }
        Action::Redirect { .. } | Action::Respond { .. } => false,
    };
    if connect {
        if !forwards || !route.upgrades.iter().any(|token| token == WEBSOCKET) {
            return Err(Cause::MethodNotAllowed);
        }
        // The id differs from core to core and from request to request.
        let mut rng = conn.core().env.rng("websocket-key", id.0 ^ id.1);
        return Ok(Some(Ask {
            token: WEBSOCKET.into(),
            key: Some(key((rng.next_u64(), rng.next_u64()))),
        }));
    }
    if !forwards || !bodiless {
        return Ok(None);
    }
    let token = asked(
        &request.method,
        request.version,
        &request.headers,
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
    run: Run<'_, E>,
    upload: Upload<E>,
    connect: Option<OnUpgrade>,
    record: &mut Record<E>,
) -> Result<Came<E>, Cause> {
    let Some(ask) = &run.inbound.upgrade else {
        return Err(Cause::NoRoute);
    };
    record.facts.upstream = Some(run.upstream.number());
    // Before a backend is asked: its 101 could not be taken back.
    let permit = Arc::clone(&run.upstream.tunnels)
        .try_acquire_owned()
        .map_err(|_| Cause::TunnelsFull)?;
    let (mut head, fetch) = run.answer(upload, &mut record.facts).await?;
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        if connect.is_some() && head.status.is_success() {
            // The client would take it for a tunnel.
            return Err(Cause::BadResponse);
        }
        return Ok(Came {
            head,
            content: Content::of(fetch),
            cached: None,
        });
    }
    let link = fetch.switch().ok_or(Cause::BadResponse)?;
    if connect.is_some() {
        head.status = StatusCode::OK;
        head.fields.change(|map| {
            map.remove(header::SEC_WEBSOCKET_ACCEPT);
        });
    }
    let opening = Opening {
        link,
        connect,
        permit,
        token: HeaderValue::try_from(&ask.token).map_err(|_| Cause::BadResponse)?,
    };
    Ok(Came {
        head,
        content: Content::Tunnel(Box::new(opening)),
        cached: None,
    })
}
