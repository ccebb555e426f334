//! A `redis-server` of the test's own, and a client that speaks to it by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{PATIENCE, eventually, free_port, skip};

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nil,
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Said>),
    Error(String),
}

impl Said {
    pub(super) fn text(&self) -> String {
        match self {
            Said::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?} is no text"),
        }
    }

    pub(super) fn list(self) -> Vec<Said> {
        match self {
            Said::List(items) => items,
            other => panic!("{other:?} is no list"),
        }
    }

    pub(super) fn number(&self) -> i64 {
        match self {
            Said::Number(n) => *n,
            other => panic!("{other:?} is no number"),
        }
    }
}

/// A running server; killed when dropped.
pub(super) struct Redis {
    child: Option<Child>,
    pub(super) port: u16,
    folder: PathBuf,
    args: Vec<String>,
    login: Vec<String>,
}

impl Redis {
    /// Starts one, or says that `test` is skipped.
    #[track_caller]
    pub(super) fn start(test: &str) -> Option<Self> {
        Redis::with(test, &[], &[])
    }

    /// The same with more arguments, and with what to say before each command, such as AUTH and SELECT.
    #[track_caller]
    pub(super) fn with(test: &str, args: &[&str], login: &[&str]) -> Option<Self> {
        let found = Command::new("redis-server").arg("--version").output();
        if found.is_err() {
            skip(test, "there is no redis-server");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("weir-redis-{}-{n}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let mut redis = Redis {
            child: None,
            port: free_port(),
            folder,
            args: args.iter().map(ToString::to_string).collect(),
            login: login.iter().map(ToString::to_string).collect(),
        };
        redis.run();
        Some(redis)
    }

    /// Its folder, for what its arguments name.
    pub(super) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Starts it (again) on the same port, empty.
    #[track_caller]
    pub(super) fn run(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        // A config file of its own comes first.
        let (files, options): (Vec<_>, Vec<_>) =
            self.args.iter().partition(|a| a.ends_with(".conf"));
        command
            .args(files)
            .args(["--port", &port, "--bind", "127.0.0.1"]);
        if !self.args.iter().any(|a| a == "--sentinel") {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        command.arg("--dir").arg(&self.folder).args(options);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server was there a moment ago");
        self.child = Some(child);
        eventually("the server answers", || {
            Connection::open(self.port).is_some_and(|mut c| {
                matches!(c.ask(&["PING"]), Some(Said::Text(_) | Said::Error(_)))
            })
        });
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal, such as `STOP`.
    pub(super) fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(child.id().to_string())
            .status()
            .expect("kill is a command of every system");
        assert!(status.success(), "kill -{name} failed");
    }

    /// One command on a connection of its own.
    #[track_caller]
    pub(super) fn ask(&self, command: &[&str]) -> Said {
        self.try_ask(command).expect("the server answers")
    }

    /// The same of a server that may be closing its connections, as one does whose role changes.
    pub(super) fn try_ask(&self, command: &[&str]) -> Option<Said> {
        let mut connection = Connection::open(self.port)?;
        for line in &self.login {
            let words: Vec<&str> = line.split(' ').collect();
            connection.ask(&words)?;
        }
        connection.ask(command)
    }

    /// The keys of records, in order.
    #[track_caller]
    pub(super) fn records(&self) -> Vec<String> {
        let mut keys: Vec<String> = match self.ask(&["KEYS", "*:e"]) {
            Said::List(keys) => keys.iter().map(Said::text).collect(),
            other => panic!("{other:?}"),
        };
        keys.sort();
        keys
    }

    /// Is there a record for this target?
    #[track_caller]
    pub(super) fn holds(&self, target: &str) -> bool {
        self.ask(&["EXISTS", &super::record(target)]) == Said::Number(1)
    }

    /// How many proxies wait for purges.
    #[track_caller]
    pub(super) fn followers(&self) -> usize {
        let clients = self.ask(&["CLIENT", "LIST"]).text();
        clients
            .lines()
            .filter(|l| l.contains(" cmd=xread "))
            .count()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        // It holds nothing that anybody needs.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A connection on which commands are answered in turn.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(super) fn open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Connection(BufReader::new(stream)))
    }

    /// `None` when the connection ends.
    pub(super) fn ask<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Option<Said> {
        let mut out = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            let word = word.as_ref();
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&out).ok()?;
        self.read()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        Some(line.strip_suffix("\r\n")?.to_owned())
    }

    fn read(&mut self) -> Option<Said> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1)?;
        Some(match kind {
            "+" => Said::Text(rest.into()),
            "-" => Said::Error(rest.into()),
            ":" => Said::Number(rest.parse().ok()?),
            "$" if rest == "-1" => Said::Nil,
            "*" if rest == "-1" => Said::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().ok()? + 2];
                self.0.read_exact(&mut bytes).ok()?;
                bytes.truncate(bytes.len() - 2);
                Said::Text(bytes)
            }
            "*" => {
                let count: usize = rest.parse().ok()?;
                Said::List((0..count).map(|_| self.read()).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }
}
