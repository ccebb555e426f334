//! A scripted backend: a thread for each connection runs the script, and every byte that arrives is recorded. It reads requests
//! strictly: one that has no certain reading is recorded as broken, which a test then refuses.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::wire::{Broken, Framing, Message, Wire, framing};

/// What a backend saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// The bytes of each connection, in the order of their opening.
    pub(crate) received: Vec<Vec<u8>>,
    /// The requests, in the order of their ends.
    pub(crate) requests: Vec<Message>,
    /// What came that no strict reader accepts.
    pub(crate) broken: Vec<String>,
    /// Requests read and not yet answered, and the most that there ever were.
    pub(crate) running: usize,
    pub(crate) peak: usize,
    /// Connections open now, and the most that there ever were.
    pub(crate) open: usize,
    pub(crate) open_peak: usize,
}

impl Log {
    /// The request lines.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.requests.iter().map(|r| r.start.as_str()).collect()
    }

    /// How many requests have a start line that begins so.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.requests
            .iter()
            .filter(|r| r.start.starts_with(start))
            .count()
    }

    /// Did these bytes arrive anywhere?
    pub(crate) fn saw(&self, needle: &str) -> bool {
        let needle = needle.as_bytes();
        self.received
            .iter()
            .any(|bytes| bytes.windows(needle.len()).any(|w| w == needle))
    }
}

/// Is it what this proxy adds to Via when a request comes to it in this version?
pub(crate) fn is_our_via(via: Option<&str>, version: &str) -> bool {
    let name = via.and_then(|via| via.strip_prefix(version)?.strip_prefix(" weir-"));
    name.is_some_and(|name| name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A listening backend; it stops when dropped.
pub(crate) struct Backend {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    streams: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

impl Backend {
    /// Runs `script` on every connection, each in a thread; a connection closes when its script returns.
    pub(crate) fn start(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        Backend::start_on(0, script)
    }

    /// The same on a given port.
    pub(crate) fn start_on(port: u16, script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared::default());
        let (ours, script) = (Arc::clone(&shared), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ours.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let mut conn = Conn::new(&ours, stream);
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(&mut conn));
            }
        });
        Backend { port, shared }
    }

    /// Answers every request with what `answer` makes of it, and keeps connections alive.
    pub(crate) fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Backend::start(move |conn| {
            while let Some(request) = conn.request() {
                let bytes = answer(&request);
                conn.reply(bytes);
            }
        })
    }

    /// Answers every request with 200 and `ok`.
    pub(crate) fn ok() -> Self {
        Backend::answering(|_| reply(200, "", "ok"))
    }

    /// Answers every request with its own start line and fields, a line each.
    pub(crate) fn mirror() -> Self {
        Backend::answering(|request| {
            let mut text = format!("{}\n", request.start);
            for (name, value) in &request.fields {
                text.push_str(&format!("{}: {value}\n", name.to_ascii_lowercase()));
            }
            reply(200, "", &text)
        })
    }

    /// What it saw so far.
    pub(crate) fn log(&self) -> Log {
        self.shared.lock().clone()
    }

    /// Forgets what it saw; connections stay.
    pub(crate) fn forget(&self) {
        let mut log = self.shared.lock();
        log.requests.clear();
        log.broken.clear();
        for bytes in &mut log.received {
            bytes.clear();
        }
        log.peak = log.running;
        log.open_peak = log.open;
    }

    /// Stops listening and cuts every connection.
    pub(crate) fn stop(&self) {
        if self.shared.stop.swap(true, Ordering::SeqCst) {
            return;
        }
        // The accepting thread sees the flag at its next connection, which is this one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        super::eventually("the backend's port is closed", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err()
        });
        let streams = self
            .shared
            .streams
            .lock()
            .expect("no script holds this lock");
        for stream in streams.iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log
            .lock()
            .expect("nothing panics while it holds the log")
    }
}

/// One connection, as a script sees it.
pub(crate) struct Conn {
    /// 0 for the first one that the backend accepted.
    pub(crate) index: usize,
    wire: Wire,
    shared: Arc<Shared>,
    running: usize,
}

impl Conn {
    fn new(shared: &Arc<Shared>, stream: TcpStream) -> Self {
        let mut log = shared.lock();
        let index = log.received.len();
        log.received.push(Vec::new());
        log.open += 1;
        log.open_peak = log.open_peak.max(log.open);
        drop(log);
        if let Ok(clone) = stream.try_clone() {
            shared
                .streams
                .lock()
                .expect("nothing panics while it holds this lock")
                .push(clone);
        }
        let tap = Arc::clone(shared);
        Conn {
            index,
            wire: Wire::new(stream, move |bytes| {
                tap.lock().received[index].extend_from_slice(bytes);
            }),
            shared: Arc::clone(shared),
            running: 0,
        }
    }

    /// Reads a whole request; `None` once the peer has closed, or after something broken, which is recorded.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        let framing = match framing(&message) {
            Ok(framing) => framing.unwrap_or(Framing::Length(0)),
            Err(e) => return self.broken(&e),
        };
        match self.wire.body(framing) {
            Ok(body) => message.body = body,
            Err(e) => return self.broken(&e),
        }
        self.shared.lock().requests.push(message.clone());
        Some(message)
    }

    /// Reads a request's head, and leaves its body. It counts as running, and is not recorded among the requests.
    pub(crate) fn head(&mut self) -> Option<Message> {
        match self.wire.head() {
            Ok(message) => {
                let mut log = self.shared.lock();
                self.running += 1;
                log.running += 1;
                log.peak = log.peak.max(log.running);
                Some(message)
            }
            // A kept connection on which nothing more comes.
            Err(Broken::Closed | Broken::Silent) => None,
            Err(e) => self.broken(&e),
        }
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Answers the request that was read. The request has stopped running when the first byte of this goes out.
    pub(crate) fn reply(&mut self, bytes: impl AsRef<[u8]>) {
        self.finish();
        self.send(bytes);
    }

    /// Sends bytes; false once the peer is gone.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.stream().write_all(bytes.as_ref()).is_ok()
    }

    /// Waits until the peer closes, reading and dropping what it sends.
    pub(crate) fn wait_for_close(&mut self) {
        while self.wire.fill().is_ok() {}
    }

    fn finish(&mut self) {
        self.shared.lock().running -= self.running;
        self.running = 0;
    }

    fn broken(&mut self, error: &Broken) -> Option<Message> {
        self.shared.lock().broken.push(format!("{error:?}"));
        None
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // A script that panics may do so with the log locked; the test fails by that panic already.
        if let Ok(mut log) = self.shared.log.lock() {
            log.running -= self.running;
            log.open -= 1;
        }
        // The clone kept for `stop` would hold the connection open.
        let _ = self.wire.stream().shutdown(Shutdown::Both);
    }
}

/// A response with this status, these field lines (each with its CRLF) and this body.
pub(crate) fn reply(status: u16, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
