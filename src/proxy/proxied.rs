//! The PROXY protocol on sockets: the header that a balancer in front sends before its client's bytes, and the one that a backend
//! is sent before ours. Absent: its forms (message::proxy_protocol).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::model::{self, Protocol};
use crate::env::{Clock, Env, Stream};
use crate::l4::tcp;
use crate::l7::connection;
use crate::message::cause::Cause;
use crate::message::proxy_protocol::{self, Addresses, Progress};
use crate::proxy::core::Core;
use crate::site::Site;
use crate::site::client::{Permit, enter};
use crate::wire::SocketOf;

/// Reads a whole header, and not one byte behind it: whoever reads next finds the client's first byte. `None` where the sender
/// speaks for itself.
///
/// # Errors
/// `InvalidData` when it is no header, `UnexpectedEof` when it is cut, or what the stream says.
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Addresses>> {
    // Most headers are shorter than this. A longer one carries extras of its sender, which `read` bounds.
    let mut bytes = Vec::with_capacity(64);
    loop {
        match proxy_protocol::read(&bytes) {
            Ok(Progress::Done(addresses)) => return Ok(addresses),
            Ok(Progress::More(more)) => {
                let mut rest = (&mut *stream).take(more as u64);
                if rest.read_buf(&mut bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(proxy_protocol::Malformed) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Serves a connection that has to begin with a header: whom the header names is its client, as if it had come from there.
/// Whoever is not trusted to name anybody, sends no header, or takes longer for it than for a head, is closed.
pub fn admit<E: Env>(
    core: &Arc<Core<E>>,
    listener: usize,
    permit: Permit,
    mut stream: SocketOf<E>,
    peer: SocketAddr,
) {
    if !is_trusted(core, listener, peer) {
        return refused(core, listener, peer, Cause::BadRequest, "it is not trusted");
    }
    let core = Arc::clone(core);
    core.wire.env.clone().spawn("client", async move {
        let Some(named) = named(&core, listener, &mut stream, peer).await else {
            return;
        };
        let source = named.map_or(peer, |named| named.source);
        let site = core.site();
        let ends = named.or_else(|| ends(&site, &stream, peer));
        let begins = (site, &core.proxy.generations);
        let entered = enter(begins, &core.wire, listener, Some(permit), source, ends);
        let Some((client, _entry)) = entered else {
            return;
        };
        if core.wire.drain.has_begun() {
            // The connection was not yet in the books when the drain told all others to close.
            client.errand.watch.close();
        }
        match client.model().protocol {
            Protocol::Tcp => tcp::run(client, stream).await,
            _ => connection::run(client, Arc::clone(&core.desk), stream).await,
        }
    });
}

fn is_trusted<E: Env>(core: &Core<E>, listener: usize, peer: SocketAddr) -> bool {
    let site = core.site();
    let trusted = &site.config.listeners[listener].proxy_protocol;
    let mut trusted = trusted.iter().flatten();
    trusted.any(|net| net.contains(peer.ip()))
}

/// Reads the header within the listener's time for heads; `None` when the connection is to be closed. A proxy that stops takes a
/// header that has come, and waits for none.
async fn named<E: Env>(
    core: &Core<E>,
    listener: usize,
    stream: &mut SocketOf<E>,
    peer: SocketAddr,
) -> Option<Option<Addresses>> {
    let limit = core.site().config.listeners[listener].timeouts.header;
    let reading = core.wire.env.clock().timeout(limit, read_header(stream));
    let read = tokio::select! {
        biased;
        read = reading => read,
        () = core.wire.drain.begun() => return None,
    };
    match read {
        Some(Ok(named)) => return Some(named),
        Some(Err(e)) if e.kind() == io::ErrorKind::InvalidData => {
            refused(core, listener, peer, Cause::BadRequest, "it sent none");
        }
        // It left without a word, as probes do.
        Some(Err(_)) => {}
        None => refused(
            core,
            listener,
            peer,
            Cause::ClientTimeout,
            "it took too long",
        ),
    }
    None
}

fn refused<E: Env>(core: &Core<E>, listener: usize, peer: SocketAddr, cause: Cause, why: &str) {
    let site = core.site();
    let name = &site.config.listeners[listener].name;
    tracing::debug!(listener = %name, %peer, why, "closed for want of a PROXY protocol header");
    core.wire
        .telemetry()
        .refused(core.wire.index(), listener, cause);
}

/// Both addresses of a client's connection that came without a header; `None` if no upstream is told of them, because asking the
/// system costs a call.
pub fn ends<E: Env>(site: &Site<E>, stream: &SocketOf<E>, peer: SocketAddr) -> Option<Addresses> {
    let told = |u: &model::Upstream| u.proxy_protocol.is_some();
    if !site.config.upstreams.iter().any(told) {
        return None;
    }
    let destination = stream.local_addr().ok()?;
    Some(Addresses {
        source: peer,
        destination,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::proxy_protocol::Version;

    fn read(bytes: &[u8]) -> (io::Result<Option<Addresses>>, usize) {
        let mut rest = bytes;
        let read = tokio_test::block_on(read_header(&mut rest));
        (read, rest.len())
    }

    #[test]
    fn what_stands_behind_a_header_is_left_to_whoever_reads_next() {
        let ends = Addresses {
            source: "192.0.2.1:5".parse().unwrap(),
            destination: "192.0.2.2:6".parse().unwrap(),
        };
        for version in [Version::V1, Version::V2] {
            for ends in [None, Some(ends)] {
                let mut bytes = proxy_protocol::write(version, ends);
                bytes.extend_from_slice(b"\r\nGET / HTTP/1.1\r\n");
                let (read, rest) = read(&bytes);
                assert_eq!(read.unwrap(), ends);
                assert_eq!(rest, 18, "{version:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_and_what_is_none_are_told_apart() {
        let (cut, _) = read(b"PROXY TCP4 1.1.1.1");
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (none, _) = read(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
