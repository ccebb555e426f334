//! The built `weir` as a process: started on a config, watched from outside, stopped by its own id.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::client::{self, Response};
use super::eventually;

/// A running proxy; killed when dropped.
pub(crate) struct Weir {
    child: Child,
    /// The port of the first listener.
    pub(crate) port: u16,
    /// The port of the admin listener.
    pub(crate) admin: u16,
    stderr: Arc<Mutex<Vec<String>>>,
    config: PathBuf,
}

impl Weir {
    /// Starts `weir run` on this config and waits until it listens.
    #[track_caller]
    pub(crate) fn start(config: &str) -> Self {
        Weir::start_within(config, &[])
    }

    /// The same, run by another command, which is given the arguments to run it with.
    #[track_caller]
    pub(crate) fn start_within(config: &str, by: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("weir-test-{}-{count}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, config).expect("the temporary folder is writable");
        let words = [by, &[env!("CARGO_BIN_EXE_weir"), "run", "-c"]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built beside the tests");
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let pipe = child.stderr.take().expect("stderr is piped");
        let lines = Arc::clone(&stderr);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                lines
                    .lock()
                    .expect("nothing panics while it holds the lines")
                    .push(line);
            }
        });
        let mut weir = Weir {
            child,
            port: 0,
            admin: 0,
            stderr,
            config: path,
        };
        eventually("the proxy says where it listens", || {
            if let Ok(Some(status)) = weir.child.try_wait() {
                panic!(
                    "weir ended at once with {status}:\n{}",
                    weir.stderr().join("\n")
                );
            }
            let lines = weir.stderr();
            let find = |admin: bool| {
                lines
                    .iter()
                    .find(|line| line.contains(if admin { "admin on" } else { "listening on" }))
                    .and_then(|line| port_in(line))
            };
            weir.port = find(false).unwrap_or(0);
            weir.admin = find(true).unwrap_or(0);
            weir.port != 0 && weir.admin != 0
        });
        weir
    }

    /// What it wrote to standard error so far, by lines.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr
            .lock()
            .expect("nothing panics while it holds the lines")
            .clone()
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub(crate) fn once(&self, raw: impl AsRef<[u8]>) -> Response {
        client::once(self.port, raw)
    }

    /// A GET of `target` on the admin port.
    #[track_caller]
    pub(crate) fn admin(&self, target: &str) -> Response {
        client::once(self.admin, client::get(target))
    }

    /// The value of a metric such as `weir_upstream_in_flight{upstream="app"}`; `None` while it is not listed.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let metrics = self.admin("/metrics").text();
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a whole number"))
    }

    /// How often something was counted; a counter is not listed before its first time.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.metric(name).unwrap_or_default()
    }

    /// What is in flight to the upstream of [`config`].
    #[track_caller]
    pub(crate) fn in_flight(&self) -> u64 {
        let gauge = self.metric("weir_upstream_in_flight{upstream=\"app\"}");
        gauge.expect("the gauge is there")
    }

    /// How much waits for the upstream of [`config`].
    #[track_caller]
    pub(crate) fn waiting(&self) -> u64 {
        let gauge = self.metric("weir_upstream_waiting{upstream=\"app\"}");
        gauge.expect("the gauge is there")
    }

    /// How often the listener of [`config`] refused something for `cause`.
    #[track_caller]
    pub(crate) fn refused(&self, cause: &str) -> u64 {
        self.count(&format!(
            "weir_refused_total{{listener=\"web\",cause=\"{cause}\"}}"
        ))
    }

    /// Is the process running?
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .expect("kill is a command of every system");
        assert!(status.success(), "kill -{name} failed");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the proxy ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("it has just been seen")
    }

    /// Its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder)
            .expect("the process lives")
            .count()
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process lives");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok());
        kib.expect("Linux says VmRSS in kB") * 1024
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to do about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
        if std::thread::panicking() {
            eprintln!("the proxy wrote:\n{}", self.stderr().join("\n"));
        }
    }
}

/// The port at the end of the first `scheme://host:port` in a line.
fn port_in(line: &str) -> Option<u16> {
    let address = line.split("://").nth(1)?;
    let address = address.split([' ', '/', ',', '\x1b']).next()?;
    address.rsplit(':').next()?.parse().ok()
}

/// What a test adds to the plain config, as JSON members: `"limits": {"uri": "1KiB"}`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    pub(crate) top: &'a str,
    pub(crate) listener: &'a str,
    pub(crate) upstream: &'a str,
}

/// One listener and one upstream with these backends, on free ports. Idle backend connections close after a second, so that
/// descriptors return within a test.
pub(crate) fn config(ports: &[u16], extra: Extra<'_>) -> String {
    let backends: Vec<String> = ports
        .iter()
        .map(|p| format!("\"http://127.0.0.1:{p}\""))
        .collect();
    let members = |start: String, more: &str| match more {
        "" => start,
        more => format!("{start}, {more}"),
    };
    let listener = members("\"bind\": \"127.0.0.1:0\"".into(), extra.listener);
    let upstream = members(
        format!("\"backends\": [{}]", backends.join(", ")),
        extra.upstream,
    );
    let mut start = format!(
        "\"listeners\": {{\"web\": {{{listener}}}}}, \"upstreams\": {{\"app\": {{{upstream}}}}}, \
         \"admin\": {{\"bind\": \"127.0.0.1:0\"}}, \"access_log\": false"
    );
    if !extra.top.contains("\"timeouts\"") {
        start.push_str(", \"timeouts\": {\"backend_idle\": \"1s\"}");
    }
    format!("{{{}}}", members(start, extra.top))
}
