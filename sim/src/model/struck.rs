//! What faults do to a backend of HTTP. Absent: when they strike (faults).

use std::sync::Arc;

use weirkeeper::env::Task;
use weirkeeper::time::Tick;

use super::backend::Backend;
use super::faults::Struck;
use crate::env::lock;

impl Struck for Backend {
    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed += 1;
        if let Some(task) = state.accepting.take() {
            task.abort();
        }
    }

    fn reopen(self: &Arc<Self>) {
        lock(&self.state).closed -= 1;
        self.open();
    }

    fn kill_connections(&self, reset: bool) {
        for connection in lock(&self.state).connections.values() {
            if reset {
                connection.link.reset();
            }
            connection.task.iter().for_each(Task::abort);
        }
    }

    fn retire_connections(&self) {
        let mut state = lock(&self.state);
        state.retired = state.next_connection;
        for connection in state.connections.values() {
            match connection.idle {
                true => connection.task.iter().for_each(Task::abort),
                false => connection.told.notify_one(),
            }
        }
    }

    fn hang(&self, until: Tick) {
        let mut state = lock(&self.state);
        state.hang_until = state.hang_until.max(until);
    }

    fn slow(&self, factor: f64) {
        lock(&self.state).slow.push(factor);
    }

    fn quicken(&self, factor: f64) {
        remove(&mut lock(&self.state).slow, factor);
    }

    fn garble(&self, share: f64) {
        lock(&self.state).malformed.push(share);
    }

    fn mend(&self, share: f64) {
        remove(&mut lock(&self.state).malformed, share);
    }

    fn fail(&self, fails: bool) {
        let failing = &mut lock(&self.state).failing;
        *failing = if fails { *failing + 1 } else { *failing - 1 };
    }
}

fn remove(list: &mut Vec<f64>, value: f64) {
    if let Some(at) = list.iter().position(|x| *x == value) {
        list.remove(at);
    }
}
