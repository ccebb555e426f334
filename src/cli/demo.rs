//! `weir demo`: three dummy backends and the proxy in one process, and what to try next.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::args::{Delay, DemoArgs};
use super::echo::{Behaviour, Dummy};
use super::server::Server;
use super::signals::Signals;
use super::{raise_descriptor_limit, runtime};
use crate::config;
use crate::env::Env;
use crate::env::tokio::TokioEnv;

/// What each dummy takes at once, and how long on average: more than they can take together has to queue.
const BACKENDS: [(u32, Duration); 3] = [
    (3, Duration::from_millis(20)),
    (2, Duration::from_millis(20)),
    (1, Duration::from_millis(40)),
];

/// Ports that are tried behind the wanted one.
const FURTHER_PORTS: u16 = 100;

/// Serves until Ctrl-C, then says what each dummy saw.
pub(super) fn run(args: &DemoArgs) -> io::Result<u8> {
    raise_descriptor_limit();
    runtime()?.block_on(async {
        let env = TokioEnv::new()?;
        let mut signals = Signals::catch()?;
        let mut dummies = Vec::new();
        for (_, mean) in BACKENDS {
            let behaviour = Behaviour {
                delay: Delay::Around(mean),
                body_bytes: None,
                status: StatusCode::OK,
                fail_rate: 0.0,
                headers: HeaderMap::new(),
                max_in_flight: u64::MAX,
                public: false,
            };
            dummies.push(Dummy::start(&env, 0, behaviour)?.0);
        }
        let port = free_port(&env, args.port)?;
        let text = config_text(port, &dummies);
        let config = config::load_str("the demo's config", &text, &config::process_env)
            .map_err(io::Error::other)?;
        let server = Server::start(Arc::new(config))?;
        println!(
            "{}",
            guide(args.port, port, server.admin(), &dummies, &text)
        );
        let code = server.wait(&mut signals).await;
        println!();
        for (dummy, (capacity, _)) in dummies.iter().zip(BACKENDS) {
            println!("{} (the config allows {capacity})", dummy.summary());
        }
        Ok(code)
    })
}

/// The first port from `wanted` on that nobody listens on.
fn free_port(env: &TokioEnv, wanted: u16) -> io::Result<u16> {
    let last = wanted.saturating_add(FURTHER_PORTS);
    let mut port = wanted;
    loop {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match env.net().listen_alone(addr) {
            Ok(listener) => return Ok(listener.local_addr()?.port()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port < last => port += 1,
            Err(error) => {
                let text = format!("cannot listen on {addr}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
}

fn config_text(port: u16, dummies: &[Arc<Dummy>]) -> String {
    let backends: Vec<String> = dummies
        .iter()
        .zip(BACKENDS)
        .map(|(dummy, (capacity, _))| {
            let url = format!("http://127.0.0.1:{}", dummy.port);
            format!(r#"        {{ "url": "{url}", "max_in_flight": {capacity} }}"#)
        })
        .collect();
    format!(
        r#"{{
  "listeners": {{ "demo": {{ "bind": "127.0.0.1:{port}" }} }},
  "routes": [
    {{
      "match": {{ "path": {{ "prefix": "/cached" }} }},
      "upstream": "web",
      "cache": {{ "default_ttl": "30s" }}
    }},
    {{ "upstream": "web" }}
  ],
  "upstreams": {{
    "web": {{
      "strategy": "least-request",
      "backends": [
{}
      ]
    }}
  }}
}}"#,
        backends.join(",\n")
    )
}

/// What was started, and what to do with it.
fn guide(
    wanted: u16,
    port: u16,
    admin: Option<SocketAddr>,
    dummies: &[Arc<Dummy>],
    config: &str,
) -> String {
    let (bold, dim, plain) = if io::stdout().is_terminal() {
        ("\x1b[1m", "\x1b[2m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let url = format!("http://localhost:{port}");
    let weir = std::env::args().next().unwrap_or_else(|| "weir".into());
    let mut text = format!("\n{bold}Weirkeeper serves{plain}\n\n");
    let mut left = format!("    you  ->  {bold}{url}{plain}  ->  ");
    let indent = " ".repeat(left.len() - bold.len() - plain.len());
    for (dummy, (capacity, mean)) in dummies.iter().zip(BACKENDS) {
        let (port, mean) = (dummy.port, config::format_duration(mean));
        text.push_str(&format!(
            "{left}127.0.0.1:{port}  takes {capacity} at once, about {mean} each\n"
        ));
        left.clone_from(&indent);
    }
    if wanted != port && wanted != 0 {
        text.push_str(&format!(
            "\n    (port {wanted} is taken by another program)\n"
        ));
    }
    text.push_str(&format!("\n{bold}Its config{plain}\n\n{dim}"));
    for line in config.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text.push_str(&format!(
        "{plain}\n{bold}Try in another terminal{plain}\n\n"
    ));
    let mut tries = vec![
        (
            format!("curl -i {url}/hello"),
            "one request; the answer says who served it",
        ),
        (
            format!("{weir} load {url} -n 2000 -c 50"),
            "fifty at once: six run, the rest queue, none fails",
        ),
        (
            format!("{weir} load {url} --rate 100 --duration 10s"),
            "a steady stream, latency from the intended start",
        ),
        (
            format!("curl -i {url}/cached"),
            "again and again: one answer serves for 30 s; see Age and Cache-Status",
        ),
    ];
    if let Some(admin) = admin {
        tries.push((
            format!("{weir} purge --admin {admin} {url}/cached"),
            "the proxy forgets it, and the next request goes to a backend",
        ));
        tries.push((
            format!("curl -s http://{admin}/metrics | grep -v -e '^#' -e _bucket"),
            "what the proxy counted",
        ));
    }
    for (command, why) in tries {
        text.push_str(&format!("    {command}\n        {dim}{why}{plain}\n"));
    }
    text.push_str("\nCtrl-C stops it.");
    text
}
