//! What is to be written to Redis, in order and within bounds. Nobody waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use ::redis::{Cmd, cmd};
use bytes::Bytes;

use super::{COMPARE_AND_DELETE, COMPARE_AND_SET, millis};
use crate::time::Tick;

/// Stands in the place of a lease when its holder will store nothing, so that nobody goes on waiting for it.
pub const PASS: &str = "pass";

/// How long those who wait can read [`PASS`].
const PASS_FOR: Duration = Duration::from_secs(1);

/// Operations that may wait, and bytes of records among them.
const OPS: usize = 4096;
const BYTES: usize = 16 << 20;

/// Operations that are sent at once, and bytes of records among them.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;

/// One thing to write.
#[derive(Debug)]
pub enum Op {
    Store {
        name: String,
        record: Bytes,
        /// Until when it is to lie there.
        until: Tick,
    },
    Delete {
        name: String,
    },
    Release {
        name: String,
        token: String,
    },
    Pass {
        name: String,
        token: String,
    },
    Prolong {
        name: String,
        token: String,
        by: Duration,
    },
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Store { record, .. } => record.len(),
            _ => 0,
        }
    }

    /// As the server is told at `now`. What has waited for so long that it is of no use any more goes, as what is older does.
    pub fn command(&self, now: Tick) -> Cmd {
        match self {
            Op::Store { name, until, .. } if *until <= now => delete(name),
            Op::Store {
                name,
                record,
                until,
            } => {
                let mut set = cmd("SET");
                set.arg(name)
                    .arg(&record[..])
                    .arg("PX")
                    .arg(millis(until.since(now)));
                set
            }
            Op::Delete { name } => delete(name),
            Op::Release { name, token } => {
                let mut eval = cmd("EVAL");
                eval.arg(COMPARE_AND_DELETE).arg(1).arg(name).arg(token);
                eval
            }
            Op::Pass { name, token } => compare_and_set(name, token, PASS, PASS_FOR),
            Op::Prolong { name, token, by } => compare_and_set(name, token, token, *by),
        }
    }
}

fn delete(name: &str) -> Cmd {
    let mut del = cmd("DEL");
    del.arg(name);
    del
}

fn compare_and_set(name: &str, token: &str, value: &str, lifetime: Duration) -> Cmd {
    let mut eval = cmd("EVAL");
    eval.arg(COMPARE_AND_SET).arg(1).arg(name);
    eval.arg(token).arg(value).arg(millis(lifetime));
    eval
}

/// What waits.
#[derive(Debug, Default)]
pub struct Queue {
    ops: VecDeque<Op>,
    bytes: usize,
}

impl Queue {
    /// False when there is no room. An empty queue takes any operation, however large.
    pub fn push(&mut self, op: Op) -> bool {
        let bytes = op.bytes();
        let full = self.ops.len() >= OPS || self.bytes + bytes > BYTES;
        if full && !self.ops.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.ops.push_back(op);
        true
    }

    /// The next ones, in order: one at least if there is any.
    pub fn batch(&mut self) -> Vec<Op> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(op) = self.ops.front() {
            bytes += op.bytes();
            if taken.len() == BATCH || (bytes > BATCH_BYTES && !taken.is_empty()) {
                break;
            }
            let Some(op) = self.ops.pop_front() else {
                break;
            };
            self.bytes -= op.bytes();
            taken.push(op);
        }
        taken
    }

    /// Drops records and leases, which are outdated by the time Redis is back, and keeps removals. Returns how many records it
    /// dropped.
    pub fn thin(&mut self) -> u64 {
        let before = self.ops.iter().filter(|op| op.bytes() > 0).count();
        self.ops.retain(|op| matches!(op, Op::Delete { .. }));
        self.bytes = 0;
        before as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(size: usize) -> Op {
        Op::Store {
            name: "a".into(),
            record: vec![0; size].into(),
            until: Tick::from_millis(1000),
        }
    }

    fn delete() -> Op {
        Op::Delete { name: "a".into() }
    }

    #[test]
    fn it_is_bounded_by_number_and_by_bytes() {
        let mut queue = Queue::default();
        assert!(queue.push(store(BYTES + 1)));
        assert!(!queue.push(store(1)));
        assert_eq!(queue.batch().len(), 1);
        for _ in 0..OPS {
            assert!(queue.push(delete()));
        }
        assert!(!queue.push(delete()));
        assert_eq!(queue.batch().len(), BATCH);
        assert!(queue.push(delete()));
    }

    #[test]
    fn batches_are_bounded_and_in_order() {
        let mut queue = Queue::default();
        for size in [BATCH_BYTES - 1, 1, 1, BATCH_BYTES * 2, 5] {
            assert!(queue.push(store(size)));
        }
        let sizes = |batch: Vec<Op>| batch.iter().map(Op::bytes).collect::<Vec<_>>();
        assert_eq!(sizes(queue.batch()), [BATCH_BYTES - 1, 1]);
        assert_eq!(sizes(queue.batch()), [1]);
        assert_eq!(sizes(queue.batch()), [BATCH_BYTES * 2]);
        assert_eq!(sizes(queue.batch()), [5]);
        assert!(queue.batch().is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn an_outage_leaves_removals_alone() {
        let mut queue = Queue::default();
        for op in [store(3), delete(), store(4)] {
            assert!(queue.push(op));
        }
        assert_eq!(queue.thin(), 2);
        assert!(matches!(queue.batch()[..], [Op::Delete { .. }]));
        assert_eq!(queue.bytes, 0);
    }
}
