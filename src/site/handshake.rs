//! The handshake of TLS with a client, and what an authority's challenge is answered with in its place.

use std::io;
use std::sync::Arc;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{StartHandshake, TlsStream};

use crate::env::{Clock, Env};
use crate::message::cause::Cause;
use crate::site::client::Client;
use crate::site::respond;
use crate::site::secure::{Secure, Secured};
use crate::upstream::origin::ClientCert;
use crate::wire::stream::Wire;
use crate::wire::{SocketOf, StreamOf};

/// What one read of a hello may bring: most are smaller.
const HELLO: usize = 4096;

/// The first byte of a handshake's records (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// A connection as its listener has it: in the clear, or over TLS once hands were shaken. `None` when it has been dealt with.
pub async fn begin<E: Env>(client: &Client<E>, socket: SocketOf<E>) -> Option<StreamOf<E>> {
    match &client.site.secure[client.listener] {
        None => Some(Wire::Plain(socket)),
        Some(secure) => accept(client, secure, socket).await,
    }
}

/// The handshake, within the time that a head may take.
async fn accept<E: Env>(
    client: &Client<E>,
    secure: &Secure,
    socket: SocketOf<E>,
) -> Option<StreamOf<E>> {
    let clock = client.core().env.clock();
    let limit = client.model().timeouts.header;
    // The handshake is on the heap, so that a connection gives its space back afterwards.
    let accepted = clock.timeout(limit, Box::pin(shake(client, secure, socket)));
    let failed = match accepted.await {
        Some(Ok(stream)) => return stream,
        Some(Err(error)) => error,
        None => io::ErrorKind::TimedOut.into(),
    };
    tracing::debug!(error = %failed, peer = %client.origin.peer, "a TLS handshake failed");
    client.refused(Cause::ClientTls);
    None
}

/// `None` after a handshake that was an authority's challenge: then all has been said.
async fn shake<E: Env>(
    client: &Client<E>,
    secure: &Secure,
    mut socket: SocketOf<E>,
) -> io::Result<Option<StreamOf<E>>> {
    let accepted = match hello(&mut socket).await? {
        Some(accepted) => accepted,
        None => {
            // A browser that was sent to the wrong scheme reads this.
            let answer = respond::raw(Cause::NotTls, &client.core().date());
            socket.write_all(&answer).await?;
            socket.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not TLS"));
        }
    };
    let challenges = client.site.challenges.as_ref();
    if let Some(config) = challenges.and_then(|c| c.handshake(&accepted.client_hello())) {
        let start = StartHandshake::from_parts(accepted, socket);
        start.into_stream(config).await?.shutdown().await?;
        return Ok(None);
    }
    let current = secure.current();
    let start = StartHandshake::from_parts(accepted, socket);
    let stream = start.into_stream(Arc::clone(&current.config)).await?;
    let (_, session) = stream.get_ref();
    let certs = session.peer_certificates();
    let secured = Secured::new(current, session);
    let shown = certs.and_then(|c| c.first()).and_then(ClientCert::of);
    // Both are empty until now, because a connection shakes hands once.
    let _ = client.origin.tls.set(shown);
    let _ = client.secured.set(Arc::new(secured));
    Ok(Some(Wire::Tls(Box::new(TlsStream::Server(stream)))))
}

/// Reads up to the end of a client's hello; `None` when what comes is no TLS at all.
async fn hello<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) -> io::Result<Option<Accepted>> {
    let mut acceptor = Acceptor::default();
    let mut room = vec![0; HELLO];
    let mut first = true;
    loop {
        let read = socket.read(&mut room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if std::mem::take(&mut first) && room[0] != HANDSHAKE {
            return Ok(None);
        }
        let mut bytes = &room[..read];
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Some(accepted)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut words = Vec::new();
                alert.write_all(&mut words)?;
                socket.write_all(&words).await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}
