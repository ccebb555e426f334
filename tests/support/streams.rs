//! HTTP/2 servers whose every frame a test decides on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::secure::Server;

/// A request, and where its answer goes.
pub(crate) type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves one connection; `handle` runs for every stream, in a task of its own.
pub(crate) async fn serve<S, F, T>(stream: S, builder: Builder, handle: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Asked) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok(asked)) = connection.accept().await {
        tokio::spawn(handle(asked));
    }
}

/// A server in the clear, with prior knowledge.
pub(crate) fn server<F, T>(builder: Builder, handle: F) -> Server
where
    F: Fn(Asked) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let handle = Arc::new(handle);
    Server::start(move |stream| {
        let (builder, handle) = (builder.clone(), Arc::clone(&handle));
        async move { serve(stream, builder, handle).await }
    })
}

/// The head of a 200.
pub(crate) fn ok() -> Response<()> {
    Response::new(())
}

/// A 200 with this field.
pub(crate) fn ok_with(name: &'static str, value: &'static str) -> Response<()> {
    let mut response = ok();
    let value = http::HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
    response
}

/// Answers with this head and text.
pub(crate) fn answer(mut respond: SendResponse<Bytes>, head: Response<()>, text: &str) {
    if let Ok(mut stream) = respond.send_response(head, false) {
        let _ = stream.send_data(Bytes::copy_from_slice(text.as_bytes()), true);
    }
}

/// Reads a body to its end, opening the window as it goes; `None` if it breaks off.
pub(crate) async fn read(mut body: RecvStream) -> Option<(Vec<u8>, Option<HeaderMap>)> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        all.extend_from_slice(&piece);
    }
    Some((all, body.trailers().await.ok()?))
}

/// Sends a piece as the window lets it; false once the peer wants no more.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut piece: Bytes) -> bool {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let room = match stream.capacity() {
            0 => match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(room)) => room,
                _ => return false,
            },
            room => room,
        };
        let part = piece.split_to(room.min(piece.len()));
        if stream.send_data(part, false).is_err() {
            return false;
        }
    }
    true
}

/// Holds streams back until it is opened, and counts them.
#[derive(Clone)]
pub(crate) struct Barrier {
    open: Arc<watch::Sender<bool>>,
    waiting: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

impl Barrier {
    pub(crate) fn new() -> Self {
        Barrier {
            open: Arc::new(watch::Sender::new(false)),
            waiting: Arc::default(),
            peak: Arc::default(),
        }
    }

    /// Waits until it is open.
    pub(crate) async fn pass(&self) {
        let now = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The most that ever waited at once.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

/// Types of frames (RFC 9113 section 6).
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `:status: 200` alone, which ends its stream.
pub(crate) fn bare_ok(stream: u32) -> Vec<u8> {
    // END_STREAM and END_HEADERS; 0x88 is the static table's.
    frame(HEADERS, 5, stream, &[0x88])
}

/// A GOAWAY without an error.
pub(crate) fn go_away(last: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), [0; 4]].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// Speaks frames by hand: greets, then answers the head of each stream with the bytes that `answer` makes of the stream's number
/// and of the connection's. Closes when that gives none.
pub(crate) fn by_hand(
    answer: impl Fn(usize, u32) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Server {
    let (count, answer) = (AtomicUsize::new(0), Arc::new(answer));
    Server::start(move |mut stream| {
        let (index, answer) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&answer));
        async move {
            let mut preface = [0; 24];
            if stream.read_exact(&mut preface).await.is_err() {
                return;
            }
            let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[])).await;
            loop {
                let mut head = [0; 9];
                if stream.read_exact(&mut head).await.is_err() {
                    return;
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let mut payload = vec![0; length];
                if stream.read_exact(&mut payload).await.is_err() {
                    return;
                }
                let reply = match head[3] {
                    SETTINGS if head[4] == 0 => Some(frame(SETTINGS, 1, 0, &[])),
                    HEADERS => answer(index, id),
                    _ => continue,
                };
                match reply {
                    Some(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                    }
                    None => return,
                }
            }
        }
    })
}
