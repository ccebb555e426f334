//! The access log: a bounded channel to a thread of its own, which writes in batches.
//!
//! A request never waits for the disk. When the channel is full, or the file cannot be written, lines are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::{Exchange, Layout, Session, line};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache's combined log format.
    Combined,
    /// One JSON object a line.
    Json,
}

/// The channel's end that requests write to.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Reopen,
    Flush(SyncSender<()>),
}

/// Lines that may wait for the thread: a few milliseconds at millions a second.
const CAPACITY: usize = 16_384;
/// What is written at once, about.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the thread lets lines gather after a batch. A busy proxy then wakes it some hundred times a second rather than at
/// every line.
const GATHER: Duration = Duration::from_millis(5);

impl Writer {
    /// Opens `path` for appending (`None` is standard output) and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be opened (the text names it), or no thread can be started.
    pub fn start(path: Option<PathBuf>, format: Format) -> io::Result<Self> {
        let sink = Sink::open(path)?;
        let (sender, receiver) = sync_channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_batches(&receiver, sink, &counter))?;
        Ok(Writer {
            format,
            sender,
            dropped,
        })
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Has the file opened anew at its path, so that a renamed one can be taken away.
    pub fn reopen(&self) {
        if self.sender.try_send(Message::Reopen).is_err() {
            tracing::warn!("the access log is too busy to be reopened; try again");
        }
    }

    /// Waits until every line so far is written, for at most `limit`; false when that was not enough.
    pub fn flush(&self, limit: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(2);
        let (done, written) = sync_channel(1);
        let mut left = limit;
        while self.sender.try_send(Message::Flush(done.clone())).is_err() {
            let Some(rest) = left.checked_sub(STEP) else {
                return false;
            };
            left = rest;
            thread::sleep(STEP);
        }
        written.recv_timeout(left).is_ok()
    }

    /// Formats the line of `x` and hands it over, or drops it.
    pub(super) fn write(&self, layout: &Layout, x: &Exchange<'_>) {
        let mut line = Vec::with_capacity(512);
        match self.format {
            Format::Combined => line::combined(x, &mut line),
            Format::Json => line::json(layout, x, &mut line),
        }
        self.send(line);
    }

    /// The same for a TCP connection or a UDP session.
    pub(super) fn write_session(&self, layout: &Layout, x: &Session) {
        let mut line = Vec::with_capacity(256);
        match self.format {
            Format::Combined => line::combined_session(layout, x, &mut line),
            Format::Json => line::json_session(layout, x, &mut line),
        }
        self.send(line);
    }

    fn send(&self, line: Vec<u8>) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread: ends when the writer is gone and everything is written.
fn write_batches(receiver: &Receiver<Message>, mut sink: Sink, dropped: &AtomicU64) {
    let mut batch = Batch::default();
    let mut open = true;
    while open {
        let Ok(mut message) = receiver.recv() else {
            break;
        };
        loop {
            match message {
                Message::Line(line) => {
                    batch.bytes.extend_from_slice(&line);
                    batch.lines += 1;
                    if batch.bytes.len() >= BATCH_BYTES {
                        batch.write(&mut sink, dropped);
                    }
                }
                Message::Reopen => {
                    batch.write(&mut sink, dropped);
                    sink.reopen();
                }
                Message::Flush(done) => {
                    batch.write(&mut sink, dropped);
                    // Whoever asked may have lost patience.
                    let _ = done.try_send(());
                }
            }
            match receiver.try_recv() {
                Ok(next) => message = next,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        batch.write(&mut sink, dropped);
        if open {
            thread::sleep(GATHER);
        }
    }
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    failing: bool,
}

impl Batch {
    fn write(&mut self, sink: &mut Sink, dropped: &AtomicU64) {
        if self.lines == 0 {
            return;
        }
        match sink.write_all(&self.bytes) {
            Ok(()) => self.failing = false,
            Err(error) => {
                dropped.fetch_add(self.lines, Ordering::Relaxed);
                // Said once for each run of failures: a full disk must not fill the other log as well.
                if !self.failing {
                    tracing::error!(%error, "cannot write the access log; lines are dropped");
                }
                self.failing = true;
            }
        }
        self.bytes.clear();
        self.lines = 0;
    }
}

/// Where lines go.
struct Sink {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Sink {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = match &path {
            Some(path) => Some(append(path)?),
            None => None,
        };
        Ok(Sink { path, file })
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else {
            return;
        };
        match append(path) {
            Ok(file) => self.file = Some(file),
            // The old file is better than none.
            Err(error) => tracing::error!(%error, "the access log stays with its old file"),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
        }
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| {
            let text = format!("cannot open the access log {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })
}
