//! The writing half of an unruly connection: requests in the pieces that the script cuts them into, with its pauses, to where the
//! client leaves.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, WriteHalf};

use super::course::{Course, Over};
use super::script::{Ask, Expect, Target, Within, Written};
use crate::env::SimStream;

/// How long a client that leaves with a whole request waits before.
const WAITS: Duration = Duration::from_millis(3);

/// The writing half.
pub(super) struct Mouth<'a> {
    course: &'a Course,
    pub(super) half: &'a mut WriteHalf<SimStream>,
    /// To be written.
    out: Vec<u8>,
    /// So many heads have their ends in it.
    heads: usize,
    /// So many requests have.
    wholes: usize,
    /// Nobody reads any more.
    pub(super) broken: bool,
}

impl<'a> Mouth<'a> {
    pub(super) fn new(course: &'a Course, half: &'a mut WriteHalf<SimStream>) -> Self {
        Mouth {
            course,
            half,
            out: Vec::new(),
            heads: 0,
            wholes: 0,
            broken: false,
        }
    }

    /// Writes one request with its pauses, or leaves the last of it to be written with the next.
    pub(super) async fn request(
        &mut self,
        at: usize,
        ask: &Ask,
        written: &Written,
    ) -> Option<Over> {
        let course = self.course;
        let Written { bytes, head, cuts } = written;
        let leaves = |within| course.script.leaves(at, within);
        let (mut end, mut done) = (bytes.len(), 0);
        if leaves(Within::Head) {
            end = head / 2;
        } else if leaves(Within::Body) && bytes.len() > *head {
            end = head + (bytes.len() - head) / 2;
        }
        let mut waits = ask.expect == Expect::Waits;
        let mut stops: Vec<(usize, Duration)> = cuts.clone();
        stops.push((*head, Duration::ZERO));
        stops.push((end, Duration::ZERO));
        stops.sort_by_key(|(at, _)| *at);
        for (stop, pause) in stops.into_iter().filter(|(at, _)| *at <= end) {
            self.out.extend_from_slice(&bytes[done..stop]);
            if done < *head && stop >= *head {
                self.heads += 1;
            }
            done = stop;
            if waits && stop == *head {
                waits = false;
                self.flush().await;
                course.until_told(at).await;
            }
            if !pause.is_zero() {
                self.flush().await;
                course.sleep(pause).await;
            }
        }
        if end < bytes.len() {
            self.flush().await;
            course.reach(match end < *head {
                true => "an unruly client left within its head",
                false => "an unruly client left within its body",
            });
            return Some(Over::Left);
        }
        self.wholes += 1;
        let late = bytes.len() > *head && course.state().begun > at;
        if leaves(Within::Wait) || late || !course.script.pipelined {
            self.flush().await;
        }
        if late && !self.broken {
            course.reach(match ask.target {
                Target::Own(..) => "a late body behind an answer of the proxy's own",
                _ => "a late body behind a backend's early answer",
            });
        }
        if leaves(Within::Wait) {
            course.sleep(WAITS).await;
            course.reach("an unruly client left before its answer");
            return Some(Over::Left);
        }
        None
    }

    /// Writes what is to be written.
    pub(super) async fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        let heads = std::mem::take(&mut self.heads);
        let wholes = std::mem::take(&mut self.wholes);
        if self.broken || out.is_empty() {
            return;
        }
        self.course.claim(heads);
        // The reader hears why.
        self.broken = self.half.write_all(&out).await.is_err();
        self.broken |= self.half.flush().await.is_err();
        self.course.state().whole += wholes;
    }
}
