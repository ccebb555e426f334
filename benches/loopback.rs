//! What a request costs through the built proxy on loopback: one client at a time, so this is latency, and one number a second
//! for spotting a slowdown between two commits. Absent: comparisons with other proxies, which are in `benches/peers`.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark on real sockets stands outside the seam"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nHost: bench.example\r\n\r\n";

/// A backend that answers every head with the same bytes, a thread for each connection. It ends with the process.
fn backend(body: usize) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n");
    let answer = [head.into_bytes(), vec![b'a'; body]].concat();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(stream, &answer));
        }
    });
    port
}

fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]) {
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

/// The proxy as a process; killed when dropped.
struct Weir {
    child: Child,
    port: u16,
}

impl Weir {
    fn start(backend: u16) -> Self {
        let path =
            std::env::temp_dir().join(format!("weir-bench-{}-{backend}.json", std::process::id()));
        let config = format!(
            r#"{{"workers": 1, "listeners": {{"web": {{"bind": "127.0.0.1:0"}}}}, "access_log": false,
                "upstreams": {{"app": {{"backends": ["http://127.0.0.1:{backend}"]}}}},
                "admin": {{"bind": "127.0.0.1:0"}}}}"#
        );
        std::fs::write(&path, config).expect("the temporary folder is writable");
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "-c"])
            .arg(&path)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built beside the bench");
        let pipe = child.stderr.take().expect("stderr is piped");
        let mut lines = BufReader::new(pipe).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| {
                let address = line.split("listening on http://127.0.0.1:").nth(1)?;
                address.split(' ').next()?.parse().ok()
            })
            .expect("the proxy says where it listens");
        // What it says later must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        // It has read its config.
        let _ = std::fs::remove_file(&path);
        Weir { child, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the proxy accepts");
        stream.set_nodelay(true).expect("a socket takes nodelay");
        stream
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to do about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request and its whole response.
fn ask(stream: &mut TcpStream, body: usize) {
    stream.write_all(REQUEST).expect("the proxy reads");
    let mut buffer = [0; 32768];
    let mut filled = 0;
    loop {
        let read = stream
            .read(&mut buffer[filled..])
            .expect("the proxy answers");
        assert!(read > 0, "the proxy closed the connection");
        filled += read;
        let end = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n");
        if end.is_some_and(|end| filled >= end + 4 + body) {
            assert!(buffer.starts_with(b"HTTP/1.1 200 "), "the proxy refused");
            return;
        }
    }
}

fn loopback(c: &mut Criterion) {
    let mut group = c.benchmark_group("loopback");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for (name, body) in [("get 128 B", 128), ("get 16 KiB", 16_384)] {
        let weir = Weir::start(backend(body));
        let mut stream = weir.connect();
        group.bench_function(name, |b| b.iter(|| ask(&mut stream, body)));
    }
    let weir = Weir::start(backend(128));
    group.bench_function("a new connection each", |b| {
        b.iter(|| ask(&mut weir.connect(), 128));
    });
    group.finish();
}

criterion_group!(benches, loopback);
criterion_main!(benches);
