//! Certificates made for one test, and servers that need a runtime: TLS and HTTP/2, each in a thread of its own.

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{Certificate, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A folder for the files of one test, removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("weir-certificates-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the folder is writable");
        path.to_str().expect("ASCII").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) cert: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) cert: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is wrong");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        Authority {
            cert: cert.der().clone(),
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for these names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        Issued {
            cert: cert.der().clone(),
            pem: cert.pem(),
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS 8"),
        }
    }

    /// A certificate with these contents for somebody else's key.
    pub(crate) fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Certificate {
        params.signed_by(key, &self.issuer).expect("signed")
    }

    /// The verifier of a server that takes only clients whose certificate this authority signed.
    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).expect("our own");
        Arc::new(roots)
    }
}

/// A server's side of TLS with `issued`, and these protocols by ALPN.
pub(crate) fn server(issued: &Issued, alpn: &[&[u8]], clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots(), provider)
                .build()
                .expect("there is an authority"),
        ),
    };
    let mut config = builder
        .with_single_cert(vec![issued.cert.clone()], issued.key.clone_key())
        .expect("they belong together");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// A server in a thread of its own; it stops, and cuts its connections, when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// Connections that it has accepted.
    pub(crate) accepted: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Runs `serve` on every connection, all in one thread.
    pub(crate) fn start<F, S>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be so");
        let port = listener.local_addr().expect("it is bound").port();
        let (stop, stopped) = oneshot::channel::<()>();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let accepting = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else {
                            continue;
                        };
                        count.fetch_add(1, Ordering::SeqCst);
                        // Small frames would each wait for a delayed acknowledgement.
                        stream.set_nodelay(true).expect("a socket can be so");
                        tokio::spawn(serve(stream));
                    }
                };
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    () = accepting => {}
                }
            });
        });
        Server {
            port,
            accepted,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// How many connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a server saw of one handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shaken {
    pub(crate) sni: Option<String>,
    pub(crate) alpn: Option<String>,
    pub(crate) resumed: bool,
    pub(crate) client_cert: bool,
}

/// A server over TLS, and what it saw of the handshakes that succeeded.
pub(crate) struct Secure {
    pub(crate) server: Server,
    shaken: Arc<Mutex<Vec<Shaken>>>,
}

impl Secure {
    /// Runs `serve` on every connection whose handshake succeeds.
    pub(crate) fn start<F, S>(config: ServerConfig, serve: F) -> Self
    where
        F: Fn(TlsStream<TcpStream>) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let shaken = Arc::new(Mutex::new(Vec::new()));
        let (seen, serve) = (Arc::clone(&shaken), Arc::new(serve));
        let server = Server::start(move |socket| {
            let (acceptor, seen, serve) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&serve));
            async move {
                let Ok(stream) = acceptor.accept(socket).await else {
                    return;
                };
                let side = stream.get_ref().1;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                seen.lock().expect("no panic holds it").push(Shaken {
                    sni: side.server_name().map(ToOwned::to_owned),
                    alpn: side.alpn_protocol().map(text),
                    resumed: side.handshake_kind() == Some(HandshakeKind::Resumed),
                    client_cert: side.peer_certificates().is_some(),
                });
                serve(stream).await;
            }
        });
        Secure { server, shaken }
    }

    /// A server that answers every HTTP/1.1 request without a body with 200 and `text`, and keeps the connection if `keep`.
    pub(crate) fn answering(config: ServerConfig, text: &'static str, keep: bool) -> Self {
        Secure::start(config, move |stream| answer(stream, text, keep))
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port
    }

    pub(crate) fn shaken(&self) -> Vec<Shaken> {
        self.shaken.lock().expect("no panic holds it").clone()
    }
}

async fn answer(mut stream: TlsStream<TcpStream>, text: &str, keep: bool) {
    let length = text.len();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
    while read_head(&mut stream).await.is_some() {
        if stream.write_all(response.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if !keep {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Reads up to the blank line after a head; `None` once the peer has closed.
pub(crate) async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
