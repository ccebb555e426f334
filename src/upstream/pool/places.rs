//! Places for the connections to one backend: never more than its max_in_flight, busy and idle together. Absent: which requests
//! they are for (engine).

use std::sync::Arc;

use super::shared::Gone;
use super::{Backend, Pool};
use crate::env::Env;

/// The right to hold one connection open; its drop gives the place back.
pub struct Permit<E: Env>(Option<Arc<Backend<E>>>);

impl<E: Env> Permit<E> {
    /// Of a connection that counts already.
    pub(super) fn of(backend: &Arc<Backend<E>>) -> Self {
        Permit(Some(Arc::clone(backend)))
    }

    /// Of a connection that does not count.
    pub(super) fn none() -> Self {
        Permit(None)
    }

    /// The connection goes on to count, and whoever takes it makes its permit anew.
    pub(super) fn leave(&mut self) {
        self.0 = None;
    }
}

impl<E: Env> Drop for Permit<E> {
    fn drop(&mut self) {
        if let Some(backend) = &self.0 {
            backend.lock().open -= 1;
        }
    }
}

impl<E: Env> Backend<E> {
    /// A place for a connection. The engine admits no more than max_in_flight requests and each holds at most one connection,
    /// so where the bound is reached some connection is idle and gives way, or is doing so already. Only a health check comes
    /// beside them: for as long as it lasts there may be one connection more.
    pub(super) async fn permit(self: &Arc<Self>) -> Permit<E> {
        loop {
            match self.try_permit() {
                Ok(permit) => return permit,
                // Its driver may be another core's. An error says the same: it is gone.
                Err(closing) => {
                    let _ = closing.acquire().await;
                }
            }
        }
    }

    /// A place, or the end of a shared connection that gives way.
    fn try_permit(self: &Arc<Self>) -> Result<Permit<E>, Gone> {
        let mut pool = self.lock();
        let mut evicted = None;
        if !self.is_full(&pool) {
            pool.open += 1;
        } else if let Some(idle) = pool.idle.pop_front() {
            evicted = Some(idle);
        } else if let Some(idle) = pool.shared.iter_mut().find(|s| s.is_idle()) {
            return Err(idle.close());
        } else if let Some(closing) = pool.shared.iter_mut().find(|s| s.is_closing()) {
            return Err(closing.close());
        } else {
            pool.open += 1;
        }
        drop(pool);
        drop(evicted);
        Ok(Permit::of(self))
    }

    pub(super) fn is_full(&self, pool: &Pool<E>) -> bool {
        self.max_in_flight.is_some_and(|max| pool.open >= max)
    }
}
