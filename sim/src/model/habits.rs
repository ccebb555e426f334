//! What a backend of HTTP/1.1 does beside answering whole requests: interim responses, and answers before the body is there,
//! behind which it reads on or leaves.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use weirkeeper::env::{Clock, Env};

use super::backend::Backend;
use super::message::{self, Framing, Head, Reader};
use super::pattern::{Whose, disguise};
use super::running::Running;
use super::socket::Socket;
use crate::env::lock;

/// What it feels like doing with one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whim {
    /// It answers before it has the body, and then leaves or does not.
    pub(super) early: Option<bool>,
    /// What comes first.
    interim: &'static str,
}

/// Interim responses that one gets without asking for them.
const INTERIM: [&str; 3] = [
    "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n",
];

impl Backend {
    /// What it will do with the request that begins with `head`.
    pub(super) fn whim(&self, head: &Head) -> Whim {
        let habits = self.plan.habits;
        let mut state = lock(&self.state);
        if state.healed {
            return Whim::default();
        }
        let rng = &mut state.whims;
        let early = rng.chance(habits.early).then(|| rng.chance(habits.leaves));
        let interim = match rng.chance(habits.interim) {
            true => INTERIM[usize::try_from(rng.below(3)).unwrap_or(0)],
            false => "",
        };
        Whim {
            early: early.filter(|_| head.framing != Framing::Length(0)),
            interim,
        }
    }

    /// Sends what comes before an answer; false if nobody is there to read it.
    pub(super) async fn say_more(&self, whim: Whim, stream: &mut Socket) -> bool {
        let text = whim.interim;
        if text.is_empty() {
            return true;
        }
        self.ledger.book().reach("a backend sent interim responses");
        stream.write_all(text.as_bytes()).await.is_ok() && stream.flush().await.is_ok()
    }

    /// Reads a request's body to its end; false if it ended before, or is not the one that its client sent.
    pub(super) async fn take(
        &self,
        id: u64,
        head: &Head,
        reader: &mut Reader,
        stream: &mut Socket,
    ) -> bool {
        let read = match head.disguised {
            false => {
                let whose = Some(Whose::Request(id));
                let read = reader.body(stream, head.framing, whose).await;
                read.map(|size| size == head.body)
            }
            true => {
                let mut body = Vec::new();
                let read = reader.body_into(stream, head.framing, &mut body).await;
                read.map(|()| body == disguise(id, head.body))
            }
        };
        if matches!(
            read,
            Ok(false) | Err(message::Fault::Foreign | message::Fault::Malformed)
        ) {
            let what = format!("the body of request {id} came to {} wrong", self.plan.name);
            self.ledger.book().violation("bytes", what);
        }
        read == Ok(true)
    }

    /// Answers a request whose body may still be to come, and reads that behind the answer or leaves; may the connection go on?
    pub(super) async fn answer_early(
        &self,
        running: Running<'_>,
        (key, id, leaves): (u64, u64, bool),
        head: &Head,
        reader: &mut Reader,
        stream: &mut Socket,
    ) -> bool {
        let now = self.env.clock().now();
        self.ledger.book().work(now, running.execution);
        let mut answer = self.work(key, id, head).await;
        let (says, pause) = {
            let rng = &mut lock(&self.state).whims;
            (rng.chance(0.5), Duration::from_millis(rng.below(60)))
        };
        if leaves
            && says
            && let Some(line) = answer.bytes.windows(2).position(|w| w == b"\r\n")
        {
            let close = b"connection: close\r\n".iter().copied();
            answer.bytes.splice(line + 2..line + 2, close);
        }
        if !self.write(&answer, stream).await {
            return false;
        }
        drop(running);
        if leaves || answer.close {
            let clock = self.env.clock();
            clock.sleep_until(clock.now() + pause).await;
            self.ledger.book().reach("answered early, and left");
            return false;
        }
        let whole = self.take(id, head, reader, stream).await;
        self.ledger.book().reach(match whole {
            true => "answered early, and the body came behind the answer",
            false => "answered early, and the body never came",
        });
        whole
    }
}
