//! What a backend says over HTTP/2, and what it notes of what was said to it.

use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response, StatusCode};
use weirkeeper::env::{Clock, Env};

use super::carrying::{Carrying, QUITS};
use super::{EXECUTION, PIECE, room, trailers};
use crate::model::backend::Backend;
use crate::model::message::Head;
use crate::model::pattern::Whose;
use crate::model::running::Running;
use crate::wires::{Body, Seen};

/// How an answer is to come.
pub(super) enum Said {
    Whole {
        length: bool,
        trailers: bool,
    },
    Refusal,
    /// It ends before what its head announces, or goes beyond it.
    Wrong {
        long: bool,
    },
    /// The stream is reset: before the head, or behind so much of the body.
    Reset {
        head: bool,
    },
    /// The connection goes, and no word of this.
    Nothing,
}

impl Backend {
    /// Says it.
    pub(super) async fn say(
        &self,
        carrying: &Carrying,
        running: &Running<'_>,
        head: &Head,
        said: Said,
        respond: &mut SendResponse<Bytes>,
        slow: bool,
    ) -> Result<(), h2::Error> {
        let Running { id, execution, .. } = *running;
        let size = if head.method == "HEAD" { 0 } else { head.size };
        let mut fields = HeaderMap::new();
        fields.insert("x-sim", id.into());
        fields.insert(EXECUTION, execution.into());
        let mut status = StatusCode::OK;
        let mut announce = |length: usize| {
            fields.insert("content-length", length.into());
        };
        let mut sends = size;
        match said {
            Said::Nothing => {
                carrying.doom(QUITS);
                return Ok(());
            }
            Said::Reset { head: true } => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Said::Refusal => {
                status = StatusCode::from_u16(self.plan.model.fail_status).unwrap_or_default();
                announce(0);
                sends = 0;
            }
            Said::Whole { length: true, .. } => announce(head.size),
            Said::Wrong { long: true } => announce(size / 2),
            Said::Wrong { long: false } => announce(size + 100),
            Said::Whole { .. } => {}
            Said::Reset { .. } => sends = size / 2,
        }
        let trailed = matches!(said, Said::Whole { trailers: true, .. });
        if trailed {
            fields.insert("x-trailers", http::HeaderValue::from_static("yes"));
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        let resets = matches!(said, Said::Reset { .. });
        let ends = sends == 0 && !(trailed || resets);
        let mut stream = respond.send_response(response, ends)?;
        let pace = if slow { crate::GRAIN } else { Duration::ZERO };
        let last = !(trailed || resets);
        self.send_body(running, sends, last, pace, &mut stream)
            .await?;
        if resets {
            self.ledger.book().reach("a backend reset a stream");
            stream.send_reset(Reason::INTERNAL_ERROR);
        } else if trailed {
            stream.send_trailers(trailers(id))?;
        }
        Ok(())
    }

    async fn send_body(
        &self,
        running: &Running<'_>,
        size: usize,
        last: bool,
        pace: Duration,
        stream: &mut SendStream<Bytes>,
    ) -> Result<(), h2::Error> {
        let clock = self.env.clock();
        let mut offset = 0;
        while offset < size {
            let room = room(stream, (size - offset).min(PIECE)).await?;
            let data = Whose::Answer(running.id).slice(offset, room);
            offset += data.len();
            let sent = Body::Answer(running.execution);
            self.ledger.book().wires.sent(sent, offset);
            stream.send_data(Bytes::from_static(data), last && offset == size)?;
            if !pace.is_zero() {
                clock.sleep_until(clock.now() + pace).await;
            }
        }
        Ok(())
    }

    /// Notes the head of a request that came over HTTP/2.
    pub(super) fn see_stream(&self, id: u64, parts: &http::request::Parts, tls: bool) {
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_string();
        let all = |name: &str| parts.headers.get_all(name).iter().map(text).collect();
        let own = [
            "host",
            "connection",
            "keep-alive",
            "transfer-encoding",
            "upgrade",
        ];
        let uri = &parts.uri;
        self.ledger.book().wires.heads.push(Seen {
            request: id,
            http2: true,
            tls,
            scheme: uri.scheme_str().unwrap_or_default().to_string(),
            hosts: uri
                .authority()
                .map(ToString::to_string)
                .into_iter()
                .collect(),
            path: uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            method: parts.method.to_string(),
            cookies: all("cookie"),
            misplaced: own
                .into_iter()
                .filter(|name| parts.headers.contains_key(*name))
                .map(ToString::to_string)
                .collect(),
            tunnel: parts.headers.contains_key("x-tunnel"),
        });
    }
}
