//! WebSocket over a stream of HTTP/2 (RFC 8441), with the h2 crate as the client and a backend of HTTP/1.1.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use weirkeeper::message::upgrade::accept;

use super::{has, head, tunnels};
use crate::loopback::tcp::{Peer, is_reset, read, rest};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

/// What the proxy answered, and both directions.
struct Stream {
    status: StatusCode,
    fields: HeaderMap,
    send: SendStream<Bytes>,
    receive: RecvStream,
}

impl Stream {
    async fn read(&mut self, n: usize) -> Bytes {
        let mut bytes = BytesMut::new();
        while bytes.len() < n {
            bytes.extend_from_slice(&self.piece().await.expect("more comes"));
        }
        bytes.freeze()
    }

    async fn piece(&mut self) -> Option<Bytes> {
        let piece = self.receive.data().await?.expect("no reset");
        let flow = self.receive.flow_control();
        flow.release_capacity(piece.len()).expect("it was taken");
        Some(piece)
    }

    async fn rest(&mut self) -> BytesMut {
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.piece().await {
            bytes.extend_from_slice(&piece);
        }
        bytes
    }

    fn write(&mut self, bytes: &'static [u8]) {
        let sent = self.send.send_data(Bytes::from_static(bytes), false);
        sent.expect("the stream is open");
    }

    fn end(&mut self) {
        let sent = self.send.send_data(Bytes::new(), true);
        sent.expect("the stream is open");
    }
}

fn run<F: Future<Output = ()>>(future: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future);
}

/// A connection that knows that it may ask, and its task.
async fn connect(weir: &Weir) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", weir.port));
    let socket = socket.await.expect("the proxy accepts");
    let (client, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    let task = tokio::spawn(async move {
        let _ = connection.await;
    });
    let client = client.ready().await.expect("HTTP/2");
    // The first answer comes after the proxy's settings.
    let (_, client) = plain(client, Method::OPTIONS, "http://test.example/probe").await;
    assert!(client.is_extended_connect_protocol_enabled());
    (client, task)
}

async fn plain(
    mut client: SendRequest<Bytes>,
    method: Method,
    uri: &str,
) -> (StatusCode, SendRequest<Bytes>) {
    let request = Request::builder().method(method).uri(uri);
    let request = request.version(Version::HTTP_2).body(()).expect("valid");
    let (answer, _) = client.send_request(request, true).expect("it is sent");
    let status = answer.await.expect("it is answered").status();
    (status, client.ready().await.expect("it stands"))
}

async fn ask(client: &mut SendRequest<Bytes>, path: &str) -> Stream {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://test.example{path}"))
        .version(Version::HTTP_2)
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .expect("valid");
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let (answer, send) = client.send_request(request, false).expect("it is sent");
    let (parts, receive) = answer.await.expect("it is answered").into_parts();
    Stream {
        status: parts.status,
        fields: parts.headers,
        send,
        receive,
    }
}

/// Routes that open a tunnel, and some that do not.
const ROUTES: &str = r#""routes": [
    {"name": "probe", "match": {"methods": "OPTIONS"}, "respond": {}},
    {"name": "own", "match": {"path": "/own"}, "respond": {"status": 200}},
    {"name": "off", "match": {"path": "/off"}, "upstream": "app", "upgrades": "off"},
    {"name": "rest", "match": {"methods": "GET"}, "upstream": "app"}]"#;

fn start(peer: &Peer, listener: &str) -> Weir {
    let extra = Extra {
        top: ROUTES,
        listener,
        ..Extra::default()
    };
    Weir::start(&config(&[peer.port], extra))
}

/// A backend that takes one connection, reads its head, answers with what `answer` makes of that, and goes on.
fn backend<T: Send + 'static>(
    peer: Peer,
    answer: impl Fn(&str) -> String + Send + 'static,
    on: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::spawn(move || {
        let mut stream = peer.accept();
        let asked = head(&mut stream);
        let answer = answer(&asked);
        stream.write_all(answer.as_bytes()).expect("it is taken");
        on(stream)
    })
}

