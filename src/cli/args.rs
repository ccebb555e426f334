//! The arguments of every command, and their help.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args as Section, Parser, Subcommand, ValueHint};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method};

use crate::config::{parse_duration, parse_size};
use crate::manual::PAGES;
use crate::proxy::normal_url;

/// A reverse proxy and load balancer whose serving code also runs in a deterministic simulator.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = topics()
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve what a config says
    Run(RunArgs),
    /// Say everything that is wrong with a config, or what it amounts to
    Check(CheckArgs),
    /// Print the JSON Schema of configs
    Schema(SchemaArgs),
    /// Serve dummy backends that answer with what they received
    Echo(EchoArgs),
    /// Send many requests at once and measure the answers
    Load(LoadArgs),
    /// Have a running proxy forget stored responses
    Purge(PurgeArgs),
    /// Show it all in one process: three dummy backends, the proxy, and what to try next
    Demo(DemoArgs),
    /// Rehearse a config in the simulator (runs weir-rehearse with the same arguments)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Rehearse(RehearseArgs),
    /// Print a page of the manual, or the help of a command
    Help(HelpArgs),
}

#[derive(Debug, Section)]
pub(super) struct ConfigFile {
    /// The config file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "./config.json", value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
}

#[derive(Debug, Section)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

#[derive(Debug, Section)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// Print the config in full form, with every default written out
    #[arg(long)]
    pub(super) expand: bool,
}

#[derive(Debug, Section)]
pub(super) struct SchemaArgs {
    /// Print the reference for people instead, with every key and its default
    #[arg(long)]
    pub(super) markdown: bool,
}

#[derive(Debug, Section)]
pub(super) struct HelpArgs {
    /// A topic of the manual, or a command; all of them are listed without one
    #[arg(value_name = "TOPIC")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Section)]
pub(super) struct EchoArgs {
    /// Ports on 127.0.0.1 and ::1; 0 is any free one
    #[arg(required = true, value_name = "PORT")]
    pub(super) ports: Vec<u16>,
    /// Listen on every IPv4 address of the machine instead, as in a container
    #[arg(long)]
    pub(super) public: bool,
    /// How long each answer takes: fixed, or exponentially distributed
    #[arg(long, value_name = "20ms|exp:20ms", default_value = "0", value_parser = parse_delay)]
    pub(super) delay: Delay,
    /// Answer with a body of so many bytes (64KiB) instead of a description of the request
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub(super) body_bytes: Option<u64>,
    /// The status of every answer
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(super) status: u16,
    /// The share of requests (0 to 1) that are answered with status 500
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_probability)]
    pub(super) fail_rate: f64,
    /// Add a field to every answer, such as 'cache-control: max-age=60'; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Answer with status 503 while more than so many requests run at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_in_flight: Option<u64>,
}

/// How long a dummy backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    Always(Duration),
    /// Exponentially distributed around this mean.
    Around(Duration),
}

#[derive(Debug, Section)]
pub(super) struct LoadArgs {
    /// Where to: http://HOST[:PORT][/PATH]
    #[arg(value_name = "URL", value_parser = parse_url)]
    pub(super) url: Url,
    /// Requests in all [default: 1000, or no limit with --duration]
    #[arg(short = 'n', long = "requests", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,
    /// Requests at once, each on a connection of its own
    #[arg(short = 'c', long, value_name = "C", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) concurrency: u16,
    /// Begin R requests a second, answered or not; latency counts from the intended start
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub(super) rate: Option<f64>,
    /// Begin no request after so long
    #[arg(long, value_name = "10s", value_parser = parse_duration)]
    pub(super) duration: Option<Duration>,
    /// Give a request up after so long
    #[arg(long, value_name = "30s", default_value = "30s", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// The requests' method
    #[arg(long, value_name = "M", default_value = "GET", value_parser = parse_method)]
    pub(super) method: Method,
    /// Send a body of so many bytes (64KiB) with each request
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub(super) body_bytes: Option<u64>,
    /// Open a new connection for each request
    #[arg(long)]
    pub(super) no_keep_alive: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A place to send requests to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// As it stands in the Host field.
    pub(super) authority: String,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query; begins with `/`.
    pub(super) target: String,
}

#[derive(Debug, Section)]
#[command(group = ArgGroup::new("what").required(true).args(["url", "prefix", "tag", "all"]))]
pub(super) struct PurgeArgs {
    /// What lies under this URL, as clients ask for it: http://HOST[:PORT]/PATH
    #[arg(value_name = "URL", value_parser = parse_stored)]
    pub(super) url: Option<String>,
    /// What lies under every URL that begins so: http://HOST[:PORT]/PATH
    #[arg(long, value_name = "URL", value_parser = parse_stored)]
    pub(super) prefix: Option<String>,
    /// What Surrogate-Key or Cache-Tag call so
    #[arg(long, value_name = "TAG")]
    pub(super) tag: Option<String>,
    /// Everything
    #[arg(long)]
    pub(super) all: bool,
    /// Keep it, to be validated before its next use
    #[arg(long)]
    pub(super) soft: bool,
    /// The proxy's admin port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9900", value_parser = parse_admin)]
    pub(super) admin: Url,
}

