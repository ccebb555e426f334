//! What the tests act on: Redis, two echo backends and two proxies, in containers on one network, all gone at the end.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::SyncRunner;
use testcontainers::{Container, ContainerRequest, GenericImage, ImageExt};

use super::image::{Image, docker, has_engine};
use crate::support::client::once;
use crate::support::{PATIENCE, eventually};

const WEB: u16 = 8080;
const ADMIN: u16 = 9901;
const REDIS: u16 = 6379;

/// Containers, then the images that they were made of: dropped in this order, also when a test panics. The network goes with the
/// last container on it.
pub(super) struct Scene {
    proxies: [Container<GenericImage>; 2],
    _backends: [Container<GenericImage>; 2],
    redis: Container<GenericImage>,
    _images: [Image; 2],
}

impl Scene {
    /// All of it, or `None` with a word of why.
    pub(super) fn set(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !has_engine(test) {
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let id = format!("{}-{count}", std::process::id());
        let name = |role: &str| format!("weir-test-{role}-{id}");
        let (weir, redis) = (Image::weir(), Image::redis());
        let on_network = |request: ContainerRequest<GenericImage>, role: &str| {
            let request = request
                .with_network(name("net"))
                .with_container_name(name(role));
            match request.start() {
                Ok(container) => container,
                Err(error) => panic!("the container of {role} does not start: {error}"),
            }
        };
        let image = redis.generic().with_exposed_port(REDIS.tcp());
        let image = image.with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"));
        let arguments = ["redis-server", "--save", "", "--protected-mode", "no"];
        let server = on_network(image.with_cmd(arguments), "redis");
        let backends = ["echo-1", "echo-2"].map(|role| {
            let image = weir.generic();
            let image = image.with_wait_for(WaitFor::message_on_stdout("listening on"));
            on_network(image.with_cmd(["weir", "echo", "--public", "8080"]), role)
        });
        let config = format!(
            r#"{{"listeners": {{"web": {{"bind": "0.0.0.0:{WEB}"}}}},
                "upstreams": {{"app": {{"backends": ["http://{}:{WEB}", "http://{}:{WEB}"]}}}},
                "cache": {{"default_ttl": "30m"}},
                "redis": {{"url": "redis://{}:{REDIS}"}},
                "admin": {{"bind": "0.0.0.0:{ADMIN}"}},
                "access_log": false}}"#,
            name("echo-1"),
            name("echo-2"),
            name("redis"),
        );
        let proxies = ["proxy-1", "proxy-2"].map(|role| {
            let image = weir.generic().with_exposed_port(WEB.tcp());
            let image = image.with_exposed_port(ADMIN.tcp());
            let image = image.with_wait_for(WaitFor::message_on_stderr("listening on"));
            let request = image
                .with_cmd(["weir", "run", "-c", "/weir.json"])
                .with_copy_to("/weir.json", config.clone().into_bytes());
            on_network(request, role)
        });
        Some(Scene {
            proxies,
            _backends: backends,
            redis: server,
            _images: [weir, redis],
        })
    }

    /// Where the two proxies are reached from outside.
    pub(super) fn ports(&self) -> [u16; 2] {
        self.proxies.each_ref().map(|proxy| port(proxy, WEB))
    }

    /// An order to the first proxy's admin port, as `weir purge` gives it; all of it must have succeeded.
    pub(super) fn purge(&self, query: &str) {
        let port = port(&self.proxies[0], ADMIN);
        let order = format!(
            "POST /cache/purge?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = once(port, order);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// How many keys lie in Redis.
    pub(super) fn keys(&self) -> u64 {
        let reply = self.redis("DBSIZE");
        let number = reply.trim().strip_prefix(':').and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("DBSIZE is a number: {reply}"))
    }

    /// How many of them have no end. The log of purges, a stream, is bounded by its length.
    pub(super) fn lasting_keys(&self) -> u64 {
        let script = "local n = 0 for _, k in ipairs(redis.call('keys', '*')) do \
            if redis.call('type', k).ok ~= 'stream' and redis.call('pttl', k) < 0 then n = n + 1 end \
            end return n";
        let reply = self.redis(&format!("EVAL \"{script}\" 0"));
        let number = reply.trim().strip_prefix(':').and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("the script returns a number: {reply}"))
    }

    /// The first line of what Redis replies to a command.
    fn redis(&self, command: &str) -> String {
        let mut stream =
            TcpStream::connect(("127.0.0.1", port(&self.redis, REDIS))).expect("Redis accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a timeout");
        write!(stream, "{command}\r\n").expect("Redis reads");
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("Redis answers");
        line
    }

    /// kill -9.
    pub(super) fn kill_redis(&self) {
        docker(&["kill", "--signal", "KILL", self.redis.id()]).expect("it runs");
        eventually("Redis is dead", || {
            self.redis.is_running().is_ok_and(|running| !running)
        });
    }

    /// Starts it again, empty, and waits until it answers.
    pub(super) fn start_redis(&self) {
        docker(&["start", self.redis.id()]).expect("it can be started again");
        eventually("Redis answers", || {
            let Ok(stream) = TcpStream::connect(("127.0.0.1", port(&self.redis, REDIS))) else {
                return false;
            };
            let mut line = String::new();
            let asked = (&stream).write_all(b"PING\r\n").is_ok();
            asked && BufReader::new(&stream).read_line(&mut line).is_ok() && line == "+PONG\r\n"
        });
    }
}

/// Where a container's port is reached from outside.
fn port(container: &Container<GenericImage>, inside: u16) -> u16 {
    container
        .get_host_port_ipv4(inside.tcp())
        .expect("the engine publishes what is exposed")
}
