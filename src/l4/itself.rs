//! A listener whose backend is the listener itself: each connection would make another one, until there are no more descriptors.

use std::io;
use std::net::SocketAddr;

/// Is the other end of this connection, or of this socket for datagrams, the listener bound to `bound`? Who reaches an address
/// of its own machine has that same address.
pub fn is_itself(
    bound: SocketAddr,
    local: io::Result<SocketAddr>,
    peer: io::Result<SocketAddr>,
) -> bool {
    let (Ok(local), Ok(peer)) = (local, peer) else {
        return false;
    };
    let (bound_ip, peer_ip) = (bound.ip().to_canonical(), peer.ip().to_canonical());
    let is_here = bound_ip.is_unspecified() && local.ip().to_canonical() == peer_ip;
    peer.port() == bound.port() && (is_here || bound_ip == peer_ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_address_and_port_are_it() {
        let is = |bound: &str, local: &str, peer: &str| {
            let addr = |text: &str| Ok(text.parse().unwrap());
            is_itself(bound.parse().unwrap(), addr(local), addr(peer))
        };
        assert!(is("127.0.0.1:80", "127.0.0.1:5000", "127.0.0.1:80"));
        assert!(is("0.0.0.0:80", "127.0.0.1:5000", "127.0.0.1:80"));
        assert!(is("[::]:80", "10.0.0.7:5000", "10.0.0.7:80"));
        assert!(is("[::]:80", "[::1]:5000", "[::1]:80"));
        assert!(is("[::]:80", "[::ffff:10.0.0.7]:5000", "10.0.0.7:80"));
        // Another port, another machine, another address of this one.
        assert!(!is("0.0.0.0:80", "127.0.0.1:5000", "127.0.0.1:81"));
        assert!(!is("0.0.0.0:80", "10.0.0.7:5000", "10.0.0.8:80"));
        assert!(!is("127.0.0.1:80", "127.0.0.1:5000", "127.0.0.2:80"));
        let closed = || Err(io::ErrorKind::NotConnected.into());
        assert!(!is_itself(
            "0.0.0.0:80".parse().unwrap(),
            closed(),
            closed()
        ));
    }
}