#[derive(Debug, Section)]
pub(super) struct DemoArgs {
    /// The proxy's port; the next free one is used when it is taken
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(super) port: u16,
}

#[derive(Debug, Section)]
pub(super) struct RehearseArgs {
    /// Arguments of weir-rehearse; --help lists them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pub(super) arguments: Vec<OsString>,
}

/// The topics, as they stand below the commands.
fn topics() -> String {
    let mut out = String::from("Topics of the manual (weir help TOPIC):\n");
    for page in PAGES {
        let _ = writeln!(out, "  {:13} {}", page.topic, page.about);
    }
    out
}

fn parse_delay(text: &str) -> Result<Delay, String> {
    match text.strip_prefix("exp:") {
        Some(mean) => parse_duration(mean).map(Delay::Around),
        None => parse_duration(text).map(Delay::Always),
    }
}

fn parse_probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("give a share from 0 to 1, such as 0.05".into()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e7 => Ok(rate),
        _ => Err("give requests a second, such as 500".into()),
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err("CONNECT opens a tunnel, which has no answer to measure".into()),
        Ok(method) => Ok(method),
        Err(_) => Err("not an HTTP method".into()),
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("give NAME: VALUE, such as 'cache-control: max-age=60'")?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| format!("\"{name}\" is not a field name"))?;
    if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
        return Err(format!("{name} is not to be chosen: it frames the answer"));
    }
    let value = value
        .trim()
        .parse()
        .map_err(|_| "the value has characters that no field has".to_string())?;
    Ok((name, value))
}

/// The URL of stored responses, in the form in which they are stored.
fn parse_stored(text: &str) -> Result<String, String> {
    normal_url(text).map_err(|fault| fault.to_string())
}

/// HOST:PORT, as `weir run` prints it.
fn parse_admin(text: &str) -> Result<Url, String> {
    let url = parse_url(text)?;
    if url.target != "/" || url.authority.ends_with(['.', ']']) || !url.authority.contains(':') {
        return Err("give HOST:PORT, such as 127.0.0.1:9900".into());
    }
    Ok(url)
}

fn parse_url(text: &str) -> Result<Url, String> {
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(format!("{scheme} is not spoken here, only http")),
        None => text,
    };
    let uri: http::Uri = format!("http://{rest}")
        .parse()
        .map_err(|error| format!("{error}"))?;
    let authority = uri.authority().ok_or("the host is missing")?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || authority.as_str().contains('@') {
        return Err("give http://HOST[:PORT][/PATH]".into());
    }
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if inner.is_some_and(|h| h.parse::<Ipv6Addr>().is_err()) {
        return Err(format!("{host} is not an IPv6 address"));
    }
    let port = match authority.as_str()[host.len()..].strip_prefix(':') {
        Some(_) => authority.port_u16().ok_or("the port is not a number")?,
        None => 80,
    };
    Ok(Url {
        authority: authority.to_string(),
        host: inner.unwrap_or(host).to_string(),
        port,
        target: uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn urls_read_as_people_write_them() {
        let url = |text: &str| parse_url(text).map(|u| (u.authority, u.host, u.port, u.target));
        let expected = |a: &str, h: &str, p, t: &str| Ok((a.into(), h.into(), p, t.into()));
        assert_eq!(
            url("http://localhost:8080"),
            expected("localhost:8080", "localhost", 8080, "/")
        );
        assert_eq!(
            url("example.com/a?b=c"),
            expected("example.com", "example.com", 80, "/a?b=c")
        );
        assert_eq!(
            url("http://[::1]:81/x"),
            expected("[::1]:81", "::1", 81, "/x")
        );
        for bad in [
            "https://x",
            "http://",
            "http://a@b/",
            "http://x:99999/",
            "http://x y/",
            "http://x:/",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_admin_port_is_a_host_and_a_port() {
        for good in ["127.0.0.1:9900", "http://[::1]:9901/", "localhost:1"] {
            assert!(parse_admin(good).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "localhost:1/cache",
            "https://a:1",
        ] {
            assert!(parse_admin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_header_is_a_field_that_does_not_frame() {
        let (name, value) = parse_header("Cache-Control:  max-age=60 ").expect("it is one");
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("cache-control", &b"max-age=60"[..])
        );
        for bad in ["cache-control", "a b: c", "x: a\nb", "Content-Length: 3"] {
            assert!(parse_header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn delays_are_fixed_or_exponential() {
        let ms = Duration::from_millis;
        assert_eq!(parse_delay("20ms"), Ok(Delay::Always(ms(20))));
        assert_eq!(parse_delay("exp:1.5s"), Ok(Delay::Around(ms(1500))));
        assert!(parse_delay("20").is_err());
    }
}
