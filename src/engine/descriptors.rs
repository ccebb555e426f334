//! How many client connections a process may have open, when each of them may need a descriptor more on its way to a backend.

/// What takes descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What the process itself needs: listening sockets, logs, the admin port, files of certificates.
    pub fixed: usize,
    /// Client connections that the listeners may have together.
    pub clients: usize,
    /// Connections that backends may have; `None` is as many as clients ask for.
    pub backends: Option<usize>,
}

/// The client connections that may be open at once where `limit` descriptors may be. What backends can need is kept back for
/// them, up to half of what there is, so that what was accepted can be served. At least one.
pub fn client_share(limit: usize, demand: &Demand) -> usize {
    let free = limit.saturating_sub(demand.fixed);
    let kept = demand.backends.unwrap_or(usize::MAX);
    let kept = kept.min(free.div_ceil(2));
    demand.clients.min(free - kept).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_backends_cannot_need_is_for_clients() {
        let demand = Demand {
            fixed: 56,
            clients: 10_000,
            backends: Some(5),
        };
        assert_eq!(client_share(256, &demand), 195);
        let unbounded = Demand {
            backends: None,
            ..demand
        };
        assert_eq!(client_share(256, &unbounded), 100);
        assert_eq!(client_share(1 << 20, &unbounded), 10_000);
        assert_eq!(client_share(10, &unbounded), 1);
    }

    proptest! {
        #[test]
        fn a_client_and_its_backend_fit(limit in 0_usize..100_000, fixed in 0_usize..500, clients in 1_usize..20_000,
            backends in proptest::option::of(0_usize..20_000)) {
            let demand = Demand { fixed, clients, backends };
            let share = client_share(limit, &demand);
            prop_assert!((1..=clients).contains(&share));
            let needed = backends.unwrap_or(usize::MAX).min(share);
            prop_assert!(share == 1 || fixed + share + needed <= limit);
        }
    }
}
