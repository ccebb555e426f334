//! The commands as a person meets them: the built binary, its exit codes and its words.

#![expect(
    clippy::disallowed_methods,
    reason = "tests on real sockets stand outside the seam"
)]

mod caching;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use crate::support::client;
use crate::support::weir::Weir;

fn weir(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built beside the tests")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A `weir` that serves until it is told to stop; killed when dropped.
struct Serving {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Serving {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built beside the tests");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        Serving { child, out }
    }

    /// The next line of its standard output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("it lives");
        line.trim_end().to_string()
    }

    /// The port of the next line that says where it listens.
    fn port(&mut self) -> u16 {
        let line = self.line();
        let port = line
            .strip_prefix("listening on http://127.0.0.1:")
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        port.unwrap_or_else(|| panic!("no port in {line:?}"))
    }

    /// Sends SIGINT; returns its exit code and what it still wrote.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let status = Command::new("kill")
            .arg("-INT")
            .arg(self.child.id().to_string())
            .status()
            .expect("kill is a command of every system");
        assert!(status.success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("it ends");
        (self.child.wait().expect("it is our child").code(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `weir load --json` and returns its exit code and its report.
fn load(url: &str, more: &[&str]) -> (Option<i32>, Value) {
    let output = weir(&[&["load", url, "--json"], more].concat());
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)));
    (output.status.code(), report)
}

fn echo_json(port: u16, raw: &str) -> Value {
    let response = client::once(port, raw);
    serde_json::from_str(&response.text()).expect("the answer is JSON")
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_wrong() {
    for (args, word) in [
        (vec![], "Usage: weir"),
        (vec!["rum"], "run"),
        (vec!["echo"], "<PORT>"),
        (vec!["echo", "70000"], "70000"),
        (vec!["echo", "0", "--delay", "20"], "unit"),
        (vec!["echo", "0", "--fail-rate", "2"], "from 0 to 1"),
        (vec!["echo", "0", "--status", "99"], "200..=599"),
        (vec!["echo", "0", "--header", "x"], "NAME: VALUE"),
        (vec!["purge"], "--all"),
        (vec!["purge", "http://h/", "--all"], "cannot be used with"),
        (vec!["purge", "h/a"], "not absolute"),
        (vec!["purge", "--all", "--admin", "h"], "HOST:PORT"),
        (vec!["load", "https://x"], "only http"),
        (vec!["load", "http://x", "-c", "0"], "-c"),
        (vec!["load", "http://x", "--rate", "0"], "--rate"),
        (vec!["load", "http://x", "--method", "CONNECT"], "tunnel"),
        (vec!["run", "--port", "1"], "--port"),
    ] {
        let output = weir(&args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(word), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn every_command_has_a_help_text() {
    let help = weir(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    for command in [
        "run", "check", "schema", "echo", "load", "purge", "demo", "rehearse", "help",
    ] {
        let listed = help.lines().any(|l| l.trim_start().starts_with(command));
        assert!(listed, "{command} is not in\n{help}");
    }
    for command in ["run", "check", "schema", "echo", "load", "purge", "demo"] {
        let output = weir(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(text(&output.stdout).contains("Usage: weir"), "{command}");
    }
    let version = weir(&["--version"]);
    assert_eq!(
        text(&version.stdout),
        format!("weir {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn help_prints_a_page_a_commands_help_or_what_there_is() {
    let all = weir(&["help"]);
    assert_eq!(all.status.code(), Some(0));
    for page in weirkeeper::manual::PAGES {
        let listed = text(&all.stdout);
        let line = listed
            .lines()
            .find(|l| l.trim_start().starts_with(page.topic));
        assert!(line.is_some_and(|l| l.ends_with(page.about)), "{listed}");
        // Where nobody sits before a terminal, a page is printed as it is.
        let printed = weir(&["help", page.topic]);
        assert_eq!(printed.status.code(), Some(0));
        assert!(text(&printed.stdout) == page.text, "{}", page.topic);
    }
    let run = weir(&["help", "run"]);
    assert!(text(&run.stdout).contains("Usage: weir run"));
    let rehearse = weir(&["help", "rehearse"]);
    assert!(text(&rehearse.stdout).contains("Usage: weir rehearse"));
    for (word, hint) in [
        ("cachin", "did you mean \"caching\"?"),
        ("xyzzy", "weir help"),
    ] {
        let unknown = weir(&["help", word]);
        assert_eq!(unknown.status.code(), Some(2), "{word}");
        let stderr = text(&unknown.stderr);
        assert!(stderr.contains(hint) && stderr.contains(word), "{stderr}");
        assert!(unknown.stdout.is_empty(), "{word}");
    }
}

#[test]
fn check_and_schema_answer_through_the_binary() {
    let fixture = |name| format!("{}/fixtures/configs/{name}", env!("CARGO_MANIFEST_DIR"));
    let good = weir(&["check", "-c", &fixture("seed.json")]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    let full = weir(&["check", "--expand", "--config", &fixture("seed.json")]);
    assert!(serde_json::from_slice::<Value>(&full.stdout).is_ok());
    let bad = weir(&["check", "-c", &fixture("bad/three.json")]);
    assert_eq!(bad.status.code(), Some(1));
    let errors = text(&bad.stderr);
    assert_eq!(errors.matches("three.json:").count(), 3, "{errors}");
    let schema = weir(&["schema"]);
    assert_eq!(schema.status.code(), Some(0));
    assert!(serde_json::from_slice::<Value>(&schema.stdout).is_ok());
}

#[test]
fn rehearse_runs_the_program_beside_it_or_says_how_to_build_it() {
    let folder = std::env::temp_dir().join(format!("weir-beside-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let alone = folder.join("weir");
    std::fs::copy(env!("CARGO_BIN_EXE_weir"), &alone).expect("the binary can be copied");
    let rehearse = || {
        Command::new(&alone)
            .args(["rehearse", "config.json", "--seed", "7", "--help"])
            .output()
            .expect("the copy runs")
    };
    let output = rehearse();
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("cargo build --release -p weirkeeper-sim"),
        "{stderr}"
    );

    // Any program will do to see that the arguments and the exit code are passed on.
    let beside = folder.join("weir-rehearse");
    std::fs::write(&beside, "#!/bin/sh\necho \"$@\"\nexit 3\n").expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&beside, mode).expect("is ours");
    let output = rehearse();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "config.json --seed 7 --help\n");
    std::fs::remove_dir_all(&folder).expect("removes");
}

#[test]
fn echo_describes_the_request_and_counts_at_its_end() {
    let mut echo = Serving::start(&["echo", "0", "0"]);
    let (a, b) = (echo.port(), echo.port());
    let answer = echo_json(
        a,
        "POST /x?y=1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    );
    assert_eq!(answer["port"], a);
    assert_eq!(answer["method"], "POST");
    assert_eq!(answer["path"], "/x?y=1");
    assert_eq!(answer["headers"]["x-a"], "1, 2");
    assert_eq!(answer["body_bytes"], 3);
    assert_eq!((&answer["served"], &answer["peak"]), (&1.into(), &1.into()));
    let (code, rest) = echo.interrupt();
    assert_eq!(code, Some(0));
    assert!(
        rest.contains(&format!("port {a}: served 1, at most 1 at once")),
        "{rest}"
    );
    assert!(
        rest.contains(&format!("port {b}: served 0, at most 0 at once")),
        "{rest}"
    );
}

#[test]
fn echo_adds_the_fields_that_it_was_given() {
    let echo = ["echo", "0", "--header", "Cache-Control: max-age=60"];
    let more = [
        "--header",
        "x-a: 1",
        "--header",
        "x-a: 2",
        "--header",
        "content-type: text/plain",
    ];
    let mut echo = Serving::start(&[&echo[..], &more[..]].concat());
    let answer = client::once(echo.port(), client::get("/"));
    assert_eq!(answer.get("cache-control"), Some("max-age=60"));
    assert_eq!(answer.message.all("x-a"), ["1", "2"]);
    assert_eq!(answer.message.all("content-type"), ["text/plain"]);
}

#[test]
fn load_counts_what_echo_served() {
    let mut echo = Serving::start(&["echo", "0", "--delay", "exp:2ms"]);
    let port = echo.port();
    let url = format!("http://localhost:{port}/a");
    let (code, report) = load(&url, &["-n", "200", "-c", "8"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["answered"], 200);
    assert_eq!(report["failed"], 0);
    assert_eq!(report["statuses"]["200"], 200);
    assert_eq!(report["backends"][port.to_string()]["answers"], 200);
    let (_, report) = load(&url, &["-n", "30", "--rate", "1000", "--no-keep-alive"]);
    assert_eq!(report["answered"], 30);
    assert_eq!(report["latency_from"], "intended start");
    let (_, report) = load(
        &url,
        &["-n", "3", "--method", "POST", "--body-bytes", "1MiB"],
    );
    assert_eq!(report["statuses"]["200"], 3);
    let person = weir(&["load", &url, "-n", "5"]);
    let table = text(&person.stdout);
    assert!(table.contains("5 answered, 0 failed"), "{table}");
    assert!(table.contains("p99.9"), "{table}");
    let (_, rest) = echo.interrupt();
    assert!(rest.contains("served 238, at most "), "{rest}");
}

#[test]
fn echo_refuses_and_fails_as_it_was_told() {
    let mut echo = Serving::start(&[
        "echo",
        "0",
        "--max-in-flight",
        "2",
        "--delay",
        "30ms",
        "--body-bytes",
        "40KiB",
        "--status",
        "201",
    ]);
    let url = format!("http://127.0.0.1:{}", echo.port());
    let (code, report) = load(&url, &["-n", "40", "-c", "4"]);
    assert_eq!(code, Some(0), "a 503 is an answer: {report}");
    let count = |status: &str| report["statuses"][status].as_u64().unwrap_or(0);
    assert!(count("201") > 0 && count("503") > 0, "{report}");
    assert_eq!(count("201") + count("503"), 40, "{report}");
    assert_eq!(report["body_bytes"], 40 * 40 * 1024);

    let mut echo = Serving::start(&["echo", "0", "--fail-rate", "1"]);
    let url = format!("http://127.0.0.1:{}", echo.port());
    let (_, report) = load(&url, &["-n", "10"]);
    assert_eq!(report["statuses"]["500"], 10);
}

#[test]
fn echo_does_not_share_a_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let output = weir(&["echo", &port]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
}

#[test]
fn load_exits_1_when_a_request_has_no_answer() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = closed.local_addr().expect("it is bound");
    drop(closed);
    let (code, report) = load(&format!("http://{addr}"), &["-n", "7"]);
    assert_eq!(code, Some(1));
    assert_eq!(report["failures"]["connection refused"], 7, "{report}");
}

/// A config with this backend port, on free ports, with a short grace.
fn config(backend: u16) -> String {
    format!(
        r#"{{
            "listeners": {{ "web": {{ "bind": "127.0.0.1:0" }} }},
            "upstreams": {{ "web": {{ "backends": [
                {{ "url": "http://127.0.0.1:{backend}", "max_in_flight": 3 }}
            ] }} }},
            "admin": {{ "bind": "127.0.0.1:0" }}
        }}"#
    )
}

#[test]
fn run_serves_shows_its_counts_and_ends_on_sigterm() {
    let mut echo = Serving::start(&["echo", "0", "--delay", "5ms"]);
    let port = echo.port();
    let mut proxy = Weir::start(&config(port));
    let (code, report) = load(
        &format!("http://127.0.0.1:{}", proxy.port),
        &["-n", "100", "-c", "20"],
    );
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["statuses"]["200"], 100);
    assert_eq!(report["backends"][port.to_string()]["peak"], 3);
    assert_eq!(proxy.admin("/readyz").status, 200);
    assert_eq!(proxy.admin("/healthz").status, 200);
    let metrics = proxy.admin("/metrics").text();
    for line in [
        format!(
            r#"weir_requests_total{{listener="web",upstream="web",backend="127.0.0.1:{port}",code="2xx"}} 100"#
        ),
        r#"weir_queue_wait_seconds_count{upstream="web"} 100"#.to_string(),
        r#"weir_upstream_in_flight{upstream="web"} 0"#.to_string(),
        format!(r#"weir_backend_max_in_flight{{upstream="web",backend="127.0.0.1:{port}"}} 3"#),
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is not in\n{metrics}"
        );
    }
    proxy.signal("HUP");
    crate::support::eventually("SIGHUP is answered", || {
        proxy.stderr().iter().any(|line| line.contains("SIGHUP"))
    });
    assert!(proxy.lives());
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0), "{:?}", proxy.stderr());
}

#[test]
fn a_second_proxy_does_not_join_a_port_in_silence() {
    let proxy = Weir::start(&config(1));
    let path = std::env::temp_dir().join(format!("weir-second-{}.json", std::process::id()));
    let taken = config(1).replacen("127.0.0.1:0", &format!("127.0.0.1:{}", proxy.port), 1);
    std::fs::write(&path, taken).expect("the temporary folder is writable");
    let output = weir(&["run", "-c", path.to_str().expect("the path is Unicode")]);
    std::fs::remove_file(&path).expect("removes");
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains(&format!("cannot bind 127.0.0.1:{}", proxy.port)),
        "{stderr}"
    );
}

#[test]
fn run_without_a_config_names_the_file_and_a_way_on() {
    let output = weir(&["run", "-c", "/nonexistent/config.json"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("/nonexistent/config.json"), "{stderr}");
    assert!(stderr.contains("weir demo"), "{stderr}");
}

#[test]
fn the_demo_serves_and_says_what_to_try() {
    let mut demo = Serving::start(&["demo", "--port", "0"]);
    let mut said = String::new();
    while !said.contains("Ctrl-C") {
        let line = demo.line();
        said.push_str(&line);
        said.push('\n');
        assert!(
            demo.child.try_wait().expect("it is our child").is_none(),
            "{said}"
        );
    }
    let url = said
        .split_whitespace()
        .find(|word| word.starts_with("http://localhost:"))
        .unwrap_or_else(|| panic!("no address in\n{said}"))
        .to_string();
    let (code, report) = load(&url, &["-n", "200", "-c", "30"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["statuses"]["200"], 200);
    let mut peaks: Vec<u64> = report["backends"]
        .as_object()
        .expect("an object")
        .values()
        .filter_map(|b| b["peak"].as_u64())
        .collect();
    peaks.sort_unstable();
    assert_eq!(peaks, [1, 2, 3], "{report}");
    let (code, rest) = demo.interrupt();
    assert_eq!(code, Some(0), "{rest}");
    assert!(
        rest.contains("at most 3 at once (the config allows 3)"),
        "{rest}"
    );
}
