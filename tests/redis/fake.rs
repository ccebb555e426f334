//! A server that answers as a test tells it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What to do about a command.
pub(super) enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, ever; later commands of the connection go unanswered as well.
    Silence,
    /// The connection closes.
    Close,
}

pub(super) fn bytes(text: &str) -> Answer {
    Answer::Bytes(text.as_bytes().to_vec())
}

pub(super) fn bulk(content: &[u8]) -> Answer {
    let mut out = format!("${}\r\n", content.len()).into_bytes();
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
    Answer::Bytes(out)
}

/// A listening server; it stops when dropped.
pub(super) struct Fake {
    pub(super) port: u16,
    commands: Arc<Mutex<Vec<Vec<String>>>>,
    stop: Arc<AtomicBool>,
}

impl Fake {
    /// Answers each command, given by its words, as `script` says; `None` is a server's usual answer while it is empty.
    pub(super) fn start(
        script: impl Fn(&[String]) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (commands, stop) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, script) = (Arc::clone(&commands), Arc::clone(&stop), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &seen, &*script));
            }
        });
        Fake {
            port,
            commands,
            stop,
        }
    }

    /// The commands so far, by their words.
    pub(super) fn commands(&self) -> Vec<Vec<String>> {
        self.commands
            .lock()
            .expect("nothing panics with it")
            .clone()
    }

    /// How many commands began with this word.
    pub(super) fn count(&self, word: &str) -> usize {
        self.commands().iter().filter(|c| c[0] == word).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The accepting thread sees the flag at its next connection, which is this one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Vec<String>>>,
    script: &dyn Fn(&[String]) -> Option<Answer>,
) {
    let mut reader = BufReader::new(stream);
    let mut silent = false;
    while let Some(command) = read(&mut reader) {
        seen.lock()
            .expect("nothing panics with it")
            .push(command.clone());
        let answer = script(&command).unwrap_or_else(|| usual(&command));
        match answer {
            _ if silent => {}
            Answer::Silence => silent = true,
            Answer::Close => {
                let _ = reader.get_ref().shutdown(Shutdown::Both);
                return;
            }
            Answer::Bytes(bytes) => {
                if reader.get_mut().write_all(&bytes).is_err() {
                    return;
                }
            }
        }
    }
}

fn usual(command: &[String]) -> Answer {
    match command[0].as_str() {
        "PING" => bytes("+PONG\r\n"),
        "GET" => bytes("$-1\r\n"),
        "MGET" => bytes("*2\r\n$-1\r\n$-1\r\n"),
        "DEL" | "EVAL" => bytes(":1\r\n"),
        "XADD" => bytes("$3\r\n1-1\r\n"),
        "XRANGE" | "XREVRANGE" => bytes("*0\r\n"),
        // Waits as it is asked to.
        "XREAD" => {
            std::thread::sleep(std::time::Duration::from_millis(200));
            bytes("*-1\r\n")
        }
        _ => bytes("+OK\r\n"),
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut number = |kind: char| {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let number = line.strip_prefix(kind)?.trim_end().parse::<usize>().ok()?;
        let mut content = vec![0; if kind == '$' { number + 2 } else { 0 }];
        reader.read_exact(&mut content).ok()?;
        content.truncate(content.len().saturating_sub(2));
        Some((number, content))
    };
    let (count, _) = number('*')?;
    (0..count)
        .map(|_| Some(String::from_utf8_lossy(&number('$')?.1).into_owned()))
        .collect()
}