/// The handshake as RFC 6455 wants it, and a greeting behind it.
fn switch(asked: &str) -> String {
    for line in [
        "GET /chat HTTP/1.1",
        "host: test.example",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
    ] {
        assert!(has(asked, line), "{line} in {asked}");
    }
    assert!(asked.contains("\r\nvia: 2 weir-"), "{asked}");
    let mut keys = asked
        .split("\r\n")
        .filter_map(|l| l.strip_prefix("sec-websocket-key: "));
    let key = keys.next().expect("there is a key");
    assert!(key.len() == 24 && key != "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(keys.next(), None);
    let accept = accept(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello"
    )
}

#[test]
fn a_stream_becomes_a_tunnel_and_each_side_ends_by_itself() {
    const LENGTH: usize = 3 << 20;
    let peer = Peer::start();
    let weir = start(&peer, "");
    let serving = backend(peer, switch, |mut stream| {
        assert_eq!(read(&mut stream, 5), b"early");
        stream.write_all(&vec![b'd'; LENGTH]).expect("it is taken");
        stream.shutdown(Shutdown::Write).expect("it is open");
        rest(&mut stream)
    });
    run(async {
        let (mut client, _task) = connect(&weir).await;
        let mut stream = ask(&mut client, "/chat").await;
        assert_eq!(stream.status, 200);
        assert_eq!(stream.fields["sec-websocket-protocol"], "chat");
        for name in [
            "connection",
            "upgrade",
            "sec-websocket-accept",
            "content-length",
        ] {
            assert!(!stream.fields.contains_key(name), "{name}");
        }
        assert_eq!(stream.read(5).await, "hello");
        assert_eq!(tunnels(&weir), 1);
        stream.write(b"early");
        let all = stream.rest().await;
        assert!(all.len() == LENGTH && all.iter().all(|b| *b == b'd'));
        // The other direction is still open, and another stream of the connection is served meanwhile.
        let more = Bytes::from(vec![b'u'; LENGTH]);
        stream.send.send_data(more, false).expect("it is open");
        let (status, _) = plain(client, Method::OPTIONS, "http://test.example/").await;
        assert_eq!(status, 200);
        stream.end();
        let got = tokio::task::spawn_blocking(move || serving.join()).await;
        let got = got.expect("no panic").expect("it was served");
        assert!(got.len() == LENGTH && got.iter().all(|b| *b == b'u'));
    });
    eventually("it is over", || tunnels(&weir) == 0);
}

#[test]
fn only_a_handshake_that_proves_itself_is_a_success() {
    for (answer, status) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502),
        ("HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", 502),
        (
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            502,
        ),
    ] {
        let peer = Peer::start();
        let weir = start(&peer, "");
        let serving = backend(
            peer,
            |_| answer.into(),
            |mut stream| {
                let _ = stream.read(&mut [0]);
            },
        );
        run(async {
            let (mut client, _task) = connect(&weir).await;
            let stream = ask(&mut client, "/chat").await;
            assert_eq!(stream.status.as_u16(), status, "{answer}");
        });
        assert_eq!(tunnels(&weir), 0);
        drop(weir);
        serving.join().expect("it was served");
    }
}

#[test]
fn where_there_is_no_tunnel_there_is_no_success() {
    let peer = Peer::start();
    let weir = start(&peer, "");
    run(async {
        let (mut client, _task) = connect(&weir).await;
        for path in ["/own", "/off"] {
            assert_eq!(ask(&mut client, path).await.status, 405, "{path}");
        }
        let (status, _) = plain(client, Method::CONNECT, "test.example:443").await;
        assert_eq!(status, 405);
    });
    assert!(peer.accepted.try_recv().is_err());
}

#[test]
fn a_reset_of_either_side_is_the_others() {
    for by_client in [true, false] {
        let peer = Peer::start();
        let weir = start(&peer, "");
        let serving = backend(peer, switch, move |mut stream| {
            if by_client {
                assert!(is_reset(&mut stream));
            } else {
                // What has not been read yet may be lost with a reset.
                assert_eq!(read(&mut stream, 4), b"seen");
                crate::loopback::tcp::reset(stream);
            }
        });
        run(async {
            let (mut client, _task) = connect(&weir).await;
            let mut stream = ask(&mut client, "/chat").await;
            assert_eq!(stream.read(5).await, "hello");
            if by_client {
                stream.send.send_reset(Reason::CANCEL);
                let joined = tokio::task::spawn_blocking(move || serving.join()).await;
                joined.expect("no panic").expect("it saw the reset");
            } else {
                stream.write(b"seen");
                let broken = stream.receive.data().await.expect("no end in order");
                let reason = broken.expect_err("a reset").reason();
                assert_eq!(reason, Some(Reason::CANCEL));
            }
        });
        eventually("it is over", || tunnels(&weir) == 0);
    }
}

#[test]
fn a_lost_connection_takes_its_tunnels_with_it() {
    let peer = Peer::start();
    let weir = start(&peer, "");
    let serving = backend(peer, switch, |mut stream| assert!(is_reset(&mut stream)));
    run(async {
        let (mut client, task) = connect(&weir).await;
        let mut stream = ask(&mut client, "/chat").await;
        assert_eq!(stream.read(5).await, "hello");
        task.abort();
    });
    serving.join().expect("it saw the reset");
    eventually("it is over", || tunnels(&weir) == 0);
}

#[test]
fn a_silent_stream_is_reset() {
    let peer = Peer::start();
    let weir = start(&peer, r#""timeouts": {"tunnel": "300ms", "idle": "100ms"}"#);
    let serving = backend(peer, switch, |mut stream| assert!(is_reset(&mut stream)));
    run(async {
        let (mut client, _task) = connect(&weir).await;
        let mut stream = ask(&mut client, "/chat").await;
        assert_eq!(stream.read(5).await, "hello");
        let broken = stream.receive.data().await.expect("no end in order");
        assert_eq!(broken.expect_err("a reset").reason(), Some(Reason::CANCEL));
    });
    serving.join().expect("it saw the reset");
}
