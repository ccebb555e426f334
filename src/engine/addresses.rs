//! How many connections each client address has, so that one address cannot take the places of all. An IPv6 address stands for
//! its network of 64 bits, since a single client is given as much (RFC 6177).

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Connections by address, within a bound for each. Only addresses that have a connection take memory.
#[derive(Clone, Debug)]
pub struct Addresses {
    bound: usize,
    open: BTreeMap<Network, usize>,
}

/// Whose connections count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.to_bits()),
            IpAddr::V6(address) => Network::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl Addresses {
    /// Up to `bound` connections for each address, at least one.
    pub fn new(bound: usize) -> Self {
        Addresses {
            bound: bound.max(1),
            open: BTreeMap::new(),
        }
    }

    /// Another bound for the connections to come; those that there are stay.
    pub fn set_bound(&mut self, bound: usize) {
        self.bound = bound.max(1);
    }

    /// A connection from `address` begins, if it may: false when its address has as many as it may have.
    pub fn enter(&mut self, address: IpAddr) -> bool {
        let open = self.open.entry(Network::of(address)).or_default();
        let may = *open < self.bound;
        *open += usize::from(may);
        may
    }

    /// A connection from `address` that had begun has ended.
    pub fn leave(&mut self, address: IpAddr) {
        let network = Network::of(address);
        if let Some(open) = self.open.get_mut(&network) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&network);
            }
        }
    }

    /// Addresses that have a connection.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Has no address a connection?
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Panics when its books do not hold.
    ///
    /// # Panics
    /// An address has none or too many connections.
    pub fn check_invariants(&self) {
        for (network, open) in &self.open {
            assert!(
                (1..=self.bound).contains(open),
                "{network:?} has {open} connections"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_of_ipv6_is_its_network() {
        let mut addresses = Addresses::new(2);
        assert!(addresses.enter(address("2001:db8::1")));
        assert!(addresses.enter(address("2001:db8::ffff:1")));
        assert!(!addresses.enter(address("2001:db8::2")));
        assert!(addresses.enter(address("2001:db8:0:1::2")));
        // IPv4 in the form of IPv6 is IPv4.
        assert!(addresses.enter(address("::ffff:192.0.2.1")));
        assert!(addresses.enter(address("192.0.2.1")));
        assert!(!addresses.enter(address("::ffff:192.0.2.1")));
        assert!(addresses.enter(address("192.0.2.2")));
    }

    proptest! {
        /// Against a plain list of those that are open.
        #[test]
        fn no_address_has_more_than_its_bound(
            bound in 1_usize..4,
            steps in prop::collection::vec((any::<bool>(), 0_u8..4), 0..200),
        ) {
            let mut addresses = Addresses::new(bound);
            let mut open: Vec<IpAddr> = Vec::new();
            for (enters, last) in steps {
                let address = IpAddr::from([192, 0, 2, last]);
                if enters {
                    let have = open.iter().filter(|a| **a == address).count();
                    let entered = addresses.enter(address);
                    prop_assert_eq!(entered, have < bound);
                    open.extend(entered.then_some(address));
                } else if let Some(at) = open.iter().position(|a| *a == address) {
                    addresses.leave(open.remove(at));
                }
                addresses.check_invariants();
            }
            open.into_iter().for_each(|address| addresses.leave(address));
            prop_assert!(addresses.is_empty());
        }
    }
}
