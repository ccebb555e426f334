//! What a backend does beside plain requests of HTTP/1.1: it looks at heads and hosts tunnels.

use weirkeeper::env::{Clock, Env};

use super::answer::switch;
use super::backend::Backend;
use super::message::{Head, Reader};
use super::running::Running;
use super::socket::Socket;
use super::speech::Manner;
use super::tunnel::{self, Errand, Prefixed};
use crate::env::lock;
use crate::wires::Seen;

impl Backend {
    /// Notes the head of a request that came over HTTP/1.1.
    pub(super) fn see(&self, id: u64, head: &Head, tls: bool) {
        let all = |name: &str| {
            let fields = head.fields.iter().filter(|(n, _)| n == name);
            fields.map(|(_, v)| v.clone()).collect()
        };
        self.ledger.book().wires.heads.push(Seen {
            request: id,
            http2: false,
            tls,
            scheme: String::new(),
            hosts: all("host"),
            path: head.path.clone(),
            method: head.method.clone(),
            cookies: all("cookie"),
            misplaced: Vec::new(),
            tunnel: head.field("x-tunnel").is_some(),
        });
    }

    /// Is a request for a tunnel taken as one?
    pub(super) fn agrees(&self, manner: Manner) -> bool {
        let mut state = lock(&self.state);
        let (healed, fails) = (state.healed, self.plan.model.fail_rate);
        healed || !state.rng.chance(manner.declines.max(fails))
    }

    /// Switches to a tunnel and hosts it.
    pub(super) async fn carry(
        &self,
        running: Running<'_>,
        errand: Errand,
        head: &Head,
        reader: &mut Reader,
        stream: &mut Socket,
    ) -> bool {
        let time = lock(&self.state).time(&self.plan.model);
        let clock = self.env.clock();
        clock.sleep_until(clock.now() + time).await;
        self.unhung().await;
        let upstream = self.plan.members.first().map_or(0, |(u, _)| *u);
        self.ledger.book().work(clock.now(), running.execution);
        let link = stream.sim().link();
        self.ledger.book().wires.agree(errand.id, upstream, link);
        // From here on it is no request's any more.
        drop(running);
        stream.sim().become_tunnel(self.env.fabric());
        let switch = switch(errand.id, head.field("sec-websocket-key").unwrap_or(""));
        let orderly = !stream.is_tls();
        let io = Prefixed::new(reader.rest(), stream);
        if tunnel::host(&self.ledger, errand, switch.as_bytes(), orderly, io)
            .await
            .is_ok()
        {
            self.ledger.book().reach("a tunnel ended in order");
        }
        false
    }
}
