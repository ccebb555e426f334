//! A client over TLS, blocking, and one that speaks HTTP/2.

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::PATIENCE;
use super::secure::{Authority, Issued};

/// How a client meets the proxy.
pub(crate) struct Meeting<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) name: &'a str,
    pub(crate) version: &'static SupportedProtocolVersion,
    pub(crate) alpn: &'a [&'a [u8]],
    pub(crate) identity: Option<&'a Issued>,
}

impl<'a> Meeting<'a> {
    /// By this name over TLS 1.3, in HTTP/1.1.
    pub(crate) fn of(authority: &'a Authority, name: &'a str) -> Self {
        Meeting {
            authority,
            name,
            version: &rustls::version::TLS13,
            alpn: &[b"http/1.1"],
            identity: None,
        }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.cert.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[self.version])
            .expect("a version")
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(vec![own.cert.clone()], own.key.clone_key())
                .expect("a key and its certificate"),
        };
        config.alpn_protocols = self.alpn.iter().map(|a| a.to_vec()).collect();
        Arc::new(config)
    }

    /// Connects; `Err` is what TLS says.
    pub(crate) fn connect(&self, port: u16) -> std::io::Result<Tls> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(self.name.to_owned()).expect("a name");
        let mut session = ClientConnection::new(self.config(), name).expect("a session");
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Tls(StreamOwned::new(session, socket)))
    }
}

/// A client's connection.
pub(crate) struct Tls(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    /// Sends a request with `connection: close` and reads the answer to its end, which must be an orderly one.
    pub(crate) fn once(&mut self, host: &str) -> std::io::Result<String> {
        write!(
            self.0,
            "GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        self.0.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Sends a request and reads its answer, whose body is `body`; the connection stays.
    pub(crate) fn ask(&mut self, host: &str, body: &str) -> String {
        write!(self.0, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("it is sent");
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(format!("\r\n\r\n{body}").as_bytes()) {
            self.0.read_exact(&mut byte).expect("it answers");
            text.push(byte[0]);
        }
        String::from_utf8(text).expect("UTF-8")
    }

    /// The certificate that the proxy has shown.
    pub(crate) fn shown(&self) -> Vec<u8> {
        let certs = self.0.conn.peer_certificates().expect("certificates");
        certs[0].to_vec()
    }
}

/// Runs `work` with an HTTP/2 client in the clear, by prior knowledge.
pub(crate) fn h2<F, T>(port: u16, work: impl FnOnce(SendRequest<Bytes>) -> F) -> T
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        let (client, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
        let driver = tokio::spawn(async move {
            // What ends it shows in the streams.
            let _ = connection.await;
        });
        let client = client.ready().await.expect("it is ready");
        let done = tokio::time::timeout(PATIENCE, work(client)).await;
        driver.abort();
        done.expect("it is done in time")
    })
}

/// Waits for what other threads bring about, while this one's connection goes on; the caller bounds the time.
pub(crate) async fn soon(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
